"""Checks the file of a sweep: it may come from anywhere, or be damaged."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, shown
from kerasft.sweeps.text import one_line

# How deep the values of a sweep's file may be nested, and how long a text of it may be.
DEEPEST, LONGEST = 20, 50_000
DIRECTIONS = ("maximize", "minimize")


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


# What each key must be, in words, and how that is seen.
WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "study": ("a name", lambda value: isinstance(value, str) and bool(value)),
    "overrides": ("a list of texts", _texts),
    "search": ("a mapping", lambda value: isinstance(value, Mapping)),
    "objectives": (
        "a list of names, at least one",
        lambda value: _texts(value) and bool(value) and all(one_line(one) == one for one in value),
    ),
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
    depth, letters = _extent(facts)
    if depth > DEEPEST or letters > LONGEST:
        raise UserError(
            f"The file {str(file)!r} is damaged: its values may be nested {DEEPEST} deep, and a "
            f"text may have {LONGEST:,} letters. Received: {depth:,} and {letters:,}."
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


def _extent(value: object) -> tuple[int, int]:
    """Return how deep a value is nested, and how many letters the longest text in it has.

    Without recursion: it may be nested deeper than that goes.
    """
    deepest, longest, left = 0, 0, [(value, 1)]
    while left:
        one, depth = left.pop()
        deepest = max(deepest, depth)
        if isinstance(one, str):
            longest = max(longest, len(one))
        elif isinstance(one, Mapping):
            left += [(below, depth + 1) for pair in one.items() for below in pair]
        elif isinstance(one, list):
            left += [(below, depth + 1) for below in one]
    return deepest, longest
