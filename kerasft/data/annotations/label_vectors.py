"""Labels as vectors of 0 and 1, one place a class, however they are written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from kerasft.data.annotations.list_cells import value_of
from kerasft.errors import UserError
from kerasft.system.console import listing

SEQUENCES = (list, tuple, set, frozenset, np.ndarray)

# Words for 1 and 0, beside `true` and `false`.
_PAIRS = (("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"), ("+", "-"))
_SEPARATORS = re.compile(r" ?[,;|/] ?| ")
_NAMED = "if the words are labels, list them in data.label_names"


@dataclass(frozen=True)
class Vectors:
    """Labels that are vectors of 0 and 1.

    Args:
        width: How many classes they are of.
        on: The classes of each example, by number.
    """

    width: int
    on: list[list[int]]


def item_value(item: object) -> Any:
    """Return the number or truth value that an item of a list is written as, or the item.

    Example:
        >>> [item_value(item) for item in (b"1", "0.0", "True", "red")]
        [1, 0.0, True, 'red']
    """
    if isinstance(item, bytes):
        try:
            item = item.decode("utf-8")
        except UnicodeDecodeError:
            return item
    if isinstance(item, str):
        return value_of(item.strip())
    return float(item) if isinstance(item, Decimal) else item


def split_row(text: str, delimiter: str | None) -> list[Any]:
    """Split a text at its delimiters, of which one may be at its end."""
    pieces = [piece.strip() for piece in text.split(delimiter)] if delimiter else [text.strip()]
    if len(pieces) > 1 and not pieces[-1]:
        pieces.pop()
    return [value_of(piece) for piece in pieces]


def split_bare(texts: Sequence[str], *, signs: str = "-:_+*~") -> list[list[Any]] | None:
    """Return texts that can only be vectors as lists, whatever separates their numbers.

    Args:
        texts: Texts without brackets.
        signs: What else may separate them than blanks and the usual delimiters.

    Returns:
        A list for each text; or `None`.
    """
    return _split(texts, _SEPARATORS, 2) or next(
        (rows for sign in signs if (rows := _split(texts, re.compile(re.escape(sign)), 3))), None
    )


def _split(
    texts: Sequence[str], separators: re.Pattern[str], least: int
) -> list[list[Any]] | None:
    rows: list[list[Any]] = []
    words: set[str] = set()
    for text in texts:
        pieces = [piece.strip() for piece in separators.split(" ".join(text.split()))]
        # One of them may be at the end.
        pieces = pieces[:-1] if len(pieces) > 1 and not pieces[-1] else pieces
        row = [value_of(piece) for piece in pieces]
        words.update(item.casefold() for item in row if isinstance(item, str))
        binary = all(isinstance(item, str) or _is_binary(item) for item in row)
        if len(row) < least or not binary or (words and not _pair(words)):
            return None
        if words and not all(isinstance(item, str) for item in row):
            return None
        if least > 2 and len(row) != len(rows[0] if rows else row):
            return None
        rows.append(row)
    return rows or None


def _pair(words: set[str]) -> tuple[str, str] | None:
    return next((pair for pair in _PAIRS if words <= set(pair)), None)


def find_vectors(
    rows: Sequence[list[Any] | None], ids: Sequence[str], names: Sequence[str] | None, key: str
) -> Vectors | None:
    """Return vectors of 0 and 1, `None` where lists are of labels, and refuse what is neither.

    Lists of label numbers differ in length, and no number is in one of them twice.

    Args:
        rows: The list of each example, its items as `item_value` returns them; `None` for none.
        ids: Where each is, for messages.
        names: The class names that the user lists, if any.
        key: The config key behind the labels.

    Raises:
        UserError: If they are vectors of several lengths, or of other numbers or words.
    """
    items = [item for row in rows for item in row or ()]
    if not items:
        return None
    words = {item.casefold() for item in items if isinstance(item, str) and item}
    if words:
        listed = {str(name).casefold() for name in names or ()}
        if words <= listed or not all(isinstance(item, str) or item is None for item in items):
            return None
        if not _pair(words):
            _refuse_two_words(rows, ids, words, key)
            return None
        truth = _as_truth(rows, words)
        if truth is None:
            return None
        rows = truth
    elif "" in items and all(item == "" or _is_binary(item) for item in items):
        rows = [row and [None if item == "" else item for item in row] for row in rows]
    return _of_numbers(rows, ids, names, key)


def _as_truth(
    rows: Sequence[list[Any] | None], words: set[str]
) -> list[list[Any] | None] | None:
    """Return `True` for `yes`; `None` where they may be labels: neither one length nor repeated."""
    full = [row for row in rows if row]
    widths = {len(row) for row in full}
    twice = any(len(set(row)) < len(row) for row in full)
    if widths == {1} or not (twice or (len(widths) == 1 and len(full) > 1)):
        return None
    pair = _pair(words)
    return [
        row and [None if item is None else item.casefold() == pair[0] for item in row]  # type: ignore[index]
        for row in rows
    ]


def _refuse_two_words(
    rows: Sequence[list[Any] | None], ids: Sequence[str], words: set[str], key: str
) -> None:
    """Refuse lists of one length that say one of two words again and again."""
    full = [(i, row) for i, row in zip(ids, rows, strict=True) if row]
    width = len(full[0][1])
    if len(words) == 2 and width > 2 and len(full) > 1 and all(len(r) == width for _, r in full):
        shown = [f"{i} has {str(row)[:40]}" for i, row in full]
        raise UserError(
            f"{key} holds lists of {width:,} words, each {' or '.join(map(repr, sorted(words)))}: "
            f"{listing(shown)}. If they say yes or no for each class, write 1 and 0; {_NAMED}."
        )


def repeated(rows: Sequence[list[Any] | None], ids: Sequence[str], key: str) -> list[str]:
    """Say so where lists of one length hold a label more than once."""
    full = [(i, row) for i, row in zip(ids, rows, strict=True) if row]
    if len(full) < 2 or len({len(row) for _, row in full}) > 1 or len(full[0][1]) < 2:
        return []
    where = [f"{i} has {str(row)[:40]}" for i, row in full if len(set(map(str, row))) < len(row)]
    return [
        f"The lists of {key} have one length, {len(full[0][1]):,}, and {len(where):,} of them hold "
        f"a label more than once, which counts once: {listing(where, 3)}."
    ] * bool(where)


def _of_numbers(
    rows: Sequence[list[Any] | None], ids: Sequence[str], names: Sequence[str] | None, key: str
) -> Vectors | None:
    there = [(i, row) for i, row in zip(ids, rows, strict=True) if row is not None]
    full = [(i, row) for i, row in there if row]
    items = [item for _, row in full for item in row]
    if not all(_is_number(item) for item in items):
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
    listed = names is not None and {_said(item) for item in items} <= set(map(str, names))
    if len(widths) == 1 and width > 1 and len(full) > 1 and (twice or odd) and not listed:
        wrong = [f"{i} has {str(row)[:40]}" for i, row in full if not all(map(_is_binary, row))]
        raise UserError(
            f"{key} holds lists of {width:,} numbers, which are neither labels nor vectors of 0 "
            f"and 1: {listing(wrong)}. For several labels write 1 for each class that an example "
            "has and 0 for the others; if the numbers are labels, list them in data.label_names."
        )
    return None


def _said(item: Any) -> str:
    return str(int(item)) if item is not None and item == item and item % 1 == 0 else str(item)


def _known(row: Sequence[Any]) -> list[Any]:
    return [-1e9 - n if item is None or item != item else item for n, item in enumerate(row)]


def _is_number(item: object) -> bool:
    return item is None or isinstance(item, (bool, int, float, np.bool_, np.integer, np.floating))


def _is_binary(item: object) -> bool:
    return item is not None and (item == 0 or item == 1)


def check_width(width: int, names: Sequence[str] | None, key: str) -> None:
    """Refuse names that are not one for each number of a vector."""
    if names is not None and len(names) != width:
        raise UserError(
            f"{key} holds vectors of {width:,} numbers, so data.label_names must list {width:,} "
            f"names. Received: {len(names):,} ({listing(names)})."
        )


def one_hot(
    values: list[Any], ids: Sequence[str], names: Sequence[str] | None, key: str
) -> list[Any] | Vectors:
    """Return what lists hold where an example has one label: it alone, or a 1 in its place.

    Args:
        values: One raw value an example.
        ids: Where each is, for messages.
        names: The class names that the user lists, if any.
        key: The config key behind the labels.

    Raises:
        UserError: If vectors of 0 and 1 hold no 1, or several.
    """
    if not any(isinstance(value, SEQUENCES) for value in values):
        return _bare_one_hot(values, names, key)
    lone = [_lone(value) for value in values]
    if None not in lone and all(isinstance(value, SEQUENCES) for value in values):
        return [one[0] for one in lone if one is not None]
    rows = [
        [item_value(item) for item in v] if isinstance(v, SEQUENCES) else None for v in values
    ]
    lists = [row for row in rows if row is not None]
    words = {item.casefold() for row in lists for item in row if isinstance(item, str)}
    if words and _pair(words):
        lists = [row for row in _as_truth(lists, words) or lists if row is not None]
    items = [item for row in lists for item in row]
    if len(lists) < len(values) or not all(_is_number(i) and _is_binary(i) for i in items):
        return values
    width = Counter(map(len, lists)).most_common(1)[0][0]
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
    return _ones(width, lists)


def _lone(value: object) -> tuple[Any] | None:
    """Return the one label of a value, also of a list of one."""
    if not isinstance(value, SEQUENCES):
        return (value,)
    items = list(value)
    return (items[0],) if len(items) == 1 and not isinstance(items[0], (dict, *SEQUENCES)) else None


def _bare_one_hot(
    values: list[Any], names: Sequence[str] | None, key: str
) -> list[Any] | Vectors:
    """Read `1 0 0` and `0,1,0` as what they are: vectors of one length, with one 1 in each."""
    if not all(isinstance(value, str) for value in values):
        return values
    rows = split_bare(values, signs="") or []
    width = len(rows[0]) if rows else 0
    # 1,0 may be a number with a decimal comma.
    if width < 3 or any(len(row) != width or sum(item == 1 for item in row) != 1 for row in rows):
        return values
    if any(isinstance(item, str) for row in rows for item in row):
        return values
    check_width(width, names, key)
    return _ones(width, rows)


def _ones(width: int, rows: Sequence[Sequence[Any]]) -> Vectors:
    return Vectors(width, [[n for n, v in enumerate(row) if v] for row in rows])


def cut_through(text: str, delimiter: str) -> Iterator[str]:
    """Find labels that begin inside of brackets or quotes and end outside of them.

    Args:
        text: A whole cell.
        delimiter: What separates its labels.

    Yields:
        Those labels, where the brackets or quotes of the cell itself are paired.

    Example:
        >>> list(cut_through("f (x, y),z", ","))
        ['f (x', ' y)']
    """
    if delimiter not in text:
        return
    pieces, whole = text.split(delimiter), text.strip()
    if _is_paired(whole):
        for piece in pieces:
            # Faces such as :( are no brackets.
            if not _is_paired(piece) and any(sign.isalnum() for sign in piece):
                yield piece
    if len(whole) > 1 and whole[0] == whole[-1] == '"':
        for piece in (pieces[0].strip(), pieces[-1].strip()):
            if len(piece) > 1 and (piece[0] == '"') != (piece[-1] == '"'):
                yield piece


def _is_paired(text: str) -> bool:
    # An interval such as (0, 18] may open and close differently.
    depth = 0
    for sign in text:
        depth += (sign in "[({") - (sign in "])}")
        if depth < 0:
            return False
    return not depth
