"""The folders in which relative paths are looked up.

A command looks in the folder that it is given in. A run that is opened from elsewhere names its
data by paths that are relative to the folder of the command that trained it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from kerasft.errors import UserError
from kerasft.files import at_home

_FOLDERS: ContextVar[tuple[Path, ...]] = ContextVar("folders", default=())


@contextmanager
def looked_up_in(folders: Iterable[Path]) -> Iterator[None]:
    """Look relative paths up in these folders, in their order, while the block runs.

    Args:
        folders: Absolute paths; without any, the current folder alone counts.

    Example:
        >>> with looked_up_in([Path("/tmp")]):
        ...     print(candidates("films.csv"))
        [PosixPath('/tmp/films.csv')]
    """
    token = _FOLDERS.set(tuple(dict.fromkeys(folders)))
    try:
        yield
    finally:
        _FOLDERS.reset(token)


def looked_up() -> tuple[Path, ...]:
    """Return the folders that are set, none where the current one alone counts."""
    return _FOLDERS.get()


def candidates(path: str | os.PathLike) -> list[Path]:
    """Return where a path may lead, the likeliest first; `~` is the home folder."""
    given = at_home(path)
    return [folder / given for folder in _FOLDERS.get()] or [given]


def located(path: str | os.PathLike) -> Path:
    """Return the first place that a path may lead to and that has something.

    Args:
        path: A path; a relative one is looked up in the folders that are set.

    Returns:
        The place; where none has anything, the path itself, with `~` replaced.

    Example:
        >>> located("films.csv")
        PosixPath('films.csv')
    """
    return next((one for one in candidates(path) if one.exists()), at_home(path))


def whereabouts(path: str | os.PathLike) -> str:
    """Return a sentence on where a path was looked for, where that is more than one place."""
    places = candidates(path)
    if len(set(places)) < 2:
        return ""
    return f" Looked for: {', '.join(repr(str(place)) for place in dict.fromkeys(places))}."


def require_path(path: object, key: str) -> str:
    """Return a path as text, or say of which key it is none.

    Args:
        path: What the config gives.
        key: The config key.

    Raises:
        UserError: If it is no text, or no path can read so.

    Example:
        >>> require_path("network.keras", "backbone.path")
        'network.keras'
    """
    if not isinstance(path, str | os.PathLike) or not str(path).strip():
        raise UserError(f"{key} must be the path of a file or folder. Received: {path!r}.")
    try:
        located(path)
    except (OSError, ValueError) as error:  # too long, a NUL, a folder that may not be searched
        reason = getattr(error, "strerror", None) or error
        shown = str(path) if len(str(path)) <= 80 else f"{str(path)[:80]}..."
        raise UserError(
            f"{key} cannot be looked up: {reason}. Received: {key}={shown!r}."
        ) from error
    return str(path)
