"""Finds the image files below a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerasft.data.annotations.classes import natural
from kerasft.data.current_read import begins
from kerasft.data.images.audit import FORMATS, OTHER_SUFFIXES, SUFFIXES, sniff_file
from kerasft.errors import UserError

# What systems leave behind: a Mac's `._1.png`, `.ipynb_checkpoints`, previews of Windows.
_SYSTEM = ("/dev", "/proc", "/sys")
HIDDEN = (".", "__MACOSX", "Thumbs.db", "desktop.ini")


def entries(folder: Path, key: str = "data.path") -> list[Path]:
    """Return what a folder holds, without hidden names, 2 before 10.

    Args:
        folder: The folder.
        key: Where the folder was named, for messages.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        found = [entry for entry in folder.iterdir() if not entry.name.startswith(HIDDEN)]
    except OSError as error:
        raise UserError(f"{key}: {folder} cannot be read ({error.strerror}).") from error
    return sorted(found, key=lambda entry: natural(entry.name))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones, 2 before 10."""
    try:
        # Unlike `Path.iterdir`, it knows what is a folder without asking for each file.
        with os.scandir(folder) as scanned:
            names = [one.name for one in scanned if one.is_dir()]
    except OSError as error:
        raise UserError(f"data.path: {folder} cannot be read ({error.strerror}).") from error
    return [folder / n for n in sorted(names, key=natural) if not n.startswith(HIDDEN)]


def walk_images(
    folder: Path, others: Counter[str] | None = None, *, key: str = "data.path"
) -> Iterator[Path]:
    """Walk the files of a folder, in a stable order, that are images or claim to be.

    A suffix of images is such a claim, also of those that the network's decoder does not know:
    they are to be named, not passed over. Links are followed, but for those to a folder that they
    are in themselves (`..`, `/`), and to what the system shows of itself (`/proc`).

    Args:
        folder: Where to begin.
        others: Counts the suffixes of all other files, where it is given.
        key: Where the folder was named, for messages.

    Yields:
        The paths.

    Raises:
        UserError: If a folder cannot be read: its images would be missing without a word.
    """

    def fail(error: OSError) -> None:
        raise UserError(f"{key}: {error.filename} cannot be read ({error.strerror}).") from error

    seen = set()
    for place, inner, files in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(place)
        if real in seen or leads_up(place, real):
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted((n for n in inner if not n.startswith(HIDDEN)), key=natural)
        for name in sorted((n for n in files if not n.startswith(HIDDEN)), key=natural):
            path = Path(place) / name
            if is_image(path):
                yield path
            elif others is not None:
                others[path.suffix.lower() or "without a suffix"] += 1


def is_image(path: Path) -> bool:
    """Return whether a file is an image, or claims to be one; hidden ones are none."""
    if path.name.startswith(HIDDEN):
        return False
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or suffix in OTHER_SUFFIXES or _looks(path)


def beside(images: Iterable[Path]) -> list[Path]:
    """Return the images that stand in the folders of others, and are none of these."""
    taken = set(images)
    folders = {path.parent for path in taken}
    return sorted(
        {p for folder in folders if folder.is_dir() for p in folder.iterdir() if is_image(p)}
        - taken, key=lambda path: natural(path.as_posix()),
    )  # fmt: skip


def leads_up(place: str | Path, real: str | None = None) -> bool:
    """Return whether a folder is a link to one that it is in, or to the system's own files.

    Args:
        place: The folder.
        real: Where it leads, if that is known.
    """
    place = Path(place)
    if not place.is_symlink():
        return False
    target = Path(os.path.realpath(place) if real is None else real)
    home = Path(os.path.realpath(place.parent))
    return home.is_relative_to(target) or any(map(target.is_relative_to, _SYSTEM))


def outside(root: Path, paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Find the links among some paths that lead out of a folder.

    Args:
        root: The folder.
        paths: Files below it.

    Returns:
        The links, each with where it leads: folders, or files.
    """
    home = Path(os.path.realpath(root))
    known: dict[Path, tuple[Path, str] | None] = {root: None}

    def look(path: Path) -> tuple[Path, str] | None:
        if path not in known:
            found = look(path.parent)
            if found is None and path.is_symlink():
                real = os.path.realpath(path)
                found = None if Path(real).is_relative_to(home) else (path, real)
            known[path] = found
        return known[path]

    found = dict.fromkeys(look(path) for path in paths)
    return [one for one in found if one is not None]


def spelled(name: str) -> str:
    r"""Return a name with bytes that are no UTF-8 spelled out, so that it can be written.

    Example:
        >>> print(spelled(os.fsdecode(b"caf\xe9.png")))
        caf\xe9.png
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def holds_images(folder: Path) -> bool:
    """Return whether there is any image in a folder, however deep."""
    return next(walk_images(folder), None) is not None


def _looks(path: Path) -> bool:
    begins(path)
    return sniff_file(path) in FORMATS
