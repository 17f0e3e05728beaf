"""The entries of COCO's JSON files: what they say, taken as it is written or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerasft.errors import UserError

# What some exporters write for no and yes.
_NO, _YES = ("0", "0.0", "false", "no", ""), ("1", "1.0", "true", "yes")


def named(entry: dict[str, Any], file: Path, place: int) -> str:
    """Return the name of a category: its id where it has none.

    Args:
        entry: The entry.
        file: Where it stands, for messages.
        place: Which one it is there, from 1 on.

    Raises:
        UserError: If the name is empty, or neither a text nor a number.

    Example:
        >>> named({"id": 3, "name": " cat "}, Path("a.json"), 1)
        'cat'
    """
    name = entry.get("name", entry["id"])
    good = isinstance(name, int | float | str) and not isinstance(name, bool)
    if not good or not str(name).strip():
        raise UserError(
            f"{file}: entry {place} of categories (id {entry['id']}) must have a name, a text that "
            f"is not empty. Received: {name!r}. Name the class, or take the entry and its objects "
            "out."
        )
    return str(name).strip()


def crowd(entry: dict[str, Any], file: Path) -> bool:
    """Whether an annotation is a crowd.

    Args:
        entry: The entry.
        file: Where it stands, for messages.

    Raises:
        UserError: If `iscrowd` says neither yes nor no.

    Example:
        >>> crowd({"iscrowd": "0"}, Path("a.json")), crowd({"iscrowd": 1}, Path("a.json"))
        (False, True)
    """
    mark = entry.get("iscrowd")
    word = "" if mark is None else str(mark).strip().casefold()
    if isinstance(mark, list | dict) or word not in (*_NO, *_YES):
        raise UserError(
            f"{file}: iscrowd of annotation {entry.get('id', '?')} must be 0 or 1. Received: "
            f"{str(mark)[:40]!r}."
        )
    return word in _YES


def size_of(entry: dict[str, Any], file: Path) -> tuple[int, int] | None:
    """Return rows and columns of an image, where its entry says them: `None` for 0 or nothing.

    Args:
        entry: The entry.
        file: Where it stands, for messages.

    Raises:
        UserError: If they are no whole numbers.

    Example:
        >>> size_of({"height": 48.0, "width": "64"}, Path("a.json"))
        (48, 64)
    """
    rows, columns = (_side(entry, side, file) for side in ("height", "width"))
    return (rows, columns) if rows and columns else None


def _side(entry: dict[str, Any], side: str, file: Path) -> int:
    given = entry.get(side)
    # Some tools write 0, or nothing, where they don't know.
    if given is None or given == "":
        return 0
    if isinstance(given, str) and given.strip().isdecimal() and len(given) < 10:
        return int(given)
    if isinstance(given, float) and given.is_integer():  # neither infinite nor nan
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 2**31:
        raise UserError(
            f"{file}: {side} of image {entry.get('id', '?')} must be a whole number of pixels. "
            f"Received: {str(given)[:40]}."
        )
    return given


def corners_of(entry: dict[str, Any], file: Path) -> list[float] | None:
    """Return left, top, right and bottom of an annotation; `None` where it has no box.

    Args:
        entry: The entry.
        file: Where it stands, for messages.

    Raises:
        UserError: If `bbox` is none.

    Example:
        >>> corners_of({"bbox": [1, 2, 3, 4]}, Path("a.json"))
        [1.0, 2.0, 4.0, 6.0]
    """
    sides = entry.get("bbox")
    if sides is None or sides == []:
        return None
    good = isinstance(sides, list) and len(sides) == 4 and all(
        isinstance(side, int | float) and not isinstance(side, bool) for side in sides
    )
    # A whole number of hundreds of digits is none that can be reckoned with.
    if not good or any(isinstance(side, int) and abs(side) >= 2**63 for side in sides):
        raise UserError(
            f"{file}: bbox of annotation {entry.get('id', '?')} must be four numbers (left, top, "
            f"width, height). Received: {str(sides)[:80]}."
        )
    left, top, width, height = map(float, sides)
    return [left, top, left + width, top + height]
