"""Several labels an example: as a list, as a text of a list, or as a vector of 0 and 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from kerasft.data.annotations.label_vectors import (
    SEQUENCES,
    Vectors,
    cut_through,
    find_vectors,
    item_value,
    one_hot,
    repeated,
    split_bare,
    split_row,
)
from kerasft.data.annotations.list_cells import Cell
from kerasft.errors import UserError
from kerasft.system.console import listing

_AS_NAMES = "if the brackets belong to the names, list the names in data.label_names"

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
    # Labels are few and come often.
    read = {v: Cell.read(v) for v in {v for v in plain if isinstance(v, str)} if v.strip()}
    cells = [read.get(v) if isinstance(v, str) else None for v in plain]
    texts = [cell for cell in cells if cell is not None]
    listed = set(map(str, names)) if names is not None else set()
    notices: list[str] = []
    if texts and not all(cell.known(listed, delimiter) for cell in read.values()):
        where = [(i, c) for i, c in zip(ids, cells, strict=True) if c is not None]
        if _are_lists(where, kind, delimiter, key):
            plain = [
                _copied(c.items) if c is not None
                else [] if isinstance(v, str) and kind == "multi" else v
                for c, v in zip(cells, plain, strict=True)
            ]
            notices.append(
                f"The cells of {key} are read as lists of labels, such as {texts[0].text[:40]!r}."
            )
        elif kind == "multi":
            plain = _split_vectors(plain, texts, ids, names, key)
    if kind == "single":
        found = one_hot(plain, ids, names, key)
        _check_one(found, ids, key, from_text=bool(notices))
        return found, notices
    rows = _rows(plain, delimiter)
    _check_nested(rows, ids, key)
    vectors = find_vectors(rows, ids, names, key)
    if vectors is not None:
        return vectors, notices
    if names is None:
        _check_cut(plain, ids, delimiter, key)
        notices += repeated(rows, ids, key)
    return plain, notices


def _check_one(found: Any, ids: Sequence[str], key: str, *, from_text: bool) -> None:
    """Refuse texts of several labels where an example has one, unless they are names."""
    if isinstance(found, Vectors) or not from_text:
        return
    several = [
        f"{i} has {str(v)[:40]}" for i, v in zip(ids, found, strict=True)
        if isinstance(v, SEQUENCES)
    ]  # fmt: skip
    if several:
        raise UserError(
            f"The cells of {key} are written as lists, and {len(several):,} of them hold several "
            f"labels or none: {listing(several)}. For several labels an example set "
            f"task=multi_label; {_AS_NAMES} (data.label_names=[\"[0, 18]\",\"[19, 25]\"])."
        )


def _check_cut(
    values: Sequence[Any], ids: Sequence[str], delimiter: str | None, key: str
) -> None:
    """Refuse labels that a delimiter has cut out of brackets or quotes."""
    if not delimiter:
        return
    cut = [
        f"{i} has {piece.strip()[:40]!r} of {v[:60]!r}"
        for i, v in zip(ids, values, strict=True) if isinstance(v, str)
        for piece in cut_through(v, delimiter)
    ]  # fmt: skip
    if cut:
        raise UserError(
            f"The delimiter {delimiter!r} of {key} is inside of brackets or quotes, so that half "
            f"of them would become labels: {listing(cut)}. Set data.label_delimiter to what "
            "separates the labels, or to null where each cell is one label; if these are labels, "
            "list all of them in data.label_names."
        )


def _copied(items: list[Any] | None) -> list[Any] | None:
    return None if items is None else list(items)


def _as_text(value: object) -> Any:
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
        if cell.bracketed and (cell.quoted or cell.wrapped or (kind == "multi" and (
            cell.items == [] or "..." in cell.text
            or (bool(delimiter) and str(delimiter) in cell.text)
        )))
    ]  # fmt: skip
    whole = len(lists) == len(where)
    square = all(c.text.strip()[0] == "[" for _, c in where)
    if kind == "single" and whole and not sure:
        numbers = all(not isinstance(item, str) for _, c in where for item in c.items or ())
        return square and (numbers or any(len(c.items or ()) > 1 for _, c in where))
    if whole:
        return bool(sure) or square
    if not sure:
        return False
    if objects := [f"{i} has {c.text[:40]!r}" for i, c in where if c.is_object]:
        raise UserError(
            f"{len(objects):,} cells of {key} hold objects, which have names and values: "
            f"{listing(objects)}. Write the labels of each example as a list such as "
            "['red', 'blue'], or as one column of 0 and 1 a label; if the braces belong to the "
            "names, list the names in data.label_names."
        )
    if cut := [f"{i} has {c.text[:40]!r}" for i, c in where if c.is_cut]:
        raise UserError(
            f"{len(cut):,} cells of {key} are lists that numpy has shortened (...), so that labels "
            f"are lost: {listing(cut)}. Write them whole, with tolist() or after "
            f"numpy.set_printoptions(threshold=sys.maxsize); {_AS_NAMES}."
        )
    others = [f"{i} has {c.text[:40]!r}" for i, c in where if c.items is None]
    raise UserError(
        f"Some cells of {key} are written as lists of labels ({listing(sure, 3)}), and these "
        f"cannot be read as such: {listing(others)}. Write all of them as lists such as "
        f"['red', 'blue'], or none; {_AS_NAMES}."
    )


def _split_vectors(
    plain: list[Any], texts: Sequence[Cell], ids: Sequence[str], names: object, key: str
) -> list[Any]:
    """Split texts that can only be vectors, whatever separates their numbers."""
    stripped = [cell.text.strip() for cell in texts]
    if names is None and len(set(map(len, stripped))) == 1 and len(stripped[0]) > 2 and all(
        set(text) <= {"0", "1"} for text in stripped
    ):  # fmt: skip
        raise UserError(
            f"{key} holds texts such as {texts[0].text[:40]!r}, which look like vectors of 0 and 1 "
            "without anything between the numbers. Write them as 0,1,0 or [0, 1, 0]; if they "
            "are names, list them in data.label_names."
        )
    rows = split_bare(stripped)
    # Without a number that is there twice, they may be numbers of classes.
    if rows is None or not any(len(set(row)) < len(row) for row in rows):
        return plain
    made = iter(rows)
    return [next(made) if isinstance(v, str) and v.strip() else v for v in plain]


def _rows(values: Sequence[Any], delimiter: str | None) -> list[list[Any] | None]:
    """Return each value as a list; `None` where there is no label."""
    rows: list[list[Any] | None] = []
    for value in values:
        if isinstance(value, SEQUENCES):
            rows.append([item_value(item) for item in value])
        elif value is None or (isinstance(value, str) and not value.strip()) or value != value:
            rows.append(None)
        elif isinstance(value, str):
            rows.append(split_row(value, delimiter))
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


# Signs that hardly are in a name, and those that may be.
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
        joint, again, fewer, _ = _joint(found, sign)
        if joint and (sign in _CLEAR or (fewer if sign == " " else again or fewer)):
            return [
                f"Labels such as {_some(joint)} are taken as one label each; they look like "
                f"several that are separated by {sign!r}: then set {key}={sign!r} (it is "
                f"{'null' if delimiter is None else repr(delimiter)})."
            ]
    return []


def joint_classes(found: Sequence[str], key: str) -> list[str]:
    """Say so where an example has one class, and some classes look like several labels in one.

    Args:
        found: The different classes.
        key: The config key behind them.

    Returns:
        Sentences for the user.

    Example:
        >>> joint_classes(["red", "blue", "red;blue"], "data.label")
        ["Classes of data.label such as 'red;blue' look like several labels in one..."]
    """
    for sign in _CLEAR + _USUAL.replace(" ", ""):
        joint, again, fewer, alone = _joint(found, sign)
        if joint and (again or fewer if sign in _CLEAR else alone):
            return [
                f"Classes of {key} such as {_some(joint)} look like several labels in one, "
                f"separated by {sign!r}; each is a class of its own. For several labels an example "
                f"set task=multi_label and data.label_delimiter={sign!r}."
            ]
    rows = split_bare(found, signs="")
    bits = len(found) > 2 and all(len(w) == len(found[0]) > 2 and set(w) <= {*"01"} for w in found)
    if bits or (rows and len(rows) > 2 and len(rows[0]) > 2 and len(set(map(len, rows))) == 1):
        return [
            f"Classes of {key} such as {_some(found)} look like vectors of 0 and 1; each is a "
            "class of its own. For several labels an example set task=multi_label."
        ]
    return []


def _joint(found: Sequence[str], sign: str) -> tuple[list[str], bool, bool, bool]:
    """Return the labels with a sign in them, and three signs that it separates labels.

    Those are: each piece is in several labels; there are fewer pieces than labels; each piece of
    a joint label is a label itself.
    """
    pieces = {name: [p.strip() for p in name.split(sign) if p.strip()] for name in found}
    joint = [name for name, parts in pieces.items() if len(parts) > 1]
    if not joint:
        return [], False, False, False
    uses = Counter(part for parts in pieces.values() for part in set(parts))
    whole = set(found)
    return (
        joint,
        all(uses[part] > 1 for name in joint for part in pieces[name]),
        len(uses) < len(found),
        all(part in whole for name in joint for part in pieces[name]),
    )


def _some(names: Sequence[str]) -> str:
    return listing([repr(name[:40]) for name in names], 3)
