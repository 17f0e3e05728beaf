"""Encoded images that a source reads out of larger files: kept in a file, and not in memory."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
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

    def keep(self, image: bytes) -> Held:
        """Add an encoded image, and return what stands for it."""
        self.extend([image])
        return Held(self, len(self) - 1)

    def among(self, images: Sequence[Image]) -> HeldImages:
        """Return images of which some are held here and stay unread."""
        made = HeldImages()
        made._file = self._file
        made._entries = [
            self._entries[one.place] if isinstance(one, Held) and one.images is self
            else as_input(one) for one in images
        ]  # fmt: skip
        return made

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


@dataclass(frozen=True)
class Held:
    """One of the images of a `HeldImages`, unread.

    Args:
        images: Those that it is one of.
        place: Which one.

    Example:
        >>> images = HeldImages()
        >>> images.keep(b"first").read()
        b'first'
    """

    images: HeldImages
    place: int

    def read(self) -> bytes:
        """Return it encoded."""
        return self.images[self.place]


# An image, or a mask, as readers find it: a file, its encoded bytes, or where these are held.
Image = Path | bytes | Held


def as_inputs(images: Sequence[Image]) -> Sequence[Any]:
    """Return images as `Examples.inputs` hold them; those that are held in a file stay there.

    Example:
        >>> as_inputs([Path("cats/1.jpg"), b"second", HeldImages().keep(b"third")])
        ['cats/1.jpg', b'second', b'third']
    """
    kept = next((one.images for one in images if isinstance(one, Held)), None)
    return [as_input(one) for one in images] if kept is None else kept.among(images).settled()


def held_by(held: HeldImages | None, image: str | Path | bytes) -> Image:
    """Return an image as readers hand it on: what is encoded is held by `held`, where it is given.

    Example:
        >>> held_by(None, "cats/1.jpg"), held_by(None, b"first")
        (PosixPath('cats/1.jpg'), b'first')
    """
    if not isinstance(image, bytes):
        return Path(image)
    return image if held is None else held.keep(image)


def as_input(image: Image) -> str | bytes:
    """Return an image as one of `Examples.inputs`: the path as text, or encoded bytes.

    Example:
        >>> as_input(Path("cats/1.jpg"))
        'cats/1.jpg'
    """
    if isinstance(image, Held):
        return image.read()
    return image if isinstance(image, bytes) else str(image)


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
