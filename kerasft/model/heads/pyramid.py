"""Feature maps of several sizes, made one pyramid."""

from __future__ import annotations

from typing import Any

from kerasft.errors import UserError
from kerasft.spec import Features


def unit(x: Any, width: int, size: int, name: str) -> Any:
    """Return convolution, batch normalization and ReLU; separable where it is no 1x1."""
    import keras

    kind = keras.layers.Conv2D if size == 1 else keras.layers.SeparableConv2D
    x = kind(width, size, padding="same", use_bias=False, name=name)(x)
    # What is new has few steps to learn its statistics in.
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def fused(
    features: Features, width: int, finest: int, coarsest: int, *, interpolation: str = "nearest"
) -> dict[int, Any]:
    """Return a backbone's maps with what the coarser ones know added to the finer ones.

    Lin et al., "Feature Pyramid Networks for Object Detection", 2017.

    Args:
        features: `Features` of a backbone.
        width: Channels of the result.
        finest: The finest map, by the power of two of its stride.
        coarsest: The coarsest one.
        interpolation: How coarser maps are enlarged, `"nearest"` or `"bilinear"`.

    Returns:
        Maps by that power, the finest first.

    Raises:
        UserError: If the backbone has no such maps.
    """
    import keras

    wanted = range(finest, coarsest + 1)
    if not wanted or any(level not in features.maps for level in wanted):
        has = ", ".join(str(level) for level in sorted(features.maps)) or "none"
        raise UserError(
            f"This head takes a backbone's feature maps {finest} to {coarsest} (places 2^{finest} "
            f"to 2^{coarsest} pixels apart), and the backbone has: {has}. Choose a backbone for "
            "pictures with such maps (backbone=applications, a ResNet or MobileNet), or set "
            "head.finest and head.coarsest."
        )
    made: dict[int, Any] = {}
    above = None
    for level in reversed(wanted):
        x = unit(features.maps[level], width, 1, f"head_lateral_{level}")
        if above is not None:
            x = keras.layers.Add(name=f"head_sum_{level}")(
                [x, resized(above, x, level, interpolation)]
            )
            x = unit(x, width, 3, f"head_mix_{level}")
        made[level] = above = x
    return {level: made[level] for level in wanted}


def resized(above: Any, x: Any, level: int, interpolation: str) -> Any:
    """Return a coarse map at the size of a finer one."""
    import keras

    height, width = x.shape[1:3]
    if (2 * above.shape[1], 2 * above.shape[2]) == (height, width):
        return keras.layers.UpSampling2D(
            2, interpolation=interpolation, name=f"head_up_{level}"
        )(above)
    # Of sides that are no whole number of strides, the map above has a row more than half.
    return keras.layers.Resizing(
        height, width, interpolation=interpolation, name=f"head_up_{level}"
    )(above)
