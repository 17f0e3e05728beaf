"""How often each training example is drawn in an epoch: as it is, or rare classes more often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kerasft.data.annotations.presence import Presence
from kerasft.data.order import Order
from kerasft.errors import UserError

# The rarest and the most frequent classes that are told of.
MOST = 3


class Sampling(Protocol):
    """What `sampling` is in a config."""

    def rates(self, presence: Presence | None) -> np.ndarray | None:
        """Return how often each example is drawn in an epoch, `float64[N]`.

        Args:
            presence: Which classes each example has; `None` where labels are no classes.

        Returns:
            Rates of any scale; `None` where each example is drawn once.
        """


@dataclass(frozen=True)
class AsItIs:
    """Each example is drawn once in an epoch.

    Example:
        >>> AsItIs().rates(None) is None
        True
    """

    def rates(self, presence: Presence | None) -> np.ndarray | None:
        return None


@dataclass(frozen=True)
class Balanced:
    """Examples of rare classes are drawn more often, those of frequent ones more rarely.

    The weight of a class is `(threshold / f) ** exponent`, `f` being the share of the training
    examples that have it, and 1 for classes with a share beyond `threshold`. An example is drawn
    in proportion to the largest weight among its classes: the repeat factors of Gupta et al.,
    "LVIS: A Dataset for Large Vocabulary Instance Segmentation", 2019,
    <https://arxiv.org/abs/1908.03195>. Where each example has one class, `exponent=1` draws all
    classes equally often. With several labels, boxes or masks the rarest class of an example
    decides; examples without any count as a class of their own.

    An epoch has as many examples as without: frequent classes give up what rare ones gain. Which
    of their examples come is drawn anew in each epoch, so that over the epochs all come in turn. An
    example that is drawn several times is augmented in another way each time.

    Args:
        exponent: From 0, where all is as it is, to 1, where all classes are equally frequent; 0.5
            is halfway, as in LVIS.
        threshold: The share of the examples from which on a class counts as frequent, above 0 and
            at most 1. LVIS takes 0.001 for its 1,230 classes.

    Example:
        `kerasft train sampling=balanced sampling.exponent=0.5`

        >>> two = Presence(np.arange(4), np.array([0, 0, 0, 1]), 4, ("ham", "spam"))
        >>> Balanced().rates(two).round(2).tolist()
        [1.33, 1.33, 1.33, 4.0]
    """

    exponent: float = 1.0
    threshold: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.exponent <= 1:
            raise UserError(
                "sampling.exponent must be from 0, where examples are drawn as they are, to 1, "
                f"where all classes are drawn equally often. Received: {self.exponent}."
            )
        if not 0 < self.threshold <= 1:
            raise UserError(
                "sampling.threshold is a share of the examples, above 0 and at most 1. Received: "
                f"{self.threshold}."
            )

    def rates(self, presence: Presence | None) -> np.ndarray | None:
        if presence is None:
            raise UserError(no_classes())
        shares = presence.counts() / presence.examples
        weights = np.ones(len(shares))
        rare = (shares > 0) & (shares < self.threshold)
        weights[rare] = (self.threshold / shares[rare]) ** self.exponent
        bare = presence.without()
        found = np.zeros(presence.examples)
        np.maximum.at(found, presence.rows, weights[presence.classes])
        if len(bare):
            share = len(bare) / presence.examples
            found[bare] = max(self.threshold / share, 1.0) ** self.exponent
        return found


def no_classes() -> str:
    """Say that labels that are no classes cannot be balanced."""
    return (
        "sampling=balanced draws classes alike, and the labels of this task are no classes. Set "
        "sampling=none."
    )


def normal(rates: np.ndarray | None) -> np.ndarray | None:
    """Return rates that add up to the number of examples; `None` where all are alike."""
    if rates is None:
        return None
    rates = np.asarray(rates, np.float64)
    if not (np.isfinite(rates).all() and (rates >= 0).all() and rates.sum() > 0):
        raise UserError(
            "sampling must give each example a finite rate from 0 on, and not 0 to all. Received: "
            f"{rates[:5].tolist()} ..."
        )
    if np.ptp(rates) <= 1e-9 * rates.max():
        return None
    return rates / rates.mean()


def described(order: Order, presence: Presence | None) -> str:
    """Say in a sentence what an epoch has of each class.

    Args:
        order: The order, with rates.
        presence: Which classes each example has; `None` where labels are no classes.
    """
    epoch = np.concatenate(order.epoch(0))
    times = np.bincount(epoch, minlength=order.count)
    rarely = float((times == 0).mean())
    said = (
        f"an epoch of {len(epoch):,} examples has one up to {times.max():,} times and "
        f"{rarely:.0%} of them not at all"
    )
    if presence is None:
        return said
    before, now = presence.counts(), presence.of(epoch)
    rarest = np.argsort(before, kind="stable")
    rarest = rarest[before[rarest] > 0]
    ends = [*rarest[:MOST], *rarest[max(len(rarest) - MOST, MOST):]]
    shown = ", ".join(f"{presence.names[i]} {before[i]:,} -> {now[i]:,}" for i in ends)
    more = f" (of {len(rarest)} classes)" if len(ends) < len(rarest) else ""
    return f"{shown}{more}; {said}"


def check_sampling(sampling: Sampling) -> None:
    """Check a node for `sampling`: it gives each example a rate, or says that all are alike.

    Args:
        sampling: An object with `rates`.

    Example:
        >>> check_sampling(Balanced())
    """
    classes = np.repeat([0, 1, 2], [20, 8, 2])
    held = Presence(np.arange(30), classes, 30, ("often", "seldom", "rare"))
    found = sampling.rates(held)
    if found is None:
        return
    assert np.shape(found) == (30,), "It must give each example a rate."
    assert np.array_equal(found, np.asarray(sampling.rates(held))), "They must be the same again."
    order = Order(30, 8, seed=0, rates=normal(found))
    assert sum(map(len, order.epoch(0))) == 30, "An epoch must be as long as without."
