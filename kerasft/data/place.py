"""Paths that a user names, and what to say where nothing is found there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, nearest


def find_path(path: Any, key: str, *, beside: Path | None = None) -> Path:
    """Return the path that the user means.

    Args:
        path: As given; `~` is the home folder.
        key: The config key it came from, for messages.
        beside: A folder in which a relative path is looked up too, after the current one.

    Returns:
        A path that exists.

    Raises:
        UserError: If nothing is there; the message names what stands nearby.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path).strip():
        raise UserError(f"{key} must be the path of a file or folder. Received: {path!r}.")
    given = Path(path).expanduser()
    if given.exists():
        return given
    if beside is not None and not given.is_absolute() and (beside / given).exists():
        return beside / given
    parent = given.parent if given.is_absolute() or beside is None else beside / given.parent
    where = f"{parent} does not exist either"
    if parent.is_dir():
        names = sorted(entry.name for entry in parent.iterdir())
        where = f"{parent.resolve()} is there, but not that name" + nearest(given.name, names)
    raise UserError(
        f"{key}: there is no file or folder of that name. Received: {key}={path} ({where})."
    )


def cache_folder() -> Path:
    """Return the folder for what can be made again: `$KERASFT_CACHE` or `~/.cache/kerasft`."""
    chosen = os.environ.get("KERASFT_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "kerasft"
