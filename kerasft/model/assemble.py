"""Puts a head on a backbone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError
from kerasft.spec import Backbone, Features

if TYPE_CHECKING:
    import keras


def features_of(backbone: Backbone) -> Features:
    """Return what the backbone computes in the one form that every head takes.

    Args:
        backbone: A `Backbone`. Its output may be a feature map `[batch, height, width, channels]`,
            a sequence `[batch, positions, width]`, a vector `[batch, width]`, or a dict with a
            `sequence_output` or with what `feature` names.

    Returns:
        `Features`, as symbolic tensors of the network.
    """
    from kerasft.model.layers import as_sequence
    from kerasft.model.vision.maps import is_pyramid, maps_of, size_of

    inputs = backbone.network.input
    output, missing = _output(backbone)
    maps = maps_of(backbone.network)
    return Features(
        None if output is None else as_sequence(output),
        mask=inputs.get("padding_mask") if isinstance(inputs, dict) else None,
        summary=backbone.summary,
        causal=backbone.causal,
        maps=maps,
        last=next((level for level, tensor in maps.items() if tensor is output), None),
        size=size_of(backbone.network),
        fused=is_pyramid(backbone.network),
        missing=missing,
        whole=backbone.whole,
        tokens=inputs.get("token_ids") if isinstance(inputs, dict) else None,
        embedding=next(
            (one for one in backbone.network.layers if hasattr(one, "tie_weights")), None
        ),
    )


def _output(backbone: Backbone) -> tuple[Any, str]:
    """Return the one output of a backbone that a head on a sequence takes, or why there is none."""
    output = backbone.network.output
    if not isinstance(output, dict | list | tuple):
        return output, ""
    named = output if isinstance(output, dict) else dict(enumerate(output))
    for key in (backbone.feature, "sequence_output"):
        if key in named:
            return named[key], ""
    if len(named) == 1:
        return next(iter(named.values())), ""
    has = ", ".join(f"{name} {_shape(tensor)}" for name, tensor in named.items())
    return None, (
        f"{backbone.name} has several outputs, and this head takes one sequence, feature map or "
        f"vector. Received: {has}. Networks for object detection, segmentation and the like put "
        "out maps of several sizes; choose the network that they were built on (`kerasft models` "
        "lists those that can be used), or, with backbone.path, name one output as backbone.layer."
    )


def _shape(tensor: keras.KerasTensor) -> str:
    sides = ", ".join("?" if side is None else str(side) for side in tensor.shape[1:])
    return f"[batch, {sides}]"


def assemble(backbone: Backbone, head: Callable[[Features], Any], *, name: str = "model") -> Any:
    """Put a head on a backbone.

    Args:
        backbone: A `Backbone`.
        head: A function from `Features` to outputs.
        name: The name of the model.

    Returns:
        A functional `keras.Model` from preprocessed tensors to outputs; the layers of the
        backbone stand in it directly, so that each can be frozen or found by its name.

    Raises:
        UserError: If a layer of the backbone has the name of one of the head: Keras takes no two of
            one name into a graph, since files refer to layers by their names.
    """
    from kerasft.model.layers import Assembled

    outputs = head(features_of(backbone))
    try:
        return Assembled(backbone.network, outputs, name=name)
    except ValueError as error:
        twice = re.search('The name "(.+?)" is used', str(error))
        if twice is None or all(one.name != twice[1] for one in backbone.network.layers):
            raise
        raise UserError(
            f"backbone: a layer of the network {backbone.name} is called {twice[1]!r}, as one of "
            "the head that it gets, and Keras takes no two layers of one name. With backbone.path, "
            "set backbone.layer to a layer before it, or save the network with another name of it."
        ) from error
