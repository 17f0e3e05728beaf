"""Columns that hold objects, as `datasets` writes what there is in an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasft.data.tables.columns import find_column
from kerasft.data.tables.reading import Rows
from kerasft.errors import UserError, nearest
from kerasft.system.console import listing


def find_nested(rows: Rows, choice: str, key: str) -> Sequence[Any]:
    """Return the cells of a column, or what is called so in the objects of one.

    Args:
        rows: The rows.
        choice: A column, or one and a name in it with a dot between, such as `"objects.bbox"`.
        key: The config key behind the choice, for messages.

    Returns:
        A value an object; a list where a cell holds a list of objects.

    Raises:
        UserError: If there is no such column, or nothing in it is called so.
    """
    outer, dot, inner = str(choice).partition(".")
    if not dot or choice in rows.cells or outer not in rows.cells:
        return find_column(rows, choice, key)
    cells = find_column(rows, outer, key)
    known: dict[str, None] = {}
    for cell in cells:
        for one in cell if isinstance(cell, list) else [cell]:
            known |= dict.fromkeys(one if isinstance(one, dict) else ())
    if inner not in known:
        raise UserError(
            f"{key}: the objects of the column {outer!r} of {rows.path} hold no {inner!r}."
            f"{nearest(inner, list(known))} They hold: {listing(known, 20) or 'nothing'}."
        )

    def inside(cell: Any) -> Any:
        if isinstance(cell, list):
            return [inside(one) for one in cell]
        return cell.get(inner) if isinstance(cell, dict) else None

    return [inside(cell) for cell in cells]


def names_within(rows: Rows) -> list[str]:
    """Return what columns may be chosen: those of a table, and what is in the objects of one.

    Args:
        rows: The rows.

    Example:
        >>> cells = {"image": ["1.jpg"], "objects": [{"bbox": [], "category": []}]}
        >>> names_within(Rows("data", tuple(cells), cells, [0]))
        ['image', 'objects.bbox', 'objects.category']
    """
    found: list[str] = []
    for name in rows.names:
        inner: dict[str, None] = {}
        for cell in rows.cells[name]:
            one = next((one for one in cell if one is not None), None) if (
                isinstance(cell, list)) else cell  # fmt: skip
            if isinstance(one, Mapping) and not set(one) <= {"bytes", "path"}:
                inner |= dict.fromkeys(map(str, one))
                break
            if one is not None:
                break
        found += [f"{name}.{one}" for one in inner] or [name]
    return found
