"""The settings that averages of weights may have, known before a network is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kerasft.errors import UserError, shown
from kerasft.system.recorded import is_number


def _is_share(value: object) -> bool:
    return is_number(value) and 0 <= value < 1


def _is_yes_or_no(value: object) -> bool:
    return isinstance(value, bool)


_Allowed = tuple[Callable[[Any], bool], str]
ALLOWED: dict[str, dict[str, _Allowed]] = {
    "Ema": {
        "decay": (_is_share, "must be at least 0 and below 1"),
        "warm_up": (_is_yes_or_no, "must be true or false"),
    },
    "Swa": {
        "start": (_is_share, "is a share of a stage's steps: from 0 to below 1"),
        "hold": (_is_yes_or_no, "must be true or false"),
    },
    "Soup": {
        "size": (lambda value: type(value) is int and value >= 2,
                 "must be a whole number of at least 2"),
    },
}  # fmt: skip


def problems(kind: str, settings: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """Yield the setting and what is wrong with it, for each that is out of its range.

    Args:
        kind: `"Ema"`, `"Swa"` or `"Soup"`.
        settings: Those that are given.
        name: The name of the node in `average`.

    Example:
        >>> list(problems("Soup", {"size": 1}, "soup"))
        [('size', 'average.soup.size must be a whole number of at least 2. Received: 1.')]
    """
    for key, (is_right, must) in ALLOWED[kind].items():
        if key in settings and not is_right(settings[key]):
            yield key, f"average.{name}.{key} {must}. Received: {shown(settings[key])}."


def require_sound(kind: str, **settings: Any) -> None:
    """See that settings are within their ranges.

    Raises:
        UserError: With one message for each that is not.
    """
    if wrong := [text for _, text in problems(kind, settings, kind.lower())]:
        raise UserError(problems=wrong)
