"""Regularizers: functions on an assembled model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError

if TYPE_CHECKING:
    import keras


def l2(model: keras.Model, *, strength: float = 1e-4) -> Any:
    """Add `strength * sum(kernel ** 2)` to the loss, for every kernel of the model.

    Norms and biases are left alone. Only kernels that train get a gradient from it.

    Args:
        model: The assembled model.
        strength: Factor of the squared sum.

    Returns:
        The same model.

    Example:
        >>> len(l2(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])).losses)
        1
    """
    import keras

    _check_range("regularize.l2.strength", strength, 0.0, 1e6)
    penalty = keras.regularizers.L2(strength)
    found = 0
    for variable in model.trainable_variables:
        if len(variable.shape) > 1 and "embedding" not in variable.path:
            variable.regularizer = penalty
            found += 1
    if not found:
        raise UserError("regularize.l2 found no kernel in the model: remove it.")
    return model


def dropout(model: keras.Model, *, rate: float = 0.2) -> Any:
    """Set the rate of every dropout layer of the backbone.

    Args:
        model: The assembled model.
        rate: Share of the values dropped in training, from 0 up to 1.

    Returns:
        The same model.

    Raises:
        UserError: If the backbone has no dropout layer.
    """
    import keras

    _check_range("regularize.dropout.rate", rate, 0.0, 0.99)
    found, of_head = 0, {id(part) for part in getattr(model, "head_parts", ())}
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Dropout) and id(layer) not in of_head:
            if not hasattr(layer, "seed_generator"):
                # Made with rate 0, a layer has none; and once built it takes none unasked.
                layer._tracker.unlock()
                layer.seed_generator = keras.random.SeedGenerator(layer.seed)
                layer._tracker.lock()
            layer.rate = rate
            found += 1
    if not found:
        raise UserError(
            "regularize.dropout found no dropout layer in the backbone. Set head.dropout instead, "
            "or remove it."
        )
    return model


def _check_range(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{key} must lie between {low} and {high}. Received: {value}.")
