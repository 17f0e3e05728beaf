"""How far a work is, in one line: a bar, how many are done, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from kerasft.system.terminal import bar, duration, room, status

# A bar is so wide at most, and at least; where there is less room it is left out.
WIDEST, NARROWEST = 24, 8
# How much of the newest step's time goes into what a step is expected to take.
NEWEST = 0.1
# Where no line can be written over, one is written so often, in seconds.
EVERY = 60.0


def line(
    head: str, done: int, total: int, notes: Sequence[str] = (), tail: str = ""
) -> str:
    """Return a line that fits into the terminal.

    Args:
        head: What it begins with.
        done: What is done.
        total: Of how much.
        notes: What may stand behind the bar. The first ones matter most; what does not fit is
            left out.
        tail: What it ends with.

    Example:
        >>> line("epoch 1/2", 5, 10, ["loss 0.5"], "0:10 left")
        'epoch 1/2  5/10  ━━━━━━━━━━━━────────────  loss 0.5  0:10 left'
    """
    head, tail = f"{head}  {done:,}/{total:,}", f"  {tail}" * bool(tail)
    free = room() - len(head) - len(tail)
    texts: list[str] = []
    for text in (f"  {note}" for note in notes):
        if free - len(text) < NARROWEST + 2:
            break
        texts.append(text)
        free -= len(text)
    width = min(free - 2, WIDEST)
    drawn = f"  {bar(done, total, width)}" if width >= NARROWEST else ""
    return f"{head}{drawn}{''.join(texts)}{tail}"


class Pace:
    """How long one of many takes, by what the newest ones took.

    The first is not counted, for it may compile what the others use.

    Example:
        >>> pace = Pace()
        >>> pace.after(10, 5.0), pace.after(20, 6.0), pace.seconds
        (None, None, 0.1)
    """

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._last: tuple[int, float] | None = None

    def restart(self) -> None:
        """Take the next one for the first: what lies between is no part of any."""
        self._last = None

    def after(self, done: int, now: float | None = None) -> None:
        """Note that so many are done.

        Args:
            done: How many.
            now: When, in seconds; by default right now.
        """
        now = time.perf_counter() if now is None else now
        if self._last is not None and done > self._last[0]:
            one = (now - self._last[1]) / (done - self._last[0])
            known = self.seconds
            self.seconds = one if known is None else known + NEWEST * (one - known)
        self._last = done, now


class Counted:
    """Shows how many of a known number are done, beside data on standard output.

    On a terminal it is one line that is written over, and leaves nothing behind. Elsewhere a line
    is written to the error stream now and then.

    Args:
        head: What is done.
        total: Of how many.
    """

    def __init__(self, head: str, total: int):
        self.head, self.total, self.done = head, total, 0
        self.pace = Pace()
        self.shown = time.monotonic()

    def add(self, count: int) -> None:
        """Note that more are done.

        Args:
            count: How many more.
        """
        self.done += count
        self.pace.after(self.done)
        if status.is_live:
            if status.is_due() or self.done >= self.total:
                status.show(self.text())
        elif self.done < self.total and time.monotonic() - self.shown >= EVERY:
            self.shown = time.monotonic()
            print(f"{self.head}  {self.done:,}/{self.total:,}{self._left('  ')}", file=sys.stderr,
                  flush=True)  # fmt: skip

    def text(self) -> str:
        """Return the line."""
        return line(self.head, self.done, self.total, tail=self._left())

    def _left(self, before: str = "") -> str:
        if self.pace.seconds is None or self.done >= self.total:
            return ""
        return f"{before}{duration(self.pace.seconds * (self.total - self.done))} left"
