"""One key that a sweep varies, and the values that it may have."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerasft.errors import UserError, shown

# How many numbers of a key stand for all of them when they are checked.
SPREAD = 20


@dataclass(frozen=True)
class Axis:
    """One key that a sweep varies.

    Args:
        key: The key, as in an override.
        values: The values that it may have, each as an override says it; empty for an interval.
        low: The lowest value of an interval.
        high: The highest, which belongs to it.
        whole: Whether an interval is one of whole numbers.
        log: Whether an interval is searched by orders of magnitude.
        when: The values that other axes must have for this one to count.
    """

    key: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    log: bool = False
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def counts(self, point: Mapping[str, Any]) -> bool:
        """Whether the axis counts at a point that has the axes before it."""
        return all(str(point.get(key)) in values for key, values in self.when.items())

    def override(self, value: object) -> str:
        """Return what sets the key."""
        return f"{self.key}={f'{value:.6g}' if isinstance(value, float) else value}"

    def settled(self, value: Any) -> Any:
        """Return a value that is given in YAML as this axis has it: text for one of a choice."""
        if self.values:
            return str(as_hydra_has_it(value))
        try:
            number = float(value)
            if not math.isfinite(number):
                raise ValueError("it is not finite")
            return int(value) if self.whole and value == int(value) else number
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"sweep.known: {self.key} is varied in an interval, so that a known point must "
                f"have a number there. Received: {shown(value)}."
            ) from error

    def ends(self) -> tuple[Any, ...]:
        """Return the values that stand for all: each choice, or both ends and, of many, some more.

        Numbers are of one kind: of many, the ends and some between them are enough.
        """
        if len(self.values) > SPREAD and all(map(_is_number, self.values)):
            inner = len(self.values) - 1
            return tuple(self.values[place * inner // (SPREAD - 1)] for place in range(SPREAD))
        if self.values:
            return self.values
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def listed(self) -> Sequence[Any]:
        """Return all its values; none for an interval of numbers that are not whole."""
        if self.whole:
            return range(int(self.low), int(self.high) + 1)
        return self.values

    def told(self, asked: Collection[str]) -> list[str]:
        """Return those of its values, as texts, that are among others."""
        if self.values:
            return [value for value in self.values if value in asked]
        return [text for text in sorted(asked) if _is_within(text, int(self.low), int(self.high))]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        made: dict[str, Any] = {"key": self.key}
        if self.values:
            made["values"] = list(self.values)
        else:
            made |= {"low": self.low, "high": self.high, "whole": self.whole, "log": self.log}
        return made | ({"when": {k: list(v) for k, v in self.when.items()}} if self.when else {})


def as_hydra_has_it(given: object) -> Any:
    """Return a value of YAML, in Hydra's own words for what YAML reads as something else."""
    return {None: "null", True: "true", False: "false"}.get(given, given) \
        if given is None or isinstance(given, bool) else given


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_within(text: str, low: int, high: int) -> bool:
    """Whether a text is a whole number as Python writes it, of an interval."""
    return bool(re.fullmatch("-?[0-9]{1,20}", text)) and str(int(text)) == text \
        and low <= int(text) <= high


def length(listed: Sequence[Any]) -> int:
    """Return how many there are: `len` counts no further than a word of the machine."""
    return listed[-1] - listed[0] + 1 if isinstance(listed, range) else len(listed)
