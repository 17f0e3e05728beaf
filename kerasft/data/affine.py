"""Augmentation that moves images with all that is drawn on them, by one matrix an image."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from kerasft.spec import IGNORED

FLIPS = ("none", "horizontal", "vertical", "both")
FILL_MODES = ("constant", "reflect")


@keras.saving.register_keras_serializable("kerasft")
class RandomAffine(keras.layers.Layer):
    """Flips, scales, shifts and turns images, and boxes and masks with them.

    All is one resampling of the image. Boxes become those around their moved corners; what lies
    outside is cut off where `augmenter` ends.

    Args:
        flip: `"horizontal"`, `"vertical"`, `"both"` or `"none"`: which mirror images there are.
        scale: The smallest and the largest factor by which an image is enlarged.
        shift: The largest part of width and height by which it is moved.
        rotation: The largest angle, in degrees, to both sides. Boxes around turned objects are
            larger than these.
        fill: The pixels that come in from outside.
        mask_fill: The class of them in a mask; `IGNORED`, which nothing is learned of.
        fill_mode: `"constant"`, or `"reflect"` for images and masks that go on beyond the edge as
            in a mirror. Boxes are not mirrored.

    Takes and gives images `[batch, height, width, 3]`, or a dict of them with Keras' names:
    `images`, `bounding_boxes` (`boxes` as left, top, right and bottom in pixels, and `labels`) and
    `segmentation_masks`.

    Example:
        >>> RandomAffine(flip="both")(tf.zeros([2, 8, 8, 3])).shape
        TensorShape([2, 8, 8, 3])
    """

    # `augmenter` then hands it boxes and masks.
    moves_labels = True

    def __init__(self, flip="horizontal", scale=(0.7, 1.3), shift=0.1, rotation=0.0, fill=114.0,
                 mask_fill=IGNORED, fill_mode="constant", seed=None, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if flip not in FLIPS:
            raise ValueError(f"flip must be one of {', '.join(FLIPS)}. Received: {flip!r}")
        if fill_mode not in FILL_MODES:
            raise ValueError(
                f"fill_mode must be one of {', '.join(FILL_MODES)}. Received: {fill_mode!r}"
            )
        low, high = scale
        if not 0 < low <= high:
            raise ValueError(f"scale must be two factors above 0, the smaller first. "
                             f"Received: {list(scale)}")  # fmt: skip
        self.flip, self.scale, self.shift = flip, (float(low), float(high)), shift
        self.rotation, self.fill, self.mask_fill, self.seed = rotation, fill, mask_fill, seed
        self.fill_mode = fill_mode
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.autocast = False

    def call(self, inputs, training=True):
        batch = inputs if isinstance(inputs, dict) else {"images": inputs}
        if not training:
            return inputs
        images = tf.cast(batch["images"], tf.float32)
        shape = tf.shape(images)
        ahead, origin, back = self._matrices(shape)
        made = {**batch, "images": self._resampled(images, back, self.fill, "BILINEAR")}
        if "segmentation_masks" in batch:
            masks = tf.cast(batch["segmentation_masks"], tf.float32)
            moved = self._resampled(masks, back, self.mask_fill, "NEAREST")
            made["segmentation_masks"] = moved
        if "bounding_boxes" in batch:
            found = batch["bounding_boxes"]
            made["bounding_boxes"] = {**found, "boxes": _moved(found["boxes"], ahead, origin)}
        return made if isinstance(inputs, dict) else made["images"]

    def _matrices(self, shape):
        """Return where points go, `ahead @ point + origin`, and where pixels come from."""
        count = shape[0]
        size = tf.cast(tf.stack([shape[2], shape[1]]), tf.float32)
        draw = keras.random.uniform((count, 6), seed=self.seed_generator)
        mirrored = [self.flip in ("horizontal", "both"), self.flip in ("vertical", "both")]
        flips = tf.where((draw[:, :2] < 0.5) & tf.constant(mirrored), -1.0, 1.0)
        low, high = map(math.log, self.scale)
        factor = tf.exp(low + draw[:, 2] * (high - low))  # as often half as twice as large
        angle = (2 * draw[:, 3] - 1) * math.radians(self.rotation)
        moved = (2 * draw[:, 4:] - 1) * self.shift * size
        cos, sin = tf.cos(angle), tf.sin(angle)
        turned = tf.reshape(tf.stack([cos, -sin, sin, cos], 1), [-1, 2, 2])
        ahead = turned * flips[:, None] * factor[:, None, None]
        centre = size / 2
        origin = centre + moved - tf.linalg.matvec(ahead, tf.broadcast_to(centre, [count, 2]))
        back = tf.transpose(turned, [0, 2, 1]) * flips[:, :, None] / factor[:, None, None]
        offset = centre - tf.linalg.matvec(back, centre + moved)
        # Pixels are counted by their places, and a place lies half a pixel into its pixel.
        offset += tf.reduce_sum(back, -1) * 0.5 - 0.5
        rows = tf.concat([back, offset[..., None]], -1)
        return ahead, origin, tf.concat([tf.reshape(rows, [-1, 6]), tf.zeros([count, 2])], 1)

    def _resampled(self, images, back, fill, interpolation):
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=images, transforms=back, output_shape=tf.shape(images)[1:3],
            fill_value=tf.cast(fill, tf.float32), interpolation=interpolation,
            fill_mode=self.fill_mode.upper(),
        )  # fmt: skip
        return tf.ensure_shape(moved, images.shape)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        names = ("flip", "shift", "rotation", "fill", "mask_fill", "fill_mode", "seed")
        return {**super().get_config(), "scale": list(self.scale),
                **{name: getattr(self, name) for name in names}}  # fmt: skip


def _moved(boxes, ahead, origin):
    """Return the boxes around the moved corners of boxes, `[batch, boxes, 4]`."""
    boxes = tf.cast(boxes, tf.float32)
    corners = tf.stack(
        [tf.gather(boxes, pair, axis=-1) for pair in ([0, 1], [2, 1], [0, 3], [2, 3])], 2
    )
    there = tf.einsum("bij,bgkj->bgki", ahead, corners) + origin[:, None, None]
    return tf.concat([tf.reduce_min(there, 2), tf.reduce_max(there, 2)], -1)
