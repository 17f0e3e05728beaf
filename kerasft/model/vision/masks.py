"""Masks between an image and the network: laid out at its size for learning, and taken back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.raw_input import values_of
from kerasft.spec import IGNORED

if TYPE_CHECKING:
    import tensorflow as tf

# Masks beyond this many bytes are not held in memory.
MEMORY_LIMIT = 2 * 1024**3
# Images whose maps are made at the same time.
_AT_ONCE = 2


def laid_out(masks: Iterable[bytes], frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return masks as the network sees their images.

    A pixel gets the class of the pixel of the original that its centre lies in. What lies outside
    of an image, as where it was padded, is ignored.

    Args:
        masks: A PNG an image.
        frames: `float32[N, 6]`, see `geometry`.
        size: Rows and columns of what the network sees.

    Returns:
        `uint8[N, rows, columns, 1]`.
    """
    shape = (len(frames), *size, 1)
    made: np.ndarray
    if int(np.prod(shape)) <= MEMORY_LIMIT:
        made = np.empty(shape, "uint8")
    else:
        # The file has no name, and is gone with the array, which needs it open no longer.
        with tempfile.TemporaryFile() as file:
            made = np.memmap(file, "uint8", "w+", shape=shape)
    for row, png, frame in zip(made, masks, frames, strict=True):
        row[..., 0] = placed(values_of(png), frame, size)
    return made


def placed(mask: np.ndarray, frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return one mask as the network sees its image, `uint8[rows, columns]`.

    Example:
        >>> frame = np.array([2, 2, 1, 1, 0, 1], "float32")  # a column of padding on each side
        >>> placed(np.array([[1, 2], [3, 4]], "uint8"), frame, (2, 4)).tolist()
        [[255, 1, 2, 255], [255, 3, 4, 255]]
    """
    rows, inside_y = _sources(size[0], mask.shape[0], frame[2], frame[4])
    columns, inside_x = _sources(size[1], mask.shape[1], frame[3], frame[5])
    made = mask[rows[:, None], columns[None]]
    made[~(inside_y[:, None] & inside_x[None])] = IGNORED
    return made


def _sources(count: int, most: int, scale: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixel of the original lies below each of the network's, and whether one does."""
    places = np.floor((np.arange(count) + 0.5 - offset) / scale).astype("int64")
    return places.clip(0, most - 1), (places >= 0) & (places < most)


def class_map(probabilities: tf.Tensor, frame: tf.Tensor) -> Any:
    """Return the likeliest class of each pixel of an original image.

    The probabilities are resampled first, and decided on then: borders come out finer so.

    Args:
        probabilities: `float32[height, width, classes]`, for each pixel that the network sees.
        frame: `float32[6]`, see `geometry`.

    Returns:
        `uint8[rows, columns]`.
    """
    import tensorflow as tf

    scale, offset = frame[2:4], frame[4:6]
    # From the centre of a pixel to places that are counted from centre to centre.
    start = 0.5 * scale + offset - 0.5
    zero = tf.zeros([])
    back = tf.stack([scale[1], zero, start[1], zero, scale[0], start[0], zero, zero])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=probabilities[None], transforms=back[None],
        output_shape=tf.cast(tf.round(frame[:2]), tf.int32), fill_value=zero,
        interpolation="BILINEAR", fill_mode="NEAREST",
    )  # fmt: skip
    return tf.cast(tf.argmax(moved[0], axis=-1), tf.uint8)


def each(function: Callable[[Any], Any], values: Any, signature: Any) -> Any:
    """Return what a function makes of each image of a batch, few at a time: maps are large."""
    import tensorflow as tf

    return tf.map_fn(
        function, values, fn_output_signature=signature,
        parallel_iterations=1 if tf.executing_eagerly() else _AT_ONCE,
    )  # fmt: skip
