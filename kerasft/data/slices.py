"""Slices: columns of the data by whose values figures are told apart, a few bytes an example."""

from __future__ import annotations

import inspect
import math
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np

from kerasft.data.annotations.alike import number
from kerasft.data.store import smallest
from kerasft.data.word_counts import WORD
from kerasft.errors import UserError, some
from kerasft.rows import Rows
from kerasft.spec import Examples, Modality, Splits
from kerasft.system.console import listing

# Examples without a value are a slice, too, and so are those of all values that come rarely.
MISSING, OTHERS = "(missing)", "(others)"
# What needs no column: how many words a text has.
LENGTH = "length"
# The most values that are a slice each, and the most that are held while a column is read.
MOST, DISTINCT = 50, 10_000
# More different numbers than these are no classes, as 1 to 5 stars are: they are cut into so many
# parts with as many examples each.
FEW_NUMBERS, PARTS = 10, 3
# Characters of a value.
LONGEST = 100

_WORD = re.compile(WORD)
_SEVERAL = (list, tuple, dict, set, bytes, np.ndarray)


class Values:
    """Takes the cells of a column, and holds a number for each.

    Args:
        name: The name of the column.

    Example:
        >>> values = Values("language")
        >>> values.extend(["en", "bn", None, "en"])
        >>> codes, names, _ = values.cut()
        >>> [names[code] for code in codes]
        ['en', 'bn', '(missing)', 'en']
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.codes: Any = array("i")  # -1 where there is no value
        self.known: dict[str, int] = {}
        # What the cells are as numbers, while all of them are.
        self.numbers: Any = array("d")

    def __len__(self) -> int:
        return len(self.codes)

    def extend(self, cells: Iterable[Any]) -> None:
        """Add cells.

        Raises:
            UserError: If they are lists or the like, or too many different words.
        """
        for cell in cells:
            word = _word(cell)
            if word is None and isinstance(cell, _SEVERAL):
                raise UserError(
                    f"slices: the cells of {self.name!r} must be words or numbers. Received: "
                    f"{str(cell)[:60]!r}, {type(cell).__name__}. Choose another column."
                )
            value = math.nan if word is None else _number(cell, word)
            if value is None:
                self.numbers = None
            elif self.numbers is not None:
                self.numbers.append(value)
            self.codes.append(-1 if word is None else self._code(word))

    def _code(self, word: str) -> int:
        code = self.known.get(word)
        if code is not None:
            return code
        if len(self.known) >= DISTINCT:
            if self.numbers is not None:  # it is cut, and needs no words
                return DISTINCT
            raise UserError(
                f"slices: {self.name!r} has more than {DISTINCT:,} different values "
                f"({listing(map(_quoted, list(self.known)[:3]))}, ...). Choose a column whose "
                "values come often."
            )
        code = self.known[word] = len(self.known)
        return code

    def choose(self, indices: Sequence[int] | np.ndarray) -> Values:
        """Return the values at `indices`."""
        rows = np.asarray(indices, "int64")
        made = Values(self.name)
        made.known, made.numbers = self.known, None
        made.codes = array("i", _array(self.codes, "i")[rows].tobytes())
        if self.numbers is not None:
            made.numbers = array("d", _array(self.numbers, "d")[rows].tobytes())
        return made

    def cut(self) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
        """Return the slice of each example.

        Returns:
            Its number, `[N]`, the name that each number stands for, and sentences for the user.

        Raises:
            UserError: If there is no value at all, or another one for each example.
        """
        codes, notices = _array(self.codes, "i").copy(), list[str]()
        there = codes >= 0
        if not there.any():
            raise UserError(
                f"slices: no example has a value in {self.name!r}. Choose another column."
            )
        used, counts = np.unique(codes[there], return_counts=True)
        if self.numbers is not None and (len(used) > FEW_NUMBERS or used[-1] == DISTINCT):
            codes, names = parts_of(_array(self.numbers, "d"))
        elif len(used) == there.sum() > 1 or (len(used) > MOST and 2 * len(used) > there.sum()):
            words = list(self.known)
            raise UserError(
                f"slices: nearly each example has a value of its own in {self.name!r} "
                f"({len(used):,} in {there.sum():,}: "
                f"{listing((_quoted(words[i]) for i in used[:3]), 3)}, ...). Choose a column "
                "whose values come often."
            )
        else:
            words, names = list(self.known), ()
            in_order = used[np.argsort(-counts, kind="stable")]
            kept = in_order if len(used) <= MOST else in_order[: MOST - 1]
            places = np.full(len(words) + 1, len(kept), "int64")
            places[kept] = np.arange(len(kept))
            places[-1] = -1
            names = tuple(words[i] for i in kept)
            codes = places[codes]
            if len(kept) < len(used):
                names += (OTHERS,)
                notices.append(
                    f"slices: {self.name!r} has {len(used):,} values. The {len(kept)} that come "
                    f"most often are slices, and {some(int((codes == len(kept)).sum()), 'example')}"
                    f" with other ones are together in {OTHERS!r}."
                )
        if not there.all():
            names += (MISSING,)
            codes[codes < 0] = len(names) - 1
        return codes.astype(smallest(len(names))), names, notices


def _array(values: Any, dtype: str) -> np.ndarray:
    return np.frombuffer(values, dtype) if len(values) else np.zeros(0, dtype)


def _quoted(word: str) -> str:
    return repr(word if len(word) <= 30 else f"{word[:30]}...")


def _word(cell: Any) -> str | None:
    """Return a cell as a word, `None` where it holds none."""
    if isinstance(cell, str):
        word = cell.strip()[:LONGEST]
        return None if word in ("", MISSING) else word
    if cell is None or isinstance(cell, _SEVERAL):
        return None
    empty = isinstance(cell, float | np.floating) and math.isnan(cell)
    return None if empty else str(cell)[:LONGEST]


def _number(cell: Any, word: str) -> float | None:
    if isinstance(cell, bool):
        return None
    return number(word)


def parts_of(numbers: np.ndarray, unit: str = "") -> tuple[np.ndarray, tuple[str, ...]]:
    """Cut numbers into parts with about as many examples each; the same number is in one part.

    Args:
        numbers: `float64[N]`, NaN where there is none.
        unit: What they count, for the names.

    Returns:
        The part of each, `int64[N]` and -1 where there is none, and the name of each part.

    Example:
        >>> parts_of(np.array([1.0, 5, 2, 30, 7, 4]))[1]
        ('1 to 2', '4 to 5', '7 to 30')
    """
    there = ~np.isnan(numbers)
    known = numbers[there]
    edges = np.quantile(known, np.arange(1, PARTS) / PARTS, method="inverted_cdf")
    part = np.searchsorted(edges, known)  # up to and with an edge
    _, part = np.unique(part, return_inverse=True)
    names = []
    for one in range(int(part.max()) + 1):
        inside = known[part == one]
        low, high = _shown(inside.min()), _shown(inside.max())
        names.append((low if low == high else f"{low} to {high}") + unit)
    codes = np.full(len(numbers), -1, "int64")
    codes[there] = part
    return codes, tuple(names)


def _shown(value: float) -> str:
    whole = value.is_integer() and abs(value) < 2**53
    return str(int(value)) if whole else f"{value:.6g}"


def completed(
    splits: Splits, wanted: Sequence[str | int], source: str, *, reads: bool
) -> Splits:
    """Add slices that need no column, and see that all that are wanted are there.

    Args:
        splits: What a source has read.
        wanted: The columns that are asked for; numbers are of columns without a name.
        source: What the source is called.
        reads: Whether it reads columns for slices.

    Raises:
        UserError: If one is not there.
    """
    left = [one for one in wanted if str(one) not in splits.slices
            and not (reads and isinstance(one, int))]  # fmt: skip
    of_texts = splits.train.modality == "text"
    if of_texts and LENGTH in left:
        splits = with_lengths(splits)
        left.remove(LENGTH)
    if left:
        raise UserError(no_columns(left, source, splits.train.modality))
    return splits


def reads_columns(source: Callable[..., Any]) -> bool:
    """Whether a source takes `slices`, the columns by which figures are told apart."""
    return "slices" in inspect.signature(source).parameters


def no_columns(wanted: Sequence[str | int], source: str, modality: Modality) -> str:
    """Return what is said of a source that does not read columns that are wanted."""
    allowed = f"Allowed: {LENGTH}, the words of a text." if modality == "text" else (
        "Leave slices out, or bring the images in a table (data=table, boxes_csv or "
        "masks_table), whose further columns can be named."
    )
    return (
        f"slices: {source} reads no columns beside the labels, by which figures could be told "
        f"apart. {allowed} Received: {listing(map(str, wanted))}."
    )


def with_lengths(splits: Splits) -> Splits:
    """Add the slices of texts by how many words they have, of all texts of a pair together."""
    counts = {name: _words(part.inputs) for name, part in splits.parts.items()}
    together = np.concatenate(list(counts.values())).astype("float64")
    codes, names = parts_of(together, " words")
    ends = np.cumsum([len(one) for one in counts.values()])[:-1]
    column = dict(zip(counts, np.split(codes.astype("uint8"), ends), strict=True))
    made: dict[str, Any] = {
        name: _with(part, LENGTH, column[name]) for name, part in splits.parts.items()
    }
    return replace(splits, **made, slices={**splits.slices, LENGTH: names})


def _words(texts: Sequence[Any]) -> np.ndarray:
    return np.fromiter(
        (len(_WORD.findall(" ".join(one) if isinstance(one, tuple) else one)) for one in texts),
        "int32", len(texts),
    )  # fmt: skip


def _with(part: Examples, name: str, codes: np.ndarray) -> Examples:
    """Return examples with one more column of slices."""
    columns = {} if part.slices is None else {n: part.slices[n] for n in part.slices.columns}
    made = replace(part, slices=Rows.of({**columns, name: codes}))
    if part.noted is not None:
        made.note(*part.noted)
    return made


def extend(
    known: dict[str, Values], cells: Mapping[str, Iterable[Any]], count: int, *, before: int
) -> None:
    """Add the cells of some rows; columns that not all files have are without a value elsewhere.

    Args:
        known: What was read before, which grows.
        cells: The cells by column.
        count: How many rows these are.
        before: How many rows went before.
    """
    for name in dict.fromkeys([*known, *cells]):
        if name not in known:
            known[name] = Values(name)
            known[name].extend(repeat(None, before))
        known[name].extend(cells.get(name, repeat(None, count)))


def gathered(each: Sequence[Mapping[str, Any]]) -> dict[str, Values]:
    """Return columns of cells that are known example by example.

    Args:
        each: A cell by the name of its column, for each example.
    """
    made = {name: Values(name) for name in dict.fromkeys(n for one in each for n in one)}
    for name, values in made.items():
        values.extend(one.get(name) for one in each)
    return made


def cut_all(
    found: Mapping[str, Values]
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]], list[str]]:
    """Cut all columns; see `Values.cut`. Return numbers and names by column, and sentences."""
    codes: dict[str, np.ndarray] = {}
    names: dict[str, tuple[str, ...]] = {}
    notices: list[str] = []
    for name, values in found.items():
        codes[name], names[name], said = values.cut()
        notices += said
    return codes, names, notices


def asked(value: str | int | Sequence[str | int] | None) -> tuple[str | int, ...]:
    """Return the columns that the key `slices` names: one, several, or none.

    Example:
        >>> asked("language"), asked(None), asked(["a", 3, "a"])
        (('language',), (), ('a', 3))
    """
    if value is None:
        return ()
    return tuple(dict.fromkeys([value] if isinstance(value, str | int) else value))
