"""The settings that a head on pooled features may have, known before a network is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kerasft.errors import UserError, shown
from kerasft.system.recorded import is_number


def problems(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the setting and what is wrong with it, for each that is out of its range.

    What is no number is left to whoever sees that values are of the kind that is declared.

    Args:
        settings: `dropout`, `depth` and `width`, those of them that there are.

    Example:
        >>> list(problems({"dropout": 0.1, "depth": 0}))[0][0]
        'depth'
    """
    given = {key: value for key, value in settings.items() if is_number(value)}
    if not 0 <= given.get("dropout", 0) < 1:
        yield "dropout", (
            "head.dropout is a share: from 0 to below 1, where 0.1 drops one value in ten. "
            f"Received: {shown(given['dropout'])}."
        )
    for key in ("depth", "width"):
        if given.get(key, 1) < 1:
            yield key, (
                f"head.{key} must be at least 1. Received: {shown(given[key])}. For no hidden "
                "layer choose head=linear."
            )


def require(**settings: Any) -> None:
    """Refuse settings that are out of their range.

    Raises:
        UserError: With each of them.
    """
    if found := [text for _, text in problems(settings)]:
        raise UserError(problems=found)
