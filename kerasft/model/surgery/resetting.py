"""Giving layers new random weights."""

from __future__ import annotations

import re
from typing import Any

import keras

from kerasft.errors import UserError, in_short
from kerasft.model.surgery import stacks
from kerasft.model.surgery.operated import Graph, Node, Operated, serialized
from kerasft.model.surgery.places import Place, meant, places
from kerasft.system.console import listing


def reset(graph: Graph, blocks: int | None, patterns: str | list[str] | None) -> str:
    """Give the topmost blocks, or the layers that patterns mean, new random weights."""
    chosen = meant(graph, patterns) if patterns is not None else _top(graph, blocks or 1)
    chosen = [place for place in chosen if getattr(place.layer, "weights", None)]
    if not chosen:
        raise UserError("the layers that are meant have no weights to reset.")
    made: dict[int, dict[int, Any]] = {}
    count = 0
    for place in chosen:
        around = id(place.node.operation)
        if around not in made:
            made[around] = _fresh(graph, place.node)
        for weight in place.layer.weights:
            weight.assign(made[around][id(weight)])
            graph.touched.add(id(weight))
            count += 1
    return (
        f"{count} weights reinitialized in {listing([place.path for place in chosen], 8)}"
    )


def _fresh(graph: Graph, node: Node) -> dict[int, Any]:
    """Return a value drawn anew for each weight of a layer, by the weight's `id`."""
    layer = node.operation
    try:
        twin = _twin(graph, node)
        pairs = list(zip(layer.weights, twin.weights, strict=True))
    except Exception as error:  # the layers' own words, of any type
        raise UserError(
            f"{layer.name!r}, a {type(layer).__name__}, cannot be made anew from its config "
            f"({in_short(error)})."
        ) from error
    return {id(mine): its.value for mine, its in pairs}


def _twin(graph: Graph, node: Node) -> Any:
    """Return a layer once more, built, with weights as it begins."""
    layer = node.operation
    try:
        twin = keras.saving.deserialize_keras_object(serialized(layer))
    except Exception:  # of any type
        if node.is_new:
            raise
        # Some layers of KerasHub (Llama's) do not come back alone, but with their network.
        whole = Operated(graph).get_config()["network"]
        again = Graph(keras.saving.deserialize_keras_object(whole))
        return next(one.operation for one in again.nodes if one.of == node.of)
    tensors = graph.run()
    shadow = Node(twin, node.takes, node.gives, of=node.of, source=node.source)
    shadow.is_new = True
    shadow.call([tensors[number] for number in node.takes])
    return twin


def blocks_of(graph: Graph) -> list[list[Place]]:
    """Return the layers with weights of a graph in blocks, from the input on.

    Layers that are numbered alike are one block; what has no number belongs to the block before.
    What lies before the first number is no block: it is the stem.

    Example:
        >>> inputs = x = keras.Input((4,), name="inputs")
        >>> for name in ("stem", "block_1_a", "block_1_b", "block_2_a", "top"):
        ...     x = keras.layers.Dense(4, name=name)(x)
        >>> [[one.path for one in block] for block in blocks_of(Graph(keras.Model(inputs, x)))]
        [['block_1_a', 'block_1_b'], ['block_2_a', 'top']]
    """
    every = places(graph)
    layers: list[Place] = []
    for place in [one for one in every.values() if not one.at]:
        inner = [one for one in every.values() if one.node is place.node and len(one.at) == 1]
        stack = next(
            (found for one in inner if (found := stacks.find(place.layer, [one]))), None
        )  # fmt: skip
        layers += inner if stack else [place]
    blocks: dict[str, list[Place]] = {}
    last = ""
    for place in layers:
        if not getattr(place.layer, "weights", None):
            continue
        key = _key(place.path) or last
        if key:
            blocks.setdefault(key, []).append(place)
        last = key
    return list(blocks.values())


def _key(path: str) -> str:
    """Return the name of the block that a layer is of, `""` where its name has no number.

    Example:
        >>> [_key(name) for name in ("conv5_block3_1_conv", "block_16_expand", "conv_dw_13_bn")]
        ['conv5_block3', 'block_16', 'conv_13']
        >>> [_key(name) for name in ("transformer_layer_2", "batch_normalization_7", "conv2d_7")]
        ['transformer_layer_2', '7', '7']
    """
    name = re.sub(r"_[dp]w(?=_\d)", "", path)
    if numbered := re.fullmatch(r"(?:conv[12]d|batch_normalization)(?:_(\d+))?", name):
        return numbered[1] or "0"  # Keras' own names: a convolution and its normalization
    block = re.match(r".*?block_?\d+[a-z]?", name) or re.match(r".*?\d+[a-z]?(?=_|/|$)", name)
    return block[0] if block else ""


def _top(graph: Graph, count: int) -> list[Place]:
    blocks = blocks_of(graph)
    if count > len(blocks):
        raise UserError(
            f"surgery.NAME.blocks must be at most {len(blocks)}, the blocks that this network has. "
            f"Received: {count}. surgery.NAME.layers names layers by a pattern."
        )
    return [place for block in blocks[len(blocks) - count:] for place in block]
