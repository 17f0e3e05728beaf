"""What ends a run before its end: a user's mistake, in words, or a signal."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

# The exit status of what has stopped and can be started again as it is: EX_TEMPFAIL of sysexits.h.
AGAIN = 75
# Of an URL, as far as it is written as it should be.
_PASSWORD = re.compile(r"(\w://[^\s:/@]*):[^\s/@]+@")


class UserError(Exception):
    """A mistake that the user can mend: said in full, never shown as a traceback.

    Args:
        message: What is wrong, what is allowed, `Received: ...`, and how to fix it.
        problems: Several such messages, where one check found them all at once.
        overrides: The overrides at fault, where the mistake is known to lie in some of several.
    """

    code = 2  # the exit status that says so

    def __init__(
        self, message: str = "", *, problems: Iterable[str] = (), overrides: Iterable[str] = ()
    ):
        # Whatever repeats a value may repeat an URL with a password.
        message = _PASSWORD.sub(r"\1:***@", message)
        hidden = (_PASSWORD.sub(r"\1:***@", one) for one in problems)
        self.problems = tuple(dict.fromkeys(hidden)) or (message,)
        self.overrides = tuple(overrides)
        super().__init__(message or "\n".join(self.problems))

    def _render_traceback_(self) -> list[str]:
        """Say in a notebook what the command line would: IPython shows these lines alone."""
        return [f"{type(self).__name__}: {problem}" for problem in self.problems]


class Unreadable(UserError):
    """A mistake that lies in one or some of many inputs: the others can be answered."""


class Stopped(Exception):
    """A run has stopped because a signal or its time limit asked for it, and can go on.

    Args:
        reason: Which of them.
        code: The exit status that says so.
        epoch: Epochs that are done.
        step: Steps of the next one that are done.
        where: Where it stands, for what is no run.

    `workers` is how many processes trained together, and all have to go on.
    """

    def __init__(self, reason: str, code: int, epoch: int = 0, step: int = 0, where: str = ""):
        super().__init__(f"{reason}: stopped {where or f'after {epochs_and_steps(epoch, step)}'}")
        self.reason, self.code, self.epoch, self.step = reason, code, epoch, step
        self.where, self.folder = where, ""  # the folder of the run
        self.workers = 1

    def __reduce__(self) -> Any:
        # By its arguments, not by its message: jobs in other processes hand it back.
        made = (self.reason, self.code, self.epoch, self.step, self.where)
        return type(self), made, self.__dict__


class Pruned(Exception):
    """A run has been ended between two epochs, by whoever watches it, and will not go on."""


def in_short(error: BaseException) -> str:
    """Return what a library said, without what it advises its callers to do."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Keras names its switch for loading unsafe files, which is none of a user's here.
    return lines[0].partition(" If you trust")[0][:500].rstrip(". ")


def shown(value: object) -> str:
    """Return a value as a message shows it: in one line, and not at length.

    Example:
        >>> shown(["a"] * 100)
        "['a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', '..."
    """
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python writes
        text = "a number of very many digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the allowed name nearest to `word`, or nothing."""
    names = [str(name) for name in allowed]
    close = [name for name in names if name.lower() == str(word).lower()]
    close = close or difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def some(count: int, noun: str) -> str:
    """Return a number of things: `1 label` or `1,200 labels`.

    Example:
        >>> some(1, "copy"), some(1200, "box")
        ('1 copy', '1,200 boxes')
    """
    if count == 1:
        return f"{count:,} {noun}"
    if noun.endswith(("ry", "ty", "py")):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"


def epochs_and_steps(epoch: int, step: int) -> str:
    """Return where a run stands, as messages say it."""
    return f"{some(epoch, 'epoch')} and {some(step, 'step')}"
