"""Paths that a user names, and what to say where nothing is found there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, nearest
from kerasft.files import at_home


def find_path(path: Any, key: str, *, beside: Path | None = None) -> Path:
    """Return the path that the user means.

    Args:
        path: As given; `~` is the home folder.
        key: The config key it came from, for messages.
        beside: A folder in which a relative path is looked up too, after the current one.

    Returns:
        An absolute path that exists.

    Raises:
        UserError: If nothing is there; the message names what stands nearby.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path).strip():
        raise UserError(f"{key} must be the path of a file or folder. Received: {path!r}.")
    given = at_home(path)
    try:
        if given.exists():
            return given.absolute()
        if beside is not None and not given.is_absolute() and (beside / given).exists():
            return (beside / given).absolute()
    except (OSError, ValueError) as error:  # too long, a NUL, a folder that may not be searched
        reason = getattr(error, "strerror", None) or error
        shown = str(path) if len(str(path)) <= 80 else f"{str(path)[:80]}..."
        raise UserError(
            f"{key} cannot be looked up: {reason}. Received: {key}={shown!r}."
        ) from error
    parent = given.parent if given.is_absolute() or beside is None else beside / given.parent
    where = f"{parent} {'is no folder' if parent.exists() else 'does not exist either'})."
    if parent.is_dir():
        names = sorted(entry.name for entry in parent.iterdir())
        where = f"{parent.resolve()} is there, but not that name)." + nearest(given.name, names)
    raise UserError(
        f"{key}: there is no file or folder of that name. Received: {key}={path} ({where}"
    )


def read_label_names(names: Any, beside: Path) -> list[str] | None:
    """Return the class names that the user lists, or that stand in a file, one a line.

    Args:
        names: A list, the path of a file, or `None`.
        beside: A folder in which a relative path is looked up too.

    Returns:
        The names in order, or `None` where none are given.
    """
    if names is None:
        return None
    if isinstance(names, (list, tuple)):
        # YAML takes a class called null for nothing.
        return ["null" if name is None else str(name) for name in names]
    file = find_path(names, "data.label_names", beside=beside)
    try:
        lines = [line.rstrip("\r") for line in file.read_text("utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"data.label_names: {file} must be a UTF-8 file with one name a line ({error})."
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise UserError(f"data.label_names: {file} is empty; it must hold one name a line.")
    return lines
