"""Numbers of classes whose names the data brings along, as `datasets` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerasft.data.annotations import kinds
from kerasft.data.tables.columns import column_name
from kerasft.data.tables.reading import Rows
from kerasft.errors import UserError, some
from kerasft.system.console import listing


def named_classes(rows: Rows, label: Any, kind: str) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes of the labels, by what they stand in; none where it has none.

    Args:
        rows: The rows.
        label: The column of labels, or several.
        kind: What the task learns.
    """
    if not kinds.have_named_classes(kind) or isinstance(label, (list, tuple)):
        return {}
    names = rows.classes.get(column_name(rows, label, "data.label"))
    return {str(rows.path): names} if names else {}


def with_names(values: Sequence[Any], ids: Sequence[str], names: Sequence[str]) -> list[Any]:
    """Return the names of classes instead of their numbers; -1 is no label.

    Args:
        values: A number, a name or nothing an example; or a list of them.
        ids: What each example is called, for messages.
        names: The names, in the order of the numbers.

    Raises:
        UserError: If there is no class of a number.

    Example:
        >>> with_names([1, -1, [0, 1]], ["a", "b", "c"], ["ant", "bee"])
        ['bee', None, ['ant', 'bee']]
    """
    wrong = [
        f"{where} has {one}"
        for where, value in zip(ids, values, strict=True)
        for one in (value if isinstance(value, (list, tuple)) else [value])
        if _is_number(one) and not -1 <= one < len(names)
    ]
    if wrong:
        raise UserError(
            f"data.label: the data names {some(len(names), 'class')}, from 0 to {len(names) - 1}, "
            f"but {some(len(wrong), 'label')} {'is' if len(wrong) == 1 else 'are'} none of them: "
            f"{listing(wrong)}. Correct them, or name all classes with data.label_names."
        )

    def name(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [name(one) for one in value if one != -1]
        if not _is_number(value):
            return value
        return None if value == -1 else names[value]

    return [name(value) for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
