"""Cutting, leaving out and inserting: steps that change which layers a graph has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from kerasft.errors import UserError
from kerasft.model.surgery import stacks
from kerasft.model.surgery.operated import Graph, Node, serialized, snake
from kerasft.model.surgery.places import Place, edited, meant, places, prune, put, rewire, sides
from kerasft.system.console import listing


def cut(graph: Graph, layer: str) -> str:
    """Keep what a layer needs, and make its output that of the graph."""
    found = meant(graph, layer)
    if len(found) != 1:
        raise UserError(
            f"{layer!r} must mean one layer to cut at. It means {len(found)}: "
            f"{listing([place.path for place in found], 5)}."
        )
    (place,) = found
    before = len(graph.nodes)
    within = ""
    if place.at:
        stack = stacks.of(place)
        stacks.shorten(graph, place, stack[: _index(stack, place.layer) + 1])
        within = f" within {place.node.operation.name}"
    node = [one for one in graph.nodes if one is place.node or one.operation is place.layer][-1]
    graph.outputs = node.gives[0] if len(node.gives) == 1 else list(node.gives)
    tensors = graph.run()
    for number in node.gives:
        tensor = tensors[number]
        if len(tensor.shape) < 2 or tensor.shape[-1] is None or "float" not in tensor.dtype:
            raise UserError(
                f"the output of {place.path!r}, {sides(tensor)} of {tensor.dtype}, is none that "
                "a head can take: it must be numbers, [batch, ..., width]. Cut at another layer."
            )
    prune(graph)
    gives = listing([sides(tensors[number]) for number in node.gives])
    gone = f"{before - len(graph.nodes)} of {before} layers"
    return f"cut at {place.path}{within}: {gone} are left out; the output is {gives}"


def remove(graph: Graph, patterns: str | list[str]) -> str:
    """Leave layers out, those that hang together as one piece."""
    found = meant(graph, patterns)
    for node, names in _within(found).items():
        stack = stacks.find(node.operation, names)
        if stack is not None:
            gone = [place.layer for place in names]
            stacks.shorten(graph, names[0], [one for one in stack if _index(gone, one) < 0])
            continue
        for place in names:
            _idle(graph, place)
    chosen = [node for node in graph.nodes if any(
        node.operation is place.layer for place in found if not place.at)]
    if chosen:
        tensors = graph.run()
        instead: dict[int, int] = {}
        for piece in _pieces(chosen):
            instead |= _around(graph, piece, tensors)
        # What goes into one piece may come out of another that is left out too.
        for exit_ in instead:
            while instead[exit_] in instead:
                instead[exit_] = instead[instead[exit_]]
        rewire(graph, instead)
        prune(graph)
        graph.run()
    return f"left out: {listing([place.path for place in found], 8)}"


def _index(layers: Sequence[Any], layer: object) -> int:
    return next((i for i, one in enumerate(layers) if one is layer), -1)


def _within(found: Iterable[Place]) -> dict[Node, list[Place]]:
    made: dict[Node, list[Place]] = {}
    for place in found:
        if place.at:
            made.setdefault(place.node, []).append(place)
    return made


def _idle(graph: Graph, place: Place) -> None:
    """Have a layer within another one do nothing, as far as that one lets it."""
    layers = keras.layers
    if hasattr(place.layer, "rate"):
        edited(graph, place, {"rate": 0.0})
    elif isinstance(place.layer, layers.LayerNormalization | layers.BatchNormalization
                    | layers.GroupNormalization | layers.RMSNormalization):
        put(graph, place, layers.Identity(name=place.layer.name, dtype=place.layer.dtype_policy))
    else:
        raise UserError(
            f"{place.path!r} is within {place.node.operation.name!r}, a "
            f"{type(place.node.operation).__name__}, which computes with it: dropout and "
            "normalization can be left out there, and no other layer. Name the whole layer."
        )


def _pieces(chosen: list[Node]) -> list[list[Node]]:
    """Return calls in groups that hang together by their tensors."""
    pieces: list[list[Node]] = []
    for node in chosen:
        near = [
            piece for piece in pieces
            if any(set(node.takes) & set(one.gives) for one in piece)
        ]  # fmt: skip
        joined = [one for piece in near for one in piece]
        pieces = [piece for piece in pieces if not any(piece is one for one in near)]
        pieces.append([*joined, node])
    return pieces


def _around(graph: Graph, piece: list[Node], tensors: dict[int, Any]) -> dict[int, int]:
    """Return which tensor stands in for each that comes out of a piece."""
    inside = {number for node in piece for number in node.gives}
    entries = list(dict.fromkeys(n for node in piece for n in node.takes if n not in inside))
    ids = {id(node) for node in piece}
    wanted = {n for node in graph.nodes if id(node) not in ids for n in node.takes}
    wanted |= set(keras.tree.flatten(graph.outputs))
    names = listing(list(dict.fromkeys(node.operation.name for node in piece)), 4)
    made = {}
    for number in sorted(inside & wanted):
        out = tensors[number]
        alike = [
            one for one in entries
            if tuple(tensors[one].shape) == tuple(out.shape) and tensors[one].dtype == out.dtype
        ]  # fmt: skip
        if len(alike) != 1:
            given = listing([sides(tensors[one]) for one in entries])
            why = "more than one could stand in for it" if alike else (
                "nothing of that shape goes in")
            raise UserError(
                f"{names} cannot be left out: of {given} it makes {sides(out)}, and {why}. Name "
                "all layers of a block, as one pattern, so that it is left out as a whole."
            )
        made[number] = alike[0]
    return made


def insert(graph: Graph, after: str | list[str], layer: Any) -> str:
    """Put a copy of a layer behind each of some layers."""
    if not isinstance(layer, keras.layers.Layer):
        raise UserError(
            "surgery.NAME.layer must be a Keras layer, written as a call: "
            "+surgery.NAME.layer._target_=keras.layers.Dropout. Received: "
            f"a {type(layer).__name__}."
        )
    found, tensors = meant(graph, after), graph.run()
    for place in found:
        if place.at:
            raise UserError(
                f"{place.path!r} is within {place.node.operation.name!r}, a "
                f"{type(place.node.operation).__name__}, which calls its layers itself: nothing "
                "can be put between them. Name the whole layer."
            )
        copy = keras.saving.deserialize_keras_object(
            serialized(layer, name=_name(graph, place, layer))
        )
        for node in [one for one in graph.nodes if one.operation is place.layer]:
            if len(node.gives) != 1:
                raise UserError(
                    f"{place.path!r} has {len(node.gives)} outputs, and a layer is put behind one."
                )
            _put_behind(graph, node, copy, tensors[node.gives[0]])
    return f"a {type(layer).__name__} after {listing([place.path for place in found], 8)}"


def _put_behind(graph: Graph, node: Node, layer: keras.Layer, before: keras.KerasTensor) -> None:
    """Call a layer on what a call gives, and have all others take what it makes of it."""
    made = Node(layer, node.gives, [graph.number()])
    (now,) = made.call([before])
    if tuple(before.shape) != tuple(now.shape):
        raise UserError(
            f"surgery.NAME.layer must keep the shape of what it takes. Behind "
            f"{node.operation.name!r} a {type(layer).__name__} makes {sides(now)} of "
            f"{sides(before)}."
        )
    rewire(graph, {node.gives[0]: made.gives[0]})
    graph.nodes.insert(_index(graph.nodes, node) + 1, made)


def _name(graph: Graph, place: Place, layer: keras.Layer) -> str:
    """Return a name that no layer has yet; Keras' own numbers differ from run to run."""
    kind = snake(type(layer).__name__)
    name = f"{place.layer.name}_{kind}"
    taken, number = places(graph), 1
    while name in taken:
        number += 1
        name = f"{place.layer.name}_{kind}_{number}"
    return name
