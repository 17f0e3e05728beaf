"""The cells of tables by which figures are told apart, see `data.slices`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerasft.data.slices import LENGTH
from kerasft.data.tables.columns import column_name
from kerasft.data.tables.nested import find_nested
from kerasft.data.tables.reading import Rows
from kerasft.errors import UserError

KEY = "slices"


def slice_cells(
    rows: Rows, wanted: Sequence[str | int], labels: Sequence[Any] = (), *, texts: bool = False
) -> dict[str, Sequence[Any]]:
    """Return the cells of columns by which figures are told apart, by name.

    Args:
        rows: The rows.
        wanted: The columns, by name or number.
        labels: The columns of labels, as they were chosen.
        texts: Whether examples are texts: `length` then needs no column, and is left to whoever
            has the texts where there is none.

    Raises:
        UserError: If there is no such column, or it is one of labels.
    """
    taken = {name for one in labels if (name := _known(rows, one)) is not None}
    found: dict[str, Sequence[Any]] = {}
    for one in wanted:
        if texts and one == LENGTH and LENGTH not in rows.cells:
            continue
        if isinstance(one, str) and one not in rows.cells and "." in one:
            found[one] = find_nested(rows, one, KEY)
            continue
        name = column_name(rows, one, KEY)
        if name in taken:
            raise UserError(
                f"slices: {name!r} is the column of labels. What comes to each class stands in "
                "metrics.json already, under per_class and the like. Received: "
                f"slices={list(wanted)}. Leave it out."
            )
        found[name] = _named(rows.cells[name], rows.classes.get(name, ()))
    return found


def _named(cells: Sequence[Any], names: Sequence[str]) -> Sequence[Any]:
    """Return cells in which numbers of classes, where the data says them, are their names."""
    if not names:
        return cells
    return [names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else cell
            for cell in cells]  # fmt: skip


def _known(rows: Rows, choice: Any) -> str | None:
    """Return the name of a column, `None` where it is no choice of one or there is none."""
    if not isinstance(choice, str | int):
        return None
    try:
        return column_name(rows, choice, KEY)
    except UserError:
        return None
