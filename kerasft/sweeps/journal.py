"""Where a sweep's trials are written down: Optuna's storages, its journal made safe."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, in_short


class MendingLock:
    """A lock that the system drops with its holder, and that takes a torn last line away.

    Optuna's own locks outlive a killed process for half a minute, and a line that was half written
    when it died spoils every line after it.

    Args:
        file: The journal.
    """

    def __init__(self, file: Path):
        from filelock import FileLock

        self.file = file
        self.lock = FileLock(file.with_name(f".{file.name}.lock"), thread_local=False)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self.lock.acquire()
        mend(self.file)
        return True

    def release(self) -> None:
        """Let the next one have it."""
        self.lock.release()


def mend(file: Path) -> None:
    """Cut off a last line without an end: its writer died while writing it.

    Args:
        file: A file of lines, which nobody else writes to.
    """
    if not file.is_file() or not (size := file.stat().st_size):
        return
    with open(file, "r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        if opened.read(1) == b"\n":
            return
        opened.seek(0)
        whole = opened.read().rfind(b"\n") + 1
        if whole < size:
            opened.truncate(whole)


def open_storage(folder: Path, url: str | None) -> Any:
    """Open the storage of a sweep.

    Args:
        folder: The folder of the sweep, which the journal lies in.
        url: An URL that SQLAlchemy takes, or `None` for the journal.

    Returns:
        An Optuna storage.

    Raises:
        UserError: If it cannot be opened.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(logging.ERROR)
    try:
        if url is None:
            file = folder / "study.journal"
            lock: Any = MendingLock(file)
            return optuna.storages.JournalStorage(JournalFileBackend(str(file), lock_obj=lock))
        return optuna.storages.get_storage(url)
    except UserError:
        raise
    except Exception as error:
        where = without_password(url) if url else str(folder / "study.journal")
        raise UserError(
            f"sweep.storage: {where!r} cannot be opened: {in_short(error)}. It is locked, damaged, "
            "of another version of Optuna, or cannot be reached."
        ) from error


def without_password(url: str) -> str:
    """Return an URL as it may be shown.

    Example:
        >>> without_password("postgresql://me:secret@host/db")
        'postgresql://me:***@host/db'
    """
    return re.sub(r"(://[^:/@]*:)[^@]*@", r"\1***@", url)
