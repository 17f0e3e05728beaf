"""KerasHub's networks of detectors, as far as they are networks with a pyramid of maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras

from kerasft.errors import UserError
from kerasft.model.heads.pyramid import resized
from kerasft.model.vision.retina_net import RetinaNet


def without_head(network: keras.Model, size: tuple[int, int]) -> Any:
    """Return what a detector's network computes before it looks for objects.

    Args:
        network: A network of KerasHub.
        size: Rows and columns of the images.

    Returns:
        For the networks of RetinaNet and D-FINE a `keras.Model` that puts out maps, `P3` and
        coarser, with the weights that they have; any other network as it is.

    Raises:
        UserError: If the network cannot take images of that size.
    """
    made = {"RetinaNetBackbone": _retinanet, "DFineBackbone": _d_fine}.get(type(network).__name__)
    return network if made is None else made(network, size)


def rest_of(network: keras.Model, preset: str, folder: str, pretrained: bool) -> Any:
    """Return what a head may take of a detector that `without_head` has cut.

    Args:
        network: The network before.
        preset: The value of `backbone.preset`.
        folder: What KerasHub takes for it.
        pretrained: Whether weights were loaded.
    """
    if type(network).__name__ == "RetinaNetBackbone":
        return RetinaNet(preset, folder, pretrained)
    return network


def _retinanet(network: keras.Model, size: tuple[int, int]) -> Any:
    """Return a RetinaNet's network with its pyramid's layers in the graph itself.

    In one layer, as KerasHub has them, they want sides of a whole number of strides; of oblong
    images the layer takes the coarsest maps for squares (`compute_output_shape`, 0.32); and it
    could only be frozen as a whole.
    """
    fpn = network.feature_pyramid
    images = keras.Input((*size, 3), name="images")
    maps = network.get_layer("backbone").call([images])
    made: dict[str, Any] = {}
    for name in sorted(maps, reverse=True):
        x = fpn.lateral_conv_layers[name](maps[name])
        if made:
            above = resized(made[_next(name)], x, "nearest", f"fpn_up_{name}")
            x = keras.layers.Add(name=f"fpn_sum_{name}")([x, above])
        made[name] = _normalized(fpn, fpn.lateral_batch_norm_layers, name, x)
    made = {name: fpn.output_conv_layers[name](x) for name, x in sorted(made.items())}
    top = list(made)[-1]
    x = maps[top] if fpn.use_p5 else made[top]
    for level in range(int(top[1:]) + 1, fpn.max_level + 1):
        name = f"P{level}"
        if name != _next(top):
            x = keras.layers.Activation(fpn.activation, name=f"fpn_activation_{name}")(x)
        x = _normalized(fpn, fpn.output_batch_norms, name, fpn.output_conv_layers[name](x))
        made[name] = x
    return keras.Model(images, made, name=network.name)


def _next(name: str) -> str:
    return f"P{int(name[1:]) + 1}"


def _normalized(fpn: keras.Layer, norms: Mapping[str, Any], name: str, x: keras.KerasTensor) -> Any:
    if not fpn.use_batch_norm:
        return x
    # KerasHub 0.32 takes epsilon for it: 0.001, that is, the statistics of the last batch alone.
    norms[name].momentum = fpn.batch_norm_momentum
    return norms[name](x)


def _d_fine(network: keras.Model, size: tuple[int, int]) -> Any:
    """Return a D-FINE's network as far as its encoder, whose maps its decoder looks at.

    The decoder is left out: it is made for the classes that it learned, from the choice of its
    queries on. `head=dfine` makes it anew, with its weights.

    Raises:
        UserError: If the encoder cannot take such images: it doubles maps and joins them.
    """
    coarsest = max(network.feat_strides)
    if any(side % coarsest for side in size):
        raise UserError(
            f"backbone.image_size must be multiples of {coarsest} for a D-FINE. Received: "
            f"{size[0]}x{size[1]}."
        )
    # The encoder gives its maps, then what they were made of.
    made = keras.tree.flatten(network.get_layer("hybrid_encoder").output)
    strides = network.feat_strides[: len(network.encoder_in_channels)]
    maps = {f"P{round(math.log2(s))}": x for s, x in zip(strides, made, strict=False)}
    return keras.Model(network.input, maps, name=network.name)
