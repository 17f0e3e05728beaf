"""The embedded set: scikit-learn's handwritten digits, with few labels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasft.data.collection import Collection, to_splits
from kerasft.data.looks import LABELS, Look
from kerasft.data.splits import position
from kerasft.errors import UserError
from kerasft.spec import Splits

# How often the rarest digit comes.
MOST_PER_CLASS = 174


def look(settings: Mapping[str, Any]) -> Look:
    """Say what the digits are; they come with scikit-learn."""
    return Look("images", ("data: the digits of scikit-learn",), kinds=LABELS)


def digits(
    *, kind: str, seed: int, train_per_class: int = 5, validation_per_class: int = 20,
    test_per_class: int | None = None,
) -> Splits:  # fmt: skip
    """Load 1,797 real handwritten digits of 8 x 8 pixels, with labels as few as a task has them.

    Args:
        kind: `"single"`, `"multi"`, `"number"` or `"numbers"`.
        seed: Another seed, other examples to train on.
        train_per_class: Labelled examples of each digit to train on.
        validation_per_class: Examples of each digit to validate on.
        test_per_class: Examples of each digit to test on; `None` means all others.

    Returns:
        `Splits` of PNG bytes with the labels `"0"` to `"9"`.

    Raises:
        UserError: If there are not so many of each digit, or none are left for the test.

    Example:

    >>> len(digits(kind="single", seed=0).train)
    50
    """
    from sklearn.datasets import load_digits

    asked = {"train_per_class": train_per_class, "validation_per_class": validation_per_class}
    if test_per_class is not None:
        asked["test_per_class"] = test_per_class
    for name, count in asked.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UserError(
                f"data.{name} must be a whole number of examples, 1 or more. Received: {count!r}."
            )
    tested = 1 if test_per_class is None else test_per_class
    if train_per_class + validation_per_class + tested > MOST_PER_CLASS:
        raise UserError(
            f"There are only {MOST_PER_CLASS} examples of some digits, for training, validation "
            "and test together, and the test needs one of each at least. Received: "
            f"{', '.join(f'data.{name}={count}' for name, count in asked.items())}."
        )
    data: Any = load_digits()
    ids = [f"digits/{i:05d}" for i in range(len(data.target))]
    brought = np.full(len(ids), None, dtype=object)
    for digit in range(10):
        members = np.flatnonzero(data.target == digit)
        ordered = sorted(members, key=lambda i: position(ids[i], seed))
        learned, known = train_per_class, train_per_class + validation_per_class
        brought[ordered[known:][:test_per_class]] = "test"
        brought[ordered[:known]] = "validation"
        brought[ordered[:learned]] = "train"
    taken = np.flatnonzero(brought.astype(bool))
    found = Collection(
        "images",
        [_png(data.images[i]) for i in taken],
        [str(data.target[i]) for i in taken],
        [ids[i] for i in taken],
        list(brought[taken]),
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
