"""Where trials are stored: Optuna's storages, with a journal that survives crashes."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, in_short
from kerasft.sweeps import urls
from kerasft.sweeps.text import one_line

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


def open_storage(folder: Path, url: str | None, *, new: bool = False) -> Any:
    """Open the storage of a sweep.

    Args:
        folder: The folder of the sweep, which the journal lies in.
        url: An URL that SQLAlchemy takes, or `None` for the journal.
        new: Whether it is made where it is not there. Only who begins a sweep makes one: a folder
            may name any file, and any database.

    Returns:
        An Optuna storage.

    Raises:
        StorageFailed: If it cannot be opened.
        KeyError: If it is not there, or is none of Optuna's, and is not to be made.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(logging.ERROR)
    file = folder / JOURNAL
    try:
        if url is not None:
            return _database(url, new)
        if not new and not file.is_file():
            raise KeyError(str(file))
        lock: Any = MendingLock(file)
        return optuna.storages.JournalStorage(JournalFileBackend(str(file), lock_obj=lock))
    except KeyError as error:
        if not new and error.args in ((str(file),), (url,)):
            raise
        raise _failed(folder, url, error) from None
    except Exception as error:  # drivers and what lies in the file may raise anything
        raise _failed(folder, url, error) from _harmless(error, url)


def _database(url: str, new: bool) -> Any:
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    # Connections are closed after use: a server bears few, and many workers may ask it.
    given: dict[str, Any] = {"poolclass": NullPool}
    if new:
        return RDBStorage(url, engine_kwargs=given)
    if (file := urls.file_of(url)) is not None:
        if not file.is_file():
            raise KeyError(url)
        given["creator"] = _opener(url, file)
    engine = create_engine(url, **given)
    with engine.connect() as connection:
        # Optuna would put tables of its own into any database that has none of them.
        if not {"studies", "trials", "version_info"} <= set(inspect(connection).get_table_names()):
            raise KeyError(url)
    return RDBStorage(url, engine_kwargs=given, skip_table_creation=True)


def _opener(url: str, file: Path) -> Callable[[], Any]:
    """Return what opens a file of SQLite that is there, and never makes one."""
    from sqlalchemy.engine import make_url

    read = make_url(url)
    _, options = read.get_dialect()().create_connect_args(read)
    return lambda: sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, **options)


@contextmanager
def read_from(folder: Path, url: str | None) -> Iterator[None]:
    """Say which storage it was when one holds what cannot be read; see `named`.

    Raises:
        StorageFailed: For any error inside the block.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what a column or a line holds may raise anything
        raise _failed(folder, url, error) from _harmless(error, url)


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
        raise _failed(folder, url, error) from _harmless(error, url)


def _harmless(error: Exception, url: str | None) -> Exception | None:
    """Return what may be shown as the cause: what a database says may hold what it was given."""
    return error if url is None or isinstance(error, OSError) else None


def _failed(folder: Path, url: str | None, error: Exception) -> StorageFailed:
    # SQLAlchemy tells in the error below what the database said.
    below = error.__cause__ if isinstance(error.__cause__, Exception) else error
    said = in_short(below)
    if url is not None:
        said = urls.without_secrets(said, url)
    where = urls.without_password(url) if url else str(folder / JOURNAL)
    return StorageFailed(
        f"sweep.storage: {where!r} cannot be read or written: {one_line(said)}. It is locked, "
        "full, damaged, of another version of Optuna, or out of reach. What was written down "
        f"stays: kerasft resume {folder}"
    )
