"""What a request may take: examples, bytes and time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kerasft.serving.status import Failure, invalid

# Requests that are read and answered at once may hold so many times the largest one.
ROOM = 4
# A message with more is refused before its lists and objects are made: each takes some 80 bytes.
MOST_NODES = 5_000_000
# NumPy has no more dimensions.
MOST_DIMENSIONS = 64


class Limits:
    """The limits of one request, and the time that is left for it.

    Args:
        rows: The most examples.
        nbytes: The most bytes, also of what a short request stands for.
        seconds: The most seconds from now on.

    Example:
        >>> Limits(rows=2).count(3)
        Traceback (most recent call last):
        kerasft.serving.status.Failure: The request holds 3 examples, and this server takes 2 at \
once (--waiting).
    """

    def __init__(self, *, rows: int = 1000, nbytes: int = 64_000_000, seconds: float = math.inf):
        self.rows, self.nbytes, self.seconds = rows, nbytes, seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """See that there is time left.

        Raises:
            Failure: If there is none.
        """
        if time.monotonic() > self._end:
            raise self.late()

    def late(self) -> Failure:
        """Return the failure of a request that took too long."""
        return Failure("DEADLINE_EXCEEDED", f"No answer within {self.seconds:g} s.")

    def count(self, rows: int, *, more: bool = False) -> None:
        """See that a request holds few enough examples.

        Args:
            rows: How many there are.
            more: Whether there are more, which were not counted.

        Raises:
            Failure: If there are too many.
        """
        if rows > self.rows:
            raise invalid(
                f"The request holds {'at least ' if more else ''}{rows:,} examples, and this "
                f"server takes {self.rows:,} at once (--waiting)."
            )

    def weigh(self, nbytes: int, what: str) -> None:
        """See that something may be made.

        Raises:
            Failure: If it would be larger than a request may be.
        """
        if nbytes > self.nbytes:
            raise invalid(
                f"{what} would take {nbytes:,} bytes, and this server takes {self.nbytes:,} "
                "(--most-mb)."
            )


class Room:
    """The bytes that all requests may hold together.

    Args:
        nbytes: How many.
    """

    def __init__(self, nbytes: int):
        self.nbytes, self.held = nbytes, 0

    def take(self, nbytes: int) -> None:
        """Take some of it.

        Raises:
            Failure: If there are not so many left.
        """
        if self.held + nbytes > self.nbytes:
            raise Failure(
                "UNAVAILABLE",
                f"Other requests hold {self.held:,} of {self.nbytes:,} bytes; try again later.",
            )
        self.held += nbytes

    def give(self, nbytes: int) -> None:
        """Give it back."""
        self.held -= nbytes

    @contextmanager
    def taken(self, nbytes: int) -> Iterator[None]:
        """Take some of it while a block runs."""
        self.take(nbytes)
        try:
            yield
        finally:
            self.give(nbytes)
