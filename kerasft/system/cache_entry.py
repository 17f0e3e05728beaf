"""One entry of the cache: a folder of files with their checksums."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kerasft.errors import in_short
from kerasft.system.checksums import (
    Damaged,
    checksums,
    require_sealed,
    require_size,
    require_whole,
    sealed,
)
from kerasft.system.console import table
from kerasft.system.files import sync, write_json

ABOUT = "entry.json"


@dataclass(frozen=True)
class Entry:
    """One thing in the cache.

    Args:
        kind: What it is, one of `KINDS`.
        key: Its key, 32 hexadecimal digits.
        size: Bytes.
        used: When it was last used, in seconds since 1970.
        about: What it was made from, in words.
        path: Its folder.
    """

    kind: str
    key: str
    size: int
    used: float
    about: str
    path: Path


def as_text(entries: Sequence[Entry], folder: Path, *, removed: bool = False) -> str:
    """Return the entries of a cache as a table, and how much they hold.

    Args:
        entries: The entries.
        folder: The cache.
        removed: Whether they have been removed.
    """
    rows = table(
        [[e.kind, f"{e.size / 1e6:,.1f} MB", f"{datetime.fromtimestamp(e.used):%Y-%m-%d %H:%M}",
          e.key[:8], e.about] for e in entries],
        ["kind", "size", "last used", "key", "made from"],
    )
    total = (
        f"{'removed ' if removed else ''}{len(entries):,} "
        f"{'entry' if len(entries) == 1 else 'entries'}, "
        f"{sum(entry.size for entry in entries) / 1e6:,.1f} MB, in {str(folder)!r}"
    )
    return f"{rows}\n{total}" if entries else total


def as_json(entries: Sequence[Entry]) -> str:
    """Return the entries of a cache as JSON."""
    return json.dumps([{**asdict(one), "path": str(one.path)} for one in entries], indent=2)


def close(folder: Path, about: str) -> None:
    """Have the files of a folder on the disk, and write down what they are.

    Args:
        folder: The folder.
        about: What it is made from, in words.

    Raises:
        OSError: If the disk does not take them.
        UserError: If it does not take what is written down.
    """
    files = sorted(folder.iterdir())
    with ThreadPoolExecutor(1) as beside:
        synced = beside.map(sync, files)  # waits for the disk, the checksums for the processor
        found = {file.name: checksums(file) for file in files}
        list(synced)
    write_json(folder / ABOUT, sealed({
        "about": about, "files": {file.name: file.stat().st_size for file in files},
        "checksums": found, "made": time.time(),
    }))


def find(place: Path) -> Entry | None:
    """Return what a folder holds, if all files are there in the size they were written in.

    Another process may remove it at any time.
    """
    try:
        return describe(place)
    except (Damaged, OSError):
        return None


def describe(place: Path) -> Entry:
    """Return what a folder holds; its files are compared with their sizes alone.

    What an earlier version kept has no checksums. It is never opened, but listed and evicted.

    Raises:
        Damaged: If it is not whole.
        OSError: If nobody can say.
    """
    about, used = _read(place, earlier=True), (place / ABOUT).stat().st_mtime
    for name, size in about["files"].items():
        require_size(place / name, size)
    size = sum(about["files"].values())
    return Entry(place.parent.name, place.name, size, used, about["about"], place)


def is_sealed(place: Path) -> bool:
    """Whether a folder's own description is whole: nobody else writes such a one."""
    try:
        _read(place)
    except (Damaged, OSError):
        return False
    return True


def _read(place: Path, *, earlier: bool = False) -> dict[str, Any]:
    """Return what is written down of an entry: `about`, and by file `files` and `checksums`."""
    try:
        about = json.loads((place / ABOUT).read_text("utf-8"))
        found = about.get("checksums")
        if found is not None or not earlier:
            if found is None:
                raise Damaged("it was kept by a version that made no checksums")
            require_sealed(about)
        sizes = about["files"]
        plain = all(
            Path(name).name == name and isinstance(size, int)
            and (found is None or isinstance(found[name], str)) for name, size in sizes.items()
        )
    except FileNotFoundError:
        raise Damaged(f"{ABOUT} is missing") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{ABOUT} cannot be read: {in_short(error)}") from error
    except Damaged as error:
        raise Damaged(f"{ABOUT}: {error}") from None
    if not plain or not isinstance(about["about"], str):
        raise Damaged(f"{ABOUT} is none of kerasft's")
    return about


def compare(place: Path, compared: dict[Path, tuple[int, ...]]) -> bool:
    """Whether a folder holds an entry; its files are compared with their checksums.

    Args:
        place: The folder.
        compared: Files that need no second look, as they were at the first one; added to.

    Raises:
        Damaged: If there is one and it is not whole.
        OSError: If nobody can say.
    """
    if not place.is_dir():
        return False
    about = _read(place)
    for name, size in about["files"].items():
        file = place / name
        require_size(file, size)
        found = file.stat()
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        if compared.get(file) != state:
            require_whole(file, size, about["checksums"][name])
            compared[file] = state
    return True
