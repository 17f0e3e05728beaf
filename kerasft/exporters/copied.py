"""Networks made anew from their configs, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError

if TYPE_CHECKING:
    import keras


def copied(
    network: keras.Model, problem: str, *, config: Mapping[str, Any] | None = None
) -> Any:
    """Return a network once more, on tensors and variables of its own.

    Args:
        network: The network.
        problem: What is told where it does not come back from its config.
        config: A changed config; that of the network by default.

    Raises:
        UserError: If the copy has other weights.

    Example:
        >>> import keras
        >>> one = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> other = copied(one, "It cannot be copied.")
        >>> bool((other.get_weights()[0] == one.get_weights()[0]).all())
        True
    """
    copy = type(network).from_config(network.get_config() if config is None else dict(config))
    weights = network.get_weights()
    if [one.shape for one in weights] != [one.shape for one in copy.get_weights()]:
        raise UserError(problem)
    copy.set_weights(weights)
    return copy
