"""How deep in the network a variable lies, counted from the head down."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasft.training.frozen import nodes_of

if TYPE_CHECKING:
    import keras

# A network of single layers has so many levels at most, as ConvNeXt's recipe has it (Liu et al.
# 2022, https://arxiv.org/abs/2201.03545): a factor for each of a hundred convolutions would leave
# nothing to the lowest.
MOST = 12


@dataclass(frozen=True)
class Depth:
    """The levels of a network.

    Args:
        levels: The level of each variable of the backbone, by its id: 1 just below the head, and
            one more for each level further down. What belongs to the head alone is at level 0, and
            not in here.
        names: What each level holds, by its number.
    """

    levels: dict[int, int]
    names: dict[int, str]

    def __len__(self) -> int:
        return len(self.names)

    def of(self, variable: keras.Variable) -> int:
        """Return the level of a variable."""
        return self.levels.get(id(variable), 0)


def depth_of(model: keras.Model) -> Depth:
    """Return how deep the variables of a model's backbone lie.

    Blocks, which are layers made of layers, make a level each; embeddings and convolutions before
    the first one are the lowest level, and a single layer between two blocks goes with the one
    before it. In a network of single layers those with a matrix count, on the longest way from the
    input, and norms go with the layer before them; more than 12 are put together evenly into 12
    levels.

    Args:
        model: The assembled model.

    Returns:
        A `Depth`.

    Example:
        >>> from kerasft.model import tiny
        >>> depth = depth_of(tiny.text("bert").network)
        >>> len(depth), depth.names[2], depth.names[3]
        (3, 'transformer_layer_0', 'token_embedding .. embeddings_layer_norm')
    """
    head = {id(layer) for layer in getattr(model, "head_layers", ())}
    nodes = [n for n in nodes_of(model) if id(n.operation) not in head]
    layers = list(dict.fromkeys(n.operation for n in nodes if _has_variables(n.operation)))
    made_of_blocks = _is_made_of_blocks([part for layer in layers for part in _parts(layer)])
    places = _places(nodes, made_of_blocks)
    counted = sorted(set(places.values()))
    count = len(counted)
    most = count if made_of_blocks else min(count, MOST)
    at = {place: most - i * most // count for i, place in enumerate(counted)}
    levels: dict[int, int] = {}
    together: dict[int, list[str]] = {}
    for part, place in sorted(places.items(), key=lambda item: item[1]):
        together.setdefault(at[place], []).append(part.name)
        levels |= {id(variable): at[place] for variable in part.variables}
    for layer in layers:  # what a stack has beside its blocks goes with the lowest of them
        lowest = max((levels.get(id(variable), 0) for variable in layer.variables), default=0)
        if lowest:
            levels |= {id(v): lowest for v in layer.variables if id(v) not in levels}
    names = {
        level: names[0] if len(set(names)) == 1 else f"{names[0]} .. {names[-1]}"
        for level, names in together.items()
    }
    return Depth(levels, names)


def _has_variables(operation: keras.Operation) -> bool:
    return bool(getattr(operation, "variables", None))


def _places(nodes: Iterable[Any], made_of_blocks: bool) -> dict[Any, int]:
    """Return of each layer how many others lie on the longest way to it from the input."""
    found: dict[Any, int] = {}
    after: dict[int, int] = {}  # by tensor
    for node in nodes:
        place = max((after.get(id(tensor), 0) for tensor in node.input_tensors), default=0)
        for part in _parts(node.operation) if _has_variables(node.operation) else ():
            if part not in found:
                begins = _is_block(part) or (not made_of_blocks and _has_matrix(part))
                found[part] = place + begins
            place = max(place, found[part])
        after |= {id(tensor): place for tensor in node.output_tensors}
    return found


def _parts(layer: keras.Layer) -> Iterator[Any]:
    """Yield the layers that count by themselves: a stack of blocks counts as its blocks."""
    if hasattr(layer, "_nodes_by_depth"):
        inner = {id(node.operation): node.operation for node in nodes_of(layer)}
        for one in inner.values():
            if _has_variables(one):
                yield from _parts(one)
        return
    children = list(layer._flatten_layers(recursive=False, include_self=False))
    alike: dict[tuple[type, str], int] = {}
    for child in children:
        if _is_block(child):
            key = type(child), re.sub(r"_?\d+$", "", child.name)
            alike[key] = alike.get(key, 0) + 1
    if max(alike.values(), default=0) > 1:
        for child in children:
            yield from _parts(child)
    elif _can_train(layer):
        yield layer


def _can_train(layer: keras.Layer) -> bool:
    """Whether a layer has weights that were made to be trained, though they may be frozen now."""
    return any(part._trainable_variables for part in layer._flatten_layers(include_self=True))


def _is_block(layer: keras.Layer) -> bool:
    inner = layer._flatten_layers(include_self=False)
    return any(part._trainable_variables for part in inner)


def _has_matrix(layer: keras.Layer) -> bool:
    return any(len(variable.shape) > 1 for variable in layer.variables)


def _is_made_of_blocks(layers: Sequence[Any]) -> bool:
    """Whether blocks follow one another, with no more single layers than blocks among them."""
    blocks = [place for place, layer in enumerate(layers) if _is_block(layer)]
    if len(blocks) < 2:
        return False
    among = layers[blocks[0] : blocks[-1]]
    return sum(_has_matrix(one) and not _is_block(one) for one in among) <= len(blocks)
