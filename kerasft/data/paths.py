"""Paths that a user names, and helpful errors where nothing is found there."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, nearest
from kerasft.system.files import at_home
from kerasft.system.folders import (
    candidates,
    is_there,
    located,
    looked_up,
    require_path,
    whereabouts,
)


def find_path(path: Any, key: str, *, beside: Path | None = None) -> Path:
    """Return the path that the user means.

    Args:
        path: As given; `~` is the home folder.
        key: The config key it came from, for messages.
        beside: A folder in which a relative path is looked up too, after the current one or the
            one that `kerasft.system.folders` found it in.

    Returns:
        An absolute path that exists.

    Raises:
        UserError: If nothing is there; the message names what stands nearby.
    """
    require_path(path, key)
    given = at_home(path)
    places = candidates(path)
    if beside is not None and not given.is_absolute():
        # Two files of one command: what it found in its folder, or beside the other, comes first.
        home = next((one for one in looked_up() if beside.is_relative_to(one)), None)
        places = [home / given if home else places[0], beside / given, *places]
    if found := next((place for place in places if is_there(place)), None):
        require_written(str(found.absolute()), key)
        return found.absolute()
    # A folder that is there says most.
    parents = [place.parent for place in places if is_there(place.parent)]
    parent = next((one for one in parents if one.is_dir()), (parents or [places[0].parent])[0])
    names: list[str] = []
    where = f"{parent} {'is no folder' if is_there(parent) else 'does not exist either'})."
    if is_there(parent) and parent.is_dir():
        with suppress(OSError):  # it may be searched, and not be listed
            names = sorted(entry.name for entry in parent.iterdir())
        where = f"{parent.resolve()} is there, but not that name)." + nearest(given.name, names)
    raise UserError(
        f"{key}: there is no file or folder of that name. Received: {key}={path} ({where}"
        + whereabouts(path)
    )


def find_files(path: Any, key: str, *, beside: Path | None = None) -> list[Path] | None:
    """Return the files that a pattern such as `"shards/train-*"` means.

    Args:
        path: As given.
        key: The config key it came from, for messages.
        beside: See `find_path`.

    Returns:
        At least one file, sorted by name; `None` where the path is no pattern, or is there itself.

    Raises:
        UserError: If no file fits the pattern.
    """
    if not isinstance(path, str) or not glob.has_magic(path) or is_there(located(path)):
        return None
    places = candidates(path)
    if beside is not None and not at_home(path).is_absolute():
        places = [*places, beside / at_home(path)]
    for place in places:
        names = glob.glob(str(place), recursive=True)  # noqa: PTH207
        files = [Path(name).absolute() for name in sorted(names)]
        if found := [file for file in files if file.is_file()]:
            for file in found:
                require_written(str(file), key)
            return found
    raise UserError(
        f"{key}: no file fits the pattern. Received: {key}={path}.{whereabouts(path)}"
    )


def require_apart(files: Mapping[str, Sequence[Path]], remedy: str) -> None:
    """Refuse a file that is in two splits.

    Args:
        files: The files of each split.
        remedy: A sentence on what to do.

    Raises:
        UserError: If one is.
    """
    seen: dict[Path, str] = {}
    for name, paths in files.items():
        for file in paths:
            other = seen.setdefault(file.resolve(), name)
            if other != name:
                raise UserError(
                    f"{name} and {other} must not share a file, or the metrics mean nothing. "
                    f"Received: {file} for both. {remedy}"
                )


def require_written(path: str, key: str) -> None:
    """Refuse a path that no file of UTF-8 can hold, as what a run was made of is written down.

    Raises:
        UserError: If it has other bytes.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise UserError(
            f"{key}: the path holds bytes that are no UTF-8. Received: {shown!r}. Rename the file "
            "or folder."
        ) from error


def read_label_names(
    names: object, beside: Path, key: str = "data.label_names"
) -> list[str] | None:
    """Return the class names that the user lists, or that stand in a file, one a line.

    Args:
        names: A list, the path of a file, or `None`.
        beside: A folder in which a relative path is looked up too.
        key: What the user sets them by.

    Returns:
        The names in order, or `None` where none are given.
    """
    if names is None:
        return None
    if isinstance(names, (list, tuple)):
        # YAML takes a class called null for nothing.
        return ["null" if name is None else str(name) for name in names]
    file = find_path(names, key, beside=beside)
    try:
        lines = [line.rstrip("\r") for line in file.read_text("utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{key}: {file} must be a UTF-8 file with one name a line ({error})."
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise UserError(f"{key}: {file} is empty; it must hold one name a line.")
    return lines
