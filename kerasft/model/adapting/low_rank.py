"""Layers with a low-rank update (LoRA) beside their kernel; imported where a network is adapted.

Why not Keras' own `enable_lora`: its factors of an `EinsumDense` split off the last axis alone, so
that a query of 12 heads trains 2.7 times the weights of the LoRA of the paper. It adds the update
to the kernel in each step, and so pays for a gradient of the kernel's full size: a step of MiniLM
takes 0.80 of full fine-tuning, with the two small products of this module 0.64. It has no dropout,
and it selects layers by name, not by path. Above all it merges whenever it saves and zeroes both
factors when it loads, after which neither can ever train again.

A layer is adapted in place: it gets two more weights and another class, a subclass of its own.
That reaches layers inside of layers, leaves the graph, the paths and the base's weights as they
are, and `type(layer) is Dense` no longer holds: nobody replaces the `call` of such a layer with a
faster one that knows nothing of the update.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasft.model.fast import product_axes
from kerasft.model.regularizing import penalties


@dataclass(frozen=True)
class Update:
    """What a layer is adapted with, and what it was before.

    Args:
        rank: Columns of the first factor, rows of the second.
        alpha: The update counts `alpha / rank` times.
        dropout: Share of the inputs dropped before the first factor, in training.
        plain: The layer's class without an update.
        quantized: Whether its kernel was made `int8`.
    """

    rank: int
    alpha: float
    dropout: float
    plain: type
    quantized: bool = False

    @property
    def scale(self) -> float:
        """What the product of both factors is multiplied with."""
        return self.alpha / self.rank


# What the classes below are mixed into: a layer, of which they take any attribute.
_Mixed: Any = object


class LowRank(_Mixed):
    """Adds `scale * inputs a b` to what a layer computes, before its activation."""

    def call(self, inputs, *args, **kwargs):
        return self._updated(super().call, inputs, args, kwargs)

    def quantized_call(self, inputs, *args, **kwargs):
        return self._updated(super().quantized_call, inputs, args, kwargs)

    def _updated(self, plain, inputs, args, kwargs):
        outputs = self._without("activation", plain, inputs, args, kwargs)
        dropout = getattr(self, "lora_dropout", None)
        outputs += self.low_rank.scale * self._product(dropout(inputs) if dropout else inputs)
        return outputs if self.activation is None else self.activation(outputs)

    def _without(self, name, plain, inputs, args, kwargs):
        """Compute what the base computes without one of its attributes."""
        # Not through `__setattr__`: an activation may be a layer, which Keras would track again.
        held = self.__dict__
        kept, held[name] = held[name], None
        try:
            return plain(inputs, *args, **kwargs)
        finally:
            held[name] = kept

    def _product(self, inputs):
        sides = len(self.lora_a.shape) - 1
        return ops.tensordot(ops.tensordot(inputs, self.lora_a, sides), self.lora_b, 1)


class LowRankDense(LowRank, keras.layers.Dense):
    """A `Dense` layer with a low-rank update."""


class LowRankEinsumDense(LowRank, keras.layers.EinsumDense):
    """An `EinsumDense` layer with a low-rank update: `a` has the contracted axes, `b` the rest."""


class LowRankConvolution(LowRank):
    """The first factor is a convolution of `rank` filters, the second one of single positions."""

    def _product(self, inputs):
        padding = self.padding
        if padding == "causal":  # of one dimension alone, where Keras pads by hand, too
            inputs, padding = ops.pad(inputs, self._compute_causal_padding()), "valid"
        own = {"padding": padding, "data_format": self.data_format}
        inner = ops.conv(
            inputs, self.lora_a, strides=list(self.strides), dilation_rate=self.dilation_rate, **own
        )
        # A product of matrices where channels come last, and a convolution where they do not.
        if self.data_format == "channels_last":
            return ops.matmul(inner, self.lora_b)
        single = ops.reshape(self.lora_b, (*[1] * self.rank, *self.lora_b.shape))
        return ops.conv(inner, single, padding="valid", data_format=self.data_format)


class LowRankConv1D(LowRankConvolution, keras.layers.Conv1D):
    """A `Conv1D` layer with a low-rank update."""


class LowRankConv2D(LowRankConvolution, keras.layers.Conv2D):
    """A `Conv2D` layer with a low-rank update."""


class LowRankConv3D(LowRankConvolution, keras.layers.Conv3D):
    """A `Conv3D` layer with a low-rank update."""


class LowRankEmbedding(LowRank, keras.layers.Embedding):
    """An `Embedding` layer with a low-rank update of its table."""

    def _updated(self, plain, inputs, args, kwargs):
        outputs = plain(inputs, *args, **kwargs)
        return outputs + self._rows(inputs)

    def _rows(self, inputs):
        rows = ops.take(ops.convert_to_tensor(self.lora_a), ops.cast(inputs, "int32"), axis=0)
        dropout = getattr(self, "lora_dropout", None)
        rows = ops.matmul(dropout(rows) if dropout else rows, ops.convert_to_tensor(self.lora_b))
        return ops.cast(self.low_rank.scale * rows, self.compute_dtype)


class LowRankReversibleEmbedding(LowRankEmbedding, keras.layers.ReversibleEmbedding):
    """A `ReversibleEmbedding`: its update counts in both directions, where both have one table."""

    def _updated(self, plain, inputs, args, kwargs):
        reverse = kwargs.get("reverse", bool(args and args[0]))
        if not reverse:
            outputs = plain(inputs)
            mask = getattr(outputs, "_keras_mask", None)
            outputs += self._rows(inputs)
            if mask is not None:
                outputs._keras_mask = mask
            return outputs
        if not self.tie_weights:
            return plain(inputs, reverse=True)
        logits = self._without("logit_soft_cap", plain, inputs, (), {"reverse": True})
        there = ops.cast(inputs, self.reverse_dtype or self.compute_dtype)
        back = [ops.transpose(ops.cast(one, there.dtype)) for one in (self.lora_b, self.lora_a)]
        logits += self.low_rank.scale * ops.matmul(ops.matmul(there, back[0]), back[1])
        cap = self.logit_soft_cap
        return logits if cap is None else ops.tanh(logits / cap) * cap


KINDS: dict[type, type] = {
    keras.layers.Dense: LowRankDense,
    keras.layers.EinsumDense: LowRankEinsumDense,
    keras.layers.Conv1D: LowRankConv1D,
    keras.layers.Conv2D: LowRankConv2D,
    keras.layers.Conv3D: LowRankConv3D,
    keras.layers.Embedding: LowRankEmbedding,
    keras.layers.ReversibleEmbedding: LowRankReversibleEmbedding,
}
EMBEDDINGS = (keras.layers.Embedding, keras.layers.ReversibleEmbedding)
# What Keras (3.15) quantizes, and can be had back in float: not convolutions. A table that is read
# in both directions would be scaled in each by other numbers.
QUANTIZED = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding)


def kind_of(layer: keras.Layer) -> Any:
    """Return the class of Keras that a layer computes as, of those that take an update."""
    kind: Any
    for kind in type(layer).__mro__:
        if kind in KINDS:  # KerasHub has subclasses that change nothing
            same = type(layer).call is kind.call and type(layer).build is kind.build
            return kind if same or isinstance(layer, LowRank) else None
    return None


def name_of(layer: keras.Layer) -> str:
    """Return the name of the class of Keras that a layer computes as, or else of its own."""
    return (kind_of(layer) or type(layer)).__name__


def objection(layer: keras.Layer) -> str:
    """Say why a layer takes no update, `""` where it does.

    Example:
        >>> objection(keras.layers.LayerNormalization(name="norm"))
        'LayerNormalization'
    """
    kind = kind_of(layer)
    if kind is None:
        return name_of(layer)
    if isinstance(layer, LowRank):
        return f"{kind.__name__} that is adapted already"
    if not layer.built or layer.quantization_mode or layer.lora_enabled:
        return f"{kind.__name__} that is quantized or adapted by Keras"
    if getattr(layer, "groups", 1) > 1:
        return f"{kind.__name__} in groups"
    if kind is keras.layers.EinsumDense and not product_axes(layer.equation):
        return f"EinsumDense of {layer.equation}, which is no product of matrices"
    constraint = "embeddings_constraint" if kind in EMBEDDINGS else "kernel_constraint"
    return f"{kind.__name__} with a constraint" if getattr(layer, constraint) else ""


def kernel_of(layer: keras.Layer) -> Any:
    """Return the variable that an update is added to."""
    return layer._embeddings if kind_of(layer) in EMBEDDINGS else layer._kernel


def axes_of(layer: keras.Layer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes of a kernel that face the inputs, and those that face the outputs."""
    count = len(kernel_of(layer).shape)
    found = None
    if kind_of(layer) is keras.layers.EinsumDense:
        found = product_axes(layer.equation)
    return found or (tuple(range(count - 1)), (count - 1,))


