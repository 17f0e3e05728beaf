"""The residual branches of a network: what is added to the activations that went around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kerasft.errors import UserError, in_short
from kerasft.model.adapting.adaptation import backbone_layers
from kerasft.model.layers import nodes_of
from kerasft.model.surgery.operated import unfolded

# What adds up two tensors in a graph: layers and operations of Keras, and the scaled sum of
# InceptionResNetV2.
_SUMS = ("Add", "CustomScaleLayer")
# With one of these a sum joins maps of several sizes, and no branch with its shortcut.
_ENLARGE = ("UpSampling", "Transpose", "Resiz")


@dataclass(frozen=True)
class Block:
    """A residual block.

    Args:
        name: The layer that adds, or that the branches are in.
        ends: The last layer of each branch. With zeros in place of its outputs, the block hands on
            what came in.
    """

    name: str
    ends: tuple[Any, ...]


def blocks_of(model: keras.Model) -> list[Block]:
    """Return the residual blocks of a model's backbone, in the order of computing.

    In a graph of layers these are the sums of two tensors, of which one comes from the other, or
    both from a third one and from nothing else. Of a layer made of layers, such as a transformer
    block, the graph says nothing: it is run on a few numbers, with zeros in place of what each of
    its layers computes in turn. A layer ends a branch where the next one is then given what the
    block had before.

    Args:
        model: The assembled model, a functional `keras.Model`.

    Returns:
        The blocks. A layer that is called several times, as in ALBERT, is in several.

    Example:
        >>> from kerasft.model import assemble, tiny
        >>> from kerasft.model.heads import pooled
        >>> build = lambda features: pooled.linear(features, units=2)
        >>> [len(one.ends) for one in blocks_of(assemble.assemble(tiny.text("bert"), build))]
        [2, 2]
    """
    backbone = {id(layer) for layer in backbone_layers(model)}
    composite = [
        node.operation for node in _nodes(model)
        if id(node.operation) in backbone and getattr(node.operation, "_layers", None)
    ]
    calls = _observed(model, composite)
    known: dict[Any, list[int]] = {}
    found = []
    for graph in _graphs(model):
        for node in nodes_of(graph):
            if type(node.operation).__name__ in _SUMS:
                if end := _end_of(node, graph):
                    found.append((node, Block(node.operation.name, (end,))))
            elif id(node.operation) in calls:
                found += [(node, block) for block in _within(calls[id(node.operation)], known)]
    order = {id(node): place for place, node in enumerate(_nodes(model))}
    found = [(n, b) for n, b in found if all(id(end) in backbone for end in b.ends)]
    return [block for _, block in sorted(found, key=lambda one: order[id(one[0])])]


def _nodes(model: keras.Model) -> Iterator[Any]:
    """Yield the nodes of a graph in order, those of networks within it in their places."""
    for node in nodes_of(model):
        inner = unfolded(node.operation)
        if inner is None:
            yield node
        else:
            yield from _nodes(inner)


def _graphs(model: keras.Model) -> Iterator[Any]:
    yield model
    for node in nodes_of(model):
        if (inner := unfolded(node.operation)) is not None:
            yield from _graphs(inner)


def _end_of(node: Any, graph: Any) -> Any:
    """Return the layer whose outputs a sum adds to what went around them, `None` if none is."""
    if len(node.input_tensors) != 2:
        return None
    producers = {id(t): n for n in nodes_of(graph) for t in n.outputs}
    above = [_above(id(tensor), producers) for tensor in node.input_tensors]
    sides = [own - other for own, other in zip(above, above[::-1], strict=True)]
    long, short = (0, 1) if len(sides[0]) > len(sides[1]) else (1, 0)
    branch = [producers[one] for one in sides[long]]
    if len(sides[0]) == len(sides[1]) or not _learns([n.operation for n in branch]):
        return None
    around = [producers[one] for one in sides[short]]
    region = sides[0] | sides[1]
    given = {id(t) for one in (*branch, *around) for t in one.input_tensors} - region
    # A branch that has an input of the network to itself is computed from more than what goes by.
    if any(not one.input_tensors for one in (*branch, *around)):
        return None
    # What goes around is the input itself, or a convolution that changes its shape.
    if len(given) != 1 or sum(map(_has_kernel, around)) > 1 or any(map(_enlarges, branch)):
        return None
    tensor = node.input_tensors[long]
    end = producers[id(tensor)].operation
    takers = [n for n in nodes_of(graph) if any(t is tensor for t in n.input_tensors)]
    calls = sum(n.operation is end for n in nodes_of(graph))
    alone = len(takers) == 1 and calls == 1 and not any(t is tensor for t in graph.outputs)
    return end if alone and isinstance(end, keras.layers.Layer) else None


def _above(tensor: int, producers: dict[int, Any]) -> set[int]:
    """Return a tensor and all that it is computed from."""
    found, left = set(), [tensor]
    while left:
        if (one := left.pop()) not in found:
            found.add(one)
            left += [id(t) for t in producers[one].input_tensors]
    return found


def _has_kernel(node: Any) -> bool:
    return any(len(v.shape) > 1 for v in getattr(node.operation, "variables", ()))


def _enlarges(node: Any) -> bool:
    return any(word in type(node.operation).__name__ for word in _ENLARGE)


def _learns(operations: Sequence[Any]) -> bool:
    """Whether one of several operations has a kernel: positions that are added are no branch."""
    return any(
        len(v.shape) > 1 and "embedding" not in v.path
        for one in operations for v in getattr(one, "variables", ())
    )


@dataclass
class _Call:
    """One call of a layer, with those of the layers within it."""

    layer: Any
    args: tuple
    kwargs: dict[str, Any]
    given: list[np.ndarray]
    made: list[np.ndarray] = field(default_factory=list)
    whole: Any = None
    within: list[_Call] = field(default_factory=list)


def _observed(model: keras.Model, layers: Sequence[Any]) -> dict[int, _Call]:
    """Return a call of each layer within a model, by the layer's `id`, with all calls within it."""
    if not layers:
        return {}
    try:
        with _observing(model) as top:
            model(_example(model), training=False)
    except Exception as error:  # the layers' own words, of any type
        raise UserError(
            "regularize.stochastic_depth finds residual branches by running the backbone on a few "
            f"numbers, which fails: {in_short(error)}. Leave it out."
        ) from error
    found: dict[int, _Call] = {}
    left = list(top.within)
    while left:
        one = left.pop(0)
        found.setdefault(id(one.layer), one)
        left += one.within
    return {id(layer): found[id(layer)] for layer in layers if id(layer) in found}


