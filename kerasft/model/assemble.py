"""Puts a head on a backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kerasft.spec import Backbone, Features


def features_of(backbone: Backbone) -> Features:
    """Return what the backbone computes in the one form that every head takes.

    Args:
        backbone: A `Backbone`. Its output may be a feature map `[batch, height, width, channels]`,
            a sequence `[batch, positions, width]`, a vector `[batch, width]`, or a dict with a
            `sequence_output`.

    Returns:
        `Features`, as symbolic tensors of the network.
    """
    from kerasft.model.layers import places_of

    sequence, *mask = places_of(backbone.network)
    return Features(
        sequence,
        mask=mask[0] if mask else None,
        summary=backbone.summary,
        causal=backbone.causal,
    )


def assemble(backbone: Backbone, head: Callable[[Features], Any], *, name: str = "model") -> Any:
    """Put a head on a backbone.

    Args:
        backbone: A `Backbone`.
        head: A function from `Features` to outputs.
        name: The name of the model.

    Returns:
        A functional `keras.Model` from preprocessed tensors to outputs; the layers of the
        backbone stand in it directly, so that each can be frozen or found by its name.
    """
    from kerasft.model.layers import Assembled

    features = features_of(backbone)
    places = [features.sequence] if features.mask is None else [features.sequence, features.mask]
    return Assembled(backbone.network, places, head(features), name=name)
