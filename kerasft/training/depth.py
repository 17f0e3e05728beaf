"""How deep in the network a variable lies, counted from the head down."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    def of(self, variable: Any) -> int:
        """Return the level of a variable."""
        return self.levels.get(id(variable), 0)


def depth_of(model: keras.Model) -> Depth:
    """Return how deep the variables of a model's backbone lie.

    Blocks, which are layers made of layers, make a level each; embeddings and convolutions before
    the first one are the lowest level, and a single layer between two blocks goes with the one
    before it. In a network of single layers each one with a matrix begins a unit, which those
    beside it in the graph and norms behind it belong to; more than 12 units are put together evenly
    into 12 levels.

    Args:
        model: The assembled model.

    Returns:
        A `Depth`.

    Example:
        >>> from kerasft.model import tiny
        >>> depth = depth_of(tiny.text("bert").network)
        >>> len(depth), depth.names[1], depth.names[3]
        (3, 'transformer_layer_1', 'token_embedding .. embeddings_layer_norm')
    """
    head = {id(layer) for layer in getattr(model, "head_layers", ())}
    layers = {layer: row for layer, row in _layers(model).items() if id(layer) not in head}
    found = {part: row for layer, row in layers.items() for part in _parts(layer) if
             _can_train(part)}  # fmt: skip
    made_of_blocks = _is_made_of_blocks(list(found))
    units = _units(found, made_of_blocks)
    count = len(units)
    most = count if made_of_blocks else min(count, MOST)
    levels: dict[int, int] = {}
    together: dict[int, list[str]] = {}
    for place, unit in enumerate(units):
        level = most - place * most // count
        together.setdefault(level, []).extend(layer.name for layer in unit)
        levels |= {id(variable): level for layer in unit for variable in layer.variables}
    for layer in layers:  # what a stack has beside its blocks goes with the lowest of them
        lowest = max((levels.get(id(variable), 0) for variable in layer.variables), default=0)
        if lowest:
            levels |= {id(v): lowest for v in layer.variables if id(v) not in levels}
    names = {
        level: names[0] if len(set(names)) == 1 else f"{names[0]} .. {names[-1]}"
        for level, names in together.items()
    }
    return Depth(levels, names)


def _layers(model: keras.Model) -> dict[Any, int]:
    """Return the layers of a functional model that have variables, in the order of computing.

    With each comes its row in the graph: layers of one row lie beside one another.
    """
    found: dict[Any, int] = {}
    for row in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[row]:
            if getattr(node.operation, "variables", None):
                found.setdefault(node.operation, row)
    return found


def _parts(layer: Any) -> Iterator[Any]:
    """Yield the layers that count by themselves: a stack of blocks counts as its blocks."""
    if hasattr(layer, "_nodes_by_depth"):
        for one in _layers(layer):
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
    else:
        yield layer


def _can_train(layer: Any) -> bool:
    """Whether a layer has weights that were made to be trained, though they may be frozen now."""
    return any(part._trainable_variables for part in layer._flatten_layers(include_self=True))


def _is_block(layer: Any) -> bool:
    inner = layer._flatten_layers(include_self=False)
    return any(part._trainable_variables for part in inner)


def _has_matrix(layer: Any) -> bool:
    return any(len(variable.shape) > 1 for variable in layer.variables)


def _is_made_of_blocks(layers: Sequence[Any]) -> bool:
    """Whether blocks follow one another, with no more single layers than blocks among them."""
    blocks = [place for place, layer in enumerate(layers) if _is_block(layer)]
    if len(blocks) < 2:
        return False
    among = layers[blocks[0] : blocks[-1]]
    return sum(_has_matrix(one) and not _is_block(one) for one in among) <= len(blocks)


def _units(layers: Mapping[Any, int], made_of_blocks: bool) -> list[list[Any]]:
    """Return the layers that lie at one depth each, from the input on."""
    units: list[list[Any]] = []
    for layer, row in layers.items():
        begins = _is_block(layer) or (not made_of_blocks and _has_matrix(layer))
        beside = bool(units) and not _is_block(layer) and layers[units[-1][0]] == row
        if not units or (begins and not beside):
            units.append([layer])
        else:
            units[-1].append(layer)
    return units
