"""Where the layers of a graph are: by their paths, those within other layers too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kerasft.errors import UserError
from kerasft.model.surgery.operated import Graph, Node, serialized, snake
from kerasft.system.patterns import required


@dataclass(frozen=True)
class Place:
    """A layer or operation, and where it is.

    Args:
        path: Its name, below the names of the layers around it.
        layer: What is there.
        node: The call of the graph that it belongs to.
        at: Its place among the layers of each layer around it; empty in the graph itself.
    """

    path: str
    layer: Any
    node: Node
    at: tuple[int, ...] = ()


def places(graph: Graph) -> dict[str, Place]:
    """Return all layers of a graph by their paths, in the order of computing.

    Example:
        >>> inputs = keras.Input((4,), name="inputs")
        >>> list(places(Graph(keras.Model(inputs, keras.layers.Dense(2, name="body")(inputs)))))
        ['body']
    """
    found: dict[str, Place] = {}
    seen: set[int] = set()
    for node in graph.nodes:
        if id(node.operation) not in seen:
            seen.add(id(node.operation))
            name = graph.names.get(id(node.operation), node.operation.name)
            _note(Place(name, node.operation, node), found)
    return found


def _note(place: Place, found: dict[str, Place]) -> None:
    path, number = place.path, 1
    while place.path in found:  # Keras wants no names of their own of layers within a layer
        number += 1
        place = Place(f"{path}#{number}", place.layer, place.node, place.at)
    found[place.path] = place
    for i, layer in enumerate(getattr(place.layer, "_layers", ())):
        kind = snake(type(layer).__name__)
        # Those without weights have Keras' own numbers, which differ from run to run.
        own = not layer.weights and re.fullmatch(rf"{kind}_\d+", layer.name)
        name = kind if own else layer.name
        _note(Place(f"{place.path}/{name}", layer, place.node, (*place.at, i)), found)


def outermost(paths: Iterable[str]) -> list[str]:
    """Return the paths that are below none of the others.

    Example:
        >>> outermost(["block_1", "block_1/dense", "block_2/dense"])
        ['block_1', 'block_2/dense']
    """
    kept: list[str] = []
    for path in paths:
        if not any(path.startswith(f"{other}/") for other in kept):
            kept.append(path)
    return kept


def meant(graph: Graph, patterns: str | list[str]) -> list[Place]:
    """Return the outermost layers that patterns mean.

    Raises:
        UserError: If one of them means none.
    """
    every = places(graph)
    return [every[path] for path in outermost(_required(patterns, every))]


def _required(patterns: str | list[str], every: Mapping[str, Place]) -> list[str]:
    """Return the paths that patterns mean; the names that layers have in a file count too."""
    given = [patterns] if isinstance(patterns, str) else patterns
    own = {place.layer.name: path for path, place in every.items() if not place.at}
    return required([one if one in every else own.get(one, one) for one in given], every)


def with_parts(graph: Graph, patterns: str | list[str]) -> list[Place]:
    """Return the layers that patterns mean, and all layers within them."""
    every = places(graph)
    around = outermost(_required(patterns, every))
    return [
        place for path, place in every.items()
        if any(path == one or path.startswith(f"{one}/") for one in around)
    ]  # fmt: skip


def put(graph: Graph, place: Place, layer: keras.Layer) -> Any:
    """Put a layer in the place of another, and return it."""
    if place.at:
        return edited(graph, place, {"layer": serialized(layer)})
    take_over(graph, place.layer, layer)
    return layer


def take_over(graph: Graph, old: keras.Operation, new: keras.Operation) -> None:
    """Put a layer into each call of another one; it is called the same."""
    for node in graph.nodes:
        if node.operation is old:
            node.operation, node.is_new = new, True
    graph.names[id(new)] = graph.names.get(id(old), old.name)


def edited(graph: Graph, place: Place, change: Mapping[str, Any]) -> Any:
    """Change a layer in place, and return what is there now."""
    node = place.node
    if node.is_new:
        if not place.at and set(change) <= {"rate", "activation"}:
            # It is saved with its config, which says so.
            for name, value in change.items():
                setattr(place.layer, name, _plain(name, value))
            return place.layer
        raise UserError(
            f"{place.path!r} is within {node.operation.name!r}, which an earlier step made again. "
            "Put this step before that one."
        )
    return graph.edit([node.of, *place.at], change)


def _plain(name: str, value: Any) -> Any:
    return keras.activations.get(value) if name == "activation" else value


def users(graph: Graph, number: int) -> Iterator[Node]:
    """Yield the calls that take a tensor."""
    return (node for node in graph.nodes if number in node.takes)


def rewire(graph: Graph, instead: Mapping[int, int], but: Iterable[Node] = ()) -> None:
    """Have other tensors taken in the place of some, in all calls but those named.

    Args:
        graph: The graph.
        instead: The number of the new tensor by that of the old one.
        but: Calls that go on with the old ones.
    """
    spared = {id(node) for node in but}
    for node in graph.nodes:
        if id(node) not in spared:
            node.takes = [instead.get(number, number) for number in node.takes]
    graph.outputs = keras.tree.map_structure(lambda n: instead.get(n, n), graph.outputs)


def prune(graph: Graph) -> list[Node]:
    """Take out of the graph what no output needs, and return it."""
    needed = set(keras.tree.flatten(graph.outputs))
    kept, gone = [], []
    for node in reversed(graph.nodes):
        if needed & set(node.gives):
            needed |= set(node.takes)
            kept.append(node)
        else:
            gone.append(node)
    graph.nodes = kept[::-1]
    return gone[::-1]


def sides(tensor: keras.KerasTensor) -> str:
    """Return the shape of a tensor as messages have it.

    Example:
        >>> sides(keras.KerasTensor((None, 7, None, 32)))
        '[batch, 7, ?, 32]'
    """
    shown = ["batch", *("?" if side is None else str(side) for side in tensor.shape[1:])]
    return f"[{', '.join(shown)}]"
