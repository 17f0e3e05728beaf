"""Checks folders from strangers: no links that lead out, no pipes, no endless files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kerasft.errors import UserError


def require_readable(folder: str | Path) -> None:
    """See that a folder holds files and folders alone, or links to some.

    A pipe is waited for without end, and a device may be read without end.

    Args:
        folder: The folder.

    Raises:
        UserError: With the first thing that is neither.

    Example:
        >>> require_readable(".")
    """
    for _ in _links(Path(folder)):
        pass


def require_enclosed(folder: str | Path) -> None:
    """See that a folder holds files and folders alone, and no link that leads out of it.

    What is written there, or removed, is then in the folder: see to it before the first file is
    written, locks included.

    Args:
        folder: The folder; it may be a link itself.

    Raises:
        UserError: With the first thing that is neither.
    """
    root = os.path.realpath(folder)
    for link in _links(Path(folder)):
        target = os.path.realpath(link)
        if not target.startswith(root.rstrip(os.sep) + os.sep):
            raise UserError(
                f"{str(folder)!r} holds a link that leads out of it: "
                f"{str(link.relative_to(folder))!r} is {target!r}. Files would be written, and "
                "removed, there. Put a copy in its place."
            )


def _links(folder: Path) -> Iterator[Path]:
    """Yield the links in a folder, which may lead nowhere but not round in circles."""
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:  # another process has removed it meanwhile
            continue
        except OSError as error:
            raise UserError(
                f"{str(place)!r} cannot be read: {error.strerror or error}."
            ) from error
        for entry in entries:
            path = Path(entry)
            try:
                kind = path.stat().st_mode
            except FileNotFoundError:
                kind = None  # a link that leads nowhere, or what has just been removed
            except OSError as error:
                round_about = error.errno == errno.ELOOP
                raise UserError(
                    f"{str(folder)!r} holds {str(path.relative_to(folder))!r}, which "
                    + ("is a link that leads back to itself." if round_about
                       else f"cannot be read: {error.strerror or error}.")
                ) from error
            if kind is not None and not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                raise UserError(
                    f"{str(folder)!r} holds {str(path.relative_to(folder))!r}, which is no file "
                    "and no folder but a device, a pipe or a socket. Take it out."
                )
            if entry.is_symlink():
                yield path
            elif kind is not None and stat.S_ISDIR(kind):
                waiting.append(path)


def require_size(file: str | os.PathLike, most: int) -> None:
    """See that something is a file that can be read to its end, and not too large.

    What is not there is left to the reader, who says so.

    Args:
        file: The file.
        most: The largest size in bytes.

    Raises:
        UserError: If it is something else, or larger.
    """
    try:
        found = Path(file).stat()
    except OSError:
        return
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{str(file)!r} must be a file. It is a device, a pipe or a socket.")
    if found.st_size > most and stat.S_ISREG(found.st_mode):
        raise UserError(
            f"{str(file)!r} has {found.st_size:,} bytes, and at most {most:,} are read."
        )
