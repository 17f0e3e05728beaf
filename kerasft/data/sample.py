"""A part of a split that stands for the whole."""

from __future__ import annotations

import numpy as np


def sample(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return which examples are drawn, each class as often as its share says, and at least once.

    Args:
        labels: What is learned of each example, `[N, ...]`; whole numbers in one column are
            classes.
        size: How many are wanted; with rare classes it may be a few more.
        seed: Of the random numbers.

    Returns:
        `int64[size]`, in order; all of them where there are no more.

    Example:
        >>> labels = np.array([0] * 90 + [1] * 10)
        >>> drawn = sample(labels, 20, seed=0)
        >>> np.bincount(labels[drawn]).tolist()
        [18, 2]
    """
    count = len(labels)
    if count <= size:
        return np.arange(count)
    order = np.random.default_rng(seed).permutation(count)
    flat = np.asarray(labels).reshape(count, -1)
    if flat.shape[1] != 1 or flat.dtype.kind not in "iu":
        return np.sort(order[:size])
    order = order[np.argsort(flat[order, 0], kind="stable")]
    drawn = order[(np.arange(size) * count + count // 2) // size]
    classes, first = np.unique(flat[order, 0], return_index=True)
    rare = first[~np.isin(classes, flat[drawn, 0])]
    return np.sort(np.concatenate([drawn, order[rare]]))
