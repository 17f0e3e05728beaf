"""Heads: from the features of any backbone to the outputs of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from kerasft.catalogue import heads
from kerasft.errors import UserError
from kerasft.spec import Features

if TYPE_CHECKING:
    import keras

Pool = Literal["auto", "avg", "max", "cls", "last", "attention", "concat"]


def pool(
    features: Features,
    pooling: Literal["auto", "avg", "max", "cls", "last", "attention", "concat"] = "auto",
) -> Any:
    """Make one vector an example of a backbone's features.

    Args:
        features: `Features` of a backbone.
        pooling: `"avg"`, `"max"`, `"cls"` (the summary token), `"last"` (the last token that is
            no padding), `"attention"` (a learned weight for each position), `"concat"` (average
            and maximum), or `"auto"`: `"last"` for networks that read from left to right, else
            `"avg"`.

    Returns:
        A tensor `[batch, width]`.

    Raises:
        UserError: If `"cls"` is asked of a backbone without a summary token.
    """
    from kerasft.model.layers import Pooling

    if features.sequence is None:
        raise UserError(features.missing)
    if pooling == "auto":
        pooling = "last" if features.causal else "avg"
    if pooling == "cls" and not features.summary:
        raise UserError(
            "head.pooling=cls needs a backbone whose first position is a summary token ([CLS]), "
            "and this one has none. Allowed here: auto, avg, max, last, attention, concat. "
            "Received: cls."
        )
    if features.mask is None:
        return Pooling(pooling, name="head_pooling")(features.sequence)
    return Pooling(pooling, name="head_pooling")(features.sequence, mask=features.mask)


def _outputs(x: keras.KerasTensor, units: int) -> Any:
    import keras

    # The logits stay in float32 whatever the precision of the rest: losses need the digits. A small
    # start (as BERT's own heads have) disturbs the backbone less than Keras' default.
    small = keras.initializers.RandomNormal(stddev=0.02)
    return keras.layers.Dense(
        units, kernel_initializer=small, dtype="float32", name="head_outputs"
    )(x)


def linear(
    features: Features,
    *,
    units: int,
    pooling: Literal["auto", "avg", "max", "cls", "last", "attention", "concat"] = "auto",
    dropout: float = 0.1,
) -> Any:
    """Pooling, dropout and one dense layer.

    Args:
        features: `Features` of a backbone.
        units: Number of outputs.
        pooling: How positions become one vector, see `pool`.
        dropout: Share of the pooled values dropped in training, from 0 up to 1.

    Returns:
        Logits, a float32 tensor `[batch, units]`.

    Example:
        >>> linear(Features(keras.Input((7, 16))), units=3).shape
        (None, 3)
    """
    import keras

    heads.require(dropout=dropout)
    x = pool(features, pooling)
    if dropout:
        x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    return _outputs(x, units)


def mlp(
    features: Features,
    *,
    units: int,
    pooling: Literal["auto", "avg", "max", "cls", "last", "attention", "concat"] = "auto",
    depth: int = 1,
    width: int = 256,
    norm: Literal["none", "layer", "batch"] = "layer",
    activation: str = "gelu",
    dropout: float = 0.3,
) -> Any:
    """Pooling and a small network of dense layers.

    Args:
        features: `Features` of a backbone.
        units: Number of outputs.
        pooling: How positions become one vector, see `pool`.
        depth: Number of hidden layers.
        width: Units of each hidden layer.
        norm: `"layer"`, `"batch"` or `"none"`: what stands before each hidden layer.
        activation: A Keras activation.
        dropout: Share of the values dropped after each hidden layer, from 0 up to 1.

    Returns:
        Logits, a float32 tensor `[batch, units]`.

    Example:
        >>> mlp(Features(keras.Input((7, 16))), units=3, depth=2, width=8).shape
        (None, 3)
    """
    import keras

    heads.require(depth=depth, width=width, dropout=dropout)
    norms = {
        "none": lambda name: lambda x: x,
        "layer": lambda name: keras.layers.LayerNormalization(name=name),
        "batch": lambda name: keras.layers.BatchNormalization(name=name),
    }
    if norm not in norms:
        raise UserError(f"head.norm must be one of {', '.join(norms)}. Received: {norm!r}.")
    x = pool(features, pooling)
    for i in range(depth):
        x = norms[norm](f"head_norm_{i}")(x)
        x = keras.layers.Dense(width, activation=activation, name=f"head_dense_{i}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"head_dropout_{i}")(x)
    return _outputs(x, units)
