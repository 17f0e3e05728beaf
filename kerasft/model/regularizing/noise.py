"""Noise on embedded tokens while a network trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from kerasft.model.layers import nodes_of
from kerasft.model.regularizing.hooks import hook, seeds
from kerasft.model.surgery.operated import unfolded
from kerasft.spec import Tensors

if TYPE_CHECKING:
    import tensorflow as tf

MASK = "padding_mask"
# Stages look for it: noise is drawn anew in each step, so that what lies behind is not kept.
SEEDS = "embedding_noise"


class EmbeddingNoise:
    """Uniform noise on embedded tokens, `alpha / sqrt(length * width)` at most.

    Args:
        model: The assembled model.
        alpha: The size of the noise.
    """

    def __init__(self, model: keras.Model, alpha: float):
        self.model, self.alpha = model, alpha
        self.mask: Any = None  # that of the batch which the model is called with

    def on(self, layer: keras.Layer) -> None:
        """Put the noise on what a layer embeds."""
        drawn = seeds(layer, SEEDS)

        def noisy(embedded: tf.Tensor, tokens: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("reverse") or (args and args[0] is True):  # of a tied output
                return embedded
            kept = getattr(embedded, "_keras_mask", None)
            made = embedded + self._draw(embedded, drawn)
            if kept is not None:
                made._keras_mask = kept
            return made

        hook(layer, noisy)

    def _draw(self, embedded: tf.Tensor, drawn: keras.random.SeedGenerator) -> Any:
        _, positions, width = ops.shape(embedded)
        noise = keras.random.uniform(ops.shape(embedded), -1.0, 1.0, "float32", seed=drawn)
        if self.mask is None:
            size = self.alpha / ops.sqrt(ops.cast(positions * width, "float32"))
        else:
            mask = ops.cast(self.mask, "float32")
            length = ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0)
            size = ops.expand_dims(mask * self.alpha / ops.sqrt(length * float(width)), -1)
        return ops.cast(noise * size, embedded.dtype)

    def around(self, call: Callable, inputs: Tensors, *args: Any, **kwargs: Any) -> Any:
        """Call the model, and know meanwhile which positions of the batch are padding."""
        self.mask = self._mask_of(call, inputs)
        try:
            return call(inputs, *args, **kwargs)
        finally:
            self.mask = None

    def _mask_of(self, call: Callable, inputs: Tensors) -> Any:
        if not isinstance(inputs, dict):
            return None
        if MASK in inputs:
            return inputs[MASK]
        # Behind a cut of the graph, tensors have names of their own.
        crossing = getattr(getattr(call, "__self__", call), "crossing", {})
        mask = self.model.input.get(MASK) if isinstance(self.model.input, dict) else None
        return next((inputs[name] for name, one in crossing.items() if one is mask), None)


def embeddings_of(model: keras.Model) -> list[Any]:
    """Return the layers that embed the tokens which a model takes.

    Args:
        model: A functional `keras.Model`.

    Returns:
        Those that are given an input of whole numbers; of several, such as those of tokens and of
        segments, the ones with the most rows.
    """
    found: dict[int, Any] = {}
    for node in _nodes(model):
        if any(_is_input(t) and "int" in str(t.dtype) for t in node.input_tensors):
            parts: list[Any] = getattr(node.operation, "_flatten_layers", list)()
            found |= {id(one): one for one in parts if isinstance(one, keras.layers.Embedding)}
    most = max((one.input_dim for one in found.values()), default=0)
    return [one for one in found.values() if one.input_dim == most]


def _nodes(model: keras.Model) -> Any:
    for node in nodes_of(model):
        inner = unfolded(node.operation)
        yield from [node] if inner is None else _nodes(inner)


def _is_input(tensor: keras.KerasTensor) -> bool:
    return isinstance(tensor._keras_history.operation, keras.layers.InputLayer)
