"""The frozen boundary: where a stage's graph is cut into what stays as it is and what trains."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# What decides what a layer computes, beside its config and weights.
MAKERS = ("tensorflow", "keras", "keras-hub")


@dataclass(frozen=True)
class Cut:
    """A model in two parts, which share its layers and weights.

    Args:
        prefix: From the model's inputs to a dict of the tensors that cross the cut. None of its
            variables trains, and it always runs in inference mode: no dropout, fixed statistics.
        suffix: From these tensors, as a list, to the model's outputs.
        layers: The names of the layers with weights in the prefix, in order.
    """

    prefix: Any
    suffix: Any
    layers: tuple[str, ...]

    def __call__(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Compute what the model computes, the prefix in inference mode."""
        import keras

        crossing = self.prefix(inputs, training=False)
        crossing = {name: keras.ops.stop_gradient(value) for name, value in crossing.items()}
        return self.after(crossing, training=training)

    def after(self, crossing: Mapping[str, Any], training: bool | None = None) -> Any:
        """Compute the outputs of what the prefix returned."""
        return self.suffix([crossing[name] for name in self.prefix.output], training=training)


def cut(model: Any) -> Cut | None:
    """Cut a functional model where the first trainable or random layer begins.

    What lies on no path from such a layer is the prefix: frozen layers, and layers without weights
    that compute the same each time, pooling among them. Dropout inside the frozen network counts
    as part of it and rests, as fixed statistics of batch normalization do; dropout of the head,
    and layers that change pictures at random, stay in the suffix.

    Args:
        model: A functional `keras.Model`, with its variables selected for a stage.

    Returns:
        A `Cut`, or `None` where no layer with weights lies before all that trains.

    Example:
        >>> model.get_layer("head_logits").trainable, model.get_layer("body").trainable
        (True, False)
        >>> cut(model).layers
        ('body',)
    """
    import keras

    active: set[int] = set()
    crossing: dict[int, Any] = {}
    frozen: list[str] = []
    for node in _nodes(model):
        downstream = any(id(tensor) in active for tensor in node.input_tensors)
        if downstream or _is_active(node.operation):
            for tensor in node.input_tensors:
                if id(tensor) not in active:
                    crossing[id(tensor)] = tensor
            active |= {id(tensor) for tensor in node.output_tensors}
        elif getattr(node.operation, "variables", None) and node.operation.name not in frozen:
            frozen.append(node.operation.name)
    for tensor in model.outputs:
        if id(tensor) not in active:  # an output that nothing trainable leads to
            return None
    if not frozen:
        return None
    named = {f"cut_{i}": tensor for i, tensor in enumerate(crossing.values())}
    prefix = keras.Model(model._inputs_struct, named, name="prefix")
    suffix = keras.Model(list(named.values()), model._outputs_struct, name="suffix")
    # Frozen layers that only feed the head's side stay in the suffix.
    inside = {layer.name for layer in prefix.layers}
    return Cut(prefix, suffix, tuple(name for name in frozen if name in inside))


def _nodes(model: Any) -> Iterator[Any]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from model._nodes_by_depth[depth]


def _is_active(operation: Any) -> bool:
    """Whether a node of the graph trains, or gives something else each time."""
    import keras

    if not isinstance(operation, keras.layers.Layer):
        return False
    if operation.trainable_variables:
        return True
    parts = list(operation._flatten_layers(include_self=True))
    norms = [p for p in parts if isinstance(p, keras.layers.BatchNormalization)]
    if any(p.trainable and p.non_trainable_variables for p in norms):
        return True
    if any(isinstance(p, _augmenting()) for p in parts):
        return True
    # Dropout of the backbone rests where it is frozen; that of the head is there for the head.
    return operation.name.startswith("head_") and any(hasattr(p, "seed_generator") for p in parts)


def _augmenting() -> type:
    """Return what all layers of Keras that change pictures at random descend from."""
    import keras

    return keras.layers.RandomFlip.__mro__[1]


def open_sides(cut: Cut) -> str | None:
    """Say why what crosses a cut cannot be kept row by row, or `None` where it can."""
    for tensor in cut.prefix.outputs:
        if any(side is None for side in tensor.shape[2:]):
            shape = " x ".join("?" if side is None else str(side) for side in tensor.shape[1:])
            return f"a tensor of {shape} crosses the boundary, whose size is not known beforehand"
    return None


def identity(cut: Cut) -> str:
    """Return the SHA-256 of all that decides what a prefix computes: graph, weights, versions."""
    together = hashlib.sha256()
    config = cut.prefix.get_config()
    # Keras numbers layers as they are made; the place in the graph names them as well.
    places = {layer["name"]: f"#{i}" for i, layer in enumerate(config["layers"])}
    text = json.dumps(_renamed({**config, "name": ""}, places), sort_keys=True, default=str)
    together.update(text.encode())
    for variable in cut.prefix.variables:
        if "seed" in variable.path.rsplit("/", 1)[-1]:
            continue
        together.update(np.ascontiguousarray(variable.value.numpy()).view("uint8").data)
    for name in MAKERS:
        together.update(f"{name}={importlib.metadata.version(name)}\n".encode())
    return together.hexdigest()


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {k: _renamed(v, names) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def multiply_adds(network: Any, positions: float) -> float:
    """Return about how many multiply-adds a network takes for one example.

    Each number of a kernel meets each place of the layer's output once. The products of attention
    are left out: they are few at the lengths of fine-tuning.

    Args:
        network: A functional `keras.Model`.
        positions: The mean length, where the network leaves it open.

    Returns:
        Multiply-adds of one forward pass.
    """
    total = 0.0
    for node in _nodes(network):
        layer = node.operation
        kernels = [
            v for v in getattr(layer, "weights", ())
            if len(v.shape) > 1 and "embedding" not in v.path
        ]
        if not kernels:
            continue
        sides = node.output_tensors[0].shape[1:-1]
        places = float(np.prod([positions if side is None else side for side in sides] or [1]))
        total += places * sum(float(np.prod(v.shape)) for v in kernels)
    return total
