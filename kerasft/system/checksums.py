"""Checksums of files that are kept: what a disk damages is found when it is read next."""

from __future__ import annotations

import json
import os
import random
import stat
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# CRC-32 finds every damage of up to 32 bits in a row, and all but one in 4 * 10^9 of the others.
# It costs about as much as a copy in memory. It is no proof against forgery.
BLOCK = 4 * 2**20
# Of larger files, blocks of so many bytes together are read.
WHOLE = 256 * 2**20
_AT_ONCE = 2**20
_DIGITS = 8


class Damaged(Exception):
    """A file is not what was written there."""


def crc32(path: Path, start: int = 0, size: int | None = None) -> int:
    """Return the CRC-32 of a file, or of `size` bytes of it from `start` on."""
    buffer = memoryview(bytearray(_AT_ONCE))
    found = 0
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        left = os.fstat(file.fileno()).st_size - start if size is None else size
        while left > 0 and (count := file.readinto(buffer[: min(left, _AT_ONCE)])):
            found = zlib.crc32(buffer[:count], found)
            left -= count
    return found


def checksums(path: Path) -> str:
    """Return the checksums of a file's blocks, eight hexadecimal digits each.

    Args:
        path: The file.

    Example:
        >>> _ = Path("rows.txt").write_text("one")
        >>> checksums(Path("rows.txt"))
        '7a6c86f1'
    """
    starts = range(0, path.stat().st_size, BLOCK)
    return "".join(f"{crc32(path, start, BLOCK):0{_DIGITS}x}" for start in starts)


def require_whole(path: Path, size: int, expected: str) -> None:
    """See that a file is what its checksums were made of.

    A file of more than `WHOLE` bytes is sampled: its first block, its last, and others that are
    drawn anew each time, so that several looks together see all of it.

    Args:
        path: The file.
        size: Its size in bytes.
        expected: What `checksums` returned.

    Raises:
        Damaged: If it is something else.
        OSError: If it cannot be read.
    """
    require_size(path, size)
    count = -(-size // BLOCK)
    if len(expected) != count * _DIGITS:
        raise Damaged(f"{path.name} has another number of checksums")
    for number in _sample(count):
        wanted = expected[number * _DIGITS : (number + 1) * _DIGITS]
        if f"{crc32(path, number * BLOCK, BLOCK):0{_DIGITS}x}" != wanted:
            raise Damaged(f"the checksum of {path.name} differs")


def _sample(count: int) -> Iterable[int]:
    most = WHOLE // BLOCK
    if count <= most:
        return range(count)
    # Not from the random numbers that a run's seed decides.
    drawn = random.SystemRandom().sample(range(1, count - 1), max(most - 2, 0))
    return sorted({0, count - 1, *drawn})


def require_size(path: Path, size: int) -> None:
    """See that a path is a plain file of that size.

    Raises:
        Damaged: If it is not.
        OSError: If nobody can say.
    """
    try:
        about = path.stat()
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    if not stat.S_ISREG(about.st_mode):
        raise Damaged(f"{path.name} is no plain file")
    if about.st_size != size:
        raise Damaged(f"{path.name} has {about.st_size:,} bytes instead of {size:,}")


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object for JSON with a checksum of its own.

    Example:
        >>> sealed({"rows": 3})
        {'rows': 3, 'checksum': '48ce35c8'}
    """
    return {**value, "checksum": _of(value)}


def require_sealed(value: Mapping[str, Any]) -> None:
    """See that an object is one that `sealed` returned.

    Raises:
        Damaged: If it is not.
    """
    content = {key: part for key, part in value.items() if key != "checksum"}
    if value.get("checksum") != _of(content):
        raise Damaged("its own checksum differs")


def _of(value: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):0{_DIGITS}x}"
