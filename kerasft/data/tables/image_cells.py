"""Images that a table names: by a column of paths, by a pattern, or as encoded bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasft.data.images.audit import SUFFIXES
from kerasft.data.tables.columns import column_name, find_column
from kerasft.data.tables.reading import Rows
from kerasft.errors import UserError, some
from kerasft.system.console import listing
from kerasft.system.files import at_home

_FIELD = re.compile(r"\{([^{}]*)\}")
# How many folders are looked through for images that are not where a table says.
_MOST_FOLDERS = 200


# The key of the folder that relative paths start from, in a table of images.
ROOT = "data.image_root"


@dataclass(frozen=True)
class Cells:
    """What a table says of the images of its rows.

    Args:
        values: For each row a path, encoded bytes, or `None` where it names no image.
        raw: What stands in the cell of each row, for messages.
        said: The column or the pattern that they come from, for messages.
        choice: That column or pattern, as the user named it.
    """

    values: list[str | bytes | None]
    raw: list[Any]
    said: str
    choice: str | int


def is_pattern(choice: object) -> bool:
    """Whether a choice of a column is a pattern that columns fill in.

    Example:
        >>> is_pattern("images/{id}.jpg"), is_pattern("file")
        (True, False)
    """
    return isinstance(choice, str) and ("{" in choice or "}" in choice)


def fields(pattern: str, key: str = "data.image") -> list[str]:
    """Return the columns that a pattern names in braces.

    Args:
        pattern: Such as `"images/{id}.jpg"`.
        key: The config key behind it, for messages.

    Raises:
        UserError: If braces are not in pairs around a name.

    Example:
        >>> fields("{split}/{id}.jpg")
        ['split', 'id']
    """
    found = _FIELD.findall(pattern)
    if not found or not all(found) or re.search(r"[{}]", _FIELD.sub("", pattern)):
        raise UserError(
            f"{key}: a pattern holds names of columns in braces, such as images/{{id}}.jpg. "
            f"Received: {key}={pattern!r}."
        )
    return found


def image_cells(rows: Rows, choice: str | int, key: str = "data.image") -> Cells:
    """Return what a table says of the image of each row.

    Args:
        rows: The table.
        choice: A column with paths or encoded images, or a pattern with columns in braces.
        key: The config key behind the choice, for messages.

    Raises:
        UserError: If there is no such column, or the pattern is none.
    """
    if is_pattern(choice) and choice not in rows.cells:
        assert isinstance(choice, str)
        # A column may be named twice, and is looked up once.
        columns = {name: find_column(rows, name, key) for name in fields(choice, key)}
        raw: list[Any] = [
            {name: cells[i] for name, cells in columns.items()} for i in range(len(rows))
        ]
        values: list[str | bytes | None] = [
            _filled(choice, {n: _word(cell) for n, cell in row.items()}) for row in raw
        ]
        return Cells(values, raw, f"pattern {choice!r}", choice)
    name = column_name(rows, choice, key)
    cells = rows.cells[name]
    return Cells([_image(cell) for cell in cells], list(cells), f"column {name!r}", choice)


def _image(cell: Any) -> str | bytes | None:
    if isinstance(cell, dict) and set(cell) <= {"bytes", "path"}:
        cell = cell["bytes"] if isinstance(cell.get("bytes"), bytes) else cell.get("path")
    if isinstance(cell, bytes):
        return cell
    return cell if isinstance(cell, str) and cell.strip() else None


def _word(cell: Any) -> str:
    """Return a cell as it stands in a path: tables with gaps hold 7 as 7.0."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell)


def _filled(pattern: str, words: dict[str, str]) -> str | None:
    if not all(word.strip() for word in words.values()):
        return None
    return _FIELD.sub(lambda match: words[match[1]], pattern)


def located(value: str | bytes, root: Path) -> str | bytes:
    """Return the path of an image below the folder that relative ones are looked up under.

    Example:
        >>> located("1.jpg", Path("/photos")), located("/elsewhere/1.jpg", Path("/photos"))
        ('/photos/1.jpg', '/elsewhere/1.jpg')
    """
    if isinstance(value, bytes):
        return value
    with suppress(UserError):  # whoever looks at the image names the row
        value = str(at_home(value))
    return str(root / value)


def place(row: str, said: str, value: object) -> str:
    """Return how a message names the image of a row: where it stands, and the path looked for.

    Example:
        >>> place("train.csv:2", "column 'id'", "/photos/7.jpg")
        "train.csv:2 (column 'id', '/photos/7.jpg')"
    """
    return f"{row} ({said}{'' if isinstance(value, bytes) else f', {value!r}'})"


