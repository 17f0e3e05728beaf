"""The precision that a trained network computes in."""

from __future__ import annotations

from typing import Any


def in_float32(model: Any) -> Any:
    """Let a network that was trained in mixed precision compute in `float32` from now on.

    Its weights are `float32` anyway. What is measured is then what is served, to the last digits:
    in half precision an answer hangs on the batch that it is computed in, and few machines that
    serve have fast `bfloat16`.

    Args:
        model: A Keras model; it is changed in place.

    Returns:
        The same model.

    Example:
        >>> import keras
        >>> layer = keras.layers.Dense(2, dtype="mixed_bfloat16")
        >>> model = keras.Sequential([keras.Input((3,)), layer])
        >>> in_float32(model).layers[0].compute_dtype
        'float32'
    """
    changed = False
    for layer in model._flatten_layers(include_self=True):
        if layer.compute_dtype != "float32":
            layer.dtype_policy = "float32"
            changed = True
    if changed:
        # What was compiled before computes as before.
        model.train_function = model.test_function = model.predict_function = None
    return model
