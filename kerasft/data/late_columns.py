"""Columns of very many rows that take a few bytes a row: names of examples, values that recur."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kerasft.data.store import smallest

# Rows that are spelled out in one go.
AT_ONCE = 1 << 12


class LateIds(Sequence):
    """Names of examples, `FILE:PLACE` each, spelled out when they are asked for.

    Args:
        files: What the names begin with.
        ends: Up to which place in `places` each of these goes.
        places: Where each example stands in its file, whole numbers `[N]`.
        rows: Which examples these are, `int[M]`; all by default.

    Example:
        >>> ids = LateIds(["a.csv", "b.csv"], [2, 3], np.array([2, 3, 2]))
        >>> list(ids), ids.choose([2])[0]
        (['a.csv:2', 'a.csv:3', 'b.csv:2'], 'b.csv:2')
    """

    def __init__(
        self, files: Sequence[str], ends: Sequence[int], places: np.ndarray,
        rows: np.ndarray | None = None,
    ) -> None:
        self.files, self.ends, self.places, self.rows = files, ends, places, rows

    def __len__(self) -> int:
        return len(self.places if self.rows is None else self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.at(np.arange(*index.indices(len(self))))
        return self.at(np.array([range(len(self))[index]]))[0]

    def at(self, places: np.ndarray) -> list[str]:
        """Return the names at some places, from 0 on."""
        return self._spelled(places if self.rows is None else self.rows[places])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), AT_ONCE):
            yield from self[start : start + AT_ONCE]

    def _spelled(self, rows: np.ndarray) -> list[str]:
        places = self.places[rows].tolist()
        if len(self.files) == 1:
            begin = f"{self.files[0]}:"
            return [f"{begin}{place}" for place in places]
        which = np.searchsorted(self.ends, rows, "right").tolist()
        return [f"{self.files[one]}:{place}" for one, place in zip(which, places, strict=True)]

    def choose(self, indices: Sequence[int] | np.ndarray) -> LateIds:
        """Return the names at `indices`, not spelled out."""
        chosen = np.asarray(indices, "int64")
        rows = chosen if self.rows is None else self.rows[chosen]
        return LateIds(self.files, self.ends, self.places, rows)

    def order(self) -> np.ndarray:
        """Return the order that the names have when they are sorted as texts, `int64[N]`."""
        rows = np.arange(len(self.places)) if self.rows is None else np.asarray(self.rows)
        begins = [f"{one}:" for one in self.files]
        apart = all(not b.startswith(a) for a in begins for b in begins if a is not b)
        places = self.places[rows].astype("int64")
        most = int(places.max(initial=0))
        if not apart or most >= 10**16 or int(places.min(initial=0)) < 0:
            return np.array(sorted(range(len(self)), key=list(self).__getitem__), "int64")
        # 12 comes before 120, and that before 2: as numbers of equally many digits, shorter first.
        digits = np.ones(len(places), "int64")
        for size in range(1, len(str(most))):
            digits += places >= 10**size
        keys = (places * 10 ** (len(str(most)) - digits)) * 32 + digits
        if len(begins) == 1:
            return np.argsort(keys, kind="stable")
        rank = np.empty(len(begins), "int64")
        rank[sorted(range(len(begins)), key=begins.__getitem__)] = np.arange(len(begins))
        return np.lexsort((keys, rank[np.searchsorted(self.ends, rows, "right")]))


class Coded(Sequence):
    """Values that are few and come often: each is held once, and a number for each row.

    What is asked for is the same object each time, and must not be changed.

    Example:
        >>> labels = Coded()
        >>> labels.extend(["cat", "dog", "cat"])
        >>> list(labels), labels.distinct
        (['cat', 'dog', 'cat'], ['cat', 'dog'])
    """

    def __init__(self) -> None:
        self.distinct: list[Any] = []
        self.codes: Any = array("i")
        self._known: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.distinct[code] for code in self.codes[index]]
        return self.distinct[self.codes[index]]

    def __iter__(self) -> Iterator[Any]:
        return map(self.distinct.__getitem__, self.codes)

    def extend(self, values: Iterable[Any]) -> None:
        """Add values, also lists of values."""
        known, values = self._known, list(values)
        try:
            new = [known[type(one), one] for one in values]
        except (KeyError, TypeError):
            new = [self._code(one) for one in values]
        self.codes.extend(new)

    def _code(self, value: Any) -> int:
        key = _key(value)
        code = self._known.get(key)
        if code is None:
            code = self._known[key] = len(self.distinct)
            self.distinct.append(value)
        return code

    def choose(self, indices: Sequence[int] | np.ndarray) -> Coded:
        """Return the values at `indices`."""
        made = Coded()
        made.distinct, made._known = self.distinct, self._known
        chosen = self.numbers()[np.asarray(indices, "int64")]
        made.codes = array("i", chosen.astype("i", copy=False).tobytes())
        return made

    def replaced(self, distinct: list[Any]) -> Coded:
        """Return the same rows, with another value for each of the distinct ones."""
        made = Coded()
        made.distinct, made.codes = distinct, self.codes
        return made

    def numbers(self) -> np.ndarray:
        """Return which of the distinct values each row has, `int32[N]`."""
        return np.frombuffer(self.codes, "i") if len(self.codes) else np.zeros(0, "i")

    def mapped(self, made: Sequence[Any] | np.ndarray, dtype: Any) -> np.ndarray:
        """Return an array of what each distinct value becomes."""
        return np.asarray(made, dtype)[self.numbers()]


def _key(value: Any) -> Any:
    """Return what two values share if they are the same: 1 and true and 1.0 are not."""
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_key, value))
    if value != value:  # no number is as itself
        return (type(value), repr(value))
    try:
        hash(value)
    except TypeError:
        return (type(value), repr(value))
    return (type(value), value, str(value)) if isinstance(value, float) else (type(value), value)


class Places:
    """Gathers where examples stand in their files, for `LateIds`."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.ends: list[int] = []
        self.places = array("q")

    def __len__(self) -> int:
        return len(self.places)

    def add(self, file: str, places: Sequence[int]) -> None:
        """Add the places of rows of a file."""
        if not self.files or self.files[-1] != file:
            self.files.append(file)
            self.ends.append(len(self.places))
        self.places.extend(places)
        self.ends[-1] = len(self.places)

    def made(self) -> LateIds:
        """Return the names."""
        whole = np.frombuffer(self.places, "int64") if len(self.places) else np.zeros(0, "int64")
        return LateIds(self.files, self.ends, whole.astype(smallest(int(whole.max(initial=0)))))
