"""How much each class counts in the loss: by name, balanced, or only where that is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasft.abilities import Weighted
from kerasft.contracts import Task
from kerasft.errors import UserError, nearest
from kerasft.spec import Labels
from kerasft.system.recorded import is_number

WORDS = ("balanced", "auto")
# Cui et al. take 0.9 to 0.9999: each further example of a class is worth so much of the one before,
# so that a thousand are nearly all that a class needs.
BETA = 0.999
# `auto` weighs where the effective numbers of two classes differ by more than this factor.
EVEN = 1.5
# The most classes that are told of, the lightest and the heaviest.
MOST = 6


def check_class_weight(weights: str | Mapping[str, float] | None) -> None:
    """Raise `UserError` unless `weights` is what `class_weight` may be."""
    if isinstance(weights, str) and weights not in WORDS:
        raise UserError(
            "task.class_weight must be null, 'balanced', 'auto' or a mapping of class name to "
            f"weight. Received: {weights!r}.{nearest(weights, WORDS)}"
        )
    if isinstance(weights, Mapping) and not all(map(_is_weight, weights.values())):
        raise UserError(
            "task.class_weight must hold a number from 0 on for each class. "
            f"Received: {dict(weights)}."
        )


def weights_by_name(weights: Mapping[str, float] | None, labels: Labels) -> np.ndarray:
    """Return the weight of each class in the order of the labels, 1 where none is given.

    Raises:
        UserError: If there is no such class.
    """
    # YAML reads the class names 0, 1, 2 as numbers.
    given = {str(name): float(weight) for name, weight in (weights or {}).items()}
    problems = [
        f"task.class_weight names a class that the data does not have. Received: {name!r}. "
        f"Allowed: {', '.join(labels.names)}.{nearest(name, labels.names)}"
        for name in given
        if name not in labels.names
    ]
    if problems:
        raise UserError(problems=problems)
    return np.array([given.get(name, 1.0) for name in labels.names])


def _is_weight(value: Any) -> bool:
    return is_number(value) and 0 <= value < float("inf")


def effective(counts: np.ndarray) -> np.ndarray:
    """Return the effective number of so many examples.

    `(1 - b**n) / (1 - b)` of Cui et al., "Class-Balanced Loss Based on Effective Number of
    Samples", 2019, <https://arxiv.org/abs/1901.05555>, with `b` = 0.999: nearly `n` for few
    examples, and 1,000 at most.

    Example:
        >>> effective(np.array([10, 1_000, 100_000])).round().tolist()
        [10.0, 632.0, 1000.0]
    """
    return (1.0 - BETA ** np.asarray(counts, np.float64)) / (1.0 - BETA)


def of_classes(rule: str, counts: np.ndarray) -> np.ndarray:
    """Return the weight of each class where an example has one, 1 on average over the examples.

    Args:
        rule: `"balanced"` weighs in proportion to one by the number of examples; `"auto"` to one by
            their effective number, and only where these differ by more than a half.
        counts: How many training examples each class has.

    Returns:
        `float64[classes]`; 1 for classes without examples.

    Example:
        >>> of_classes("balanced", np.array([30, 10])).round(2).tolist()
        [0.67, 2.0]
        >>> of_classes("auto", np.array([3000, 1000])).round(2).tolist()
        [0.89, 1.34]
        >>> of_classes("auto", np.array([5000, 2000])).tolist()
        [1.0, 1.0]
    """
    there = counts > 0
    weights = np.ones(len(counts))
    if not there.any():
        return weights
    if rule == "balanced":
        weights[there] = counts.sum() / (there.sum() * counts[there])
        return weights
    numbers = effective(counts[there])
    if numbers.max() > EVEN * numbers.min():
        weights[there] = 1.0 / numbers
        weights[there] *= counts.sum() / (weights[there] * counts[there]).sum()
    return weights


def of_labels(rule: str, counts: np.ndarray, examples: int) -> np.ndarray:
    """Return what each of several labels counts where it is there, and where it is not.

    Each label is weighed by itself, as two classes are by `of_classes`. A label that all examples
    have, or none, counts 1.

    Args:
        rule: See `of_classes`.
        counts: How many training examples have each label.
        examples: How many there are.

    Returns:
        `float64[2, labels]`.

    Example:
        >>> of_labels("balanced", np.array([10, 0]), 40).round(2).tolist()
        [[2.0, 1.0], [0.67, 1.0]]
    """
    both = np.stack([counts, examples - counts])
    found = [
        of_classes(rule, one) if (one > 0).all() else np.ones(2) for one in both.T
    ]
    return np.array(found).T.reshape(2, -1)


def described(task: Task, labels: Labels) -> str:
    """Say what `class_weight=auto` came to, or nothing where a task has no such setting.

    Args:
        task: The task, adapted to the training split.
        labels: What the labels mean.
    """
    if not isinstance(task, Weighted) or task.class_weight != "auto":
        return ""
    found = np.atleast_2d(task.weights(labels))
    # Tagging weighs what is outside of all entities, too.
    names = labels.names if found.shape[1] == len(labels.names) else ("O", *labels.names)
    heavy = found[0] / (found[1] if len(found) > 1 else 1.0)
    if np.ptp(found) == 0:
        return (
            "task.class_weight=auto: all count alike, for the effective numbers of examples differ "
            f"by a factor of {EVEN} at most"
        )
    order = np.argsort(heavy, kind="stable")
    if len(order) > MOST:
        order = np.concatenate([order[: MOST // 2], order[-MOST // 2 :]])
    shown = ", ".join(
        f"{names[i]} " + " / ".join(f"{weight:.3g}" for weight in found[:, i])
        for i in order
    )
    of = f" (of {len(heavy)})" if len(order) < len(heavy) else ""
    kind = "weights with / without the label" if len(found) > 1 else "weights"
    return f"task.class_weight=auto: {kind}: {shown}{of}"
