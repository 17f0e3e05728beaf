"""Where the pixels of an image come to lie: positions go to the network's pixels, and back.

A frame is six float32 numbers: the rows and columns of the original image, as it is seen; the
scale of rows and of columns; and how many rows and columns the scaled image is moved. A position
becomes `position * scale + offset`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.errors import UserError
from kerasft.model.vision.masks import laid_out
from kerasft.rows import Column, Rows, joined

if TYPE_CHECKING:
    import tensorflow as tf

FRAME = ("rows", "columns", "scale_y", "scale_x", "offset_y", "offset_x")


def fitted(shape: Any, size: tuple[int, int], resize: str) -> tuple[Any, Any]:
    """Return the size that an image is scaled to, and how far it is then moved.

    Args:
        shape: `int32[2]`, rows and columns of the image.
        size: Rows and columns of the result.
        resize: `"crop"`, `"pad"` or `"stretch"`, see `ImagePreprocess`.

    Returns:
        `int32[2]` twice; moved by less than 0 is cut off above or on the left.
    """
    import tensorflow as tf

    if resize == "stretch":
        return tf.constant(size), tf.zeros([2], tf.int32)
    sides = tf.cast(shape, tf.float32)
    ratio = tf.constant(size, tf.float32) / sides
    scale = tf.reduce_max(ratio) if resize == "crop" else tf.reduce_min(ratio)
    # At least the asked size when cropping, at most when padding, whatever the rounding.
    near = tf.cast(tf.round(sides * scale), tf.int32)
    near = tf.maximum((tf.maximum if resize == "crop" else tf.minimum)(near, size), 1)
    room = tf.constant(size) - near
    return near, room // 2 if resize == "pad" else -((-room) // 2)


def frame_of(shape: Any, size: tuple[int, int], resize: str) -> Any:
    """Return the frame of an image of so many rows and columns, `float32[6]`."""
    import tensorflow as tf

    near, offset = fitted(shape, size, resize)
    sides = tf.cast(shape, tf.float32)
    scale = tf.cast(near, tf.float32) / sides
    return tf.concat([sides, scale, tf.cast(offset, tf.float32)], axis=0)


def to_network(boxes: tf.Tensor | np.ndarray, frames: tf.Tensor | np.ndarray) -> Any:
    """Return boxes of original images where the network sees them.

    Args:
        boxes: `[..., boxes, 4]`, left, top, right and bottom in pixels; NumPy or TensorFlow.
        frames: `[..., 6]`.

    Example:
        >>> import numpy as np
        >>> frame = np.array([100.0, 200.0, 0.5, 0.5, 10.0, 0.0])
        >>> to_network(np.array([[20.0, 40.0, 60.0, 80.0]]), frame).tolist()
        [[10.0, 30.0, 30.0, 50.0]]
    """
    scale, offset = _sides(frames)
    return boxes * scale + offset


def to_image(boxes: tf.Tensor | np.ndarray, frames: tf.Tensor | np.ndarray) -> Any:
    """Return boxes in the network's pixels where they are in the original images.

    Args:
        boxes: `[..., boxes, 4]`, left, top, right and bottom in pixels; NumPy or TensorFlow.
        frames: `[..., 6]`.

    Example:
        >>> import numpy as np
        >>> frame = np.array([100.0, 200.0, 0.5, 0.5, 10.0, 0.0])
        >>> to_image(np.array([[10.0, 30.0, 30.0, 50.0]]), frame).tolist()
        [[20.0, 40.0, 60.0, 80.0]]
    """
    scale, offset = _sides(frames)
    return (boxes - offset) / scale


def clipped(boxes: tf.Tensor | np.ndarray, frames: tf.Tensor | np.ndarray) -> Any:
    """Return boxes in original images without what lies outside of these.

    Args:
        boxes: `[..., boxes, 4]`, left, top, right and bottom in pixels; NumPy or TensorFlow.
        frames: `[..., 6]`.

    Example:
        >>> import numpy as np
        >>> frame = np.array([100.0, 200.0, 0.5, 0.5, 10.0, 0.0])
        >>> clipped(np.array([[-5.0, 90.0, 60.0, 120.0]]), frame).tolist()
        [[0.0, 90.0, 60.0, 100.0]]
    """
    import keras

    limits = _columns(frames, [1, 0, 1, 0])
    if keras.ops.is_tensor(boxes):
        return keras.ops.maximum(keras.ops.minimum(boxes, limits), 0.0)
    return boxes.clip(0.0, limits)


def placed(annotations: Rows, size: tuple[int, int], resize: str) -> Rows:
    """Return annotations whose positions are those in the network's pixels.

    Args:
        annotations: Rows with `size`, rows and columns of each image as it is seen, and maybe
            `boxes` of each object, or the `mask` of each image.
        size: Rows and columns of what the network sees.
        resize: See `fitted`.

    Returns:
        The same with `boxes` moved, masks as `segmentation_masks` at the network's size, and the
        `frame` of each image.
    """
    sizes, which = np.unique(annotations["size"], axis=0, return_inverse=True)
    frames = np.array([frame_of(one, size, resize) for one in sizes], "float32")
    frames = frames.reshape(-1, len(FRAME))[which.reshape(-1)]
    columns = dict(joined([annotations]).columns)
    if "boxes" in columns:
        boxes = columns["boxes"]
        _, lengths = boxes.spans(np.arange(len(boxes)))
        moved = to_network(boxes.values[:, None], np.repeat(frames, lengths, axis=0))[:, 0]
        columns["boxes"] = replace(boxes, values=moved.astype("float32"))
    if "mask" in columns:
        columns["segmentation_masks"] = Column(laid_out(columns["mask"].values, frames, size))
    return Rows.of({**columns, "frame": frames})


def _sides(frames: tf.Tensor | np.ndarray) -> tuple[Any, Any]:
    """Return scale and offset of left, top, right and bottom, `[..., 1, 4]`."""
    return _columns(frames, [3, 2, 3, 2]), _columns(frames, [5, 4, 5, 4])


def _columns(frames: tf.Tensor | np.ndarray, places: list[int]) -> Any:
    """Return some of the numbers of frames, `[..., 1, places]`, for each box of an image."""
    import keras

    if keras.ops.is_tensor(frames):
        return keras.ops.take(frames, places, axis=-1)[..., None, :]
    return frames[..., places][..., None, :]


def sides(image_size: int | Sequence[int] | None, usual: int | None) -> Any:
    """Return the rows and columns that images get.

    Args:
        image_size: What the user set: one number, or height and width.
        usual: Both of them, where nothing was set; `None` for neither.

    Raises:
        UserError: If it is neither one number nor two.

    Example:
        >>> sides([240, 320], 224), sides(None, 224)
        ((240, 320), (224, 224))
    """
    if image_size is None:
        return None if usual is None else (usual, usual)
    given = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
    if len(given) != 2 or not all(isinstance(side, int) and side > 0 for side in given):
        raise UserError(
            "backbone.image_size must be a number of pixels, or two: [height,width]. Received: "
            f"{image_size!r}."
        )
    return tuple(given)


def side_of(shape: Any) -> int | None:
    """Return the side of a square size, or `None` where it is open."""
    if shape is None:
        return None
    sides = [shape] if isinstance(shape, int) else [side for side in shape if side]
    return int(max(sides)) if sides else None
