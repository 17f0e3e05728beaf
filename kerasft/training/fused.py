"""The optimizer's update: right for embeddings, and Adam's in one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def add_up_rows(optimizer: Any) -> None:
    """Let an optimizer see one gradient for each row of an embedding.

    TensorFlow lists a row's gradient once for each time that the row was read. Keras (3.15) squares
    the entries of that list one by one, for Adam's second moment and for the norm that clipping
    looks at, where the square of their sum is meant: a token that stands in a batch often would be
    moved by another formula than all other weights.

    Args:
        optimizer: A Keras optimizer; it is changed in place.

    Example:
        >>> add_up_rows(keras.optimizers.Adam(1e-3))
    """
    apply = optimizer.apply

    def apply_added_up(gradients: Any, trainable_variables: Any = None) -> Any:
        return apply([_summed(gradient) for gradient in gradients], trainable_variables)

    optimizer.apply = apply_added_up


def fuse(optimizer: Any) -> bool:
    """Let an optimizer update each variable with one fused operation, where TensorFlow has it.

    A variable, its two moments and its gradient are then read once instead of about twenty times;
    and the gradient of an embedding stays a list of rows until then, so that clipping it costs
    what its rows cost. The formula is that of Keras, up to the order of rounding:
    `m += (1 - b1) (g - m)`, `v += (1 - b2) (g^2 - v)`,
    `w -= rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon)` (Kingma and Ba 2014, the
    formulation before section 2.1).

    Args:
        optimizer: An optimizer; it is changed in place.

    Returns:
        Whether it was changed: `Adam` and `AdamW` are, without `amsgrad`.

    Example:
        >>> fuse(keras.optimizers.AdamW(1e-3)), fuse(keras.optimizers.SGD(1e-3))
        (True, False)
    """
    import keras

    if type(optimizer) not in (keras.optimizers.Adam, keras.optimizers.AdamW):
        return False
    if optimizer.amsgrad:
        return False

    def update_step(gradient: Any, variable: Any, learning_rate: Any) -> None:
        _update(optimizer, gradient, variable, learning_rate)

    optimizer.update_step = update_step
    if optimizer.global_clipnorm:
        optimizer._clip_gradients = lambda gradients: clip(gradients, optimizer.global_clipnorm)
    return True


def _update(optimizer: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
    import tensorflow as tf

    step = tf.cast(optimizer.iterations + 1, tf.float32)
    index = optimizer._get_variable_index(variable)
    if isinstance(gradient, tf.IndexedSlices):
        # Adam moves all rows, those without a gradient too.
        gradient = tf.scatter_nd(gradient.indices[:, None], gradient.values, variable.shape)
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(optimizer._momentums[index]),
        v=_handle(optimizer._velocities[index]),
        beta1_power=tf.pow(float(optimizer.beta_1), step),
        beta2_power=tf.pow(float(optimizer.beta_2), step),
        lr=tf.cast(learning_rate, tf.float32),
        beta1=float(optimizer.beta_1),
        beta2=float(optimizer.beta_2),
        epsilon=float(optimizer.epsilon),
        grad=tf.cast(gradient, tf.float32),
    )


def _handle(variable: Any) -> Any:
    return variable.handle if hasattr(variable, "handle") else variable.value.handle


def clip(gradients: Sequence[Any], most: float) -> list[Any]:
    """Scale gradients down together where their global norm exceeds a limit.

    Args:
        gradients: Tensors, or `tf.IndexedSlices` of embeddings with each row once, which stay
            such; or `None`.
        most: The norm that is allowed.

    Returns:
        The scaled gradients. Where the norm is no number, none of them is.
    """
    import tensorflow as tf

    squares = [
        2.0 * tf.nn.l2_loss(tf.cast(_values(gradient), tf.float32))
        for gradient in gradients if gradient is not None
    ]
    norm = tf.sqrt(tf.add_n(squares))
    scale = most / tf.maximum(norm, most) + (norm - norm)

    def scaled(gradient: Any) -> Any:
        if gradient is None:
            return None
        values = _values(gradient) * tf.cast(scale, _values(gradient).dtype)
        if not isinstance(gradient, tf.IndexedSlices):
            return values
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)

    return [scaled(gradient) for gradient in gradients]


def _values(gradient: Any) -> Any:
    import tensorflow as tf

    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _summed(gradient: Any) -> Any:
    """Add up the rows of an embedding's gradient that belong to the same entry."""
    import tensorflow as tf

    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(
        tf.cast(gradient.values, tf.float32), places, tf.size(rows)
    )
    return tf.IndexedSlices(values, rows, gradient.dense_shape)
