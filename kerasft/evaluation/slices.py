"""Figures of slices of a split: the same figures of fewer examples, and whether they are worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.contracts import Task
from kerasft.errors import UserError
from kerasft.evaluation import uncertainty
from kerasft.evaluation.metrics import direction
from kerasft.spec import Labels, Mode

# Of fewer examples a bootstrap draws the same few again and again, and is too sure.
FEW = 20
# How often the examples of a slice are drawn anew, and what is said of it.
REPEATS = 500
WORSE, TOO_FEW = "worse", "too few"


@dataclass(frozen=True)
class Ranking:
    """What slices are put in order by.

    Args:
        metric: The name of the figure.
        mode: Whether a larger or a smaller one is better.
    """

    metric: str
    mode: Mode

    @classmethod
    def of(cls, task: Task, figures: Mapping[str, Any]) -> Ranking:
        """Return the figure that epochs are chosen by; its first headline where that is a loss."""
        name = task.monitor.removeprefix("val_")
        if isinstance(figures.get(name), float):
            return cls(name, task.mode)
        first = next((one for one in task.headlines if isinstance(figures.get(one), float)), name)
        return cls(first, direction(first))

    def badness(self, value: float | None) -> float:
        """Return what is larger the worse a figure is; of none it is smallest."""
        if value is None or not math.isfinite(value):
            return -math.inf
        return -value if self.mode == "max" else value

    def is_worse(self, interval: Sequence[float] | None, whole: float | None) -> bool:
        """Whether all of an interval is worse than the figure of all examples."""
        if interval is None or whole is None:
            return False
        low, high = interval
        return high < whole if self.mode == "max" else low > whole


def of_column(
    task: Task, labels: Labels, statistics: Mapping[str, np.ndarray], figures: Mapping[str, Any],
    codes: np.ndarray, names: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Return what comes to each slice of a split, the worst first, those with few examples last.

    Args:
        task: The task.
        labels: What the labels mean.
        statistics: What each example adds to the figures, `[N, ...]` by name.
        figures: The figures of all of them.
        codes: The slice of each, `[N]`.
        names: The names of the slices.

    Returns:
        By name plain values: `examples`, how many there are; the task's headlines; `interval`, at
        95 %, by figure, of those that are quickly drawn anew; and `verdict`: `"worse"` where all of
        the interval of the figure that epochs are chosen by is worse than that of all examples,
        `"too few"`, or nothing.

    Example:
        >>> from kerasft.tasks.regression import Regression
        >>> true = np.arange(40.0)
        >>> statistics = {"true": true, "value": true + (np.arange(40) % 2) * 9}
        >>> task = Regression(monitor="val_mae")
        >>> labels = Labels("number")
        >>> whole = task.figures(statistics, labels)
        >>> found = of_column(task, labels, statistics, whole, np.arange(40) % 2, ("even", "odd"))
        >>> [(name, one["mae"], one["verdict"]) for name, one in found.items()]
        [('odd', 9.0, 'worse'), ('even', 0.0, '')]
    """
    ranking = Ranking.of(task, figures)
    shown = [name for name in dict.fromkeys([ranking.metric, *task.headlines]) if name in figures]
    found = {}
    for number, name in enumerate(names):
        rows = np.flatnonzero(codes == number)
        if not len(rows):
            continue
        chosen = {key: value[rows] for key, value in statistics.items()}
        found[name] = _of_slice(task, labels, chosen, shown, ranking, figures)
    return dict(sorted(found.items(), key=lambda one: (
        one[1]["verdict"] == TOO_FEW, -ranking.badness(one[1].get(ranking.metric)), one[0]
    )))  # fmt: skip


def _of_slice(
    task: Task, labels: Labels, statistics: Mapping[str, np.ndarray], shown: Sequence[str],
    ranking: Ranking, whole: Mapping[str, Any],
) -> dict[str, Any]:
    count = len(next(iter(statistics.values())))
    try:
        own = task.figures(statistics, labels)
    except UserError:  # a metric of the user's own refuses these examples
        own = {}
    there = [name for name in shown if isinstance(own.get(name), float)]
    # Those that are slow to draw (an area under a curve, say) only where the ranking needs it: then
    # all of them come of the same drawings.
    quick = [name for name in there if uncertainty.is_quick(task, labels, name, statistics)]
    asked = quick if ranking.metric in quick else there
    if count < FEW:
        asked = [name for name in quick
                 if uncertainty.right(task, labels, name, statistics) is not None]  # fmt: skip
    intervals = uncertainty.intervals(task, labels, asked, statistics, repeats=REPEATS)
    verdict = ""
    if count < FEW or ranking.metric not in intervals:
        verdict = TOO_FEW
    elif ranking.is_worse(intervals[ranking.metric], whole.get(ranking.metric)):
        verdict = WORSE
    return {
        "examples": count, **{name: own[name] for name in there},
        "interval": {name: list(one) for name, one in intervals.items()}, "verdict": verdict,
    }  # fmt: skip
