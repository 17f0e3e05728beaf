"""Heads that find objects: boxes and classes at each place of a pyramid of feature maps."""

from __future__ import annotations

import math
from typing import Any

from kerasft.errors import UserError
from kerasft.model.heads.pyramid import fused, unit
from kerasft.spec import Features

# How likely a new head takes anything for an object: nearly all places hold none.
_PRIOR = 0.01


def anchor_free(
    features: Features,
    *,
    classes: int,
    width: int = 96,
    depth: int = 2,
    finest: int = 3,
    coarsest: int = 5,
) -> Any:
    """A light head without anchors: each place says how far the sides of its object are.

    After Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019, with separable
    convolutions.

    Args:
        features: `Features` of a backbone with feature maps of several sizes.
        classes: Number of classes.
        width: Channels of the pyramid.
        depth: Number of convolutions before boxes and classes.
        finest: The finest map: its places stand `2 ** finest` pixels apart.
        coarsest: The coarsest one.

    Returns:
        `float32[batch, places, 6 + classes]`: a box (left, top, right, bottom in the network's
        pixels), the place itself, and a logit for each class.

    Raises:
        UserError: If the backbone has no such maps.
    """
    import keras

    from kerasft.model.layers import Places

    if width < 1 or depth < 0:
        raise UserError(
            "head.width must be at least 1 and head.depth at least 0. Received: "
            f"width={width}, depth={depth}."
        )
    maps = fused(features, width, finest, coarsest)
    small = keras.initializers.RandomNormal(stddev=0.01)
    rare = keras.initializers.Constant(math.log(_PRIOR / (1 - _PRIOR)))
    found = []
    for level, x in maps.items():
        seen = sides = x
        for i in range(depth):
            seen = unit(seen, width, 3, f"head_class_{level}_{i}")
            sides = unit(sides, width, 3, f"head_box_{level}_{i}")
        logits = keras.layers.Conv2D(
            classes, 1, kernel_initializer=small, bias_initializer=rare, dtype="float32",
            name=f"head_classes_{level}",
        )(seen)  # fmt: skip
        distances = keras.layers.Conv2D(
            4, 1, kernel_initializer=small, bias_initializer="ones", dtype="float32",
            name=f"head_boxes_{level}",
        )(sides)  # fmt: skip
        found.append(keras.layers.Concatenate(dtype="float32", name=f"head_{level}")(
            [distances, logits]))  # fmt: skip
    return Places(features.size, dtype="float32", name="head_outputs")(found)
