"""Confidence intervals by bootstrap, and paired tests between models.

The examples of a split are drawn anew, with replacement, and the figure is computed again (Efron,
"Bootstrap Methods", 1979). What the seed of a training changes is not in such an interval.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from kerasft.contracts import Summed, Task
from kerasft.errors import UserError
from kerasft.spec import Labels

LEVEL = 0.95
# How often examples are drawn anew; less often where a figure takes long.
REPEATS, FEW_REPEATS = 2000, 200
# Of more numbers than these a figure is drawn less often; of more than those, only if it must be.
MANY, VERY_MANY = 500_000, 20_000_000


def draws(count: int, repeats: int = REPEATS, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield which examples are drawn, each time `int64[count]`: the same for the same seed.

    All of them at once would be 800 MB for 50,000 examples.

    Args:
        count: How many examples there are.
        repeats: How often they are drawn.
        seed: Of the random numbers.
    """
    random = np.random.default_rng(seed)
    for _ in range(repeats):
        yield random.integers(0, count, count)


def resampled(
    task: Task, labels: Labels, metric: str, statistics: Mapping[str, np.ndarray],
    rows: Iterable[np.ndarray],
) -> np.ndarray | None:
    """Return a figure for each drawing of the examples.

    Args:
        task: Its `figures` gives the figure; its `sums`, where it has that, gives it faster.
        labels: What the labels mean.
        metric: The name of the figure, a key of `figures`.
        statistics: What the task's `statistics` returned, each `[N, ...]`.
        rows: What `draws` yields.

    Returns:
        `float64[repeats]`, fewer for figures that take long; `None` where the task does not have
        the figure for one of the drawings.

    Example:
        >>> from kerasft.tasks.classification import Classification
        >>> true, guessed = np.array([0, 1, 1, 0]), np.array([0, 1, 1, 1])
        >>> found = resampled(Classification(), Labels("single", ("a", "b")), "accuracy",
        ...                   {"true": true, "predicted": guessed}, draws(4, 500))
        >>> bool(0.7 < found.mean() < 0.8)
        True
    """
    summed = _sums(task, labels, metric, statistics)
    if summed is not None:
        parts, figure = summed
        whole = np.int64 if parts.dtype == bool else np.float64
        return np.array([figure(parts[one].sum(axis=0, dtype=whole), len(one)) for one in rows])
    values = []
    for one in itertools.islice(rows, FEW_REPEATS):
        drawn = {name: value[one] for name, value in statistics.items()}
        try:
            value = task.figures(drawn, labels).get(metric)
        except UserError:  # a metric of the user's own refuses these examples
            return None
        if not isinstance(value, float):
            return None
        values.append(value)
    return np.array(values)


