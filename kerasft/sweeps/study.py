"""Asks Optuna's samplers and pruners for the next point."""

from __future__ import annotations

import copy
import warnings
import zlib
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kerasft.config.composition import SWEEP, as_config, build
from kerasft.errors import UserError, in_short
from kerasft.sweeps.parts import HARMLESS, plain_attributes, targets
from kerasft.sweeps.space import Axis, Point, Space, name_of
from kerasft.sweeps.trials import point as point_of

if TYPE_CHECKING:
    import optuna

# How often a sampler is asked again that gives a point which was tried before.
ATTEMPTS = 50


def distribution(axis: Axis) -> Any:
    """Return Optuna's distribution of an axis."""
    from optuna import distributions

    if axis.values:
        return distributions.CategoricalDistribution(axis.values)
    if axis.whole:
        return distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def made(node: Mapping[str, Any] | None, what: str, **given: Any) -> Any:
    """Call what a node of the search names.

    Args:
        node: A mapping with a `_target_`, or `None`.
        what: Its key, for messages.
        **given: Values that go in where the signature has their names and the node does not.

    Returns:
        What the call returned; `None` for no node.

    Raises:
        UserError: If the call refuses its values.
    """
    from optuna.exceptions import ExperimentalWarning

    if not node:
        return None
    with warnings.catch_warnings():
        # Some of a sampler's settings may change with Optuna's next version.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return build(as_config({SWEEP: {what: node}})[SWEEP][what], **given)


def next_point(
    space: Space, sampler: Mapping[str, Any] | None, study: optuna.Study, known: Sequence[Point],
    seed: int
) -> tuple[Point, Mapping[str, Any]] | None:
    """Return a point that no trial of a study has, or had.

    It is a function of the seed and of what the study holds, so that a sweep which is taken up
    again goes on as it would have. The sampler is asked in a copy of the study: what it gives
    twice leaves no trace.

    Args:
        space: What is varied.
        sampler: A node with Optuna's sampler, or `None` for every combination in turn.
        study: Optuna's study.
        known: Points that come first.
        seed: Of the sweep.

    Returns:
        The point and what the sampler wants to remember of it; `None` where there is no new one.
    """
    trials = study.get_trials(deepcopy=False)
    tried = {name_of(point_of(trial.user_attrs)) for trial in trials}
    for one in map(space.settled, known):
        if name_of(one) not in tried:
            return one, {}
    if sampler is None:
        return _left_over(space, tried)
    for attempt in range(ATTEMPTS):
        number = zlib.crc32(f"{seed} {len(trials)} {attempt}".encode())
        try:
            point, remembered = _asked(space, sampler, study, trials, number)
        except UserError:
            raise
        except Exception as error:  # of a sampler that cannot take the space, or lacks a package
            name = str(sampler["_target_"]).rpartition(".")[2]
            raise UserError(
                f"sweep.sampler: {name} cannot search this space: {in_short(error)}."
            ) from error
        if name_of(point) not in tried:
            return point, remembered
    # The sampler knows no more than what it likes: nearly all was tried.
    return None if space.endless else _left_over(space, tried)


def _asked(
    space: Space, sampler: Mapping[str, Any], study: optuna.Study, trials: Sequence[Any], seed: int
) -> tuple[Point, Mapping[str, Any]]:
    """Ask a sampler for a point, in a copy of the study."""
    plain = all(target in HARMLESS for _, target in targets(sampler))
    copied = _copy(study, trials, made(sampler, "sampler", seed=seed), plain=plain)
    asked = copied.ask()
    point: Point = {}
    for axis in space.axes:
        if axis.counts(point):
            point[axis.key] = _suggested(asked, axis)
    return point, dict(copied.get_trials(deepcopy=False)[-1].system_attrs)


def _left_over(space: Space, tried: Container[Any]) -> tuple[Point, Mapping[str, Any]] | None:
    """Return the first combination that was not tried."""
    return next(((point, {}) for point in space.grid() if name_of(point) not in tried), None)


def _suggested(trial: optuna.trial.FrozenTrial, axis: Axis) -> Any:
    if axis.values:
        return trial.suggest_categorical(axis.key, axis.values)
    if axis.whole:
        return trial.suggest_int(axis.key, int(axis.low), int(axis.high), log=axis.log)
    return trial.suggest_float(axis.key, axis.low, axis.high, log=axis.log)


def _copy(study: optuna.Study, trials: Sequence[Any], sampler: Any, *, plain: bool) -> Any:
    """Return a study in memory with the same trials.

    Args:
        study: The study.
        trials: Its trials.
        sampler: Optuna's sampler.
        plain: Whether the sampler is handed plain, short attributes alone: what else a storage
            holds is none of those that keep nothing else.
    """
    import optuna

    copied = optuna.create_study(directions=study.directions, sampler=sampler)
    for trial in trials:
        if trial.state == optuna.trial.TrialState.WAITING:
            continue
        if plain:
            trial = copy.copy(trial)
            trial.user_attrs = plain_attributes(trial.user_attrs)
            trial.system_attrs = plain_attributes(trial.system_attrs)
        copied.add_trial(trial)
    return copied


def begin(study: optuna.Study, space: Space, point: Point, remembered: Mapping[str, Any]) -> Any:
    """Write a trial down as one that runs.

    Nobody else may do so at the same time.

    Args:
        study: Optuna's study.
        space: What is varied.
        point: The point.
        remembered: What the sampler wants to remember of it.

    Returns:
        Optuna's trial.
    """
    import optuna

    axes = {axis.key: axis for axis in space.axes}
    # A known point may lie outside of the space: then no sampler learns from that key.
    of_space = {k: v for k, v in point.items() if k in axes and _within(axes[k], v)}
    study.add_trial(optuna.trial.create_trial(
        state=optuna.trial.TrialState.WAITING, params=of_space,
        distributions={key: distribution(axes[key]) for key in of_space},
        user_attrs={"point": name_of(point), "values": dict(point)},
        system_attrs=dict(remembered),
    ))  # fmt: skip
    return study.ask()


def _within(axis: Axis, value: object) -> bool:
    if axis.values:
        return value in axis.values
    return isinstance(value, int | float) and axis.low <= value <= axis.high
