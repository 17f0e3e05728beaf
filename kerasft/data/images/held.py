"""Encoded images that a source reads out of larger files: kept in a file, and not in memory."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.errors import UserError

# Images of so many bytes in all are held in memory.
FEW = 1 << 26

_FOLDER: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextmanager
def held_in(folder: Path) -> Iterator[None]:
    """Have the files of what is held lie in a folder, inside the block; they have no name there.

    Args:
        folder: The folder; it is made where it is needed.
    """
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


class HeldImages(Sequence):
    """Encoded images, or paths of images, in the order in which they were added.

    What is encoded goes to a file without a name as soon as it is much, and is read from there when
    it is asked for. The file ends with the process.

    Example:
        >>> images = HeldImages()
        >>> images.extend([b"first", "second.jpg"])
        >>> images[0], images.choose([1])[0]
        (b'first', 'second.jpg')
    """

    def __init__(self) -> None:
        # A path, what is encoded, or where that stands in the file: its offset and its size.
        self._entries: list[str | bytes | tuple[int, int]] = []
        self._file = _File()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.choose(range(*index.indices(len(self))))
        found = self._entries[index]
        return self._file.read(*found) if isinstance(found, tuple) else found

    def extend(self, images: Iterable[str | bytes]) -> None:
        """Add images.

        Raises:
            UserError: If there is no room for the file.
        """
        for image in images:
            if isinstance(image, bytes):
                self._entries.append(self._file.add(image))
                if self._file.is_new:  # it has become too much just now
                    self._file.is_new = False
                    self._entries = [self._file.add(one) if isinstance(one, bytes) else one
                                     for one in self._entries]  # fmt: skip
            else:
                self._entries.append(image)

    def settled(self) -> Sequence[Any]:
        """Return all, once none follow: as a plain list where no file is needed for them."""
        return self if any(isinstance(one, tuple) for one in self._entries) else list(self)

    def paths(self) -> Iterator[tuple[int, str]]:
        """Yield where there is a path, and which."""
        for place, one in enumerate(self._entries):
            if isinstance(one, str):
                yield place, one

    def choose(self, indices: Sequence[int] | np.ndarray) -> HeldImages:
        """Return the images at `indices`, in that order, still unread."""
        made = HeldImages()
        made._file = self._file
        made._entries = [self._entries[int(i)] for i in indices]
        return made


class _File:
    """A file without a name, which several sequences of images may share."""

    def __init__(self) -> None:
        self.size, self.is_new = 0, False
        self._file: Any = None
        self._lock = threading.Lock()

    def add(self, image: bytes) -> bytes | tuple[int, int]:
        """Return what stands for an image: itself while all are few, or where it is."""
        if self._file is None:
            self.size += len(image)
            if self.size <= FEW:
                return image
            self._open()
        with self._lock:
            start = self._file.seek(0, os.SEEK_END)
            try:
                self._file.write(image)
            except OSError as error:
                raise self._full(error) from error
        return start, len(image)

    def read(self, start: int, size: int) -> bytes:
        """Return an image."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)

    def _open(self) -> None:
        folder = _FOLDER.get()
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        except OSError as error:
            raise self._full(error) from error
        weakref.finalize(self, self._file.close)
        self.is_new = True

    def _full(self, error: OSError) -> UserError:
        place = _FOLDER.get() or tempfile.gettempdir()
        return UserError(
            f"Images that lie within other files are written to a file in {place} while a run uses "
            f"them, which failed: {error.strerror or error}. Make room there, or choose another "
            "folder: cache.directory=DIR."
        )
