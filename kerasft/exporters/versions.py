"""Versions of a model: numbered folders that appear only when they are whole."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kerasft.artifact.layout import DEPLOYMENT, version_of, versions
from kerasft.errors import UserError
from kerasft.system.files import at_home, is_disk_full

# A server ignores names that are no numbers; the same folder makes the rename atomic.
PART = ".part-"
# What a killed export left is cleared after so many seconds.
STALE = 24 * 3600
_TRIES = 1000


@dataclass
class Place:
    """Where a version is written.

    Args:
        root: The folder of all versions.
        part: The folder to write to.
        final: The folder that it became.
    """

    root: Path
    part: Path
    final: Path


@contextmanager
def new_version(directory: str | Path, number: int | None = None) -> Iterator[Place]:
    """Write a version beside its place, and give it its number at the end.

    Two processes may do so at once: a number belongs to whoever takes it first, and the other one
    takes the next.

    Args:
        directory: The folder of all versions.
        number: The number to take; the next free one by default.

    Yields:
        The `Place`; `final` is set at the end.

    Raises:
        UserError: If the number is taken, or the folder holds something else or cannot be written.
    """
    root = at_home(directory)
    unknown = number is not None and version_of(str(number)) is None
    if number is not None and (unknown or (root / str(number)).exists()):
        taken = " which is there already," if (root / str(number)).exists() else ""
        raise UserError(
            f"export.version must be a free number from 0 to {2**63 - 1}. Received: {number},"
            f"{taken} in {str(root)!r}. Leave it out to take the next one."
        )
    _require_versions(root)
    if number is None:
        _next(root)  # now, and not when the export is made
    new = False
    place = Place(root, root / f"{PART}{os.getpid()}-{time.monotonic_ns()}", root)
    try:
        new = not root.exists()
        root.mkdir(parents=True, exist_ok=True)
        _clear_stale(root)
        yield place
        place.final = _take(place.part, root, number)
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not is_disk_full(error):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"The export cannot be written to {str(root)!r}: {reason}. Choose another folder or "
            "free some space."
        ) from error
    finally:
        shutil.rmtree(place.part, ignore_errors=True)
        if new:
            with suppress(OSError):  # it holds the version
                root.rmdir()


def _require_versions(root: Path) -> None:
    """See that a folder holds versions alone: a server would take other numbers for models."""
    if not root.is_dir():
        if root.exists():
            raise UserError(
                f"The folder of an export must be a folder. Received: {str(root)!r}, which is a "
                "file."
            )
        return
    strange = [
        entry.name for entry in root.iterdir()
        if not entry.name.startswith(".") and entry.name != DEPLOYMENT
        and not (version_of(entry.name) is not None and (entry / "saved_model.pb").is_file())
    ]  # fmt: skip
    if strange:
        raise UserError(
            f"The folder of an export must be new, empty or hold versions of a model. Received: "
            f"{str(root)!r}, which holds {', '.join(sorted(strange)[:5])}. Choose another with the "
            "export's `directory`."
        )


def _take(part: Path, root: Path, number: int | None) -> Path:
    for _ in range(_TRIES):
        wanted = _next(root) if number is None else number
        final = root / str(wanted)
        try:
            part.rename(final)
            return final
        except OSError:
            # Taken since we looked: a folder that holds something is not replaced.
            if number is not None or not final.exists():
                raise
    raise UserError(f"No number was free in {str(root)!r}.")


def _next(root: Path) -> int:
    """Return the number after the last, as far as servers count.

    Raises:
        UserError: If there is none.
    """
    last = max(versions(root), default=0)
    if version_of(str(last + 1)) is None:
        raise UserError(
            f"No number comes after version {last} in {str(root)!r}: servers know none. Choose a "
            "free one with export.version, or another folder."
        )
    return last + 1


def _clear_stale(root: Path) -> None:
    for left in root.glob(f"{PART}*"):
        with suppress(FileNotFoundError):  # another export has ended meanwhile
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)
