"""Where a sweep's trials are written down: Optuna's storages, its journal made safe."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, in_short

JOURNAL = "study.journal"


class StorageFailed(UserError):
    """A storage cannot be read or written now. What a trial came to is not at fault."""


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
        StorageFailed: If it cannot be opened.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.pool import NullPool

    optuna.logging.set_verbosity(logging.ERROR)
    try:
        if url is not None:
            # Connections are closed after use: a server bears few, and many workers may ask it.
            return optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
        file = folder / JOURNAL
        lock: Any = MendingLock(file)
        return optuna.storages.JournalStorage(JournalFileBackend(str(file), lock_obj=lock))
    except Exception as error:  # drivers and what lies in the file may raise anything
        raise _failed(folder, url, error) from error


@contextmanager
def named(folder: Path, url: str | None) -> Iterator[None]:
    """Say which storage it was when one fails inside the block.

    Args:
        folder: The folder of the sweep.
        url: The URL of its storage, or `None` for the journal.

    Raises:
        StorageFailed: If it is locked, full, damaged, of another version, or out of reach.
    """
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OSError, OptunaError, SQLAlchemyError) as error:
        raise _failed(folder, url, error) from error


def _failed(folder: Path, url: str | None, error: Exception) -> StorageFailed:
    where = without_password(url) if url else str(folder / JOURNAL)
    # SQLAlchemy tells in the error below what the database said.
    below = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return StorageFailed(
        f"sweep.storage: {where!r} cannot be read or written: {without_password(in_short(below))}. "
        "It is locked, full, damaged, of another version of Optuna, or out of reach. What was "
        f"written down stays: kerasft resume {folder}"
    )


def settled(url: str | None) -> str | None:
    """Return an URL that means the same from any folder: SQLite's files get their whole path.

    Example:
        >>> settled("sqlite:////data/study.db")
        'sqlite:////data/study.db'
    """
    match = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/:?][^?]*)(.*)", url or "")
    if match is None:
        return url
    return f"{match[1]}{Path(match[2]).resolve()}{match[3]}"


def without_password(url: str) -> str:
    """Return an URL as it may be shown.

    Example:
        >>> without_password("postgresql://me:secret@host/db")
        'postgresql://me:***@host/db'
    """
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@", r"\1***@", url)
