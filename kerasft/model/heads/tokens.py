"""A head for each token of a text."""

from __future__ import annotations

from typing import Any

from kerasft.errors import UserError
from kerasft.spec import Features


def tokens(features: Features, *, tags: int, dropout: float = 0.1) -> Any:
    """Dropout and one dense layer, for each token alike.

    Args:
        features: `Features` of a backbone for text.
        tags: The number of tags that a token may have.
        dropout: Share of the values dropped in training, from 0 up to 1.

    Returns:
        Logits, a float32 tensor `[batch, positions, tags]`.

    Raises:
        UserError: If the backbone gives no sequence.

    Example:
        >>> import keras
        >>> tokens(Features(keras.Input((None, 16))), tags=5).shape
        (None, None, 5)
    """
    import keras

    if features.sequence is None:
        raise UserError(features.missing)
    x = features.sequence
    if dropout:
        x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    return keras.layers.Dense(
        tags, kernel_initializer=keras.initializers.RandomNormal(stddev=0.02), dtype="float32",
        name="head_outputs",
    )(x)  # fmt: skip
