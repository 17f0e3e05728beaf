"""Where a source puts texts while it reads them: in files that are mapped, and not in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.annotations import kinds
from kerasft.data.fingerprint import digests_of
from kerasft.data.late_columns import Coded, Places
from kerasft.data.late_texts import LateTexts, TextWriter, mapped, read_texts

# The name that the texts of a source have in the folder of an entry, and what begins the names of
# files that nobody needs once the splits are made.
TEXTS, SCRATCH = "texts", "scratch-"
# Rows that are copied in one go.
AT_ONCE = 1 << 16

_FOLDER: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextmanager
def spooled_in(folder: Path) -> Iterator[None]:
    """Have sources that can read in pieces put what they read into a folder, inside the block."""
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


def folder() -> Path | None:
    """Return where a source is to put what it reads; `None` where it is to hold it in memory."""
    return _FOLDER.get()


class Spool:
    """Takes the texts of a source piece by piece, with their names and fingerprints.

    Its files are closed at the end of a `with` block.

    Args:
        folder: Where they go.
        pair: Whether an example is a pair of texts.
    """

    def __init__(self, folder: Path, *, pair: bool) -> None:
        self.folder, self.pair = folder, pair
        self.texts = TextWriter(folder, TEXTS)
        self.places = Places()
        self.values: Values | None = None
        self._digests = open(folder / f"{SCRATCH}digests.bin", "wb")  # noqa: SIM115
        self._blank: list[np.ndarray] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *raised: object) -> None:
        self.texts.abandon()
        self._digests.close()
        if self.values is not None:
            self.values.writer.abandon()

    def add(self, file: str, places: Sequence[int], texts: Sequence[Any]) -> None:
        """Add some rows of a file.

        Args:
            file: What names of its examples begin with.
            places: Where each row stands.
            texts: A text or a pair of texts each.
        """
        self.places.add(file, places)
        self.texts.extend([text for pair in texts for text in pair] if self.pair else texts)
        digests_of(texts, "text").tofile(self._digests)
        self._blank.append(np.fromiter(map(is_blank, texts), bool, len(texts)))

    def column(self, name: str, kind: str = "") -> Any:
        """Return an empty column for a value of each row.

        Args:
            name: What it is called.
            kind: What the values are to a task: numbers do not recur.
        """
        if not kinds.are_numbers(kind):
            return Coded()
        self.values = Values(self.folder, name)
        return self.values

    def columns(self) -> dict[str, Any]:
        """Return the columns of a `Collection`, once all texts were added."""
        self.texts.close()
        self._digests.close()
        return {
            "inputs": read_texts(self.folder, TEXTS, pair=self.pair), "ids": self.places.made(),
            "digests": mapped(self.folder / f"{SCRATCH}digests.bin").reshape(-1, 32),
            "blank": np.concatenate(self._blank) if self._blank else np.zeros(0, bool),
            "folder": self.folder,
            **({} if self.values is None else {"values": self.values.filled()}),
        }


class Values:
    """Takes plain values that are hardly ever the same, as JSON.

    Args:
        folder: Where they go.
        name: What their files are called.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, f"{SCRATCH}{name}"
        self.writer = TextWriter(folder, self.name)
        self.are_tuples = True
        self.held: list[Any] | None = None  # what JSON does not know, decimal numbers say

    def extend(self, values: Sequence[Any]) -> None:
        """Add values, also lists or tuples of them."""
        if self.held is None:
            try:
                lines = list(map(json.dumps, values))
            except (TypeError, ValueError):
                self.held = list(self._written())
            else:
                are_tuples = all(isinstance(one, tuple) for one in values)
                self.are_tuples = self.are_tuples and are_tuples
                self.writer.extend(lines)
        if self.held is not None:
            self.held.extend(values)

    def filled(self) -> Sequence[Any]:
        """Return them, once they are in the file."""
        return self._written() if self.held is None else self.held

    def _written(self) -> LateValues:
        self.writer.close()
        return LateValues(read_texts(self.folder, self.name), are_tuples=self.are_tuples)


class LateValues(Sequence):
    """Plain values in a file that is mapped into memory.

    Args:
        texts: Each as JSON.
        are_tuples: Whether what JSON has as lists are tuples.
    """

    def __init__(self, texts: LateTexts, *, are_tuples: bool) -> None:
        self.texts, self.are_tuples = texts, are_tuples

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Any) -> Any:
        found = self.texts[index]
        return list(map(self._read, found)) if isinstance(index, slice) else self._read(found)

    def __iter__(self) -> Iterator[Any]:
        return map(self._read, self.texts)

    def _read(self, text: str) -> Any:
        value = json.loads(text)
        return tuple(value) if self.are_tuples else value

    def choose(self, indices: Sequence[int] | np.ndarray) -> LateValues:
        """Return the values at `indices`."""
        return LateValues(self.texts.choose(indices), are_tuples=self.are_tuples)


def is_blank(given: Any) -> bool:
    """Whether a text is empty, or one of a pair of texts."""
    return not (given.strip() if isinstance(given, str) else all(map(str.strip, given)))


def copied(array: np.ndarray, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Write some rows of an array of bytes into a new file, and return them mapped.

    Args:
        array: `uint8[N, ...]`.
        rows: Which ones, `int64[M]`.
        folder: Where the file goes.
    """
    handle, file = tempfile.mkstemp(".bin", SCRATCH, folder)
    with open(handle, "wb") as out:
        for start in range(0, len(rows), AT_ONCE):
            array[rows[start : start + AT_ONCE]].tofile(out)
    return mapped(Path(file)).reshape(-1, *array.shape[1:])
