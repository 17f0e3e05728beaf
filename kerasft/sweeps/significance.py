"""Significance tests of settings against the best one, with confidence intervals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kerasft.sweeps import entries
from kerasft.sweeps.entries import Entry


@dataclass(frozen=True)
class Measured:
    """What is kept of a run to compare it by.

    Args:
        examples: A digest of the examples that it was measured on.
        drawn: Its figure for each drawing of them, `float64[repeats]`.
        right: Which of them it gets right, bool `[N]`, where its figure is the share of these.
    """

    examples: str
    drawn: Any
    right: Any = None


@dataclass
class Setting:
    """Runs that differ by their seed alone.

    Args:
        runs: The runs.
        values: The figures of those that have one.
        measured: What these are compared by, or `None`.
        interval: Between which values the mean lies, with a chance of 95 %.
        p: How likely its distance to the best setting is by chance alone, corrected for how many
            pairs of settings there are.
    """

    runs: list[Entry]
    values: list[float] = field(default_factory=list)
    measured: list[Measured | None] = field(default_factory=list)
    interval: tuple[float, float] | None = None
    p: float | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def drawn(self) -> Any:
        """The mean of its runs' figures for each drawing; `None` where one cannot be drawn from."""
        found = [one.drawn for one in self.measured if one is not None]
        whole = bool(found) and len(found) == len(self.values)
        return sum(found) / len(found) if whole else None

    @property
    def examples(self) -> list[str]:
        """Digests of the examples that its runs were measured on, sorted."""
        return sorted(one.examples for one in self.measured if one is not None)


class Spread(NamedTuple):
    """The variance between seeds, and from how many degrees of freedom: 0 where it is unknown."""

    variance: float
    degrees: int


def compare(
    settings: Sequence[Setting], metric: str, trusted: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Draw examples anew, and hold each setting against the first.

    Args:
        settings: Settings with figures, the best first; they get their interval and p-value.
        metric: The figure.
        trusted: Import prefixes, beside the built-in ones, that a run's own parts may come from.

    Returns:
        The interval that the examples alone leave open, by run.
    """
    from kerasft.evaluation import uncertainty

    intervals: dict[str, list[float]] = {}
    for one in settings:
        one.measured = [_measured(run, metric, trusted) for run in one.runs]
        for run, found in zip(one.runs, one.measured, strict=True):
            if found is not None:
                intervals[run.run] = list(uncertainty.interval(found.drawn))
    judge(settings)
    return intervals


def _measured(run: Entry, metric: str, trusted: Sequence[str]) -> Measured | None:
    from kerasft.evaluation import uncertainty

    sample = entries.sample(run, trusted)
    if sample is None:
        return None
    # The same drawings for the same examples, and others for others: the difference of two runs
    # then varies as little as it does on common examples, or as much as on two sets of them.
    rows = uncertainty.draws(sample.count, seed=int(sample.examples[:8], 16))
    of_task = (sample.task, sample.labels, metric, sample.statistics)
    drawn = uncertainty.resampled(*of_task, rows)
    if drawn is None:
        return None
    return Measured(sample.examples, drawn, uncertainty.right(*of_task))


def judge(settings: Sequence[Setting]) -> None:
    """Give measured settings, the best first, their interval and p-value."""
    from kerasft.evaluation import uncertainty

    seeds, paired = between_seeds(settings), between_seeds(settings, paired=True)
    for one in settings:
        one.interval = _interval(one, seeds)
    best, *others = settings
    if best.drawn is None:
        return
    best.p = 1.0
    tested = [one for one in others if one.drawn is not None]
    found = [_p_value(best, one, seeds, paired) for one in tested]
    # The best was chosen by its figure: any pair could have come to be compared.
    pairs = len(settings) * (len(settings) - 1) // 2
    for one, p in zip(tested, uncertainty.holm(found, of=pairs), strict=True):
        one.p = p


def between_seeds(settings: Sequence[Setting], *, paired: bool = False) -> Spread:
    """Return the variance between seeds, pooled over all settings with several.

    Args:
        settings: The settings.
        paired: Whether to leave out what the examples do to all runs that were measured on them:
            where a seed draws the split too, that is common to two settings with the same seeds.
    """
    import numpy as np

    several = [one for one in settings if len(one.values) > 1]
    runs = [(place, value, found and found.examples) for place, one in enumerate(several)
            for value, found in zip(one.values, one.measured, strict=True)]  # fmt: skip
    if not runs:
        return Spread(0.0, 0)
    groups = [[place == at for place, *_ in runs] for at in range(len(several))]
    if paired:
        groups += [[on == one for *_, on in runs] for one in {on for *_, on in runs}]
    design = np.array(groups, float).T
    values = np.array([value for _, value, _ in runs])
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    free = len(runs) - int(np.linalg.matrix_rank(design))
    return Spread(float(left @ left) / free, free) if free else Spread(0.0, 0)


def _interval(one: Setting, seeds: Spread) -> tuple[float, float] | None:
    from kerasft.evaluation import uncertainty

    if one.drawn is None:
        return None
    if not seeds.degrees:  # then no setting has more than one run
        return uncertainty.interval(one.drawn)
    examples, of_seeds = float(one.drawn.var()), seeds.variance / len(one.values)
    free = uncertainty.degrees(examples, of_seeds, seeds.degrees)
    reach = uncertainty.reach(examples + of_seeds, free)
    return one.mean - reach, one.mean + reach


def _p_value(best: Setting, other: Setting, seeds: Spread, paired: Spread) -> float:
    from kerasft.evaluation import uncertainty

    same = best.examples == other.examples
    if same and not seeds.degrees:
        (mine,), (theirs,) = best.measured, other.measured
        if mine and theirs and mine.right is not None and theirs.right is not None:
            return uncertainty.mcnemar(mine.right, theirs.right)
    spread = paired if same and paired.degrees else seeds
    repeats = min(len(best.drawn), len(other.drawn))
    examples = float((best.drawn[:repeats] - other.drawn[:repeats]).var())
    of_seeds = spread.variance * (1 / len(best.values) + 1 / len(other.values))
    free = uncertainty.degrees(examples, of_seeds, spread.degrees)
    return uncertainty.p_value(best.mean - other.mean, examples + of_seeds, free)
