"""How sure a figure is: resampled examples, and paired tests between models on the same ones.

The examples of a split are drawn anew, with replacement, and the figure is computed again (Efron,
"Bootstrap Methods", 1979). What the seed of a training changes is not in such an interval.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.evaluation import metrics as figures
from kerasft.spec import Labels

LEVEL = 0.95
# How often examples are drawn anew; less often where a figure takes long.
REPEATS, FEW_REPEATS = 2000, 200


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
    task: Any, labels: Labels, metric: str, y: np.ndarray, outputs: Mapping[str, np.ndarray],
    rows: Iterable[np.ndarray],
) -> np.ndarray | None:
    """Return a figure for each drawing of the examples.

    Args:
        task: Its `score` gives the figure where it is none of the common ones.
        labels: What the labels mean.
        metric: The name of the figure, a key of `score`.
        y: Raw labels, `[N]` or `[N, classes]`.
        outputs: What the task made of the logits, each `[N, ...]`.
        rows: What `draws` yields.

    Returns:
        `float64[repeats]`, fewer for figures that take long; `None` where the task does not have
        the figure for one of the drawings.

    Example:
        >>> from kerasft.tasks.classification import Classification
        >>> y, p = np.array([0, 1, 1, 0]), np.eye(2)[[0, 1, 1, 1]]
        >>> found = resampled(Classification(), Labels("single", ("a", "b")), "accuracy", y,
        ...                   {"probabilities": p}, draws(4, 500))
        >>> bool(0.7 < found.mean() < 0.8)
        True
    """
    per_example = _mean_of(labels.kind, metric, y, outputs)
    if per_example is not None:
        means = np.array([per_example[one].mean() for one in rows])
        return np.sqrt(means) if metric == "rmse" else means
    if metric.startswith(("precision_", "recall_", "f1_")) and not metric.endswith("_samples"):
        found, wrong, missed = _counts(labels, y, outputs)
        return np.array([_of_counts(metric, labels, *(part[one].sum(axis=0, dtype=np.int64)
                                                      for part in (found, wrong, missed)))
                         for one in rows])  # fmt: skip
    values = []
    for one in itertools.islice(rows, FEW_REPEATS):
        scores = task.score(y[one], {key: value[one] for key, value in outputs.items()}, labels)
        if not isinstance(scores.get(metric), float):
            return None
        values.append(scores[metric])
    return np.array(values)


def _of_counts(metric: str, labels: Labels, *counts: np.ndarray) -> float:
    if labels.kind == "single":  # as `score` does: classes that neither occur nor are predicted
        seen = sum(counts) > 0
        counts = tuple(part[seen] for part in counts)
    return figures.averages(*counts)[metric]


def right(y: np.ndarray, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return for each example of a single-label task whether its likeliest class is right."""
    return np.argmax(outputs["probabilities"], axis=-1) == np.asarray(y).astype(np.int64)


def _mean_of(
    kind: str, metric: str, y: np.ndarray, outputs: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Return what a figure is the mean of, `[N]`, where it is one."""
    if kind == "single" and metric == "accuracy":
        return right(y, outputs).astype(np.float64)
    if kind == "number" and metric in ("mae", "mse", "rmse"):
        apart = np.abs(np.asarray(outputs["value"], np.float64).ravel() - y)
        return apart if metric == "mae" else apart**2
    return None


def _counts(
    labels: Labels, y: np.ndarray, outputs: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what was found, wrong and missed of each class in each example, `bool[N, C]`."""
    if labels.kind == "single":
        rows = np.eye(len(labels.names), dtype=bool)
        true = rows[np.asarray(y).astype(np.int64)]
        decided = rows[np.argmax(outputs["probabilities"], axis=-1)]
    else:
        true, decided = np.asarray(y) > 0, np.asarray(outputs["labels"], bool)
    return true & decided, ~true & decided, true & ~decided


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return between which values the middle `level` of them lies."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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
        of: How many could have been asked for, where these were chosen after a look at the
            figures. Whoever compares all with the best of k has chosen among all k (k - 1) / 2
            pairs: to count only k - 1 finds differences that are none, in many more tables than
            the bound says.

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
