"""Tensors of a network's graph, and what a head takes of them."""

from __future__ import annotations

import keras


def taken_by_head(network, model):
    """Return which tensors of a network a head takes, outputs of the network first.

    Each is `(name of the operation, which of its calls, which of its outputs)`: an operation may
    be called several times, within the network and by the head.
    """
    known = {id(tensor): place for place, tensor in _places(network)}
    first = [id(tensor) for tensor in network.outputs]
    found: dict = {}
    for node in nodes_of(model):
        if not any(id(tensor) in known for tensor in node.outputs):
            found |= {id(t): t for t in node.input_tensors if id(t) in known}
    # A head may hand an output of the network on as it is.
    found |= {id(t): t for t in model.outputs if id(t) in known}
    order = sorted(found, key=lambda one: first.index(one) if one in first else len(first))
    return [known[one] for one in order]


def head_of(network, model, places):
    """Return the head of a model as a model of its own."""
    known = {id(tensor) for _, tensor in _places(network)}
    taken = [tensor_at(network, place) for place in places]
    # Not a model on the tensors themselves: Keras makes none where one depends on another.
    inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in taken]
    values = {id(tensor): new for tensor, new in zip(taken, inputs, strict=True)}
    for node in nodes_of(model):
        if any(id(tensor) in known for tensor in node.outputs):
            continue
        given, named = node.arguments.fill_in(values)
        made = keras.tree.flatten(node.operation(*given, **named))
        values |= {id(t): new for t, new in zip(node.outputs, made, strict=True)}
    outputs = keras.tree.map_structure(lambda t: values[id(t)], model._outputs_struct)
    return keras.Model(inputs, outputs, name="head")


def _places(network):
    """Yield each tensor of a network's graph, with its place."""
    calls: dict = {}
    for node in nodes_of(network):
        name = node.operation.name
        call = calls[name] = calls.get(name, -1) + 1
        for number, tensor in enumerate(node.outputs):
            yield (name, call, number), tensor


def nodes_of(model):
    """Return the nodes of a functional model's graph, inputs among them, in order of computing."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth]]


def tensor_at(network, place):
    """Return the tensor at a place."""
    wanted = tuple(place)
    return next(tensor for there, tensor in _places(network) if there == wanted)


def as_sequence(output):
    """Return features as `[batch, positions, width]`.

    Args:
        output: A sequence, a feature map `[batch, height, width, channels]`, whose places then
            follow each other row by row, or a vector, which is one position.
    """
    if len(output.shape) == 3:
        return output
    return keras.layers.Reshape((-1, output.shape[-1]), name="head_places")(output)


def places_before(network):
    """Return what heads took of a network before models said it: runs of then are still read."""
    output = network.output
    if isinstance(output, dict):
        output = output.get("sequence_output", next(iter(output.values())))
    elif isinstance(output, list | tuple):
        output = output[-1]
    inputs = network.input if isinstance(network.input, dict) else {}
    mask = [inputs["padding_mask"]] if "padding_mask" in inputs else []
    return [as_sequence(output), *mask]
