"""Focal crossentropy of logits, as exact far from the truth as near it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# What `1 - p` is at least, below which its powers have no gradient.
LEAST = 1e-12


def exact(found: Any) -> Any:
    """Return a focal loss of Keras as one that is computed of the logits, any other one as it is.

    Keras 3.15 turns logits into probabilities, which it keeps away from 0 and 1 by 1e-7. So what is
    as wrong as can be has no gradient, though a focal loss is there to teach just that (Lin et al.,
    "Focal Loss for Dense Object Detection", 2017, <https://arxiv.org/abs/1708.02002>).

    Args:
        found: A loss, with its settings.

    Example:
        >>> import keras
        >>> of = dict(y_true=[[1.0, 0.0]], y_pred=[[-2.0, 1.0]])
        >>> plain = keras.losses.BinaryFocalCrossentropy(from_logits=True)
        >>> bool(abs(exact(plain)(**of) - plain(**of)) < 1e-6)
        True
    """
    import keras

    kinds = keras.losses
    if type(found) is kinds.BinaryFocalCrossentropy and found.from_logits:
        return _loss(found, _binary)
    if type(found) is kinds.CategoricalFocalCrossentropy and found.from_logits:
        return _loss(found, _categorical)
    return found


def _loss(found: keras.losses.Loss, compute: Callable[[Any, Any, Any], Any]) -> Any:
    import keras

    class Exact(keras.losses.Loss):
        def call(self, y_true, y_pred):
            y_pred = keras.ops.convert_to_tensor(y_pred)
            return compute(found, keras.ops.cast(y_true, y_pred.dtype), y_pred)

    return Exact(name=found.name, reduction=found.reduction, dtype=found.dtype)


def _power(found: keras.losses.Loss, base: tf.Tensor) -> Any:
    import keras

    return keras.ops.power(keras.ops.maximum(base, LEAST), found.gamma)


def _binary(found: keras.losses.Loss, y: tf.Tensor, logits: tf.Tensor) -> Any:
    from keras import ops

    if found.label_smoothing:
        y = y * (1.0 - found.label_smoothing) + 0.5 * found.label_smoothing
    crossentropy = y * ops.softplus(-logits) + (1.0 - y) * ops.softplus(logits)
    # 1 - p of what is true, without taking a small number from 1.
    far = y * ops.sigmoid(-logits) + (1.0 - y) * ops.sigmoid(logits)
    each = _power(found, far) * crossentropy
    if found.apply_class_balancing:
        each = (y * found.alpha + (1.0 - y) * (1.0 - found.alpha)) * each
    return ops.mean(each, axis=found.axis)


def _categorical(found: keras.losses.Loss, y: tf.Tensor, logits: tf.Tensor) -> Any:
    from keras import ops

    if found.label_smoothing:
        y = y * (1.0 - found.label_smoothing) + found.label_smoothing / y.shape[-1]
    logs = ops.log_softmax(logits, axis=found.axis)
    each = found.alpha * _power(found, -ops.expm1(logs)) * -y * logs
    return ops.sum(each, axis=found.axis)
