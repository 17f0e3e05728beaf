"""Checks that boxes and masks go where an augmentation takes the pixels; for `kerasft.testing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.data.augment import augmenter
from kerasft.spec import IGNORED

if TYPE_CHECKING:
    import keras

# Not square, since a width taken for a height shows only then.
SIZE = (96, 160)
COUNT = 24


def boxes_follow_pixels(
    step: keras.Layer | Callable[[dict[str, Any]], Any], *, least: float = 0.93, seed: int = 0
) -> None:
    """Check that a step of augmentation moves boxes as it moves the pixels.

    Images with one bright rectangle go through the step, in a graph and one by one as in
    training. The box that comes back must be the one around the pixels that are bright.

    Args:
        step: A Keras layer, or any callable on a batch with Keras' keys.
        least: The overlap (intersection over union) that is demanded, on average.
        seed: Of the random numbers.

    Raises:
        AssertionError: If boxes do not follow.
        UserError: If the step is one that is known not to move them.

    Example:
        >>> from kerasft.data.affine import RandomAffine
        >>> boxes_follow_pixels(RandomAffine(flip="both", scale=(0.8, 1.2)))
    """
    drawn, _, boxes = _rectangles(seed)
    images, targets = _applied(step, drawn, {
        "boxes": boxes, "labels": np.zeros((COUNT, 1), "int32"),
    }, seed)  # fmt: skip
    shares = []
    for image, box, label in zip(images, targets["boxes"], targets["labels"], strict=True):
        around = _around(_bright(image))
        if label[0] >= 0 and around is not None:
            shares.append(_overlap(box[0], around))
    assert len(shares) > COUNT / 4, "The step leaves too few boxes to be checked."
    assert np.mean(shares) >= least, (
        f"Boxes do not follow the pixels: they overlap by {np.mean(shares):.2f} on average, "
        f"{min(shares):.2f} at worst, and {least} is demanded."
    )


def masks_follow_pixels(
    step: keras.Layer | Callable[[dict[str, Any]], Any], *, least: float = 0.93, seed: int = 0
) -> None:
    """Check that a step of augmentation moves masks as it moves the pixels, and keeps them whole.

    Args:
        step: A Keras layer, or any callable on a batch with Keras' keys.
        least: The overlap (intersection over union) that is demanded, on average.
        seed: Of the random numbers.

    Raises:
        AssertionError: If masks do not follow, or hold what is no class.
        UserError: If the step is one that is known not to move them.

    Example:
        >>> from kerasft.data.affine import RandomAffine
        >>> masks_follow_pixels(RandomAffine(flip="both", scale=(0.8, 1.2)))
    """
    drawn, masks, _ = _rectangles(seed)
    # A class beyond 1 shows blended borders, which would be 1.
    images, targets = _applied(step, drawn, {"segmentation_masks": 2 * masks[..., None]}, seed)
    found = targets["segmentation_masks"]
    assert set(np.unique(found)) <= {0, 2, IGNORED}, (
        "The step makes classes that were not in the mask."
    )
    shares = []
    for image, mask in zip(images, found[..., 0], strict=True):
        bright = _bright(image) & (mask != IGNORED)
        mask = np.where(mask == IGNORED, 0, mask)
        if bright.sum() > 50:
            shares.append((bright & (mask > 0)).sum() / (bright | (mask > 0)).sum())
    assert len(shares) > COUNT / 4, "The step leaves too few pixels to be checked."
    assert np.mean(shares) >= least, (
        f"Masks do not follow the pixels: they overlap by {np.mean(shares):.2f} on average, "
        f"{min(shares):.2f} at worst, and {least} is demanded."
    )


def _rectangles(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images of a bright rectangle each, its mask, and its box."""
    random = np.random.default_rng(seed)
    drawn = np.full((COUNT, *SIZE, 3), 60, "uint8")
    masks = np.zeros((COUNT, *SIZE), "uint8")
    boxes = np.zeros((COUNT, 1, 4), "float32")
    for i in range(COUNT):
        height, width = random.integers(20, 36, 2)
        top = random.integers(20, SIZE[0] - height - 20)
        left = random.integers(30, SIZE[1] - width - 30)
        drawn[i, top : top + height, left : left + width] = 200
        masks[i, top : top + height, left : left + width] = 1
        boxes[i, 0] = left, top, left + width, top + height
    return drawn, masks, boxes


def _applied(
    step: keras.Layer | Callable[[dict[str, Any]], Any], drawn: np.ndarray,
    targets: dict[str, np.ndarray], seed: int,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    import tensorflow as tf

    apply = augmenter({"step": step}, seed=seed, size=SIZE, moving=tuple(targets))
    assert apply is not None
    call = tf.function(apply, autograph=False)
    images, moved = call(
        {"images": tf.constant(drawn)}, {n: tf.constant(v) for n, v in targets.items()},
        tf.constant(1, tf.int64), tf.range(len(drawn), dtype=tf.int64),
    )
    return images["images"].numpy(), {name: value.numpy() for name, value in moved.items()}


def _bright(image: np.ndarray) -> np.ndarray:
    """Tell the pixels of the rectangle, however much lighter or darker all have become."""
    grey = image.astype("float32").mean(axis=-1)
    # Filled-in pixels are as dark as the ground, or darker.
    low = np.median(grey)
    return grey > (low + grey.max()) / 2 if grey.max() > low + 20 else np.zeros(grey.shape, bool)


def _around(bright: np.ndarray) -> np.ndarray | None:
    if not bright.any():
        return None
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], "float64")


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = np.prod(np.maximum(high - low, 0))
    areas = [np.prod(box[2:] - box[:2]) for box in (one, other)]
    return float(both / (sum(areas) - both))