def right(
    task: Task, labels: Labels, metric: str, statistics: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Return which examples a model gets right, bool `[N]`, where the figure is their share."""
    summed = _sums(task, labels, metric, statistics)
    if summed is None or summed[0].dtype != bool or summed[0].ndim != 1:
        return None
    return summed[0]


def is_quick(
    task: Task, labels: Labels, metric: str, statistics: Mapping[str, np.ndarray]
) -> bool:
    """Whether the interval of a figure takes seconds: it is a share, or follows from sums."""
    summed = _sums(task, labels, metric, statistics)
    return summed is not None and (summed[0].ndim == 1 or summed[0].size <= VERY_MANY)


def _sums(
    task: Task, labels: Labels, metric: str, statistics: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
    """Return what a figure is summed from and the way to it, where the task knows one."""
    return task.sums(metric, statistics, labels) if isinstance(task, Summed) else None


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return between which values the middle `level` of them lies."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson(right: int, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Return between which values a share lies.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927: unlike
    drawings of the examples it has a width where all of them are right.

    Args:
        right: How many examples are right.
        count: Of how many.
        level: How often the true share lies in it.

    Example:
        >>> low, high = wilson(50, 50)
        >>> round(low, 3), high
        (0.929, 1.0)
    """
    from scipy.stats import norm

    reach = float(norm.ppf((1 + level) / 2))
    share, weight = right / count, reach**2 / count
    middle = (share + weight / 2) / (1 + weight)
    apart = reach * np.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return max(0.0, float(middle - apart)), min(1.0, float(middle + apart))


def intervals(
    task: Task, labels: Labels, metrics: Sequence[str], statistics: Mapping[str, np.ndarray], *,
    repeats: int = REPEATS,
) -> dict[str, tuple[float, float]]:
    """Return between which values figures lie, as far as the examples tell.

    Wilson's interval for shares of examples, else the bootstrap. What a task does not sum is
    computed for all figures at once.

    Args:
        task: The task.
        labels: What the labels mean.
        metrics: The names of the figures, keys of `figures`.
        statistics: What the task's `statistics` returned, each `[N, ...]`.
        repeats: How often examples are drawn anew, where figures are quickly computed.

    Returns:
        An interval by name; none of figures that not all drawings have.

    Example:
        >>> from kerasft.tasks.classification import Classification
        >>> true, guessed = np.arange(40) % 2, np.zeros(40, int)
        >>> intervals(Classification(), Labels("single", ("a", "b")), ["accuracy"],
        ...           {"true": true, "predicted": guessed})["accuracy"][0] > 0.3
        True
    """
    count = len(next(iter(statistics.values())))
    found: dict[str, tuple[float, float]] = {}
    slow = []
    for metric in metrics:
        shares = right(task, labels, metric, statistics)
        if shares is not None:
            found[metric] = wilson(int(shares.sum()), count)
        elif (summed := _sums(task, labels, metric, statistics)) is None:
            slow.append(metric)
        else:
            often = repeats if summed[0].size <= MANY else min(repeats, FEW_REPEATS)
            drawn = resampled(task, labels, metric, statistics, draws(count, often))
            if drawn is not None:
                found[metric] = interval(drawn)
    values: dict[str, list[float]] = {metric: [] for metric in slow}
    for rows in draws(count, min(repeats, FEW_REPEATS)) if slow else ():
        try:
            of_drawing = task.figures({n: v[rows] for n, v in statistics.items()}, labels)
        except UserError:  # a metric of the user's own refuses these examples
            return found
        values = {n: [*all_, value] for n, all_ in values.items()
                  if isinstance(value := of_drawing.get(n), float) and math.isfinite(value)}
        if not values:
            break
    return found | {metric: interval(np.array(drawn)) for metric, drawn in values.items()}


def p_value(difference: float, variance: float, degrees: float = math.inf) -> float:
    """Return how likely a difference of at least this size is by chance alone.

    Args:
        difference: The difference of two figures.
        variance: Its variance.
        degrees: How many degrees of freedom that was estimated from: the difference is held
            against Student's t, which with endless ones is the normal distribution.

    Example:
        >>> round(p_value(1.96, 1.0), 3)
        0.05
        >>> round(p_value(1.96, 1.0, 2), 3)
        0.189
    """
    if variance <= 0:
        return 1.0 if difference == 0 else 0.0
    from scipy.stats import t

    return float(2 * t.sf(abs(difference) / np.sqrt(variance), degrees))


def reach(variance: float, degrees: float = math.inf, level: float = LEVEL) -> float:
    """Return how far to both sides of a figure the interval goes.

    Example:
        >>> round(reach(1.0), 2), round(reach(1.0, 2), 2)
        (1.96, 4.3)
    """
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, degrees) * np.sqrt(variance))


def degrees(known: float, estimated: float, of: float) -> float:
    """Return the degrees of freedom of the sum of two variances.

    After Satterthwaite, "An approximate distribution of estimates of variance components", 1946.

    Args:
        known: One from so many examples that it counts as known.
        estimated: One that was estimated from few runs.
        of: The degrees of freedom of that.

    Example:
        >>> degrees(0.0, 1.0, 3), degrees(1.0, 1.0, 3)
        (3.0, 12.0)
    """
    return float(of * ((known + estimated) / estimated) ** 2) if estimated > 0 else math.inf


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """Return how likely two classifiers are to differ so much by chance alone, exactly.

    Args:
        one: Which examples the first gets right, bool `[N]`.
        other: The same of the second, for the same examples.

    Returns:
        The p-value of McNemar's test ("Note on the sampling error of the difference between
        correlated proportions or percentages", 1947): of the examples that only one of them gets
        right, each is as likely to have either.

    Example:
        >>> mcnemar(np.array([True] * 9 + [False]), np.array([False] * 9 + [True]))
        0.021484375
    """
    from scipy.stats import binomtest

    mine, theirs = int((one & ~other).sum()), int((other & ~one).sum())
    return float(binomtest(mine, mine + theirs).pvalue) if mine + theirs else 1.0


def holm(p_values: Sequence[float], of: int | None = None) -> list[float]:
    """Return p-values corrected for how many there are.

    Holm, "A simple sequentially rejective multiple test procedure", 1979: the chance that any of
    them falls below a bound though nothing differs stays at that bound.

    Args:
        p_values: The p-values.
        of: The number of comparisons to correct for, where it is larger than the number of
            p-values because the figures decided which comparisons to make. The best of k runs
            could have been any of them, so comparing it with the others counts as all
            k (k - 1) / 2 pairs. With k - 1 instead, false differences are reported more often
            than the bound allows.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
        >>> holm([0.01, 0.04], of=3)
        [0.03, 0.08]
    """
    count = len(p_values) if of is None else of
    order = np.argsort(p_values, kind="stable")
    corrected = np.zeros(len(p_values))
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (count - place)))
        corrected[index] = largest
    return [float(round(value, 12)) for value in corrected]
