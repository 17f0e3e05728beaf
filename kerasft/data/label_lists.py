"""Several labels of one example: as a list, as a text of a list, or as a vector of 0 and 1."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.console import listing
from kerasft.data.list_cells import Cell, value_of
from kerasft.errors import UserError

SEQUENCES = (list, tuple, set, frozenset, np.ndarray)

_BARE_VECTOR = re.compile(r"[01](?:\.0*)?(?:[\s,;|/]+[01](?:\.0*)?)+")


@dataclass(frozen=True)
class Vectors:
    """Labels that are vectors of 0 and 1.

    Args:
        width: How many classes they are of.
        on: The classes of each example, by number.
    """

    width: int
    on: list[list[int]]


def read_lists(
    values: Sequence[Any], ids: Sequence[str], *, kind: str, names: Sequence[str] | None,
    delimiter: str | None, key: str,
) -> tuple[list[Any] | Vectors, list[str]]:
    """Read what several labels of an example are written as.

    Args:
        values: One raw value an example.
        ids: Where each value is, for messages.
        kind: `"single"` or `"multi"`.
        names: The class names that the user lists, if any.
        delimiter: What separates labels within a text.
        key: The config key behind the labels.

    Returns:
        The values, with texts of lists as lists; or `Vectors`. And sentences for the user.

    Raises:
        UserError: If some values are lists and others are not, or if a list is neither one of
            labels nor a vector of 0 and 1.

    Example:

    >>> read_lists(["['a', 'b']", "[]"], ["1", "2"], kind="multi", names=None, delimiter=",",
    ...            key="data.label")[0]
    [['a', 'b'], []]
    """
    plain = [_as_text(value) for value in values]
    cells = [Cell.read(v) if isinstance(v, str) and v.strip() else None for v in plain]
    texts = [cell for cell in cells if cell is not None]
    listed = set(map(str, names)) if names is not None else set()
    notices: list[str] = []
    if texts and not all(cell.known(listed, delimiter) for cell in texts):
        where = [(i, c) for i, c in zip(ids, cells, strict=True) if c is not None]
        if _are_lists(where, kind, delimiter, key):
            plain = [
                c.items if c is not None else [] if isinstance(v, str) and kind == "multi" else v
                for c, v in zip(cells, plain, strict=True)
            ]
            notices.append(
                f"The cells of {key} are read as lists of labels, such as {texts[0].text[:40]!r}."
            )
        elif kind == "multi":
            plain = _split_vectors(plain, texts, ids, names, key)
    if kind == "single":
        return _one_hot(plain, ids, names, key), notices
    rows = _rows(plain, delimiter)
    _check_nested(rows, ids, key)
    found = _vectors(rows, ids, names, key)
    return (plain if found is None else found), notices


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return value


def _are_lists(
    where: Sequence[tuple[str, Cell]], kind: str, delimiter: str | None, key: str
) -> bool:
    """Say whether texts are lists; refuse where some are and others are not."""
    lists = [i for i, cell in where if cell.items is not None]
    # Brackets alone may belong to a name, such as [UNK]; quotes or a delimiter within them do not.
    sure = [
        i for i, cell in where
        if cell.bracketed and (cell.quoted or (kind == "multi" and (
            cell.items == [] or "..." in cell.text
            or (bool(delimiter) and str(delimiter) in cell.text)
        )))
    ]  # fmt: skip
    whole = len(lists) == len(where)
    if kind == "single" and whole and not sure:
        return all(c.text.strip()[0] == "[" for _, c in where) and any(
            len(c.items or ()) > 1 for _, c in where
        )
    if whole:
        return bool(sure) or all(c.text.strip()[0] == "[" for _, c in where)
    if not sure:
        return False
    others = [f"{i} has {c.text[:40]!r}" for i, c in where if c.items is None]
    raise UserError(
        f"Some cells of {key} are written as lists of labels ({listing(sure, 3)}), and others are "
        f"no lists: {listing(others)}. Write all of them as lists such as ['red', 'blue'], or "
        "none; if the brackets belong to the names, list the names in data.label_names."
    )


def _split_vectors(
    plain: list[Any], texts: Sequence[Cell], ids: Sequence[str], names: Any, key: str
) -> list[Any]:
    """Split texts that can only be vectors, whatever separates their numbers."""
    widths = {len(cell.text.strip()) for cell in texts}
    if names is None and len(widths) == 1 and all(
        re.fullmatch(r"[01]{3,}", cell.text.strip()) for cell in texts
    ):  # fmt: skip
        raise UserError(
            f"{key} holds texts such as {texts[0].text!r}, which look like vectors of 0 and 1 "
            "without anything between the numbers. Write them as 0,1,0 or [0, 1, 0]; if they "
            "are names, list them in data.label_names."
        )
    if not all(_BARE_VECTOR.fullmatch(cell.text.strip()) for cell in texts):
        return plain
    made = [
        [value_of(w) for w in re.split(r"[\s,;|/]+", v.strip())]
        if isinstance(v, str) and v.strip() else v
        for v in plain
    ]  # fmt: skip
    rows = [row for row in made if isinstance(row, list)]
    # Without a number that is there twice, they may be numbers of classes.
    return made if any(len(set(row)) < len(row) for row in rows) else plain


def _rows(values: Sequence[Any], delimiter: str | None) -> list[list[Any] | None]:
    """Return each value as a list; `None` where there is no label."""
    rows: list[list[Any] | None] = []
    for value in values:
        if isinstance(value, SEQUENCES):
            rows.append(list(value))
        elif value is None or (isinstance(value, str) and not value.strip()) or value != value:
            rows.append(None)
        elif isinstance(value, str):
            rows.append([value_of(w.strip()) for w in value.split(delimiter)] if delimiter
                        else [value_of(value)])  # fmt: skip
        else:
            rows.append([value])
    return rows


def _check_nested(rows: Sequence[list[Any] | None], ids: Sequence[str], key: str) -> None:
    deep = [
        f"{i} has {str(row)[:40]}" for i, row in zip(ids, rows, strict=True)
        if row and any(isinstance(item, (dict, *SEQUENCES)) for item in row)
    ]  # fmt: skip
    if deep:
        raise UserError(
            f"A list of {key} must hold labels, and {len(deep):,} of them hold lists or objects: "
            f"{listing(deep)}. Choose a column of plain lists."
        )


def _vectors(
    rows: Sequence[list[Any] | None], ids: Sequence[str], names: Sequence[str] | None, key: str
) -> Vectors | None:
    """Return vectors of 0 and 1, `None` where the lists are of labels, and refuse what is neither.

    Lists of label numbers differ in length, and no number is in one of them twice.
    """
    there = [(i, row) for i, row in zip(ids, rows, strict=True) if row is not None]
    full = [(i, row) for i, row in there if row]
    items = [item for _, row in full for item in row]
    if not items or not all(_is_number(item) for item in items):
        return None
    widths = Counter(len(row) for _, row in there)
    width = max(widths, key=lambda w: (widths[w], w))
    twice = any(len(set(map(float, _known(row)))) < len(row) for _, row in full)
    if all(_is_binary(item) for item in items):
        flags = all(isinstance(item, (bool, np.bool_)) for item in items)
        if len(widths) > 1 and (twice or flags):
            other = [f"{i} has {len(row):,}" for i, row in there if len(row) != width]
            raise UserError(
                f"{key} holds vectors of 0 and 1, and they must be of one length: most have "
                f"{width:,} numbers, but {listing(other)}. Correct those rows; if they are lists "
                "of class numbers, no number may be in a list twice."
            )
        if len(widths) > 1 or (width < 2 and not flags):
            return None
        if not twice and names is not None and len(names) != width:
            return None
        check_width(width, names, key)
        return Vectors(width, [[n for n, v in enumerate(row or ()) if v] for row in rows])
    odd = any(item is None or item != item or item < 0 or item % 1 for item in items)
    if len(widths) == 1 and width > 1 and len(full) > 1 and (twice or odd):
        wrong = [f"{i} has {str(row)[:40]}" for i, row in full if not all(map(_is_binary, row))]
        raise UserError(
            f"{key} holds lists of {width:,} numbers, which are neither labels nor vectors of 0 "
            f"and 1: {listing(wrong)}. For several labels write 1 for each class that an example "
            "has and 0 for the others, or list the classes."
        )
    return None


def _known(row: Sequence[Any]) -> list[Any]:
    return [-1e9 - n if item is None or item != item else item for n, item in enumerate(row)]


def _is_number(item: Any) -> bool:
    return item is None or isinstance(item, (bool, int, float, np.bool_, np.integer, np.floating))


def _is_binary(item: Any) -> bool:
    return item is not None and (item == 0 or item == 1)


def check_width(width: int, names: Sequence[str] | None, key: str) -> None:
    """Refuse names that are not one for each number of a vector."""
    if names is not None and len(names) != width:
        raise UserError(
            f"{key} holds vectors of {width:,} numbers, so data.label_names must list {width:,} "
            f"names. Received: {len(names):,} ({listing(names)})."
        )


def _one_hot(
    values: list[Any], ids: Sequence[str], names: Sequence[str] | None, key: str
) -> list[Any] | Vectors:
    """Return what lists hold where an example has one label: it alone, or a 1 in its place."""
    rows = [list(v) if isinstance(v, SEQUENCES) else None for v in values]
    if not rows or any(row is None for row in rows):
        return values
    lists = [row for row in rows if row is not None]
    if all(len(row) == 1 and not isinstance(row[0], (dict, *SEQUENCES)) for row in lists):
        return [row[0] for row in lists]
    if not all(_is_number(item) and _is_binary(item) for row in lists for item in row):
        return values
    widths = Counter(map(len, lists))
    width = widths.most_common(1)[0][0]
    wrong = [
        f"{i} has {str(row)[:40]}" for i, row in zip(ids, lists, strict=True)
        if len(row) != width or sum(map(bool, row)) != 1
    ]  # fmt: skip
    if wrong:
        raise UserError(
            f"{key} holds vectors of 0 and 1, and each must have {width:,} numbers and one 1, the "
            f"class of the example: {listing(wrong)}. Correct those rows; for several labels an "
            "example set task=multi_label."
        )
    check_width(width, names, key)
    return Vectors(width, [[n for n, v in enumerate(row) if v] for row in lists])


# Signs that hardly stand in a name, and those that may.
_CLEAR, _USUAL = "|;\t；、", ",/+&， "


def other_delimiters(
    found: Sequence[str], delimiter: str | None, key: str = "data.label_delimiter"
) -> list[str]:
    """Say so where several labels seem to be in one, separated by another sign.

    Args:
        found: The different labels.
        delimiter: What separates labels.
        key: The config key that says so.

    Returns:
        Sentences for the user.
    """
    for sign in _CLEAR + _USUAL:
        if sign == delimiter:
            continue
        pieces = {name: [p.strip() for p in name.split(sign) if p.strip()] for name in found}
        joint = [name for name, parts in pieces.items() if len(parts) > 1]
        if not joint:
            continue
        uses = Counter(part for parts in pieces.values() for part in set(parts))
        again = all(uses[part] > 1 for name in joint for part in pieces[name])
        fewer = len(uses) < len(found)
        if sign in _CLEAR or (fewer if sign == " " else again or fewer):
            shown = listing([repr(name[:40]) for name in joint], 3)
            return [
                f"Labels such as {shown} are taken as one label each; they look like several that "
                f"are separated by {sign!r}: then set {key}={sign!r} (it is "
                f"{'null' if delimiter is None else repr(delimiter)})."
            ]
    return []
