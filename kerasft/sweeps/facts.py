"""What the file of a sweep must hold: it may come from anywhere, and be damaged."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kerasft.errors import UserError

# How deep the values of a sweep's file may be nested.
DEEPEST = 20
DIRECTIONS = ("maximize", "minimize")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


# What each key must be, in words, and how that is seen.
WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "study": ("a name", lambda value: isinstance(value, str) and bool(value)),
    "overrides": ("a list of texts", _texts),
    "search": ("a mapping", lambda value: isinstance(value, Mapping)),
    "objectives": ("a list of names, at least one", lambda value: _texts(value) and bool(value)),
    "directions": (
        "a list of 'maximize' and 'minimize'",
        lambda value: _texts(value) and set(value) <= set(DIRECTIONS),
    ),
    # A name alone: a path could lead anywhere.
    "config_dirs": (
        "a list of names such as 'conf_0'",
        lambda value: _texts(value) and all(re.fullmatch(r"conf_[0-9]+", one) for one in value),
    ),
}


def require_whole(facts: Mapping[str, Any], file: Path) -> None:
    """See that each value of a sweep's file is of the kind that it must be.

    Args:
        facts: What the file holds.
        file: The file, for messages.

    Raises:
        UserError: With all that is wrong.
    """
    if _depth(facts) > DEEPEST:
        raise UserError(
            f"The file {str(file)!r} is damaged: its values are nested more than {DEEPEST} deep."
        )
    problems = [
        f"The file {str(file)!r} is damaged: {key} must be {words}. Received: {shown(facts[key])}."
        for key, (words, fits) in WANTED.items() if not fits(facts[key])
    ]
    if not problems and len(facts["objectives"]) != len(facts["directions"]):
        problems.append(
            f"The file {str(file)!r} is damaged: it has {len(facts['objectives'])} objectives, and "
            f"{len(facts['directions'])} directions."
        )
    if problems:
        raise UserError(problems=problems)


def shown(value: Any) -> str:
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


def _depth(value: Any) -> int:
    """Return how deep a value is nested, without recursion: it may be deeper than that goes."""
    deepest, left = 0, [(value, 1)]
    while left:
        one, depth = left.pop()
        deepest = max(deepest, depth)
        if isinstance(one, Mapping | list):
            inner = one.values() if isinstance(one, Mapping) else one
            left += [(below, depth + 1) for below in inner]
    return deepest
