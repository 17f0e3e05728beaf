"""What is wrong with boxes that were answered, and which objects were missed.

The kinds are those of Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
Errors", 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.evaluation.boxes import overlaps

# Of answered boxes, all but the last one; `missed` is counted of objects, by their class.
KINDS = ("right", "place", "class", "both", "twice", "background", "missed")
# The overlap from which on a box is right, and that from which on it means an object at all.
RIGHT, NEAR = 0.5, 0.1


def kinds(
    found: Sequence[Mapping[str, np.ndarray]], true: Sequence[Mapping[str, np.ndarray]],
    classes: int, least: np.ndarray,
) -> np.ndarray:
    """Count the kinds of boxes in each image.

    Args:
        found: For each image `boxes`, `scores` and `classes`.
        true: For each image `boxes`, `labels` and `ignored`.
        classes: How many classes there are.
        least: The score of each class from which on a box is answered.

    Returns:
        `int32[N, classes, kinds]`, in the order of `KINDS`.
    """
    made = np.zeros((len(true), classes, len(KINDS)), "int32")
    for i, (one, truth) in enumerate(zip(found, true, strict=True)):
        for kind, unit in of_image(one, truth, least):
            made[i, unit, KINDS.index(kind)] += 1
    return made


def of_image(
    found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], least: np.ndarray
) -> list[tuple[str, int]]:
    """Return the kind and the class of each answered box of an image, and of each missed object.

    Boxes in ignored regions are left out.
    """
    made = []
    scores, units = np.asarray(found["scores"]), np.asarray(found["classes"], "int64")
    rows = np.flatnonzero(scores >= least[units])
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    labels, ignored = np.asarray(truth["labels"]), np.asarray(truth["ignored"], bool)
    shares = overlaps(
        np.asarray(found["boxes"], "float64").reshape(-1, 4)[rows],
        np.asarray(truth["boxes"], "float64").reshape(-1, 4),
    )
    free = ~ignored
    for d, row in enumerate(rows):
        unit = int(units[row])
        mine = np.where((labels == unit) & ~ignored, shares[d], 0.0)
        others = np.where((labels != unit) & ~ignored, shares[d], 0.0)
        open_ = np.where(free, mine, 0.0)
        if open_.max(initial=0) >= RIGHT:
            free[open_.argmax()] = False
            made.append(("right", unit))
        elif np.where(ignored, shares[d], 0.0).max(initial=0) >= NEAR:
            continue
        elif mine.max(initial=0) >= RIGHT:
            made.append(("twice", unit))
        elif others.max(initial=0) >= RIGHT:
            made.append(("class", unit))
        elif mine.max(initial=0) >= NEAR:
            made.append(("place", unit))
        elif others.max(initial=0) >= NEAR:
            made.append(("both", unit))
        else:
            made.append(("background", unit))
    return [*made, *(("missed", int(unit)) for unit in labels[free])]


def unannotated(
    objects: Sequence[Mapping[str, Any]], true: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the answered objects of an image at whose place no annotation is, of any class.

    What the network is sure of and nobody has drawn is wrong, or was forgotten.

    Args:
        objects: What was answered, with a `box` each.
        true: What is annotated, with a `box` each; ignored regions among it.

    Example:
        >>> sure = {"label": "cat", "score": 0.9, "box": [0.0, 0.0, 9.0, 9.0]}
        >>> unannotated([sure], []) == [sure], unannotated([sure], [{"box": [1, 1, 9, 9]}])
        (True, [])
    """
    boxes, there = (
        np.array([one["box"] for one in part], "float64").reshape(-1, 4) for part in (objects, true)
    )
    near = overlaps(boxes, there).max(axis=1, initial=0.0) >= NEAR
    return [one for one, known in zip(objects, near, strict=True) if not known]


def named(counts: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return counts `[classes, kinds]` by name."""
    return {
        name: dict(zip(KINDS, map(int, row), strict=True))
        for name, row in zip(names, counts, strict=True)
    }
