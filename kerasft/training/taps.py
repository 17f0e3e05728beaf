"""Where the features of a network can be taken: its end, and the ends of blocks before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasft.training.frozen import Cut, multiply_adds, nodes_of

if TYPE_CHECKING:
    import keras

# What is so near to the beginning or the end, as a share of the computing, is no depth of its own.
NEAR = 0.05


@dataclass(frozen=True)
class Tap:
    """A place in a network.

    Args:
        tensor: The symbolic tensor.
        operation: The layer that puts it out.
        nodes: The nodes of the graph that it is computed by.
        share: Of the multiply-adds of the whole network, those that it takes.
    """

    tensor: Any
    operation: Any
    nodes: tuple[Any, ...]
    share: float

    @property
    def weights(self) -> int:
        """How many numbers its weights are."""
        found = {id(v): v for n in self.nodes for v in getattr(n.operation, "weights", ())}
        return sum(math.prod(v.shape) for v in found.values())


def taps(
    network: keras.Model, end: keras.KerasTensor, depths: int, *, positions: float = 1.0
) -> list[Tap]:
    """Return places at about equal shares of a network's computing, the last one its end.

    A place counts where all that comes later is made of it alone, beside masks, and where a block
    or a convolution with its norm and activation has ended.

    Args:
        network: A functional model.
        end: The symbolic tensor that heads take of it.
        depths: How many places are wanted; a small network may have fewer.
        positions: The mean length, where the network leaves it open.

    Returns:
        Places, the first one first.

    Example:
        >>> from kerasft.model import tiny
        >>> network = tiny.text("bert", layers=3).network
        >>> [tap.operation.name for tap in taps(network, network.output["sequence_output"], 3)]
        ['transformer_layer_0', 'transformer_layer_1', 'transformer_layer_2']
    """
    import keras

    nodes = list(nodes_of(keras.Model(network.inputs, end)))
    whole = multiply_adds(nodes, positions) or 1.0
    found = []
    for place in _waists(nodes):
        share = multiply_adds(nodes[: place + 1], positions) / whole
        (tensor,) = nodes[place].output_tensors
        if NEAR < share < 1 - NEAR and _ends_unit(nodes, place):
            found.append(Tap(tensor, nodes[place].operation, tuple(nodes[: place + 1]), share))
    chosen: dict[int, Tap] = {}
    for i in range(1, depths if found else 1):
        apart = [abs(tap.share - i / depths) for tap in found]
        # Of those that take the same, the last one: behind the activation.
        best = found[max(place for place, one in enumerate(apart) if one == min(apart))]
        chosen[id(best)] = best
    last = next(n for n in nodes if any(t is end for t in n.output_tensors))
    return [*chosen.values(), Tap(end, last.operation, tuple(nodes), 1.0)]


def _waists(nodes: Sequence[Any]) -> list[int]:
    """Return the nodes whose output all later ones are made of alone, beside masks."""
    last: dict[int, int] = {}
    for place, node in enumerate(nodes):
        last |= {id(tensor): place for tensor in node.input_tensors}
    heavy: set[int] = set()
    live: set[int] = set()
    found = []
    for place, node in enumerate(nodes):
        # Masks and positions follow from the inputs without a weight.
        if _variables(node.operation) or heavy & set(map(id, node.input_tensors)):
            heavy |= set(map(id, node.output_tensors))
        live = {one for one in live if last.get(one, -1) > place}
        made = [
            id(t) for t in node.output_tensors if id(t) in heavy and last.get(id(t), -1) > place
        ]
        live |= set(made)
        if len(node.output_tensors) == 1 and live == set(made) and made:
            found.append(place)
    return found


def _ends_unit(nodes: Sequence[Any], place: int) -> bool:
    """Whether a node's output is features: numbers, and no convolution before its activation."""
    node = nodes[place]
    (tensor,) = node.output_tensors
    shape = tensor.shape
    if len(shape) not in (3, 4) or shape[-1] is None or "float" not in str(tensor.dtype):
        return False
    if sum(one.operation is node.operation for one in nodes) > 1:
        return False  # one that is called twice has no path of its own
    if not _variables(node.operation) or _is_block(node.operation):
        return True
    # A convolution before its norm and activation, or a norm before its activation, is followed by
    # these alone.
    after = [n.operation for n in nodes if any(t is tensor for t in n.input_tensors)]
    return any(_is_block(one) or _has_kernel(one) for one in after)


def _variables(operation: keras.Operation) -> list[Any]:
    return getattr(operation, "variables", [])


def _is_block(operation: keras.Operation) -> bool:
    parts = getattr(operation, "_flatten_layers", None)
    return parts is not None and any(one.variables for one in parts(include_self=False))


def _has_kernel(operation: keras.Operation) -> bool:
    return any(len(variable.shape) > 1 for variable in _variables(operation))


def behind(model: keras.Model) -> Cut:
    """Return a model as a cut behind its last layer: all of it lies below.

    Args:
        model: A functional model that puts out a dict of tensors, or one tensor.
    """
    nodes = tuple(nodes_of(model))
    outputs = model.output if isinstance(model.output, dict) else {"cut_0": model.output}
    names = [n.operation.name for n in nodes if _variables(n.operation)]
    return Cut(model, nodes, (), dict(outputs), tuple(dict.fromkeys(names)))
