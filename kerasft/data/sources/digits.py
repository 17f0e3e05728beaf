"""The embedded set: scikit-learn's handwritten digits, with few labels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasft.data.collection import Collection, to_splits
from kerasft.data.looks import Look
from kerasft.data.splits import position
from kerasft.errors import UserError
from kerasft.spec import Splits

# The rarest digit comes 174 times; one of each must be left for the test.
MOST_PER_CLASS = 173


def look(settings: Mapping[str, Any]) -> Look:
    """Say what the digits are; they come with scikit-learn."""
    return Look("images", ("data: the digits of scikit-learn",))


def digits(
    *, kind: str, seed: int, train_per_class: int = 5, validation_per_class: int = 20
) -> Splits:
    """Load 1,797 real handwritten digits of 8 x 8 pixels, with labels as few as a task has them.

    Args:
        kind: `"single"`, `"multi"`, `"number"` or `"numbers"`.
        seed: Another seed, other examples to train on.
        train_per_class: Labelled examples of each digit to train on.
        validation_per_class: Examples of each digit to validate on. All others are the test.

    Returns:
        `Splits` of PNG bytes with the labels `"0"` to `"9"`.

    Raises:
        UserError: If the two numbers leave no test.

    Example:

    >>> len(digits(kind="single", seed=0).train)
    50
    """
    from sklearn.datasets import load_digits

    asked = {"train_per_class": train_per_class, "validation_per_class": validation_per_class}
    for name, count in asked.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UserError(
                f"data.{name} must be a whole number of examples, 1 or more. Received: {count!r}."
            )
    if train_per_class + validation_per_class > MOST_PER_CLASS:
        raise UserError(
            "data.train_per_class and data.validation_per_class together must be at most "
            f"{MOST_PER_CLASS}, so that some of each digit are left for the test. Received: "
            f"{train_per_class} and {validation_per_class}."
        )
    data: Any = load_digits()
    ids = [f"digits/{i:05d}" for i in range(len(data.target))]
    brought = np.full(len(ids), "test", dtype=object)
    for digit in range(10):
        members = np.flatnonzero(data.target == digit)
        ordered = sorted(members, key=lambda i: position(ids[i], seed))
        brought[ordered[: train_per_class + validation_per_class]] = "validation"
        brought[ordered[:train_per_class]] = "train"
    found = Collection(
        "images",
        [_png(image) for image in data.images],
        [str(digit) for digit in data.target],
        ids,
        list(brought),
    )
    return to_splits(
        found, kind=kind, seed=seed, label_key="the digits", source={"source": "digits", **asked}
    )


def _png(image: np.ndarray) -> bytes:
    """Return grey values of 0 to 16 as an image of 0 to 255."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.round(image * (255 / 16)).astype("uint8")).save(file, "PNG")
    return file.getvalue()
