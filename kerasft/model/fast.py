"""The same layers computed in fewer passes over memory, on processors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kerasft.model import folding
from kerasft.model.dropping import drop
from kerasft.model.regularizing.hooks import compute_by
from kerasft.model.text.causal_attention import tiled
from kerasft.system import heap

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Compiling what is fused takes some 0.3 s for each width of a batch; so many steps win it back.
STEPS_WORTH = 200


@contextmanager
def accelerated(model: keras.Model, *, steps: int) -> Iterator[list[str]]:
    """Let layers of a model compute faster while a block runs.

    Dropout draws 16 random bits a value instead of 32, and so drops other values than Keras' for
    the same seed: with it a run comes out as with another seed, without it the same up to
    rounding. The projections of attention
    (`EinsumDense`) are one product of two matrices each, where Keras' gradient is one for each
    example, added up. Attention of language models leaves out what its mask hides, see
    `text.causal_attention`. Batch normalization with fixed statistics becomes a part of the
    convolution before it. Layer normalization, and the bias and activation of a dense layer with
    GELU, take one compiled pass each, and their gradients another, in `float32` inside. All else
    is Keras' own, and so are weights, configs and files. From then on the process keeps the memory
    that operations free (`heap.keep`). On a GPU nothing is changed: there the operations are fused
    already.

    Args:
        model: A Keras model.
        steps: How many training steps are to come; a short run does not win back compiling.

    Yields:
        The paths of the layers that are replaced.
    """
    with ExitStack() as changed:
        attention = changed.enter_context(tiled(model)) if _on_processors() else []
        replaced = changed.enter_context(_replaced(model, steps))
        yield [layer.path or layer.name for layer in (*replaced, *attention)]


@contextmanager
def _replaced(model: keras.Model, steps: int) -> Iterator[list[Any]]:
    """Replace the `call` of layers while a block runs."""
    replaced = []
    if _on_processors():
        heap.keep()
        for layer, call in _calls(model, steps):
            compute_by(layer, call)
            replaced.append(layer)
    try:
        yield replaced
    finally:
        for layer in replaced:
            compute_by(layer, None)
        model.train_function = model.test_function = model.predict_function = None


def _on_processors() -> bool:
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


@contextmanager
def at_rest(model: keras.Model, *, steps: int = 0) -> Iterator[None]:
    """Let a model that trains no more compute faster while a block runs: what is traced stays so.

    As `accelerated`, and each batch normalization counts as fixed. Attention is Keras' own.

    Args:
        model: A Keras model.
        steps: See `accelerated`; of few, nothing is compiled by XLA, which a server may lack.
    """
    import keras

    fixed = [
        layer for layer in model._flatten_layers(include_self=False)
        if type(layer) is keras.layers.BatchNormalization and layer.trainable
    ]
    for layer in fixed:
        layer.trainable = False
    try:
        with _replaced(model, steps):
            yield
    finally:
        for layer in fixed:
            layer.trainable = True


def _calls(model: keras.Model, steps: int) -> Iterator[tuple[Any, Callable]]:
    """Give layers of a model what their `call` is replaced with."""
    import keras

    yield from folding.calls(model)
    for layer in model._flatten_layers(include_self=False):
        call = None
        # Classes of their own may mean something else by the same attributes.
        if type(layer) is keras.layers.Dropout:
            call = _dropout(layer)
        elif type(layer) is keras.layers.EinsumDense:
            call = _einsum_dense(layer)
        elif type(layer) is keras.layers.Dense and steps >= STEPS_WORTH:
            call = _dense(layer)
        elif type(layer) is keras.layers.LayerNormalization and steps >= STEPS_WORTH:
            call = _layer_norm(layer)
        if call is not None:
            yield layer, call


def _dropout(layer: keras.Layer) -> Callable | None:
    if not layer.rate or layer.noise_shape is not None:
        return None

    def call(inputs: tf.Tensor, training: bool = False) -> Any:
        return drop(inputs, layer.rate, layer.seed_generator.next()) if training else inputs

    return call


def _einsum_dense(layer: keras.Layer) -> Callable | None:
    """Return a call that multiplies matrices, where the equation says no more than that."""
    import tensorflow as tf

    contracted = contracted_sides(layer.equation)
    if not contracted or not layer.built or _is_changed(layer):
        return None
    kernel_shape = tuple(layer.kernel.shape)
    made = kernel_shape[contracted:]
    if layer.bias is not None and tuple(layer.bias.shape) != made:
        return None
    sides = math.prod(kernel_shape[:contracted])
    plain = type(layer).call.__get__(layer)

    def call(inputs: tf.Tensor, training: bool | None = None) -> Any:
        if not isinstance(inputs, tf.Tensor):
            return plain(inputs, training=training)
        rows = tf.reshape(inputs, [-1, sides])
        kernel = tf.reshape(tf.cast(layer.kernel, rows.dtype), [sides, -1])
        product = tf.matmul(rows, kernel)
        if layer.bias is not None:
            product = tf.nn.bias_add(product, tf.reshape(tf.cast(layer.bias, rows.dtype), [-1]))
        batch = tf.shape(inputs)[: len(inputs.shape) - contracted]
        outputs = tf.reshape(product, tf.concat([batch, made], 0))
        outputs.set_shape([*inputs.shape[: len(inputs.shape) - contracted], *made])
        return outputs if layer.activation is None else layer.activation(outputs)

    return call


def contracted_sides(equation: str) -> int:
    """Return over how many sides an einsum equation is a product of matrices.

    Args:
        equation: Of an input and a kernel, `"abc,cde->abde"`.

    Returns:
        How many last sides of the input meet the first ones of the kernel; 0 where the equation
        means anything else.

    Example:
        >>> contracted_sides("abcd,cde->abe"), contracted_sides("abc,bcd->abd")
        (2, 0)
    """
    inputs, _, rest = equation.replace(" ", "").partition(",")
    kernel, _, outputs = rest.partition("->")
    for count in range(1, len(kernel)):
        batch, summed, made = inputs[:-count], kernel[:count], kernel[count:]
        distinct = set(batch) - {"."} | set(kernel)
        if (
            batch and inputs == batch + summed and outputs == batch + made
            and len(distinct) == len(batch.replace(".", "")) + len(kernel)
        ):
            return count
    return 0


def product_axes(equation: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return which axes of a kernel face the inputs, and which the outputs, in their order.

    Args:
        equation: Of an input and a kernel. Gemma's `"btd,ndh->btnh"` has those of the inputs in the
            middle of the kernel.

    Returns:
        Both; `None` where the equation is no product of matrices.

    Example:
        >>> product_axes("abc,cde->abde"), product_axes("btd,ndh->btnh")
        (((0,), (1, 2)), ((1,), (0, 2)))
        >>> product_axes("abc,bcd->abd")
    """
    inputs, _, rest = equation.replace(" ", "").partition(",")
    kernel, _, outputs = rest.partition("->")
    count = sum(letter not in outputs for letter in kernel)
    batch, summed = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    made = outputs[len(batch) :]
    distinct = len({*batch.replace(".", ""), *kernel}) == len(batch.replace(".", "")) + len(kernel)
    if not (batch and summed and made and distinct and outputs.startswith(batch)):
        return None
    if sorted(summed + made) != sorted(kernel):
        return None
    return tuple(map(kernel.index, summed)), tuple(map(kernel.index, made))