def _within(call: _Call, known: dict[Any, list[int]]) -> list[Block]:
    """Return the residual blocks within a call of a layer."""
    # Blocks of one kind are built alike, and each takes a second or so to be tried out.
    kind = (type(call.layer), *((type(one.layer), one.layer.name) for one in call.within))
    if kind not in known:
        known[kind] = [place for place in range(len(call.within)) if _ends(call, place)]
    ends = known[kind]
    names = Counter(id(one.layer) for one in call.within)
    real = Counter(id(call.within[place].layer) for place in ends)
    layers = {id(one): one for one in (call.within[place].layer for place in ends)}
    found = tuple(one for key, one in layers.items() if real[key] == names[key])
    if found:
        return [Block(call.layer.name, found)]
    return [block for one in call.within if one.within for block in _within(one, known)]


def _ends(call: _Call, place: int) -> bool:
    """Whether a layer ends a branch: with zeros for its outputs, what came in goes on."""
    whole = call.within[place].whole
    if not keras.ops.is_tensor(whole) or not call.within[place].made:
        return False
    with _observing(call.layer, zero=place) as again:
        call.layer(*call.args, **{**call.kwargs, "training": False})
    (now,) = again.within
    before, after = _following(call, place), _following(now, place)
    if after is None or before is None or _same(before, after) or not after.any():
        return False
    seen = [(0, one) for one in now.given]
    for number, one in enumerate(now.within[: place + 1]):
        seen += [(number, tensor) for tensor in one.given]
        seen += [(number + 1, tensor) for tensor in one.made if number < place]
    first = next((number for number, tensor in seen if _same(tensor, after)), None)
    if first is None:
        return False
    return _learns([one.layer for one in call.within[first : place + 1]])


def _following(call: _Call, place: int) -> np.ndarray | None:
    """Return what comes behind a layer: what the next one is given, or else what all comes to."""
    tensors = call.within[place + 1].given if place + 1 < len(call.within) else call.made
    return tensors[0] if tensors else None


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.array_equal(one, other)


@contextmanager
def _observing(root: keras.Layer, zero: int | None = None) -> Iterator[_Call]:
    """Note down each call of a layer, and of those within it, inside the block.

    Args:
        root: The layer.
        zero: The place among the calls directly within the layer whose outputs become zeros.

    Yields:
        A call whose `within` are the calls of the outermost layers.
    """
    top = _Call(None, (), {}, [])
    open_calls = [top]
    inner = zero is not None
    layers = root._flatten_layers(include_self=inner)
    held = {id(layer): vars(layer).get("call") for layer in layers}

    def observed(layer: keras.Layer) -> Any:
        own = held[id(layer)] or type(layer).call.__get__(layer)

        def call(*args: Any, **kwargs: Any) -> Any:
            one = _Call(layer, args, kwargs, _floats((args, kwargs)))
            parent = open_calls[-1]
            parent.within.append(one)
            open_calls.append(one)
            try:
                outputs = own(*args, **kwargs)
            finally:
                open_calls.pop()
            if inner and len(open_calls) == 2 and len(parent.within) - 1 == zero:
                outputs = keras.ops.zeros_like(outputs)
            one.made, one.whole = _floats(outputs), outputs
            return outputs

        return call

    try:
        for layer in layers:
            object.__setattr__(layer, "call", observed(layer))
        yield top
    finally:
        for layer in layers:
            if held[id(layer)] is None:
                object.__delattr__(layer, "call")
            else:
                object.__setattr__(layer, "call", held[id(layer)])


def _floats(values: Any) -> list[np.ndarray]:
    """Return the tensors of floats with an example in each row, as arrays."""
    tensors = [one for one in keras.tree.flatten(values) if keras.ops.is_tensor(one)]
    return [
        np.asarray(keras.ops.cast(one, "float32")) for one in tensors
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(one.dtype))
        and len(one.shape) > 1 and one.shape[0] == _EXAMPLES
    ]


# So many examples are run through the network, of so many positions where it leaves that open.
_EXAMPLES, _POSITIONS = 3, 8


def _example(model: keras.Model) -> Any:
    """Return a few examples that a model takes, of numbers without a meaning."""
    draw = np.random.default_rng(0)
    made = []
    for tensor in model.inputs:
        shape = (_EXAMPLES, *(side or _POSITIONS for side in tensor.shape[1:]))
        kind = keras.backend.standardize_dtype(tensor.dtype)
        if kind == "uint8":
            made.append(draw.integers(0, 256, shape).astype(kind))
        elif keras.backend.is_float_dtype(kind):
            made.append(draw.normal(size=shape).astype(kind))
        elif "mask" in tensor.name:
            made.append(np.ones(shape, kind))
        else:  # the numbers of tokens, of segments: the lowest ones are always there
            made.append(draw.integers(0, 2, shape).astype(kind))
    return keras.tree.pack_sequence_as(model._inputs_struct, made)
