"""What a sweep varies: axes in Hydra's override syntax, and the overrides of a point in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from kerasft.config.composition import parsed
from kerasft.errors import UserError, shown
from kerasft.sweeps.axis import Axis, as_hydra_has_it, length
from kerasft.sweeps.text import one_line
from kerasft.system.passwords import override_shown

# The key by which runs of one setting differ.
SEED = "seed"
# How many values of a key are tried one by one.
MOST = 1000
# How far an interval reaches: numbers of Optuna are floats, which know whole ones up to here.
LARGEST, LARGEST_WHOLE = 1e300, 2**53
# A point: the value of each axis that counts there, as text or as a number.
Point = dict[str, Any]


@dataclass(frozen=True)
class Space:
    """What a sweep varies, and what it does not.

    Args:
        fixed: Overrides that every trial has.
        axes: What is varied, in order: an axis comes after those that it hangs on.
    """

    fixed: tuple[str, ...]
    axes: tuple[Axis, ...]

    def overrides(self, point: Mapping[str, Any]) -> list[str]:
        """Return the overrides of a point, the fixed ones first."""
        return [*self.fixed, *(axis.override(point[axis.key]) for axis in self.axes
                               if axis.key in point)]  # fmt: skip

    def grid(self) -> Iterator[Point]:
        """Yield every point of a space without intervals, the last axis fastest.

        One after the other: there may be more of them than a machine can hold.
        """
        yield from self._grid(0, {})

    def _grid(self, place: int, above: Point) -> Iterator[Point]:
        if place == len(self.axes):
            yield dict(above)
        elif not (axis := self.axes[place]).counts(above):
            yield from self._grid(place + 1, above)
        else:
            for value in axis.listed():
                yield from self._grid(place + 1, above | {axis.key: value})

    def size(self) -> int:
        """Return how many points a space without intervals has, without making them."""
        hanging: dict[str, list[Axis]] = {}
        for axis in self.axes:
            for key in axis.when:
                hanging.setdefault(key, []).append(axis)
        # By the axes which do not count for what is settled already, how many points lead there.
        ways: dict[frozenset[str], int] = {frozenset(): 1}
        for axis in self._near_what_they_hang_on():
            below = hanging.get(axis.key, [])
            told = axis.told({text for one in below for text in one.when[axis.key]})
            others = length(axis.listed()) - len(told)
            after: dict[frozenset[str], int] = {}
            for hidden, count in ways.items():
                # Of what is not there `Axis.counts` sees None.
                several = [("None", 1)] if axis.key in hidden else [(text, 1) for text in told]
                if axis.key not in hidden and others:
                    several.append(("", others))
                for text, number in several:
                    without = {one.key for one in below
                               if text == "" or text not in one.when[axis.key]}  # fmt: skip
                    state = (hidden - {axis.key}) | without
                    after[state] = after.get(state, 0) + count * number
            ways = after
        return sum(ways.values())

    def _near_what_they_hang_on(self) -> list[Axis]:
        """Return the axes in an order in which few of them wait for others."""
        by_key = {axis.key: axis for axis in self.axes}
        found: dict[str, Axis] = {}
        for axis in self.axes:
            if axis.when:
                found |= {key: by_key[key] for key in axis.when if key not in found}
                found[axis.key] = axis
        return [*found.values(), *(axis for axis in self.axes if axis.key not in found)]

    def corners(self) -> Iterator[Point]:
        """Yield points in which each value, and each end of an interval, comes up once."""
        yield self._completed({})
        needed: dict[str, Point] = {}
        for axis in self.axes:
            # Values with which it counts: of those that it hangs on, and of what they hang on.
            above: Point = {}
            for key in axis.when:
                above |= needed[key]
            needed[axis.key] = above | {key: values[0] for key, values in axis.when.items()}
            for value in axis.ends():
                yield self._completed(needed[axis.key] | {axis.key: value})

    def settled(self, point: Mapping[str, Any]) -> Point:
        """Return a point that was given in YAML as the sweep has it."""
        by_key = {axis.key: axis for axis in self.axes}
        return {key: by_key[key].settled(value) if key in by_key else value
                for key, value in point.items()}  # fmt: skip

    def _completed(self, given: Mapping[str, Any]) -> Point:
        point: Point = {}
        for axis in self.axes:
            if axis.key in given:
                point[axis.key] = given[axis.key]
            elif axis.counts(point):
                point[axis.key] = axis.ends()[0]
        return point

    @property
    def endless(self) -> list[str]:
        """The keys of intervals of numbers that are not whole."""
        return [axis.key for axis in self.axes if not axis.listed()]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, to be compared with another."""
        return {"fixed": list(self.fixed), "axes": [axis.to_dict() for axis in self.axes]}


