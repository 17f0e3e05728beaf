"""Figures of classes that have an order: how far off an answer is, and not only whether it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NAMES = ("mae", "quadratic_kappa")


def figures(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score ranks.

    Args:
        true: The rank of the true class, `[N]`, from 0.
        predicted: The rank of the predicted class, `[N]`.

    Returns:
        `mae`, by how many steps of the order an answer is off on average, and `quadratic_kappa`:
        Cohen's kappa with squared distances as weights (Cohen, "Weighted kappa", 1968), 1 for
        answers that are all right and 0 for such as chance would give. That is left out where both
        are of one and the same class throughout.

    Example:
        >>> figures(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]))
        {'mae': 0.25, 'quadratic_kappa': 0.8}
    """
    found = {}
    for name in NAMES:
        parts, figure = sums(name, true, predicted)
        value = figure(parts.sum(axis=0), len(parts))
        if np.isfinite(value):
            found[name] = value
    return found


def sums(
    name: str, true: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]]:
    """Return what one of `NAMES` is summed from, `float64[N, ...]`, and the way to it."""
    t, p = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if name == "mae":
        return np.abs(t - p), lambda total, count: float(total / count)
    return np.stack([(t - p) ** 2, t**2 + p**2, t, p], axis=1), _kappa


def _kappa(total: np.ndarray, count: int) -> float:
    apart, squares, true, predicted = total
    # What the squared distances would add up to if answers had nothing to do with the truth.
    by_chance = squares - 2 * true * predicted / count
    return float(1 - apart / by_chance) if by_chance > 0 else float("nan")
