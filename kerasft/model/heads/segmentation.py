"""Heads that tell the class of each pixel."""

from __future__ import annotations

from typing import Any

from kerasft.errors import UserError
from kerasft.model.heads.pyramid import fused
from kerasft.spec import Features


def decoder(
    features: Features,
    *,
    channels: int,
    width: int = 64,
    finest: int | None = None,
    coarsest: int | None = None,
    dropout: float = 0.1,
) -> Any:
    """A light decoder: what coarse maps know is added to finer ones, up to a class for each place.

    After Kirillov et al., "Panoptic Feature Pyramid Networks", 2019, with separable convolutions
    and one way down.

    Args:
        features: `Features` of a backbone with feature maps.
        channels: Number of classes.
        width: Channels of the pyramid.
        finest: The finest map that is used: its places stand `2 ** finest` pixels apart. By default
            the finest that the backbone has; of a network that ends in a fine map of its own, as
            DeepLab and SegFormer do, that map.
        coarsest: The coarsest one; by default the coarsest that the backbone has, up to 5.
        dropout: Share of the channels that are dropped before the classes, from 0 up to 1.

    Returns:
        Logits, `float32[batch, height, width, channels]`, for each pixel of the network's input.

    Raises:
        UserError: If the backbone has no such maps.

    Example:
        >>> maps = {1: keras.Input((16, 16, 8)), 2: keras.Input((8, 8, 16))}
        >>> decoder(Features(None, maps=maps, size=(32, 32)), channels=3, width=8).shape
        (None, 32, 32, 3)
    """
    import keras

    if width < 1:
        raise UserError(f"head.width must be at least 1. Received: {width}.")
    most = max(features.maps, default=5)
    last = most if features.last is None else features.last
    coarse = min(last, 5) if coarsest is None else coarsest
    if finest is None:
        # A network that has gone up again has put into its last map what the others know.
        finest = coarse if last < most else min(features.maps, default=1)
    x = fused(features, width, finest, coarse, interpolation="bilinear")[finest]
    assert features.size is not None, "Feature maps belong to images of one size."
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout, name="head_dropout")(x)
    x = keras.layers.Conv2D(
        channels, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        dtype="float32", name="head_classes",
    )(x)  # fmt: skip
    return keras.layers.Resizing(
        *features.size, interpolation="bilinear", dtype="float32", name="head_outputs"
    )(x)
