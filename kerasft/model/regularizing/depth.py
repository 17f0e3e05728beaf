"""Residual branches dropped while a network trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from kerasft.model.regularizing.branches import Block, blocks_of
from kerasft.model.regularizing.hooks import hook, seeds

if TYPE_CHECKING:
    import tensorflow as tf

# Layers that drop whole branches of examples by themselves.
_DROPPING = ("DropPath", "StochasticDepth")


def drop_branches(model: keras.Model, rate: float) -> list[Block]:
    """Have the residual branches of a model's backbone dropped in training.

    Args:
        model: The assembled model; its layers are changed in place.
        rate: The probability in the uppermost block; it rises to there linearly.

    Returns:
        The blocks.
    """
    blocks = blocks_of(model)
    layers: dict[int, Any] = {}
    shares: dict[int, list[float]] = {}
    for place, block in enumerate(blocks):
        for end in block.ends:
            layers[id(end)] = end
            shares.setdefault(id(end), []).append(rate * (place + 1) / len(blocks))
    for key, layer in layers.items():
        # A layer that is called several times has the mean of its places.
        chance = sum(shares[key]) / len(shares[key])
        hook(layer, _dropping(chance, seeds(layer, "stochastic_depth")), rests=_drops(layer))
    return blocks


def _dropping(chance: float, drawn: keras.random.SeedGenerator) -> Any:
    def drop(outputs: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
        sides = len(outputs.shape) - 1
        draw = keras.random.uniform((ops.shape(outputs)[0],), dtype="float32", seed=drawn)
        stays = ops.cast(draw >= chance, "float32") / (1.0 - chance)
        return outputs * ops.cast(ops.reshape(stays, (-1, *[1] * sides)), outputs.dtype)

    return drop


def _drops(layer: keras.Layer) -> bool:
    """Whether a layer drops whole examples by itself."""
    if type(layer).__name__ in _DROPPING:
        return True
    shape = getattr(layer, "noise_shape", None) or ()
    return isinstance(layer, keras.layers.Dropout) and set(shape[1:]) == {1}
