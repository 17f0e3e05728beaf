"""Feature maps of several sizes, made one pyramid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError
from kerasft.spec import Features

if TYPE_CHECKING:
    import keras


def unit(x: keras.KerasTensor, width: int, size: int, name: str) -> Any:
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
    require_maps(features, wanted, finest, coarsest)
    made: dict[int, Any] = {}
    above = None
    for level in reversed(wanted):
        x = unit(features.maps[level], width, 1, f"head_lateral_{level}")
        if above is not None:
            x = keras.layers.Add(name=f"head_sum_{level}")(
                [x, resized(above, x, interpolation, f"head_up_{level}")]
            )
            x = unit(x, width, 3, f"head_mix_{level}")
        made[level] = above = x
    return {level: made[level] for level in wanted}


def pyramid(features: Features, width: int, finest: int, coarsest: int) -> dict[int, Any]:
    """Return the pyramid of RetinaNet: plain convolutions, and maps coarser than the network's.

    Lin et al., "Focal Loss for Dense Object Detection", 2017. Each coarser map is made of the one
    before it by a convolution with stride 2, the first of the pyramid's own as in torchvision. A
    network that is a pyramid already, such as that of a RetinaNet preset, keeps its maps, and those
    that are made have their width.

    Args:
        features: `Features` of a backbone.
        width: Channels of the maps that are made.
        finest: The finest map, by the power of two of its stride.
        coarsest: The coarsest one; those beyond the network's 5 are made.

    Returns:
        Maps by that power, the finest first.

    Raises:
        UserError: If the backbone has no such maps.
    """
    import keras

    highest = max(features.maps, default=0)
    top = min(coarsest, highest if features.fused else min(highest, 5))
    given = range(finest, top + 1)
    require_maps(features, given, finest, top if top >= finest else coarsest)
    made: dict[int, Any] = {level: features.maps[level] for level in given}
    if not features.fused:
        made = top_down({
            level: keras.layers.Conv2D(width, 1, name=f"head_lateral_{level}")(x)
            for level, x in made.items()
        })  # fmt: skip
        made = {
            level: keras.layers.Conv2D(width, 3, padding="same", name=f"head_mix_{level}")(x)
            for level, x in made.items()
        }
    else:
        width = made[top].shape[-1]  # as the others: the layers behind are the same for all maps
    x = made[top]
    for level in range(top + 1, coarsest + 1):
        if level > top + 1:
            x = keras.layers.ReLU(name=f"head_coarser_{level}_relu")(x)
        x = keras.layers.Conv2D(
            width, 3, strides=2, padding="same", name=f"head_coarser_{level}"
        )(x)  # fmt: skip
        made[level] = x
    return made


def top_down(maps: dict[int, Any]) -> dict[int, Any]:
    """Add to each map what the coarser ones know, enlarged to its size."""
    import keras

    made: dict[int, Any] = {}
    for level in sorted(maps, reverse=True):
        x = maps[level]
        if level + 1 in made:
            x = keras.layers.Add(name=f"head_sum_{level}")(
                [x, resized(made[level + 1], x, "nearest", f"head_up_{level}")]
            )
        made[level] = x
    return dict(sorted(made.items()))


def require_maps(features: Features, wanted: range, finest: int, coarsest: int) -> None:
    """See that a backbone has the maps that a head takes.

    Raises:
        UserError: If not.
    """
    if not wanted or any(level not in features.maps for level in wanted):
        has = ", ".join(str(level) for level in sorted(features.maps)) or "none"
        raise UserError(
            f"This head takes a backbone's feature maps {finest} to {coarsest} (places 2^{finest} "
            f"to 2^{coarsest} pixels apart), and the backbone has: {has}. Choose a backbone for "
            "images with such maps (backbone=applications, a ResNet or MobileNet), or set "
            "head.finest and head.coarsest."
        )


def resized(above: keras.KerasTensor, x: keras.KerasTensor, interpolation: str, name: str) -> Any:
    """Return a coarse map at the size of a finer one."""
    import keras

    height, width = x.shape[1:3]
    if (2 * above.shape[1], 2 * above.shape[2]) == (height, width):
        return keras.layers.UpSampling2D(2, interpolation=interpolation, name=name)(above)
    # Of sides that are no whole number of strides, the map above has a row more than half.
    return keras.layers.Resizing(height, width, interpolation=interpolation, name=name)(above)
