"""Texts that are read when they are asked for: mapped from a file, or out of several sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
            places = np.arange(*index.indices(len(self)))
            return self._read(places if self.rows is None else self.rows[places])
        place = range(len(self))[index]
        return self._read(np.array([place if self.rows is None else self.rows[place]]))[0]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), AT_ONCE):
            yield from self[start : start + AT_ONCE]

    def _read(self, rows: np.ndarray) -> list[Any]:
        if self.pair:
            both = self._texts(np.stack([2 * rows, 2 * rows + 1], axis=1).reshape(-1))
            return list(zip(both[::2], both[1::2], strict=True))
        return self._texts(rows)

    def _texts(self, rows: np.ndarray) -> list[str]:
        starts = np.where(rows > 0, self.ends[rows - 1], 0).tolist()
        content = self.content.data
        return [str(content[start:end], "utf-8")
                for start, end in zip(starts, self.ends[rows].tolist(), strict=True)]  # fmt: skip

    def choose(self, indices: Sequence[int] | np.ndarray) -> LateTexts:
        """Return the texts at `indices`, unread."""
        chosen = np.asarray(indices, "int64")
        rows = chosen if self.rows is None else self.rows[chosen]
        return LateTexts(self.content, self.ends, pair=self.pair, rows=rows)


def write_texts(folder: Path, name: str, texts: Iterable[Any]) -> None:
    """Write texts or pairs into `NAME.bin` and `NAME-lengths.npy` for `read_texts`."""
    lengths: list[int] = []
    with open(folder / f"{name}.bin", "wb") as file:
        for one in texts:
            for text in (one,) if isinstance(one, str) else one:
                lengths.append(file.write(text.encode()))
    made = np.array(lengths, "int64")
    np.save(folder / f"{name}-lengths.npy", made.astype(smallest(made.max(initial=0))))


def read_texts(folder: Path, name: str, *, pair: bool = False) -> LateTexts:
    """Return what `write_texts` wrote."""
    file = folder / f"{name}.bin"
    content = np.memmap(file, "uint8", "r") if file.stat().st_size else np.zeros(0, "uint8")
    ends = np.cumsum(np.load(folder / f"{name}-lengths.npy"), dtype="int64")
    if (ends[-1] if len(ends) else 0) != len(content):
        raise ValueError(f"{name}.bin has {len(content):,} bytes, and not as many as it should")
    # Without the class of maps, which costs time at each look-up.
    return LateTexts(np.asarray(content), ends, pair=pair)


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
            return [self[i] for i in range(*index.indices(len(self)))]
        row = int(self.rows[index])
        which = int(np.searchsorted(self._ends, row, "right"))
        return self.parts[which][row - (int(self._ends[which - 1]) if which else 0)]
