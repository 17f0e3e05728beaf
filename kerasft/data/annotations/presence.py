"""Which classes each example has: its class, several, those of its boxes, mask or entities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerasft.data.annotations.cover import NAMED
from kerasft.rows import Rows
from kerasft.spec import Labels


@dataclass(frozen=True)
class Presence:
    """Which classes each example has, as pairs.

    Args:
        rows: `int64[M]`, the example of each pair.
        classes: `int64[M]`, its class. No pair comes twice.
        examples: How many examples there are.
        names: The classes.
    """

    rows: np.ndarray
    classes: np.ndarray
    examples: int
    names: tuple[str, ...]

    def counts(self) -> np.ndarray:
        """Return how many examples have each class, `int64[classes]`."""
        return np.bincount(self.classes, minlength=len(self.names))

    def without(self) -> np.ndarray:
        """Return the examples that have no class at all, `int64[K]`."""
        return np.setdiff1d(np.arange(self.examples), self.rows)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return how many of some draws have each class, `int64[classes]`.

        Args:
            numbers: The examples drawn, some several times.
        """
        times = np.bincount(numbers, minlength=self.examples)
        return np.bincount(
            self.classes, weights=times[self.rows], minlength=len(self.names)
        ).astype("int64")


def has_classes(kind: str) -> bool:
    """Whether labels of a kind are classes: one, several, of boxes, pixels or entities.

    Example:
        >>> has_classes("multi"), has_classes("number")
        (True, False)
    """
    return kind in NAMED


def presence(annotations: Rows, labels: Labels) -> Presence | None:
    """Return which classes each example has, or `None` where labels are no classes.

    Args:
        annotations: The raw labels, see `Examples.annotations`.
        labels: What they mean.

    Example:
        >>> rows = Rows.of({"label": np.array([[1.0, 1.0], [0.0, 0.0]], "float32")})
        >>> found = presence(rows, Labels("multi", ("joy", "fear")))
        >>> found.counts().tolist(), found.without().tolist()
        ([1, 1], [1])
    """
    if not has_classes(labels.kind):
        return None
    count = len(annotations)
    if labels.kind == "single":
        rows, classes = np.arange(count), np.asarray(annotations["label"], "int64")
    elif labels.kind in ("boxes", "spans"):
        rows, classes = _of_objects(annotations)
    else:
        column = "pixels" if labels.kind == "masks" else "label"
        rows, classes = np.nonzero(np.asarray(annotations[column]) > 0)
    return Presence(rows, classes, count, labels.names)


def _of_objects(annotations: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of the boxes of each image, but of those that are ignored; of entities."""
    found = set()
    for row in range(len(annotations)):
        one = annotations.row(row)
        left_out = one.get("ignored", np.zeros(len(one["labels"]), bool))
        found |= {(row, int(unit)) for unit in one["labels"][~left_out]}
    pairs = np.array(sorted(found), "int64").reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