def sides_of(layer: keras.Layer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the sizes of the axes that face the inputs, and of those that face the outputs."""
    shape = tuple(kernel_of(layer).shape)
    inputs, outputs = axes_of(layer)
    return tuple(shape[i] for i in inputs), tuple(shape[i] for i in outputs)


def quantizable(layer: keras.Layer) -> bool:
    """Whether the kernel of a layer can be kept as `int8`, and be had back in float."""
    if kind_of(layer) not in QUANTIZED:
        return False
    inputs, outputs = axes_of(layer)
    return (*inputs, *outputs) == tuple(range(len(inputs) + len(outputs)))


def largest_rank(layer: keras.Layer) -> int:
    """Return the smaller side of a kernel as a matrix: no update can have a larger rank."""
    return min(map(math.prod, sides_of(layer)))


def adapt(
    layer: keras.Layer, *, rank: int, alpha: float, dropout: float = 0.0, quantize: bool = False
) -> None:
    """Give a layer a low-rank update, which changes nothing until it is trained.

    Args:
        layer: A built layer without `objection`; it is changed in place.
        rank: The rank of the update, at most `largest_rank`.
        alpha: The update counts `alpha / rank` times.
        dropout: Share of the update's inputs dropped in training; of an embedding, which has none,
            of its rows of `a`.
        quantize: Whether the kernel is kept as `int8`, with a scale for each output.
    """
    inputs, outputs = sides_of(layer)
    plain, is_table = type(layer), kind_of(layer) in EMBEDDINGS
    zeros = keras.initializers.Zeros()
    if is_table:  # as PEFT: a row that is never read keeps an update of zero
        first, second = zeros, keras.initializers.RandomNormal(stddev=1.0)
    else:
        first, second = uniform(math.prod(inputs)), zeros
    kernel = kernel_of(layer)
    if quantize:
        # Weights alone: activations that are rounded too would be others than those of the merged
        # float layer.
        weights_alone = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
        layer.quantize("int8", type_check=False, config=weights_alone)
    layer._tracker.unlock()
    own = {"dtype": "float32"}
    layer.lora_a = layer.add_weight(
        name="lora_a", shape=(*inputs, rank), initializer=first, **own
    )
    layer.lora_b = layer.add_weight(
        name="lora_b", shape=(rank, *outputs), initializer=second, **own
    )
    penalties.of_factors(kernel, layer.lora_a, layer.lora_b, alpha / rank)
    if dropout:
        layer.lora_dropout = keras.layers.Dropout(
            dropout, dtype=layer.compute_dtype, name="lora_dropout"
        )
        layer.lora_dropout.build(())
    layer._tracker.lock()
    # Out of sight of Keras' tracking.
    vars(layer)["low_rank"] = Update(rank, alpha, dropout, plain, quantize)
    layer.__class__ = KINDS[kind_of(layer)]


def uniform(count: int) -> Any:
    """Return an initializer for the first factor: He's, over all inputs of a kernel's matrix."""
    limit = math.sqrt(6.0 / count)
    return keras.initializers.RandomUniform(-limit, limit)


def fold(layer: keras.Layer) -> Callable[[], None]:
    """Add a layer's update to its kernel, in `float32`, and make it the plain layer that it was.

    Args:
        layer: An adapted layer.

    Returns:
        What makes it the adapted layer again, to the bit.
    """
    to_int8 = _to_float(layer) if layer.low_rank.quantized else None
    kernel, adapted = kernel_of(layer), type(layer)
    before = kernel.value.numpy()
    merged = before.astype("float32") + delta(layer)
    kernel.assign(merged.astype(before.dtype))
    # Keras saves every layer that it finds in an attribute.
    dropout = vars(layer).pop("lora_dropout", None)
    layer.__class__ = layer.low_rank.plain

    def unfold() -> None:
        layer.__class__ = adapted
        if dropout is not None:
            vars(layer)["lora_dropout"] = dropout
        kernel.assign(before)
        if to_int8 is not None:
            to_int8()

    return unfold


def delta(layer: keras.Layer) -> np.ndarray:
    """Return what an update adds to the kernel, in `float32`."""
    factors = (layer.lora_a.value.numpy(), layer.lora_b.value.numpy())
    return np.float32(layer.low_rank.scale) * in_kernel(layer, np.tensordot(*factors, 1))


def in_kernel(layer: keras.Layer, product: np.ndarray) -> np.ndarray:
    """Return what is laid out as inputs by outputs in the layout of a layer's kernel."""
    (given, made), sides = axes_of(layer), sides_of(layer)
    return product.reshape(*sides[0], *sides[1]).transpose(np.argsort((*given, *made)))


def forget(layer: keras.Layer) -> None:
    """Take the weights of the update out of a layer that was folded for good."""
    for name in ("lora_a", "lora_b"):
        layer._untrack_variable(vars(layer)[name])
        del vars(layer)[name]
    for inner in [one for one in layer._layers if one.name == "lora_dropout"]:
        layer._layers.remove(inner)
    del vars(layer)["low_rank"]


def _to_float(layer: keras.Layer) -> Callable[[], None]:
    """Give a layer of `int8` a kernel in float, and return what gives it back what it had."""
    is_table = kind_of(layer) in EMBEDDINGS
    name = "embeddings" if is_table else "kernel"
    held = {f"_{name}": vars(layer)[f"_{name}"], f"{name}_scale": vars(layer)[f"{name}_scale"]}
    settings = {key: vars(layer).get(key) for key in ("quantization_config", "_is_quantized")}
    values, scale = (one.value.numpy() for one in held.values())
    # Of a table each row has one, else each output of the kernel as a matrix.
    inputs, outputs = sides_of(layer)
    shape = (*inputs, 1) if is_table else (*[1] * len(inputs), *outputs)
    policy, in_float = layer.dtype_policy, values.astype("float32") / scale.reshape(shape)
    # "int8_from_float32", say, where the layer computed in that before.
    without = keras.dtype_policies.get(policy.name.partition("_from_")[2])
    for variable in held.values():
        layer._untrack_variable(variable)
    layer._tracker.unlock()
    made = layer.add_weight(
        name=name, shape=in_float.shape, initializer="zeros", dtype=without.variable_dtype
    )
    setattr(layer, f"_{name}", made)
    layer._tracker.lock()
    del vars(layer)[f"{name}_scale"]
    made.assign(in_float)
    vars(layer).update(quantization_config=None, _is_quantized=False)
    layer.dtype_policy = without

    def undo() -> None:
        layer._untrack_variable(made)
        vars(layer).update(settings)
        layer.dtype_policy = policy
        layer._tracker.unlock()
        for key, variable in held.items():
            setattr(layer, key, variable)
        layer._tracker.lock()

    return undo