def _is_changed(layer: keras.Layer) -> bool:
    """Whether a dense layer computes something else than its kernel says."""
    return bool(getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False))


def _dense(layer: keras.Layer) -> Callable | None:
    import tensorflow as tf

    form = _gelu_of(layer.activation)
    if not form or not layer.use_bias or _is_changed(layer):
        return None

    activate, plain = _fused_gelu(form), type(layer).call.__get__(layer)

    def call(inputs: tf.Tensor, training: bool | None = None) -> Any:
        if not isinstance(inputs, tf.Tensor) or not _is_recorded():
            return plain(inputs, training=training)
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])
        product = tf.matmul(rows, tf.cast(layer.kernel, rows.dtype))
        made = activate(product, tf.cast(tf.convert_to_tensor(layer.bias), tf.float32))
        return tf.reshape(made, tf.concat([tf.shape(inputs)[:-1], [layer.units]], 0))

    return call


def _gelu_of(activation: Any) -> str:
    """Name the form of GELU that an activation computes, or `""`."""
    import keras
    import numpy as np

    if "gelu" not in getattr(activation, "__name__", ""):
        return ""
    points = np.linspace(-4.0, 4.0, 41, dtype="float32")
    found = np.asarray(activation(points))
    for name, approximate in (("tanh", True), ("erf", False)):
        if np.allclose(found, keras.activations.gelu(points, approximate=approximate), atol=1e-6):
            return name
    return ""


def _is_recorded() -> bool:
    """Whether a gradient will be asked for: to compile for an answer alone does not pay."""
    from tensorflow.python.eager import record

    return record.could_possibly_record()


