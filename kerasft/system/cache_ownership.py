"""What in the cache folder is kerasft's own and may be removed.

A config may name any folder as its cache, one full of somebody's work among them.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kerasft.errors import UserError
from kerasft.system.cache_entry import ABOUT, is_sealed
from kerasft.system.files import at_home

# Beneath the root, a folder each; in them a folder an entry, called by its key. Only folders of
# these names are looked through and cleared, whatever else lies in the folder that a config names:
# so the list is closed, and an entry of another kind, which would never go again, is refused.
KINDS = ("sources", "texts", "images", "activations")
# At the root.
MARKER = ".kerasft-cache"
_SAYS = "This folder is a cache of kerasft: what is in it can be made again and may be removed.\n"
_KEY = re.compile(r"[0-9a-f]{32}")
# Of a process that was ended: while it made an entry, while it removed one.
_LEFT = re.compile(r"\.([0-9a-f]{32})\.(?:(?:[0-9]+-[0-9]+\.)?part|gone)")
# What an entry's files are called, as they are and while they are written.
_FILE = re.compile(r"\.?[\w-]{1,64}(?:\.part)?\.(?:bin|npy|json)")


def cache_folder() -> Path:
    """Return the folder for what can be made again: `$KERASFT_CACHE` or `~/.cache/kerasft`."""
    chosen = os.environ.get("KERASFT_CACHE")
    return at_home(chosen or "~/.cache/kerasft")


def leftovers(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each folder that an ended process left in a cache, with the entry it belongs to."""
    for kind in _folders(root) if is_marked(root) else ():
        for name in _names(kind):
            if (found := _LEFT.fullmatch(name)) and looks_own(kind / name):
                yield kind / name, kind / found[1]


def owns(root: Path, place: Path) -> bool:
    """Whether a folder below a cache is an entry of it, be it damaged.

    Args:
        root: The cache.
        place: The folder.
    """
    if not _KEY.fullmatch(place.name) or place.is_symlink():
        return False
    return is_sealed(place) or (
        is_marked(root) and not place.parent.is_symlink() and looks_own(place)
    )


def looks_own(place: Path) -> bool:
    """Whether a folder holds nothing but plain files with the names of an entry's."""
    try:
        if not stat.S_ISDIR(place.lstat().st_mode):
            return False
        with os.scandir(place) as found:
            return all(_FILE.fullmatch(one.name) and one.is_file(follow_symlinks=False)
                       for one in found)  # fmt: skip
    except OSError:
        return False


def mark(root: Path) -> None:
    """Say in a folder that it is a cache, where it is new or holds nothing but entries.

    Raises:
        OSError: If it cannot be written.
    """
    if not is_marked(root) and _holds_entries_alone(root):
        root.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            handle = os.open(root / MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with open(handle, "w", encoding="utf-8") as file:
                file.write(_SAYS)


def is_marked(root: Path) -> bool:
    """Whether a folder says of itself that it is a cache, or is the one that every run uses."""
    with suppress(UserError):  # nobody knows the home folder here
        if root == cache_folder() / "prepared":
            return True
    try:
        return stat.S_ISREG((root / MARKER).lstat().st_mode)
    except OSError:
        return False


def _holds_entries_alone(root: Path) -> bool:
    """Whether there is nothing in a folder but what an earlier version has put there."""
    try:
        there = {one.name for one in root.iterdir()}
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if there != {kind.name for kind in _folders(root)}:
        return False
    for kind in _folders(root):
        for name in _names(kind):
            place = kind / name
            if _LEFT.fullmatch(name) or re.fullmatch(rf"\.{_KEY.pattern}\.lock", name):
                continue
            if not (_KEY.fullmatch(name) and looks_own(place) and _is_described(place)):
                return False
    return True


def _is_described(place: Path) -> bool:
    try:
        about = json.loads((place / ABOUT).read_text("utf-8"))
        return isinstance(about["about"], str) and isinstance(about["made"], float) \
            and {*about["files"]} <= {*_names(place)}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _folders(root: Path) -> list[Path]:
    return [root / kind for kind in KINDS
            if (root / kind).is_dir() and not (root / kind).is_symlink()]  # fmt: skip


def _names(folder: Path) -> list[str]:
    try:
        return [one.name for one in folder.iterdir()]
    except OSError:
        return []
