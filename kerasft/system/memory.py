"""How much memory there is, of the machine and of a container, and what the process takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

# Where Linux tells of the limits of containers (control groups), of both versions.
CGROUPS = Path("/sys/fs/cgroup")
# Writing 5 has Linux forget the most that a process has held.
_FORGET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
# Seconds between two looks, where the system does not keep count itself.
PACE = 0.005


def resident() -> int:
    """Return the bytes of memory that the process holds."""
    return int(psutil.Process().memory_info().rss)


def available() -> int:
    """Return the bytes that processes can still take: of the machine, and within the container."""
    free = int(psutil.virtual_memory().available)
    return min([free, *(limit - used for limit, used in _of_containers())])


def _of_containers() -> Iterator[tuple[int, int]]:
    """Yield limit and use of each control group that the process is in and that has a limit."""
    for folder, limit, used in _groups():
        try:
            most = (folder / limit).read_text().strip()
            taken = int((folder / used).read_text())
            stat = dict(
                line.split()[:2] for line in (folder / "memory.stat").read_text().splitlines()
            )
        except (OSError, ValueError):  # no such group, or none that tells
            continue
        if most.isdigit() and int(most) < 2**60:  # what has no limit says max, or a huge number
            # Files that were read count as used, and are let go where memory is needed.
            cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
            yield int(most), max(taken - cached, 0)


def _groups() -> Iterator[tuple[Path, str, str]]:
    """Yield the folders of control groups from the process up, with the names of their files."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = CGROUPS, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root = CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inside = Path(path.lstrip("/"))
        for part in (inside, *inside.parents):
            yield root / part, *names


@dataclass
class Peak:
    """The most memory that the process held during a block, in bytes."""

    bytes: int = 0


@contextmanager
def peak() -> Iterator[Peak]:
    """Measure the most memory that the process holds while a block runs.

    Example:
        >>> with peak() as found:
        ...     block = bytearray(50_000_000)
        >>> found.bytes > 50_000_000
        True
    """
    found = Peak(resident())
    try:
        _FORGET.write_text("5")
        counted = True
    except OSError:  # no Linux, or not allowed
        counted = False
    if counted:
        yield found
        found.bytes = max(found.bytes, _high_water(), resident())
        return
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(PACE):
            found.bytes = max(found.bytes, resident())

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield found
    finally:
        ended.set()
        watch.join()
        found.bytes = max(found.bytes, resident())


def _high_water() -> int:
    """Return the most bytes that Linux has seen the process hold since it was told to forget."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
