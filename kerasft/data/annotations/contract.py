"""What the labels of a source must be, kind by kind; checks for `kerasft.testing`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasft.data.annotations.cover import CLASSES, NAMED
from kerasft.spec import IGNORED, Examples, Labels


def check_names(labels: Labels) -> None:
    """Check the names of classes."""
    if labels.kind in NAMED:
        assert len(set(labels.names)) == len(labels.names) > 0, "Class names must differ."


def check_labels(name: str, part: Examples, labels: Labels) -> None:
    """Check the labels of a split; of kinds that kerasft does not know, only that they are there.

    Args:
        name: The split.
        part: Its examples.
        labels: What their labels mean.
    """
    count = len(labels.names)
    shapes = {
        "single": (len(part),), "multi": (len(part), count), "number": (len(part),),
        "numbers": (len(part), count),
    }  # fmt: skip
    if labels.kind == "boxes":
        for i in range(len(part)):
            _check_boxes(f"{name} {part.ids[i]}", part.annotations.row(i), count)
    if labels.kind == "masks":
        for i in range(len(part)):
            _check_mask(f"{name} {part.ids[i]}", part.annotations.row(i), count)
    if labels.kind == "spans":
        for i in range(len(part)):
            _check_spans(f"{name} {part.ids[i]}", part.inputs[i], part.annotations.row(i), count)
    if labels.kind not in shapes:
        assert len(part.annotations.columns), f"{name} must have annotations."
        return
    found = np.asarray(part.labels)
    if labels.kind == "single":
        assert found.dtype == np.int64, f"Labels of {name} must be int64, not {found.dtype}."
        assert found.min() >= 0 and found.max() < count, f"{name} has labels without a name."
        return
    kinds = ("float32",) if labels.kind == "multi" else ("float32", "float64")
    assert found.dtype in kinds, f"Labels of {name} must be {' or '.join(kinds)}."
    shape = shapes[labels.kind]
    assert found.shape == shape, f"Labels of {name} must have the shape {shape}."
    assert np.isfinite(found).all(), f"Labels of {name} must be finite."
    if labels.kind == "multi":
        assert set(np.unique(found)) <= {0.0, 1.0}, f"Labels of {name} must be 0 or 1."


def _check_boxes(name: str, row: Mapping[str, np.ndarray], count: int) -> None:
    """Check the boxes of an image."""
    boxes, (rows, columns) = row["boxes"], row["size"]
    assert boxes.dtype == np.float32 and boxes.shape[1:] == (4,), f"{name}: boxes: float32[., 4]."
    assert row["ignored"].dtype == bool, f"{name}: ignored must be bool."
    assert ((row["labels"] >= 0) & (row["labels"] < count)).all(), f"{name}: labels without a name."
    assert (boxes[:, 2:] > boxes[:, :2]).all(), f"{name}: boxes without width or height."
    inside = (boxes >= 0) & (boxes <= np.array([columns, rows, columns, rows]))
    assert inside.all(), f"{name}: boxes outside of the image."


def _check_mask(name: str, row: Mapping[str, Any], count: int) -> None:
    """Check the mask of an image."""
    from PIL import Image

    with Image.open(io.BytesIO(row["mask"])) as image:
        assert image.mode == "L", f"{name}: a mask must be a grey PNG."
        found = np.asarray(image)
    assert found.shape == tuple(row["size"]), f"{name}: a mask must have the size of its image."
    real = found[found != IGNORED]
    assert real.max(initial=0) < count, f"{name}: pixels without a class."
    counted = np.bincount(real, minlength=count)
    assert (counted == row["pixels"]).all(), f"{name}: pixels must count those of each class."


def _check_spans(name: str, text: str, row: Mapping[str, Any], count: int) -> None:
    """Check the entities of a text."""
    assert bytes(row["text"]).decode() == text, f"{name}: text must be the input, as UTF-8."
    assert ((row["labels"] >= 0) & (row["labels"] < count)).all(), f"{name}: labels without a name."
    starts, ends = row["span_starts"], row["span_ends"]
    assert (ends > starts).all(), f"{name}: entities without a character."
    assert (starts[1:] >= ends[:-1]).all(), f"{name}: entities that overlap."
    inside = (starts >= 0) & (ends <= len(text))
    assert inside.all(), f"{name}: entities outside of the text."


def made_up(labels: Labels, count: int = 12) -> np.ndarray:
    """Return labels of any of the known kinds, the same each time."""
    classes = max(len(labels.names), 1)
    if labels.kind == "single":
        return np.arange(count) % classes
    rows = np.random.default_rng(0).random((count, classes)).round().astype("float32")
    if labels.kind == "multi":
        return rows
    rows += np.arange(count, dtype="float32")[:, None]
    return rows[:, 0] if labels.kind == "number" else rows


def as_logits(targets: np.ndarray, labels: Labels) -> np.ndarray:
    """Return what a network would put out that has learned its targets."""
    return (targets - 0.5) * 20 if labels.kind in CLASSES else targets
