"""What an answer that is the same for all examples is worth: the floor of all figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.system.recorded import is_number

# How many standard errors of a figure are taken as noise.
ERRORS = 2.0
# A part of the way from the floor to the best value that is nothing, for figures without a
# standard error of their own.
NOTHING = 0.02


def chance(truths: Sequence[Any]) -> dict[str, float]:
    """Return the figures of the best answer that is the same for all examples.

    Args:
        truths: What is true of each example, as plain values: a class, a list of classes, a number
            or several by name.

    Returns:
        Figures by name; none where labels are boxes, masks or of another kind.

    Example:
        >>> chance(["cat", "dog", "cat", "cat"])["accuracy"]
        0.75
        >>> chance([["sport"], []])
        {'roc_auc': 0.5}
    """
    if not truths:
        return {}
    if all(isinstance(one, str) for one in truths):
        shares = np.array(list(Counter(truths).values())) / len(truths)
        return {
            "accuracy": float(shares.max()), "recall_macro": 1.0 / len(shares),
            "log_loss": float(-(shares * np.log(shares)).sum()), "roc_auc": 0.5,
        }  # fmt: skip
    if all(isinstance(one, list) and all(isinstance(n, str) for n in one) for one in truths):
        return {"roc_auc": 0.5}
    if all(is_number(one) for one in truths):
        return {"r2": 0.0, "pearson": 0.0, "rmse": float(np.std(truths))}
    if all(
        isinstance(one, Mapping) and one and all(map(is_number, one.values())) for one in truths
    ) and len({tuple(one) for one in truths}) == 1 and not _are_shares(truths):
        return {"r2": 0.0, "pearson": 0.0}
    return {}


def is_chance(
    figures: Mapping[str, Any], floor: Mapping[str, float], examples: int
) -> bool | None:
    """Whether figures are no better than those of an answer that is the same for all examples.

    All that can be compared must agree: with weighted classes the accuracy of a good network may be
    below that of the most frequent class.

    Args:
        figures: Of a split.
        floor: What `chance` returned.
        examples: How many examples the split has.

    Returns:
        `None` where nothing can be compared.

    Example:
        >>> floor = {"accuracy": 0.5, "roc_auc": 0.5}
        >>> is_chance({"accuracy": 0.53, "roc_auc": 0.52}, floor, 100)
        True
        >>> is_chance({"accuracy": 0.53, "roc_auc": 0.80}, floor, 100)
        False
    """
    said = [
        _number(figures[name]) <= floor[name] + ERRORS * wide * error(floor[name], examples)
        # The area has the variance of a uniform number in place of a share's.
        for name, wide in (("accuracy", 1.0), ("recall_macro", 1.5), ("roc_auc", 1.2))
        if name in floor and name in figures
    ]
    if "log_loss" in floor and "log_loss" in figures and said:
        # A loss that is worse says only that the network is too sure of itself.
        said.append(_number(figures["log_loss"]) >= (1 - 5 * NOTHING) * floor["log_loss"])
    if "r2" in floor and "r2" in figures:
        said.append(_number(figures["r2"]) <= NOTHING)
        correlation = abs(_number(figures.get("pearson", 0.0)))
        said.append(correlation <= ERRORS / math.sqrt(examples))
    return all(said) if said else None


def error(share: float, examples: int) -> float:
    """Return the standard error of a share of examples, no smaller than one example makes it.

    Example:
        >>> error(0.5, 100)
        0.05
    """
    share = min(max(share, 0.0), 1.0)
    return math.sqrt(max(share * (1 - share), 1 / examples) / examples)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _are_shares(truths: Sequence[Mapping[str, float]]) -> bool:
    """Whether these are the shares of a mask's pixels: they add up to one."""
    return all(abs(sum(one.values()) - 1) < 1e-3 for one in truths)