def read_images(
    rows: Rows, cells: Cells, root: Path, ids: Sequence[str], *, inside: bool = False,
    root_key: str = ROOT,
) -> tuple[list[str | bytes], list[str]]:
    """Return the images of a table, and how messages name each.

    Args:
        rows: The table.
        cells: What it says of its images, see `image_cells`.
        root: The folder that relative paths are looked up under.
        ids: The name of each row.
        inside: Whether paths must stay in that folder, as those within encoded cells must.
        root_key: The config key of that folder.

    Raises:
        UserError: If a row names none, if a path leads out, or if none of them is there.
    """
    wrong = [f"{one} has {repr(raw)[:80]}" for one, raw, value in
             zip(ids, cells.raw, cells.values, strict=True) if value is None]  # fmt: skip
    if wrong:
        raise UserError(
            f"data.image must give the path of an image in each row. Received: none in "
            f"{some(len(wrong), 'row')} ({cells.said}): {listing(wrong)}. Correct or remove those "
            "rows."
        )
    require_inside(rows, cells, ids, everywhere=inside)
    found = [located(value, root) for value in cells.values if value is not None]
    require_any(
        cells, found, root, ids, root_key=root_key if isinstance(rows.path, Path) else None
    )
    names = [place(one, cells.said, value) for one, value in zip(ids, found, strict=True)]
    return found, names


def require_inside(
    rows: Rows, cells: Cells, ids: Sequence[str], *, everywhere: bool, key: str = "data.image"
) -> None:
    """Refuse paths that lead out of the folder of a data set that brings its images.

    Args:
        rows: The table.
        cells: What it says of its images.
        ids: The name of each row.
        everywhere: Whether all paths must stay; else those within cells of `bytes` and `path`.
        key: The config key behind them, for messages.

    Raises:
        UserError: If one leads out.
    """
    outer = [f"{ids[i]} has {cells.values[i]!r}" for i in leading_out(cells, everywhere=everywhere)]
    if outer:
        leads = "leads" if len(outer) == 1 else "lead"
        raise UserError(
            f"{key}: {some(len(outer), 'path')} {leads} out of the folder of {rows.path}: "
            f"{listing(outer)}. Images of such a data set lie in its folder, or below."
        )


def leading_out(cells: Cells, *, everywhere: bool) -> list[int]:
    """Return the rows whose path leads out of the folder; see `require_inside`."""
    return [
        i for i, (raw, value) in enumerate(zip(cells.raw, cells.values, strict=True))
        if isinstance(value, str) and (everywhere or (isinstance(raw, dict) and "path" in raw
                                                      and not is_pattern(cells.choice)))
        and _leads_out(value)
    ]  # fmt: skip


def _leads_out(path: str) -> bool:
    """Whether a path is not one that stays below the folder that it starts from."""
    return path.startswith(("~", "/", "\\")) or ".." in Path(path).parts


def require_any(
    cells: Cells, images: Sequence[str | bytes | None], root: Path, ids: Sequence[str], *,
    root_key: str | None = ROOT,
) -> None:
    """Refuse a table of which no image is where it says: its paths are meant otherwise.

    Args:
        cells: What the table says.
        images: The paths that follow.
        root: The folder that relative paths are looked up under.
        ids: The name of each row.
        root_key: The config key of that folder; `None` for data in memory, which has none.

    Raises:
        UserError: With the paths that were looked for, and where such images are.
    """
    sought = [(i, one) for i, one in enumerate(images) if isinstance(one, str)]
    if len(sought) < sum(one is not None for one in images) or not sought:
        return
    if any(os.path.lexists(one) for _, one in sought):
        return
    first = [place(ids[i], cells.said, one) for i, one in sought]
    raise UserError(
        f"data.image: no image of the table is where it says. Looked for: {listing(first, 3)}. "
        + (_hint(cells, root, root_key) or f"Relative paths are looked up under {root}: "
           + (f"{root_key}=DIR names another folder" if root_key else "give whole paths")
           + ", and a pattern such as 'data.image=images/{id}.jpg' makes paths of columns.")
    )  # fmt: skip


def _hint(cells: Cells, root: Path, root_key: str | None) -> str:
    """Say where the image of the first row seems to be, if a look around finds it."""
    name = next(value for value in cells.values if isinstance(value, str))
    pattern = "pattern" in cells.said.split()[0]
    for folder in _around(root):
        for suffix in ("",) if pattern else ("", *SUFFIXES):
            found = folder / (name + suffix)
            if not found.is_file():
                continue
            if not suffix:
                set_to = f"set {root_key}={folder}" if root_key else "give whole paths"
                return f"{str(found)!r} is there: {set_to}."
            inner = folder.relative_to(root).as_posix()
            column = cells.said.partition(" ")[2].strip("'\"")
            way = "" if inner == "." else f"{inner}/"
            return (
                f"{str(found)!r} is there: set 'data.image={way}{{{column}}}{suffix}', which makes "
                "a path of the column."
            )
    return ""


def _around(root: Path) -> Iterator[Path]:
    """Yield a folder and those in it, two levels deep, and no more than a few."""
    level, count = [root], 0
    for _ in range(3):
        below: list[Path] = []
        for folder in level:
            count += 1
            if count > _MOST_FOLDERS:
                return
            yield folder
            with suppress(OSError), os.scandir(folder) as scanned:
                below += sorted(folder / one.name for one in scanned
                                if one.is_dir(follow_symlinks=False) and one.name[:1] != ".")
        level = below
