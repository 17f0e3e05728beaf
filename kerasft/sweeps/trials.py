"""The trials of a study, checked: a storage may hold anything."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from kerasft.sweeps.space import name_of
from kerasft.sweeps.text import one_line

if TYPE_CHECKING:
    import optuna

# What is said of a trial whose figures are none.
DAMAGED = "its recorded metrics are damaged"


def sound(trials: Sequence[Any], objectives: int) -> list[Any]:
    """Return copies of trials that hold what they should; the study's own stay as they are.

    Args:
        trials: Optuna's trials.
        objectives: How many figures a trial that is done has.
    """
    return [_sound(trial, objectives) for trial in trials]


def _sound(trial: optuna.trial.FrozenTrial, objectives: int) -> Any:
    from optuna.trial import TrialState

    made = copy.copy(trial)
    attributes = trial.user_attrs
    where = point(attributes)
    reason = attributes.get("reason")
    made.user_attrs = {
        **attributes, "values": where, "point": one_line(name_of(where)),
        "reason": reason if isinstance(reason, str) else None,
        "seconds": seconds(attributes), "attempts": attempts(attributes),
    }  # fmt: skip
    made.intermediate_values = {
        step: value for step, value in trial.intermediate_values.items()
        if isinstance(step, int) and (isinstance(value, float) or is_finite(value))
    }  # fmt: skip
    if not _are_numbers(trial.values, objectives):
        made.values = None
        if trial.state == TrialState.COMPLETE:
            made.state = TrialState.FAIL
            made.user_attrs["reason"] = DAMAGED
    return made


def _are_numbers(values: object, count: int) -> bool:
    return (isinstance(values, Sequence) and len(values) == count
            and all(isinstance(one, float) or is_finite(one) for one in values))  # fmt: skip


def point(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the point of a trial, values of axes by key, from what was written down of it."""
    given = attributes.get("values")
    if not isinstance(given, Mapping):
        return {}
    return {
        key: value for key, value in given.items()
        if isinstance(key, str) and (isinstance(value, str | bool) or is_finite(value))
    }  # fmt: skip


def seconds(attributes: Mapping[str, Any]) -> float:
    """Return how long a trial was worked on."""
    spent = attributes.get("seconds")
    return float(spent) if is_finite(spent) and spent > 0 else 0.0


def attempts(attributes: Mapping[str, Any]) -> int:
    """Return how often a trial was taken up."""
    made = attributes.get("attempts")
    return made if isinstance(made, int) and not isinstance(made, bool) and made > 0 else 0


def is_finite(value: object) -> TypeGuard[float]:
    """Whether a value is a number that is neither infinite nor not a number at all.

    Example:
        >>> is_finite(1), is_finite(float("inf")), is_finite("1"), is_finite(10**400)
        (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def has_figures(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial has figures, each of them finite."""
    return bool(trial.values) and all(map(is_finite, trial.values))


def has_ended(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial is done, with figures that are finite."""
    return trial.state.name == "COMPLETE" and has_figures(trial)


def front(trials: Sequence[Any], directions: Sequence[str]) -> list[Any]:
    """Return the trials that none is better than in each objective.

    Args:
        trials: Trials that have ended.
        directions: Whether each objective is to be large or small.
    """
    signs = [1 if direction == "maximize" else -1 for direction in directions]
    rows = [[sign * value for sign, value in zip(signs, trial.values, strict=True)]
            for trial in trials]  # fmt: skip
    return [
        trial for trial, mine in zip(trials, rows, strict=True)
        if not any(other != mine and all(a >= b for a, b in zip(other, mine, strict=True))
                   for other in rows)
    ]  # fmt: skip
