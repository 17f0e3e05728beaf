"""Anchors: boxes of several sizes and shapes at each place, from which a detector starts."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops


def anchors_of(size, grids, anchor_size=4.0, scales=3, ratios=(0.5, 1.0, 2.0)):
    """Return the anchors of some feature maps.

    An anchor stands in the middle of its place, and no side is rounded. KerasHub's
    `AnchorGenerator` puts them at the upper left corner of each place, in whole pixels, and
    reckons with maps of `ceil(size / stride)`, which not every network has.

    Args:
        size: Rows and columns of the images.
        grids: Rows and columns of each map.
        anchor_size: The side of the smallest square, in strides.
        scales: How many sizes there are from one map to the next, whose sides are twice as long.
        ratios: The heights of anchors, in parts of their widths; the area is the same.

    Returns:
        `float32[anchors, 4]`: left, top, right and bottom in pixels; map by map, place by place.

    Example:
        >>> anchors_of((8, 8), [(1, 1)], anchor_size=1.0, scales=1, ratios=[0.25]).tolist()
        [[-4.0, 2.0, 12.0, 6.0]]
    """
    rows, columns = size
    made = []
    for height, width in grids:
        down, across = rows / height, columns / width
        y, x = np.meshgrid((np.arange(height) + 0.5) * down, (np.arange(width) + 0.5) * across,
                           indexing="ij")  # fmt: skip
        middles = np.stack([x, y], -1).reshape(-1, 1, 2)
        sides = [
            (across * side / math.sqrt(ratio), down * side * math.sqrt(ratio))
            for ratio in ratios
            for side in (anchor_size * 2 ** (i / scales) for i in range(scales))
        ]
        half = np.array(sides)[None] / 2
        made.append(np.concatenate([middles - half, middles + half], -1).reshape(-1, 4))
    return np.concatenate(made).astype("float32")


@keras.saving.register_keras_serializable("kerasft")
class Anchors(keras.layers.Layer):
    """Makes boxes of what a head says of each anchor.

    An anchor says how far its object's center is from its own, in parts of its width and height,
    and how much wider and higher the object is, as logarithms (Girshick et al., "Rich Feature
    Hierarchies", 2014).

    Args:
        size: See `anchors_of`, as the others.

    Takes `float32[batch, anchors, 4 + classes]`, and gives `float32[batch, anchors, 8 + classes]`:
    left, top, right and bottom of a box in pixels, the anchor likewise, and the rest as it is.
    """

    # How much wider or narrower than its anchor a box can be, as a logarithm: Detectron's bound.
    # Below it a box would have no side left of which a logarithm could be taken.
    FARTHEST = math.log(1000 / 16)

    def __init__(self, size, grids, anchor_size=4.0, scales=3, ratios=(0.5, 1.0, 2.0), **kwargs):
        super().__init__(**kwargs)
        self.settings = {
            "size": list(size), "grids": [list(grid) for grid in grids],
            "anchor_size": anchor_size, "scales": scales, "ratios": list(ratios),
        }  # fmt: skip
        self.anchors = anchors_of(**self.settings)

    def call(self, inputs):
        middle = (self.anchors[:, :2] + self.anchors[:, 2:]) / 2
        sides = self.anchors[:, 2:] - self.anchors[:, :2]
        center = inputs[..., :2] * sides + middle
        half = ops.exp(ops.clip(inputs[..., 2:4], -self.FARTHEST, self.FARTHEST)) * sides / 2
        anchors = ops.broadcast_to(self.anchors, ops.shape(inputs[..., :4]))
        return ops.concatenate([center - half, center + half, anchors, inputs[..., 4:]], axis=-1)

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-1] + 4)

    def get_config(self):
        return {**super().get_config(), **self.settings}
