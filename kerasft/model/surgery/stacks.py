"""Layers that hold a stack of blocks, as KerasHub's encoder of ViT does: fewer of the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from kerasft.errors import UserError
from kerasft.model.surgery.operated import Graph, serialized
from kerasft.model.surgery.places import Place, take_over

# How configs call the number of blocks.
COUNTS = ("num_layers", "num_blocks", "depth", "num_hidden_layers")


def of(place: Place) -> list[Any]:
    """Return the stack that a layer is in.

    Raises:
        UserError: If it is in none.
    """
    stack = find(place.node.operation, [place])
    if stack is None:
        raise UserError(
            f"{place.path!r} is within {place.node.operation.name!r}, a "
            f"{type(place.node.operation).__name__}, which computes with all of its layers: there "
            "can be no cut within it. Name the whole layer."
        )
    return stack


def find(layer: keras.Layer, parts: Iterable[Place]) -> list[Any] | None:
    """Return the blocks of a layer that parts are among, `None` where they are no blocks of it."""
    wanted = {id(place.layer) for place in parts}
    if any(len(place.at) != 1 for place in parts):
        return None
    for value in vars(layer).values():
        if isinstance(value, list | tuple) and wanted <= {id(one) for one in value}:
            blocks = list(value)
            if len({type(one) for one in blocks}) == 1 and _count(layer, len(blocks)):
                return blocks
    return None


def _count(layer: keras.Layer, blocks: int) -> str | None:
    config = layer.get_config()
    return next((name for name in COUNTS if config.get(name) == blocks), None)


def shorten(graph: Graph, place: Place, keep: Sequence[Any]) -> None:
    """Make a layer again with some of its blocks, with their weights.

    Args:
        graph: The graph.
        place: One of the blocks.
        keep: The blocks that stay.
    """
    old = place.node.operation
    blocks = of(place)
    if not keep:
        raise UserError(f"{old.name!r} must keep a block; leave it out as a whole. Received: none.")
    name = _count(old, len(blocks))
    assert name is not None, "A stack has a count."
    new = keras.saving.deserialize_keras_object(serialized(old, **{name: len(keep)}))
    take_over(graph, old, new)
    graph.run()  # which builds it
    attribute = next(n for n, value in vars(old).items() if isinstance(value, list | tuple)
                     and list(map(id, value)) == list(map(id, blocks)))  # fmt: skip
    pairs = list(zip(keep, getattr(new, attribute), strict=True))
    copied = [*_rest(old, blocks)], [*_rest(new, getattr(new, attribute))]
    for mine, its in pairs:
        copied[0].extend(mine.variables)
        copied[1].extend(its.variables)
    for before, now in zip(*copied, strict=True):
        if before.shape != now.shape:
            raise UserError(f"{old.name!r} cannot be made again with {len(keep)} blocks.")
        now.assign(np.asarray(before))


def _rest(layer: keras.Layer, blocks: Iterable[Any]) -> list[Any]:
    inside = {id(variable) for block in blocks for variable in block.variables}
    return [variable for variable in layer.variables if id(variable) not in inside]