def _layer_norm(layer: keras.Layer) -> Callable | None:
    import tensorflow as tf

    if not layer.built or layer.gamma is None or layer.beta is None or layer.rms_scaling:
        return None
    normalize, plain = _fused_layer_norm(layer.epsilon), type(layer).call.__get__(layer)

    def call(inputs: tf.Tensor) -> Any:
        if not isinstance(inputs, tf.Tensor) or not _is_recorded():
            return plain(inputs)
        if layer.axis not in ([-1], [len(inputs.shape) - 1]):
            return plain(inputs)
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])
        made = normalize(
            rows, *(tf.cast(tf.convert_to_tensor(v), tf.float32) for v in (layer.gamma, layer.beta))
        )
        outputs = tf.reshape(tf.cast(made, layer.compute_dtype), tf.shape(inputs))
        outputs.set_shape(inputs.shape)
        return outputs

    return call


@lru_cache
def _fused_layer_norm(epsilon: float) -> Callable:
    """Return layer normalization of the rows of a matrix (Ba et al. 2016) with its gradient."""
    import tensorflow as tf

    def standardize(x: tf.Tensor) -> tuple[Any, Any]:
        x = tf.cast(x, tf.float32)
        centred = x - tf.reduce_mean(x, axis=1, keepdims=True)
        scale = tf.math.rsqrt(tf.reduce_mean(centred * centred, axis=1, keepdims=True) + epsilon)
        return centred * scale, scale

    @tf.function(jit_compile=True, autograph=False)
    def forward(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> Any:
        return tf.cast(standardize(x)[0] * gamma + beta, x.dtype)

    @tf.function(jit_compile=True, autograph=False)
    def backward(x: tf.Tensor, gamma: tf.Tensor, upstream: tf.Tensor) -> tuple[Any, Any, Any]:
        made, scale = standardize(x)
        upstream = tf.cast(upstream, tf.float32)
        inner = upstream * gamma
        along = tf.reduce_mean(inner * made, axis=1, keepdims=True)
        gradient = scale * (inner - tf.reduce_mean(inner, axis=1, keepdims=True) - made * along)
        of_gamma = tf.reduce_sum(upstream * made, axis=0)
        return tf.cast(gradient, x.dtype), of_gamma, tf.reduce_sum(upstream, axis=0)

    @tf.custom_gradient
    def normalize(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[Any, Callable]:
        return forward(x, gamma, beta), lambda upstream: backward(x, gamma, upstream)

    return normalize


def _with_gradient(value: Callable, slope: Callable) -> Callable:
    """Return `cast(value(cast(x) + bias))`, compiled, and its gradient, compiled as well."""
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def forward(x: tf.Tensor, bias: tf.Tensor) -> Any:
        return tf.cast(value(tf.cast(x, tf.float32) + bias), x.dtype)

    @tf.function(jit_compile=True, autograph=False)
    def backward(x: tf.Tensor, bias: tf.Tensor, upstream: tf.Tensor) -> tuple[Any, Any]:
        gradient = tf.cast(upstream, tf.float32) * slope(tf.cast(x, tf.float32) + bias)
        return tf.cast(gradient, x.dtype), tf.reduce_sum(gradient, axis=0)

    @tf.custom_gradient
    def activate(x: tf.Tensor, bias: tf.Tensor) -> tuple[Any, Callable]:
        return forward(x, bias), lambda upstream: backward(x, bias, upstream)

    return activate


@lru_cache
def _fused_gelu(form: str) -> Callable:
    """Return `gelu(x + bias)`, a function of both that is compiled once in a process."""
    return {"tanh": _tanh_gelu, "erf": _erf_gelu}[form]()


def _tanh_gelu() -> Callable:
    """GELU by tanh, `x / 2 (1 + tanh(k (x + 0.044715 x^3)))`, written as `x sigmoid(2 k (...))`."""
    import tensorflow as tf

    linear = 2.0 * math.sqrt(2.0 / math.pi)
    cubic = 0.044715 * linear

    def gate(x: tf.Tensor) -> Any:
        return tf.sigmoid(x * (linear + cubic * x * x))

    def slope(x: tf.Tensor) -> Any:
        share = gate(x)
        return share * (1.0 + x * (1.0 - share) * (linear + 3.0 * cubic * x * x))

    return _with_gradient(lambda x: x * gate(x), slope)


def _erf_gelu() -> Callable:
    """GELU as it is defined, `x Phi(x)` (Hendrycks and Gimpel 2016)."""
    import tensorflow as tf

    def share(x: tf.Tensor) -> Any:
        return 0.5 * (1.0 + tf.math.erf(x / math.sqrt(2.0)))

    def slope(x: tf.Tensor) -> Any:
        return share(x) + x * tf.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)

    return _with_gradient(lambda x: x * share(x), slope)
