"""Texts that are read when they are asked for: mapped from a file, or out of several sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.store import smallest

# Texts that are read in one go.
AT_ONCE = 1 << 12


class LateTexts(Sequence):
    """Texts, or pairs of texts, in a file that is mapped into memory.

    Args:
        content: All texts in UTF-8, end to end, `uint8[bytes]`.
        ends: Where each ends, `int64[N]`; of pairs `int64[2 * N]`.
        pair: Whether an entry is a pair.
        rows: Which texts these are, `int64[M]`; all by default.

    Example:
        >>> texts = LateTexts(np.frombuffer(b"onetwo", "uint8"), np.array([3, 6]))
        >>> list(texts), texts.choose([1])[0]
        (['one', 'two'], 'two')
    """

    def __init__(
        self, content: np.ndarray, ends: np.ndarray, *, pair: bool = False,
        rows: np.ndarray | None = None,
    ) -> None:
        self.content, self.ends, self.pair, self.rows = content, ends, pair, rows

    def __len__(self) -> int:
        return len(self.ends) // (1 + self.pair) if self.rows is None else len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.at(np.arange(*index.indices(len(self))))
        return self.at(np.array([range(len(self))[index]]))[0]

    def at(self, places: np.ndarray) -> list[Any]:
        """Return the texts at some places, from 0 on."""
        rows = places if self.rows is None else self.rows[places].astype("int64")
        if self.pair:
            both = self._texts(np.stack([2 * rows, 2 * rows + 1], axis=1).reshape(-1))
            return list(zip(both[::2], both[1::2], strict=True))
        return self._texts(rows)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), AT_ONCE):
            yield from self[start : start + AT_ONCE]

    def _texts(self, rows: np.ndarray) -> list[str]:
        starts = np.where(rows > 0, self.ends[rows - 1], 0).tolist()
        content = self.content.data
        return [str(content[start:end], "utf-8")
                for start, end in zip(starts, self.ends[rows].tolist(), strict=True)]  # fmt: skip

    def sizes(self) -> np.ndarray:
        """Return how many bytes each has, `int64[N]`; of a pair the longer text."""
        found = np.diff(self.ends, prepend=0)
        found = found.reshape(-1, 2).max(axis=1) if self.pair else found
        return found if self.rows is None else found[self.rows]

    def choose(self, indices: Sequence[int] | np.ndarray) -> LateTexts:
        """Return the texts at `indices`, unread."""
        chosen = np.asarray(indices, "int64")
        rows = chosen if self.rows is None else self.rows[chosen]
        return LateTexts(self.content, self.ends, pair=self.pair, rows=rows)


class TextWriter:
    """Writes texts into `NAME.bin` and `NAME-lengths.npy` for `read_texts`, a piece at a time.

    Args:
        folder: Where the files go.
        name: Their name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._file = open(folder / f"{name}.bin", "wb")  # noqa: SIM115
        self._lengths: list[np.ndarray] = []

    def extend(self, texts: Sequence[str]) -> None:
        """Write texts behind those that are there."""
        together = "".join(texts)
        lengths: Any = map(len, texts)
        if together.isascii():
            self._file.write(together.encode())
        else:
            encoded = [text.encode() for text in texts]
            self._file.write(b"".join(encoded))
            lengths = map(len, encoded)
        made = np.fromiter(lengths, "int64", len(texts))
        self._lengths.append(made.astype(smallest(int(made.max(initial=0)))))

    def abandon(self) -> None:
        """Close what is open; what was written cannot be read."""
        self._file.close()

    def close(self) -> None:
        """Have all texts in the files."""
        self._file.close()
        made = np.concatenate(self._lengths) if self._lengths else np.zeros(0, "int64")
        np.save(self.folder / f"{self.name}-lengths.npy",
                made.astype(smallest(int(made.max(initial=0)))))  # fmt: skip


def write_texts(folder: Path, name: str, texts: Iterable[Any]) -> None:
    """Write texts or pairs into `NAME.bin` and `NAME-lengths.npy` for `read_texts`."""
    writer = TextWriter(folder, name)
    try:
        for some in batched(texts, AT_ONCE):
            writer.extend(
                list(some) if isinstance(some[0], str) else [one for pair in some for one in pair]
            )
        writer.close()
    finally:
        writer.abandon()


def batched(values: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Yield values in tuples of one size; the last may have fewer."""
    left = iter(values)
    while some := tuple(islice(left, size)):
        yield some


def read_texts(folder: Path, name: str, *, pair: bool = False) -> LateTexts:
    """Return what `write_texts` wrote."""
    content = mapped(folder / f"{name}.bin")
    ends = np.cumsum(np.load(folder / f"{name}-lengths.npy"), dtype="int64")
    if (ends[-1] if len(ends) else 0) != len(content):
        raise ValueError(f"{name}.bin has {len(content):,} bytes, and not as many as it should")
    return LateTexts(content, ends, pair=pair)


def mapped(file: Path) -> np.ndarray:
    """Return the bytes of a file as an array that is read when it is looked at."""
    content: Any = np.memmap(file, "uint8", "r") if file.stat().st_size else np.zeros(0, "uint8")
    # Without the class of maps, which costs time at each look-up.
    return np.asarray(content)


class Chosen(Sequence):
    """Some entries of several sequences, looked up when they are asked for.

    Args:
        parts: The sequences, one behind the other.
        rows: Which entries, counted over all of them, `int64[N]`.

    Example:
        >>> list(Chosen([["a", "b"], ["c"]], np.array([2, 0])))
        ['c', 'a']
    """

    def __init__(self, parts: Sequence[Sequence[Any]], rows: np.ndarray) -> None:
        self.parts, self.rows = parts, rows
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._read(self.rows[index])
        row = int(self.rows[index])
        which = int(np.searchsorted(self._ends, row, "right"))
        return self.parts[which][row - (int(self._ends[which - 1]) if which else 0)]

    def _read(self, rows: np.ndarray) -> list[Any]:
        which = np.searchsorted(self._ends, rows, "right")
        found: list[Any] = [None] * len(rows)
        for number, part in enumerate(self.parts):
            here = np.flatnonzero(which == number)
            if len(here):
                start = int(self._ends[number - 1]) if number else 0
                values = _at(part, rows[here] - start)
                for place, value in zip(here.tolist(), values, strict=True):
                    found[place] = value
        return found


def _at(part: Sequence[Any], rows: np.ndarray) -> Sequence[Any]:
    """Return the entries at some places, all at once where that can be."""
    together = getattr(part, "at", None)
    return [part[i] for i in rows.tolist()] if together is None else together(rows)