def name_of(point: Mapping[str, Any]) -> str:
    """Return what tells a point from others, whatever the order of its keys.

    Example:
        >>> name_of({"epochs": 3, "head": "mlp"})
        'epochs=3 head=mlp'
    """
    return " ".join(Axis(key).override(point[key]) for key in sorted(point))


def still_varied(
    space: Space, given: Mapping[str, Any], points: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return known points without the keys of a config's `space` that a command line has fixed.

    Args:
        space: What is varied.
        given: The `space` of the config.
        points: The known points of it.

    Example:
        >>> given = {"head": "linear,mlp", "epochs": "1,2"}
        >>> still_varied(read(["head=tokens"], given), given, [{"head": "mlp", "epochs": 2}])
        [{'epochs': 2}]
    """
    fixed = set(given) - {axis.key for axis in space.axes}
    return [{key: value for key, value in one.items() if key not in fixed} for one in points]


def read(overrides: Sequence[str], space: Mapping[str, Any]) -> Space:
    """Read what is varied from a config's `space` and from a command line, which has the last word.

    Args:
        overrides: Overrides; those with several values are axes, all others are fixed.
        space: By key what an override could say, or `values` (the same) with `when`, by key the
            value or values that other axes must have for this one to count.

    Returns:
        The space.

    Raises:
        UserError: With every part of it that cannot be read.

    Example:
        >>> made = read(["epochs=3", "head=linear,mlp"], {"head": "mlp"})
        >>> made.fixed, [axis.values for axis in made.axes]
        (('epochs=3',), [('linear', 'mlp')])
    """
    axes: dict[str, Axis] = {}
    fixed: dict[str, str] = {}
    if problems := [f"sweep.space.{key} must have values, text such as 'a,b'. Received: "
                    f"{shown(value)}." for key, value in space.items() if _lacks_values(value)]:
        raise UserError(problems=map(one_line, problems))
    lines = [(f"{key}={_values(value)}", _when(value)) for key, value in space.items()]
    for number, (line, when) in enumerate([*lines, *((line, {}) for line in overrides)]):
        try:
            found = _parse(line, when)
        except UserError as error:
            problems += error.problems
            continue
        key = line.partition("=")[0].lstrip("+~")
        if isinstance(found, str) and key in axes and axes[key].when and line[0] != "~":
            # One value of a key that hangs on another counts only where the key does.
            found = _of_one(key, line)
        earlier = axes.pop(key, None)
        fixed.pop(key, None)
        if isinstance(found, str):
            # Two overrides of one key are Hydra's to refuse.
            fixed[key if number < len(lines) or key not in fixed else line] = found
        else:
            hangs_on = found.when or (earlier.when if earlier else {})
            axes[key] = replace(found, when=hangs_on)
    for axis in axes.values():
        for key, wanted in axis.when.items():
            if key not in axes:
                problems.append(
                    f"sweep.space: {axis.key} hangs on {key}, which is not varied. Varied: "
                    f"{', '.join(axes)}."
                )
            elif (there := axes[key].values) and not set(wanted) & set(there):
                problems.append(
                    f"sweep.space: {axis.key} hangs on {key}={','.join(wanted)}, which {key} never "
                    f"is. Its values: {', '.join(there)}."
                )
    if not problems:
        axes, problems = _ordered(axes)
    if problems:
        raise UserError(problems=map(one_line, problems))
    return Space(tuple(fixed.values()), tuple(axes.values()))


def _values(given: object) -> Any:
    return as_hydra_has_it(given["values"] if isinstance(given, Mapping) else given)


def _lacks_values(given: object) -> bool:
    return isinstance(given, Mapping) and given.get("values") in (None, "", [])


def _when(given: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, Mapping):
        return {}
    return {
        key: tuple("null" if one is None else str(one)  # as Hydra writes values of a choice
                   for one in (value if isinstance(value, list) else [value]))
        for key, value in (given.get("when") or {}).items()
    }


def _parse(line: str, when: Mapping[str, tuple[str, ...]]) -> Axis | str:
    """Return an axis, or the override itself where it has one value."""
    try:
        (override,) = parsed([line])
    except ValueError as error:  # a number of more digits than Python reads
        raise UserError(f"An override cannot be read: {error}. Received: {_cut(line)}.") from error
    key = line.partition("=")[0]
    if not override.is_sweep_override():
        return replace(_of_one(key, line), when=when) if when else line
    if override.is_interval_sweep():
        return _interval(key, line, override.value(), when)
    values = expanded(line, override)
    if not values:
        raise UserError(f"{key} has no values to try. Received: {_cut(line)}.")
    return Axis(key, values=values, when=when)


def _of_one(key: str, line: str) -> Axis:
    """Return an axis of the one value that an override has, as it would stand among several."""
    text = line.partition("=")[2]
    return Axis(key, (text.capitalize() if text.lower() in ("true", "false") else text,))


def _interval(key: str, line: str, value: Any, when: Mapping[str, tuple[str, ...]]) -> Axis:
    log = "log" in value.tags
    whole = isinstance(value.start, int) and isinstance(value.end, int)
    ends = (value.start, value.end)
    most = LARGEST_WHOLE if whole else LARGEST
    if not all(isinstance(end, int | float) and abs(end) <= most for end in ends) \
            or not ends[0] < ends[1]:
        raise UserError(
            f"An interval goes from a number to a larger one, of at most {most:g}. Received: "
            f"{_cut(line)}."
        )
    low, high = map(float, ends)
    if log and low <= 0:
        raise UserError(
            f"An interval with tag(log, ...) must begin above 0. Received: {_cut(line)}."
        )
    return Axis(key, low=low, high=high, whole=whole, log=log, when=when)


def expanded(line: str, override: Any, most: int = MOST) -> tuple[str, ...]:
    """Return the values that an override stands for, each once, if there are not too many.

    Args:
        line: The override, for messages.
        override: As Hydra reads it: a choice or a range.
        most: How many there may be.

    Raises:
        UserError: If it cannot be expanded, or stands for more.
    """
    key = line.partition("=")[0]
    try:
        value = override.value()
        if (count := _count(value)) > most:
            raise UserError(
                f"{_cut(line)} stands for {_number(count)} values, and at most {most:,} are tried "
                "one by one. Take larger steps, or give an interval to kerasft sweep: "
                f"'{key}=interval(LOW,HIGH)', of whole numbers '{key}=int(interval(LOW,HIGH))'."
            )
        return tuple(dict.fromkeys(override.sweep_string_iterator()))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{_cut(line)} cannot be expanded: {error}. List the values: {key}=a,b."
        ) from error


def _count(value: Any) -> int:
    """Return how many values a choice or a range of Hydra has, without making them."""
    if not (hasattr(value, "start") and hasattr(value, "stop")):
        return len(getattr(value, "list", None) or ())
    start, stop, step = (Fraction(one) for one in (value.start, value.stop, value.step))
    if not step:
        raise ValueError("its step is 0")
    return max(math.ceil((stop - start) / step), 0)


def _cut(line: str) -> str:
    line = override_shown(line)
    return repr(line if len(line) <= 120 else f"{line[:117]}...")


def _number(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"more than {10**15:,}"


def _ordered(axes: Mapping[str, Axis]) -> tuple[dict[str, Axis], list[str]]:
    """Put each axis behind those that it hangs on."""
    made: dict[str, Axis] = {}
    left = dict(axes)
    while left:
        ready = [key for key, axis in left.items() if all(k in made for k in axis.when)]
        if not ready:
            return made, [f"sweep.space: {', '.join(left)} hang on each other."]
        made[ready[0]] = left.pop(ready[0])
    return made, []
