"""Columns of a table: which one is meant, and whether its cells are what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kerasft.data.annotations.alike import number
from kerasft.data.splits import split_name, split_words
from kerasft.data.tables.reading import Rows, shown
from kerasft.errors import UserError, nearest, some
from kerasft.system.console import listing

# What columns are often called; such a header is no example.
_USUAL = frozenset((
    "answer", "category", "class", "comment", "content", "description", "document", "file",
    "filename", "hypothesis", "id", "idx", "image", "index", "label", "message", "name", "path",
    "premise", "question", "rating", "review", "score", "sentence", "sentiment", "split",
    "star", "stars", "tag", "tags", "target", "text", "title", "topic", "tweet", "value", "x", "y",
))  # fmt: skip
_ON, _OFF = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "", "none")


def find_column(rows: Rows, choice: str | int, key: str) -> Sequence[Any]:
    """Return the cells of a column that is chosen by name, or by number from 0."""
    return rows.cells[column_name(rows, choice, key)]


def column_name(rows: Rows, choice: str | int, key: str) -> str:
    """Return the name of the column that is meant.

    A name goes before a number: in a table with a column called `"0"`, `"0"` means that one; and
    a bare 0, which may mean another one too, is asked about.

    Args:
        rows: The rows.
        choice: A name, or a number from 0.
        key: The config key behind the choice, for messages.

    Raises:
        UserError: If there is no such column, or several of that name, or if a number may mean
            one column by name and another by place.
    """
    name = _written(rows, choice)
    place = _place(rows, name)
    if isinstance(choice, int) and name in rows.cells and place is not None and (
        rows.names[place] != name
    ):
        raise UserError(
            f"{key}={name} may mean the column that is called {name!r}, or the one of number "
            f"{name}, which is called {rows.names[place]!r}. Choose by name: "
            f"'{key}=\"{name}\"' in quotes, or the name of the other one; data.columns gives "
            f"new names.{_no_header(rows)}"
        )
    if name not in rows.cells and place is not None:
        name = rows.names[place]
    if name not in rows.cells:
        near = _separated(rows) or nearest(name, rows.names)
        if isinstance(choice, int) or name.lstrip("-").isdecimal():
            near = f" Numbers go from 0 to {len(rows.names) - 1}." + near
        asked = choice if len(name) <= 40 else name[:40] + "..."
        raise UserError(
            f"{key}: {rows.path} has no column {asked!r}.{near} "
            f"Its columns: {listing(map(_cut, rows.names), 30)}.{'' if near else _clue(rows)}"
        )
    if rows.names.count(name) > 1:
        raise UserError(
            f"{key}: {rows.path} has {rows.names.count(name)} columns named {name!r}. Give each "
            f"a name of its own{' with data.columns' * rows.header}.{_no_header(rows)}"
        )
    return name


def _place(rows: Rows, choice: object) -> int | None:
    """Return the number of a column that is chosen by it."""
    if isinstance(choice, str):
        # Python reads no number of thousands of digits.
        choice = int(choice) if choice.isdecimal() and len(choice) < 10 else None
    if not isinstance(choice, int) or isinstance(choice, bool):
        return None
    return choice if 0 <= choice < len(rows.names) else None


def _by_number(rows: Rows, choice: object) -> int | None:
    """Return the number of a column that can be chosen by it alone, not by name."""
    place = _place(rows, choice)
    if place is None or (str(choice) in rows.cells and rows.names[place] != str(choice)):
        return None
    return place


def _cut(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:40] + "...")


def _no_header(rows: Rows) -> str:
    doubt = rows.header and any(number(name) is not None for name in rows.names)
    said = " If the first line of the file is an example already, set data.header=false."
    return said if doubt else ""


def _written(rows: Rows, choice: str | int) -> str:
    """Return a choice as the file writes it: YAML has made `true` and `1.0` something else."""
    name = str(choice)
    if isinstance(choice, (bool, float)) and name not in rows.cells:
        return next((own for own in rows.names if _same(own, choice)), name)
    return name


def _same(own: str, choice: bool | float) -> bool:
    if isinstance(choice, bool):
        return own.casefold() in (("true", "yes", "on") if choice else ("false", "no", "off"))
    try:
        return float(own) == choice
    except ValueError:
        return False


def check_different(rows: Rows, chosen: Mapping[str, Any]) -> None:
    """Refuse two choices, one by name and one by number, that mean the same column.

    Raises:
        UserError: If there are such.
    """
    taken: dict[str, str] = {}
    for key, choice in chosen.items():
        for one in choice if isinstance(choice, (list, tuple)) else [choice]:
            if one is None:
                continue
            said, name = f"data.{key}={one}", column_name(rows, one, f"data.{key}")
            if name in taken:
                raise UserError(
                    f"{taken[name]} and {said} mean the same column of {rows.path}, {name!r}. "
                    "Choose another one for one of them."
                )
            taken[name] = said


def _separated(rows: Rows) -> str:
    if len(rows.names) == 1:
        for sign in ("\t", ";", "|", ","):
            if sign in rows.names[0]:
                return f" The cells seem to be separated by {sign!r}: set data.delimiter={sign!r}."
    return ""


def _clue(rows: Rows) -> str:
    if rows.unit == "line":
        return (
            " If the first line of the file is an example already, set data.header=false and "
            "name the columns with data.columns."
        )
    return ""


def splits_of(
    rows: Rows, split_column: str | int | None, ids: Sequence[str], brought: str
) -> list[str]:
    """Return the split of each row: what a column says, or where there is none that of the file.

    Args:
        rows: The rows.
        split_column: The column, or `None`.
        ids: The name of each row, for messages.
        brought: The split of the file.

    Raises:
        UserError: If there is no such column, or a cell names no split.
    """
    if split_column is None:
        return [brought] * len(ids)
    return read_splits(find_column(rows, split_column, "data.split_column"), ids)


def read_splits(cells: Sequence[Any], ids: Sequence[str]) -> list[str]:
    """Return which split each cell names; refuse those that name none."""
    named = [split_name(str(cell)) if cell is not None else None for cell in cells]
    wrong = [
        f"{i} has {cell!r}" for i, cell, name in zip(ids, cells, named, strict=True) if not name
    ]
    if wrong:
        raise UserError(
            "data.split_column must say the split of each row, in one of the words "
            f"{split_words()}. Received: {listing(wrong)}."
        )
    return [name for name in named if name]


def read_texts(cells: Sequence[Any], ids: Sequence[str], key: str) -> list[str]:
    """Return cells as texts, unchanged; a missing one is an empty text."""
    wrong = [
        f"{i} has {type(cell).__name__}" for i, cell in zip(ids, cells, strict=True)
        if cell is not None and not isinstance(cell, str)
    ]  # fmt: skip
    if wrong:
        raise UserError(
            f"{key} must be a column of texts, and {some(len(wrong), 'cell')} of it hold "
            f"something else: {listing(wrong)}. Choose another column."
        )
    texts = ["" if cell is None else cell for cell in cells]
    halves = [
        i for i, text in zip(ids, texts, strict=True)
        if not (text.isascii() or is_encodable(text))
    ]  # fmt: skip
    if halves:
        raise UserError(
            f"{key}: {some(len(halves), 'text')} hold half a character (a lone surrogate such as "
            f"\\ud83d), which UTF-8 cannot write: {listing(halves)}. Correct those rows."
        )
    return texts


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can write a text: half a character it cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_labels(
    rows: Rows, choice: Any, ids: Sequence[str], *, numbers: bool = False,
    doubt: HeaderDoubt | None = None,
) -> list[Any]:
    """Return the raw labels of each row.

    Args:
        rows: The rows.
        choice: A column; or a list of columns, one a class, whose cells say yes or no.
        ids: The name of each row, for messages.
        numbers: Whether a list of columns is one of numbers.
        doubt: Looks at the header, where these are not all rows of the table.
    """
    if not isinstance(choice, (list, tuple)):
        _check_header(rows, choice, doubt)
        cells = find_column(rows, choice, "data.label")
        known: dict[str, str] = {}  # labels are few: one text for all that are the same
        return [known.setdefault(c, c) if isinstance(c, str) else c for c in cells]
    if numbers:
        for column in choice:
            _check_header(rows, column, doubt)
        cells_of = [find_column(rows, column, "data.label") for column in choice]
        return list(zip(*cells_of, strict=True))
    labels: list[list[str]] = [[] for _ in ids]
    for column in choice:
        _check_header(rows, column, doubt)
        name = column_name(rows, column, "data.label")
        cells = rows.cells[name]
        words = [str(cell).strip().casefold() for cell in cells]
        wrong = [
            f"{i} has {cell!r}"
            for i, cell, word in zip(ids, cells, words, strict=True)
            if word not in _ON + _OFF
        ]
        if wrong:
            raise UserError(
                f"data.label lists several columns, one a label, so the cells of {name!r} must "
                f"be 0 or 1. Received: {listing(wrong)}."
            )
        for row, word in zip(labels, words, strict=True):
            if word in _ON:
                row.append(name)
    return labels


class HeaderDoubt:
    """Whether a header is an example that would be lost, where columns are chosen by number.

    It shows in all labels of a table, which may come in pieces.
    """

    def __init__(self) -> None:
        # Of each column whether its name is a label of other rows, and whether all are numbers.
        self.columns: dict[tuple[Any, str], tuple[bool, bool]] = {}

    def look(self, rows: Rows, choice: object) -> None:
        """Look at a column of labels of some rows."""
        place = _by_number(rows, choice)
        if not rows.header or place is None or _are_places(rows.names):
            return
        first = rows.names[place]
        again, numbers = self.columns.get((rows.path, first), (False, number(first) is not None))
        cells = rows.cells[first]
        self.columns[rows.path, first] = (
            again or first in cells,
            numbers and all(number(str(cell)) is not None for cell in cells),
        )

    def settle(self) -> None:
        """Refuse to lose an example, once all rows were looked at.

        Raises:
            UserError: If a header looks like one.
        """
        for (path, first), (again, numbers) in self.columns.items():
            if again:
                looks = f"its label {first!r} is that of other rows, too"
            elif numbers:
                looks = f"its label {first!r} is a number like those of all other rows"
            else:
                continue
            raise UserError(
                f"data.header: the first line of {path} was taken for the names of the columns, "
                f"but it looks like an example: {looks}. Set data.header=false; if the line does "
                "hold names, choose the label by its name, or give the columns names with "
                "data.columns."
            )


def _check_header(rows: Rows, choice: object, doubt: HeaderDoubt | None) -> None:
    """Refuse to lose an example as a header, or leave it to a doubt that sees more rows."""
    looked = HeaderDoubt() if doubt is None else doubt
    looked.look(rows, choice)
    if doubt is None:
        looked.settle()


def _are_places(names: Sequence[str]) -> bool:
    """Whether the columns are called 0, 1, 2, as of a frame without names."""
    return len(names) > 1 and list(names) == [str(n) for n in range(len(names))]


def doubt_header(rows: Rows, chosen: Iterable[Any]) -> list[str]:
    """Say what the header was, where all columns are chosen by number and no name is a usual one.

    Args:
        rows: The rows.
        chosen: The choices of the user.

    Returns:
        Sentences for the user.
    """
    by_number = all(_by_number(rows, one) is not None for one in chosen if one is not None)
    if not rows.header or not by_number or _are_places(rows.names):
        return []
    if _USUAL.intersection(map(_plain, rows.names)):
        return []
    return [
        f"The first line of {rows.path} was taken for the names of the columns ("
        f"{shown(rows.names)}); if it is an example, set data.header=false."
    ]


def doubt_no_header(rows: Rows) -> list[str]:
    """Say that the first row looks like names of columns, where the file is said to have none.

    Args:
        rows: The rows.

    Returns:
        Sentences for the user.
    """
    if rows.header or rows.unit != "line" or not len(rows):
        return []
    first = [cells[0] for cells in rows.cells.values()]
    if not all(isinstance(cell, str) and _plain(cell) in _USUAL for cell in first):
        return []
    return [
        f"The first line of {rows.path} looks like the names of the columns ({shown(first)}), and "
        "is taken as a row; if it names them, set data.header=true."
    ]


def _plain(name: str) -> str:
    return name.strip().casefold().rstrip("0123456789_")
