"""Other inputs: channels and sizes of images, and the layers that have them built in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from kerasft.errors import UserError, in_short
from kerasft.model.surgery.operated import Graph, GraphError, serialized
from kerasft.model.surgery.places import take_over

# How configs of layers call the size of the images that they take, or of what comes of them.
SIZES = ("image_size", "image_shape", "input_size")


def input_channels(graph: Graph, channels: int, kernel: str) -> str:
    """Have a network take images of other channels, its first kernels adapted."""
    shape = _shape(graph, "input_channels")
    before = shape[-1] or 3
    if before == channels:
        raise UserError(f"the network takes images of {channels} channels already.")
    how = kernel if kernel != "auto" else ("average" if channels < before else "zeros")
    graph.shapes[0] = (*shape[:-1], channels)
    tensors = _input(graph)
    follows, adapted = {0}, []
    for node in graph.nodes:
        old, hands_on = node.operation, False
        if follows & set(node.takes):
            twin = _for_channels(old, before, channels)
            if twin is not None:
                take_over(graph, old, twin)
            made = node.call([tensors[number] for number in node.takes])
            if twin is not None:
                _copy(old, twin, lambda w, to: _channels(w, to, before, channels, how))
                getattr(twin, "finalize_state", lambda: None)()  # Normalization keeps constants
            if kernels := [v for v in getattr(old, "variables", ()) if len(v.shape) > 2]:
                adapted.append(old.name)
            hands_on = not kernels
        else:
            made = node.call([tensors[number] for number in node.takes])
        if hands_on:
            follows |= {n for n, t in zip(node.gives, made, strict=True) if t.shape[-1] == channels}
        tensors |= dict(zip(node.gives, made, strict=True))
    if not adapted:
        raise UserError("the network has no convolution that takes its images as they are.")
    words = {"average": "averaged", "repeat": "repeated", "zeros": "kept, and 0 for new channels"}
    return (
        f"{channels} channels in place of {before}; the kernel of {', '.join(adapted)} is "
        f"{words[how]}"
    )


def _shape(graph: Graph, step: str) -> tuple[Any, ...]:
    if len(graph.shapes) != 1 or len(graph.shapes[0]) != 3:
        raise UserError(
            f"{step} is of networks that take one image [height, width, channels]. This one takes "
            f"{', '.join(str(list(shape)) for shape in graph.shapes)}."
        )
    return graph.shapes[0]


def _input(graph: Graph) -> dict[int, Any]:
    tensor = graph.network.inputs[0]
    return {0: keras.Input(graph.shapes[0], dtype=tensor.dtype, name=tensor.name)}


def _for_channels(layer: keras.Operation, before: int, channels: int) -> Any:
    """Return a layer for other channels, `None` where it takes any."""
    if not isinstance(layer, keras.layers.Layer):
        return None
    if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.SeparableConv2D):
        raise UserError(
            f"{layer.name!r}, a {type(layer).__name__}, treats each channel by itself: its kernel "
            "cannot be adapted. Choose another backbone."
        )
    config = layer.get_config()
    found = {
        key: fitted(config[key], channels) for key in ("mean", "variance", "scale", "offset")
        if config.get(key) is not None and before > 1 and np.size(config[key]) == before
    }  # fmt: skip
    if config.get("num_channels") == before:
        found["num_channels"] = channels
    if not found and not layer.variables:
        return None
    return keras.saving.deserialize_keras_object(serialized(layer, **found))


def fitted(values: Any, channels: int) -> Any:
    """Return a constant a channel for other channels: their mean stands in for what is new.

    Example:
        >>> fitted([1.0, 2.0, 3.0], 1), fitted([1.0, 2.0, 3.0], 4)
        ([2.0], [1.0, 2.0, 3.0, 2.0])
    """
    flat = np.asarray(values, "float64").ravel()
    if channels < 3:
        return [float(flat.mean())] * channels
    return [*map(float, flat), *[float(flat.mean())] * (channels - len(flat))][:channels]


def _channels(
    weight: np.ndarray, shape: tuple[int, ...], before: int, channels: int, how: str
) -> np.ndarray | None:
    """Return a weight for other channels, `None` where its shape says nothing of them."""
    axes = [i for i, (a, b) in enumerate(zip(weight.shape, shape, strict=True)) if a != b]
    if len(axes) != 1 or (weight.shape[axes[0]], shape[axes[0]]) != (before, channels):
        return None
    moved = np.moveaxis(weight, axes[0], 0)
    if weight.ndim < 3:  # statistics a channel
        more = np.repeat(moved.mean(0, keepdims=True), channels, 0)
        made = more if channels < before else np.concatenate([moved, more[before:]])
    elif how == "average":
        made = np.repeat(moved.mean(0, keepdims=True), channels, 0) * before / channels
    elif how == "repeat":
        made = moved[np.arange(channels) % before] * before / channels
    else:
        new = np.zeros((max(channels - before, 0), *moved.shape[1:]), weight.dtype)
        made = np.concatenate([moved[:channels], new])
    return np.moveaxis(made, 0, axes[0]).astype(weight.dtype)


def image_size(graph: Graph, size: tuple[int, int]) -> str:
    """Have a network take images of another size, its learned positions interpolated."""
    shape = _shape(graph, "image_size")
    graph.shapes[0] = (*size, shape[-1])
    tensors, interpolated = _input(graph), []
    for node in graph.nodes:
        old = node.operation
        twin = _for_size(old, size)
        if twin is not None:
            take_over(graph, old, twin)
        try:
            made = node.call([tensors[number] for number in node.takes])
        except GraphError as error:
            raise UserError(
                f"images of {size[0]}x{size[1]} pixels cannot be taken: {error}. Choose a size "
                "that divides by the same power of two, or another backbone."
            ) from error
        if twin is not None:
            _copy(old, twin, partial(
                _positions, before=_grid(shape, old), now=_grid(size, old)
            ))  # fmt: skip
            if any(a.shape != b.shape for a, b in zip(old.variables, twin.variables, strict=True)):
                interpolated.append(old.name)
        tensors |= dict(zip(node.gives, made, strict=True))
    words = f"; the positions of {', '.join(interpolated)} are interpolated" if interpolated else ""
    return f"images of {size[0]}x{size[1]} pixels{words}"


def _for_size(layer: keras.Operation, size: tuple[int, int]) -> Any:
    """Return a layer for another size of images, `None` where it takes any."""
    if not isinstance(layer, keras.layers.Layer):
        return None
    config = layer.get_config()
    key = next((key for key in SIZES if config.get(key) is not None), None)
    if key is None or not layer.variables:
        return None
    value = config[key]
    if isinstance(value, int):
        if size[0] != size[1]:
            raise UserError(f"{layer.name!r} takes images that are square. Received: {list(size)}.")
        new: Any = size[0]
    else:
        new = [*size, *list(value)[2:]]
    try:
        return keras.saving.deserialize_keras_object(serialized(layer, **{key: new}))
    except Exception as error:  # the layers' own words, of any type
        raise UserError(
            f"{layer.name!r} cannot be made for images of {size[0]}x{size[1]} pixels "
            f"({in_short(error)})."
        ) from error


def _grid(size: Sequence[int], layer: keras.Layer) -> tuple[int, int]:
    """Return how many patches an image has in its height and width."""
    patch = getattr(layer, "patch_size", 1)
    patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
    return int(size[0]) // patch[0], int(size[1]) // patch[1]


def _positions(
    weight: np.ndarray, shape: tuple[int, ...], before: tuple[int, int], now: tuple[int, int]
) -> np.ndarray | None:
    """Return a table of positions for another grid, bicubic; what leads it (a class) is kept.

    Example:
        >>> table = np.arange(5.0)[:, None]  # one class, and a grid of 2 x 2
        >>> _positions(table, (10, 1), (2, 2), (3, 3)).ravel()[[0, 5]].tolist()
        [0.0, 2.5]
    """
    axes = [i for i, (a, b) in enumerate(zip(weight.shape, shape, strict=True)) if a != b]
    if len(axes) != 1:
        return None
    axis = axes[0]
    extra = weight.shape[axis] - before[0] * before[1]
    if extra < 0 or shape[axis] - now[0] * now[1] != extra:
        return None
    moved = np.moveaxis(weight, axis, 0)
    flat = moved.reshape(len(moved), -1)
    grid = flat[extra:].reshape(1, *before, -1)
    made = np.asarray(keras.ops.image.resize(grid, now, interpolation="bicubic"))
    table = np.concatenate([flat[:extra], made.reshape(now[0] * now[1], -1)])
    return np.moveaxis(table.reshape(len(table), *moved.shape[1:]), 0, axis).astype(weight.dtype)


def _copy(mine: keras.Layer, twin: keras.Layer, adapted: Callable[[Any, Any], Any]) -> None:
    """Give a layer that was made again the weights of the old one, adapted where shapes differ."""
    for old, new in zip(mine.variables, twin.variables, strict=True):
        value = np.asarray(old)
        if old.shape != new.shape:
            value = adapted(value, tuple(new.shape))
            if value is None:
                raise UserError(
                    f"the weight {old.path} of the shape {list(old.shape)} would have to become "
                    f"{list(new.shape)}, and nothing says how. This backbone cannot be changed so."
                )
        new.assign(value)
