"""Rules that read a learning rate off the curve of a range test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from kerasft.training.range_test import Curve

# Updates over which a loss is smoothed, to both sides: one standard deviation of the weights.
WIDTH = 3.0
# Share of a test whose rates are too low for anything to be learned.
STILL = 0.1
# Share of the whole fall behind which the loss is falling for certain.
BEGUN = 0.1
# A fall counts from so many standard errors of it on.
CLEAR = 3.0


def smoothed(losses: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Return losses as weighted means of their neighbours, those before and behind alike.

    A running mean, as fastai takes, lags behind, and so would the rates that are read off it.

    Args:
        losses: `float64[N]`.
        counts: How many examples each is of, `int64[N]`; by default as many each time.

    Returns:
        `float64[N]`.

    Example:
        >>> smoothed(np.array([1.0, 1.0, 1.0])).round(3).tolist()
        [1.0, 1.0, 1.0]
    """
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places[None]) / WIDTH) ** 2)
    weights = weights if counts is None else weights * counts
    return np.asarray((weights @ losses) / weights.sum(axis=1))


class Fall(NamedTuple):
    """Where the loss of a range test falls.

    Args:
        first: The update from which on it falls for certain.
        last: The update with the lowest loss.
    """

    first: int
    last: int


def fall_of(curve: Curve) -> Fall | None:
    """Return where the smoothed loss falls from what it is at the lowest rates to its minimum.

    Args:
        curve: The curve.

    Returns:
        A `Fall`; `None` where there is none that stands out from the noise of the losses.
    """
    losses = smoothed(curve.losses, curve.counts)
    still = max(round(STILL * len(losses)), 3)
    last = int(np.argmin(losses))
    before = float(losses[:still].mean())
    whole = before - float(losses[last])
    # So many losses are averaged in a smoothed one; the noise is what they differ by from it.
    averaged = 2 * np.sqrt(np.pi) * WIDTH
    noise = float(np.std((curve.losses - losses)[: last + 1]))
    error = noise * np.sqrt(1 / averaged + 1 / still)
    if last < still or whole <= max(CLEAR * error, 1e-6 * abs(before)):
        return None
    above = np.flatnonzero(losses[: last + 1] > before - BEGUN * whole)
    return Fall(int(above[-1]), last)


def valley(curve: Curve) -> float | None:
    """Return the rate half way down: between where the fall begins and where the loss is lowest.

    fastai's rule of this name takes the middle of the longest falling subsequence, which the noise
    before the fall draws to rates at which nothing is learned yet.

    Args:
        curve: The curve.

    Returns:
        The rate; `None` where the loss does not fall.
    """
    if (fall := fall_of(curve)) is None:
        return None
    return float(np.sqrt(curve.rates[fall.first] * curve.rates[fall.last]))


def steep(curve: Curve) -> float | None:
    """Return the rate at which the loss falls most steeply, within its fall.

    Args:
        curve: The curve.

    Returns:
        The rate; `None` where the loss does not fall.
    """
    if (fall := fall_of(curve)) is None:
        return None
    losses = smoothed(curve.losses, curve.counts)
    slopes = np.gradient(losses, np.log(curve.rates))[fall.first : fall.last + 1]
    return float(curve.rates[fall.first + int(np.argmin(slopes))])


def lowest(curve: Curve) -> float | None:
    """Return the rate at which the loss is lowest, where it falls.

    Args:
        curve: The curve.

    Returns:
        The rate; `None` where the loss does not fall.
    """
    return None if (fall := fall_of(curve)) is None else float(curve.rates[fall.last])


RULES: dict[str, Callable[[Curve], float | None]] = {
    "valley": valley, "steep": steep, "lowest": lowest,
}  # fmt: skip
