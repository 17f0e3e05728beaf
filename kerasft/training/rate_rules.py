"""Rules that read a learning rate off the curve of a range test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kerasft.training.range_test import Curve

# Updates over which a loss is smoothed, to both sides: one standard deviation of the weights.
WIDTH = 3.0


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Return losses as weighted means of their neighbours, those before and behind alike.

    A running mean, as fastai takes, lags behind, and so would the rates that are read off it.

    Args:
        losses: `float64[N]`.

    Returns:
        `float64[N]`.

    Example:
        >>> smoothed(np.array([1.0, 1.0, 1.0])).round(3).tolist()
        [1.0, 1.0, 1.0]
    """
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places[None]) / WIDTH) ** 2)
    return np.asarray((weights @ losses) / weights.sum(axis=1))


def valley(curve: Curve) -> float | None:
    """Return the rate half way down the longest valley (fastai's default rule)."""
    losses = smoothed(curve.losses)
    first, last = longest_fall(losses)
    if last - first < 2:
        return None
    third = (last - first) / 3
    return float(curve.rates[first + int(third) + int(third / 2)])


def longest_fall(losses: np.ndarray) -> tuple[int, int]:
    """Return where the longest falling subsequence of losses begins and ends."""
    count = len(losses)
    lengths, before = np.ones(count, int), np.full(count, -1)
    for i in range(1, count):
        higher = np.flatnonzero(losses[:i] > losses[i])
        if len(higher):
            best = higher[np.argmax(lengths[higher])]
            lengths[i], before[i] = lengths[best] + 1, best
    last = first = int(np.argmax(lengths))
    while before[first] >= 0:
        first = int(before[first])
    return first, last


def steep(curve: Curve) -> float | None:
    """Return the rate at which the loss falls most steeply."""
    losses = smoothed(curve.losses)
    slopes = np.gradient(losses, np.log(curve.rates))
    place = int(np.argmin(slopes))
    return float(curve.rates[place]) if slopes[place] < 0 else None


RULES: dict[str, Callable[[Curve], float | None]] = {"valley": valley, "steep": steep}
