"""Accelerators of this machine, as TensorFlow sees them."""

from __future__ import annotations

from typing import Any


def gpus() -> list[Any]:
    """Return the GPUs that TensorFlow may use; none is set up by asking."""
    import tensorflow as tf

    return list(tf.config.list_physical_devices("GPU"))


def is_deterministic() -> bool:
    """Whether TensorFlow computes the same bits each time."""
    from tensorflow.python.framework import config  # nothing public tells

    return bool(config.is_op_determinism_enabled())


def set_deterministic(wanted: bool) -> None:
    """Have TensorFlow compute the same bits each time, or in whatever way is fastest.

    Args:
        wanted: Which of the two; operations without a deterministic kernel raise with the first.
    """
    import tensorflow as tf
    from tensorflow.python.framework import config

    if wanted:
        tf.config.experimental.enable_op_determinism()
    elif is_deterministic():
        config.disable_op_determinism()
