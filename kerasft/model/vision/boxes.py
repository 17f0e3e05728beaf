"""Boxes in the graph: overlaps, and the choice of those that are answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

# What an overlap is divided by at least.
_LEAST = 1e-6


def area(boxes: tf.Tensor) -> Any:
    """Return the area of boxes, `[..., 4]`."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def shared(one: tf.Tensor, other: tf.Tensor) -> Any:
    """Return the area that boxes have in common, one by one."""
    import tensorflow as tf

    low = tf.maximum(one[..., :2], other[..., :2])
    high = tf.minimum(one[..., 2:], other[..., 2:])
    sides = tf.maximum(high - low, 0.0)
    return sides[..., 0] * sides[..., 1]


def overlaps(one: tf.Tensor, other: tf.Tensor) -> Any:
    """Return the intersection over union of each box with each other.

    Args:
        one: `float32[batch, G, 4]`, left, top, right and bottom.
        other: `float32[batch, P, 4]`.

    Returns:
        `float32[batch, G, P]`.
    """
    return overlap(one[:, :, None], other[:, None])


def overlap(one: tf.Tensor, other: tf.Tensor) -> Any:
    """Return the intersection over union of boxes, one by one."""
    import tensorflow as tf

    both = shared(one, other)
    return both / tf.maximum(area(one) + area(other) - both, _LEAST)


def generalized_overlap(one: tf.Tensor, other: tf.Tensor) -> Any:
    """Return the generalized intersection over union of boxes, one by one, from -1 to 1.

    Rezatofighi et al., "Generalized Intersection over Union", 2019: of boxes apart it says how far.
    """
    import tensorflow as tf

    both = shared(one, other)
    union = area(one) + area(other) - both
    low = tf.minimum(one[..., :2], other[..., :2])
    high = tf.maximum(one[..., 2:], other[..., 2:])
    around = (high - low)[..., 0] * (high - low)[..., 1]
    return both / tf.maximum(union, _LEAST) - (around - union) / tf.maximum(around, _LEAST)


def encoded(boxes: tf.Tensor, anchors: tf.Tensor) -> Any:
    """Return where boxes lie, seen from anchors, one by one: what `Anchors` makes boxes of."""
    import tensorflow as tf

    sides = anchors[..., 2:] - anchors[..., :2]
    moved = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2
    larger = tf.maximum(boxes[..., 2:] - boxes[..., :2], _LEAST) / sides
    return tf.concat([moved / sides, tf.math.log(larger)], axis=-1)


def detected(
    boxes: tf.Tensor, probabilities: tf.Tensor, *, least: float | Sequence[float], overlap: float,
    most: int,
) -> tuple[Any, Any, Any, Any]:
    """Choose the boxes that are answered: the likeliest of those that cover the same thing.

    Args:
        boxes: `float32[batch, places, 4]`, left, top, right and bottom.
        probabilities: `float32[batch, places, classes]`.
        least: The probability from which on a box is answered, for all classes or each.
        overlap: Of two boxes of a class that overlap by more than this, the likelier one stays.
        most: The most boxes of an image.

    Returns:
        `boxes` `[batch, most, 4]`, scores and classes `[batch, most]`, and how many there are,
        `[batch]`; the likeliest first, then zeros.
    """
    import tensorflow as tf

    # The op takes one bound for all classes: what does not reach its own is out.
    least = tf.convert_to_tensor(least, tf.float32)
    probabilities = tf.where(probabilities >= least, probabilities, 0.0)
    found = tf.image.combined_non_max_suppression(
        tf.gather(boxes, [1, 0, 3, 2], axis=-1)[:, :, None], probabilities, most, most, overlap,
        # Strictly above: a box at the bound itself would be lost.
        tf.reduce_min(least) - 1e-7, clip_boxes=False,
    )
    boxes = tf.gather(found.nmsed_boxes, [1, 0, 3, 2], axis=-1)
    classes = tf.cast(found.nmsed_classes, tf.int32)
    return boxes, found.nmsed_scores, classes, found.valid_detections
