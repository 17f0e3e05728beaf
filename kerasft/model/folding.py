"""Batch normalization with fixed statistics as a part of the convolution before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def calls(model: keras.Model) -> Iterator[tuple[Any, Callable]]:
    """Give convolutions and batch normalizations calls that do the work of both in one.

    With fixed statistics a normalization multiplies each channel with a number and adds another.
    The first goes into the kernel, which is small, and the second is a bias, which TensorFlow adds
    within the convolution: two passes over a feature map less, and its gradient likewise (Jacob
    et al. 2018, section 3.2). Whether the statistics are fixed is asked at each call: where a
    normalization trains, both layers compute as ever.

    Args:
        model: A `keras.Model`; of one that is not functional nothing is known, and nothing given.

    Yields:
        A layer, and what its `call` may be replaced with.
    """
    for convolution, normalization in _pairs(model):
        yield convolution, _convolve(convolution, normalization)
        yield normalization, _add(convolution, normalization)


def _pairs(model: keras.Model) -> Iterator[tuple[Any, Any]]:
    """Find each convolution whose output one batch normalization takes, and nothing else."""
    import keras

    by_depth = getattr(model, "_nodes_by_depth", {})
    nodes = [node for of_depth in by_depth.values() for node in of_depth]
    read = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    read.update(id(tensor) for tensor in model.outputs)
    seen = Counter(id(node.operation) for node in nodes)
    for node in nodes:
        normalization = node.operation
        if type(normalization) is not keras.layers.BatchNormalization:
            continue
        tensor = node.input_tensors[0]
        convolution = tensor._keras_history.operation
        if (
            type(convolution) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
            and read[id(tensor)] == 1 and seen[id(convolution)] == seen[id(normalization)] == 1
            and convolution.activation in (None, keras.activations.linear)
            and convolution.data_format == "channels_last"
            and normalization.axis in (-1, len(tensor.shape) - 1)
            and not getattr(convolution, "lora_enabled", False)
        ):
            yield convolution, normalization


def _convolve(convolution: keras.Layer, normalization: keras.Layer) -> Callable:
    import keras
    import tensorflow as tf

    plain = type(convolution).call.__get__(convolution)

    def call(inputs: tf.Tensor) -> Any:
        if normalization.trainable:
            return plain(inputs)
        kernel = _exact(convolution.kernel)
        # That of a depthwise convolution has its channels in two dimensions.
        sides = kernel.shape[-2:] if _is_depthwise(convolution) else kernel.shape[-1:]
        kernel = tf.cast(kernel * tf.reshape(_scale(normalization), sides), inputs.dtype)
        if not _is_depthwise(convolution):
            return convolution.convolution_op(inputs, kernel)
        return keras.ops.depthwise_conv(
            inputs, kernel, strides=convolution.strides, padding=convolution.padding,
            data_format=convolution.data_format, dilation_rate=convolution.dilation_rate,
        )

    return call


def _add(convolution: keras.Layer, normalization: keras.Layer) -> Callable:
    import tensorflow as tf

    plain = type(normalization).call.__get__(normalization)

    def call(inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> Any:
        if normalization.trainable:
            return plain(inputs, training=training, mask=mask)
        start = 0.0 if convolution.bias is None else _exact(convolution.bias)
        offset = (start - _exact(normalization.moving_mean)) * _scale(normalization)
        if normalization.beta is not None:
            offset += _exact(normalization.beta)
        return tf.nn.bias_add(inputs, tf.cast(offset, inputs.dtype))

    return call


def _is_depthwise(convolution: keras.Layer) -> bool:
    import keras

    return type(convolution) is keras.layers.DepthwiseConv2D


def _scale(normalization: keras.Layer) -> Any:
    import tensorflow as tf

    scale = tf.math.rsqrt(_exact(normalization.moving_variance) + normalization.epsilon)
    return scale if normalization.gamma is None else scale * _exact(normalization.gamma)


def _exact(variable: keras.Variable) -> Any:
    """Return a variable as it is kept, where a read within a layer would round it."""
    import tensorflow as tf

    return tf.convert_to_tensor(variable._value)
