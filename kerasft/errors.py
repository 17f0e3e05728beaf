"""The one exception that a user's mistake raises, and the words it is said in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: said in full, never shown as a traceback.

    Args:
        message: What is wrong, what is allowed, `Received: ...`, and how to fix it.
        problems: Several such messages, where one check found them all at once.
        overrides: The overrides at fault, where the mistake is known to lie in some of several.
    """

    def __init__(
        self, message: str = "", *, problems: Iterable[str] = (), overrides: Iterable[str] = ()
    ):
        self.problems = tuple(problems) or (message,)
        self.overrides = tuple(overrides)
        super().__init__(message or "\n".join(self.problems))


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the allowed name nearest to `word`, or nothing."""
    names = [str(name) for name in allowed]
    close = [name for name in names if name.lower() == str(word).lower()]
    close = close or difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
