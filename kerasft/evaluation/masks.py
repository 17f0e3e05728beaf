"""What masks are worth against the true ones: sums over pixels, and figures of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.spec import IGNORED

if TYPE_CHECKING:
    import tensorflow as tf

# How far apart borders may lie, in parts of an image's diagonal: as Csurka et al., "What is a good
# evaluation measure for semantic segmentation?", 2013, have it.
NEAR = 0.0075
# The columns of what is counted of borders.
BORDERS = ("predicted_near", "predicted", "true_near", "true")


def confusion(true: tf.Tensor, predicted: tf.Tensor, classes: int) -> Any:
    """Count the pixels of each true class that are taken for each class.

    Args:
        true: `uint8[rows, columns]`, `IGNORED` where nothing is counted.
        predicted: The same.
        classes: How many there are.

    Returns:
        `float32[classes, classes]`, a row for each true class.
    """
    import tensorflow as tf

    counted = true != IGNORED
    pair = tf.cast(true, tf.int32) * classes + tf.cast(predicted, tf.int32)
    found = tf.math.bincount(
        tf.boolean_mask(pair, counted), minlength=classes**2, maxlength=classes**2
    )
    return tf.cast(tf.reshape(found, [classes, classes]), tf.float32)


def borders_near(true: tf.Tensor, predicted: tf.Tensor, classes: int) -> Any:
    """Count the border pixels of each class that lie near to one of the same class.

    A pixel is on a border where one of the four beside it is of another class. Borders that differ
    by at most `NEAR` of the diagonal are one and the same.

    Args:
        true: `uint8[rows, columns]`, `IGNORED` where nothing is counted.
        predicted: The same.
        classes: How many there are.

    Returns:
        `float32[classes, 4]`, the columns `BORDERS`.
    """
    import tensorflow as tf

    predicted = tf.where(true == IGNORED, true, predicted)
    one, other = _borders(predicted), _borders(true)
    sides = tf.cast(tf.shape(true), tf.float32)
    far = tf.maximum(tf.norm(sides) * NEAR, 1.0)
    counts = [*_near(one, other, far, classes), *_near(other, one, far, classes)]
    return tf.stack(counts, axis=1)


def _borders(mask: tf.Tensor) -> Any:
    """Return the class of pixels at a border, and -1 of all others, `int32[rows, columns]`."""
    import tensorflow as tf

    mask = tf.cast(mask, tf.int32)
    around = tf.pad(mask, [[1, 1], [1, 1]], mode="SYMMETRIC")
    beside = [around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]]
    other = [(one != mask) & (one != IGNORED) for one in beside]
    border = (other[0] | other[1] | other[2] | other[3]) & (mask != IGNORED)
    return tf.where(border, mask, -1)


def _near(one: tf.Tensor, other: tf.Tensor, far: tf.Tensor, classes: int) -> tuple[Any, Any]:
    """Return how many border pixels of each class have one of the other mask near, and how many
    there are.
    """
    import tensorflow as tf

    reach = tf.cast(tf.floor(far), tf.int32)
    wide = tf.pad(other, [[reach, reach], [reach, reach]], constant_values=-1)
    step = tf.shape(wide)[1]
    flat = tf.reshape(wide, [-1])
    places = tf.cast(tf.where(one >= 0), tf.int32)
    units = tf.gather_nd(one, places)
    home = (places[:, 0] + reach) * step + places[:, 1] + reach
    around = tf.range(-reach, reach + 1)
    apart = around[:, None] ** 2 + around[None] ** 2
    inside = tf.cast(tf.where(tf.cast(apart, tf.float32) <= far**2), tf.int32) - reach
    moves = inside[:, 0] * step + inside[:, 1]

    # One shift of all border pixels at a time: their number is small, that of shifts is, too.
    def shifted(i: tf.Tensor, hit: tf.Tensor) -> tuple[Any, Any]:
        return i + 1, hit | (tf.gather(flat, home + moves[i]) == units)

    _, hit = tf.while_loop(
        lambda i, _: i < tf.size(moves), shifted, (0, tf.zeros_like(units, tf.bool))
    )
    near = tf.math.unsorted_segment_sum(tf.cast(hit, tf.float32), units, classes)
    return near, tf.math.unsorted_segment_sum(tf.ones_like(hit, tf.float32), units, classes)


def of_confusion(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return figures by class, NaN for a class that neither is there nor was predicted.

    Args:
        counts: `[classes, classes]`, see `confusion`, summed over images.

    Returns:
        `iou`, `dice`, `precision` and `recall`, each `float64[classes]`.

    Example:
        >>> of_confusion(np.array([[2, 1], [0, 1]]))["iou"].round(3).tolist()
        [0.667, 0.5]
    """
    counts = np.asarray(counts, "float64")
    hit, true, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "iou": hit / (true + predicted - hit), "dice": 2 * hit / (true + predicted),
            "precision": hit / predicted, "recall": hit / true,
        }  # fmt: skip


def of_borders(counts: np.ndarray) -> np.ndarray:
    """Return the F1 of each class's borders, NaN where there are none.

    Args:
        counts: `[classes, 4]`, see `borders_near`, summed over images.
    """
    predicted_near, predicted, true_near, true = np.asarray(counts, "float64").T
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(predicted > 0, predicted_near / predicted, 0.0)
        recall = np.where(true > 0, true_near / true, 0.0)
        f1 = 2 * precision * recall / (precision + recall)
    return np.where(predicted + true > 0, np.nan_to_num(f1), np.nan)


def mean(values: np.ndarray) -> float:
    """Return the mean over the classes that have a value; NaN where none has.

    Example:
        >>> mean(np.array([0.5, np.nan, 1.0]))
        0.75
    """
    real = values[np.isfinite(values)]
    return float(real.mean()) if len(real) else float("nan")


def summary(
    pixels: np.ndarray, borders: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of masks.

    Args:
        pixels: `[classes, classes]`, see `confusion`, summed over images.
        borders: `[classes, 4]`, see `borders_near`, summed over images.
        names: The classes.

    Returns:
        `mean_iou`, `mean_dice` and `boundary_f1`, averaged over the classes that are there or were
        predicted; `pixel_accuracy`; `per_class`: class name to `iou`, `dice`, `precision`,
        `recall`, `boundary_f1` and the share of the true `pixels`; and `confusion_matrix`, in
        pixels. What the masks cannot tell is left out.
    """
    by_class = {**of_confusion(pixels), "boundary_f1": of_borders(borders)}
    whole = float(pixels.sum())
    made = {
        "mean_iou": mean(by_class["iou"]), "mean_dice": mean(by_class["dice"]),
        "boundary_f1": mean(by_class["boundary_f1"]),
        "pixel_accuracy": float(np.trace(pixels)) / whole if whole else float("nan"),
    }  # fmt: skip
    return {
        **{name: value for name, value in made.items() if np.isfinite(value)},
        "per_class": {
            name: {
                **{key: float(values[i]) for key, values in by_class.items()
                   if np.isfinite(values[i])},
                "pixels": float(pixels[i].sum()) / whole if whole else 0.0,
            }
            for i, name in enumerate(names)
        },
        "confusion_matrix": pixels.astype("int64").tolist(),
    }  # fmt: skip
