"""Dropout that draws 16 random bits a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


def drop(values: tf.Tensor, rate: float, seed: tf.Tensor | Sequence[int]) -> Any:
    """Set a share of values to zero at random, and scale the others up.

    Args:
        values: A float tensor of any shape.
        rate: The share, between 0 and 1; it is met to 1/65536.
        seed: Integer tensor `[2]`; the same one drops the same values.

    Returns:
        A tensor like `values`.

    Example:
        >>> drop(tf.ones([4]), 0.5, [1, 2]).numpy()
        array([0., 0., 2., 0.], dtype=float32)
    """
    import tensorflow as tf

    stays = tf.reshape(staying(tf.size(values), rate, seed), tf.shape(values))
    return values * (tf.cast(stays, values.dtype) * tf.cast(1.0 / (1.0 - rate), values.dtype))


def staying(count: int | tf.Tensor, rate: float, seed: tf.Tensor | Sequence[int]) -> Any:
    """Choose at random which of so many values stay, see `drop`.

    Returns:
        `bool[count]`.
    """
    import tensorflow as tf

    # Random numbers are the cost: each draw of 32 bits serves two values.
    bits = tf.random.stateless_uniform(
        [(count + 1) // 2], tf.cast(seed, tf.int32), dtype=tf.uint32, minval=None, maxval=None
    )
    bits = tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:count]
    return bits >= tf.constant(round(rate * 2**16), tf.uint16)
