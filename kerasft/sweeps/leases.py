"""Leases: which job of a launcher may work on a trial.

A job may start long after it was submitted, and outlive the process that submitted it. Each
submission issues a new ticket for its trial. A job works only while its ticket is the latest one of
the trial, and holds a lock as long as it does.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasft.errors import UserError


def issue(folder: Path, number: int) -> str:
    """Return a ticket for the job of a trial that this process holds.

    Args:
        folder: The sweep's folder.
        number: The number of the trial.
    """
    ticket = uuid.uuid4().hex
    _ticket(folder, number).write_text(ticket)
    return ticket


def withdraw(folder: Path, number: int) -> bool:
    """Make the ticket of a trial void, so that a job which has not begun never does.

    Args:
        folder: The sweep's folder.
        number: The number of a trial that this process holds.

    Returns:
        Whether it could be done: not while the job works.
    """
    from filelock import Timeout

    try:
        with _lock(folder, number).acquire(timeout=0):
            _ticket(folder, number).unlink(missing_ok=True)
    except Timeout:
        return False
    return True


def is_used(folder: Path, number: int) -> bool:
    """Whether a job works on a trial now."""
    from filelock import Timeout

    try:
        with _lock(folder, number).acquire(timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def held(folder: Path, number: int, ticket: str) -> Iterator[None]:
    """Hold a trial while its job works.

    Args:
        folder: The sweep's folder.
        number: The number of the trial.
        ticket: What the job was sent with.

    Raises:
        UserError: If somebody else works on the trial, or has taken it up since.
    """
    from filelock import Timeout

    lock, file = _lock(folder, number), _ticket(folder, number)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"Another job works on trial {number}.") from None
    try:
        if not file.is_file() or file.read_text() != ticket:
            raise UserError(f"Trial {number} was taken up by another process meanwhile.")
        yield
    finally:
        lock.release()


def _lock(folder: Path, number: int) -> Any:
    from filelock import FileLock

    return FileLock(folder / "claims" / f"{number}.job")


def _ticket(folder: Path, number: int) -> Path:
    return folder / "claims" / f"{number}.ticket"
