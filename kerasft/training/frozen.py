"""The frozen part of a model: where its graph can be cut, so that activations can be kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.spec import Tensors
from kerasft.system.cache import digest_code, nameless

if TYPE_CHECKING:
    import keras

# What decides what a layer computes, beside its config and weights.
MAKERS = ("tensorflow", "keras", "keras-hub")


@dataclass(frozen=True)
class Cut:
    """A model in two parts, which compute with its own layers and weights.

    Args:
        model: The model.
        below: The nodes of its graph before the cut, in the order of computing. None of their
            variables trains, and they always run in inference mode: no dropout, fixed statistics.
        above: The nodes behind the cut.
        crossing: The symbolic tensors that cross it, by name.
        layers: The names of the layers with weights below the cut, in order.
    """

    model: Any
    below: tuple[Any, ...]
    above: tuple[Any, ...]
    crossing: Mapping[str, Any]
    layers: tuple[str, ...]

    def __call__(self, inputs: Tensors, training: bool | None = None) -> Any:
        """Compute what the model computes, what lies below the cut in inference mode."""
        import keras

        crossing = self.prefix(inputs)
        return self.suffix(
            {name: keras.ops.stop_gradient(value) for name, value in crossing.items()}, training
        )

    def prefix(self, inputs: Tensors) -> dict[str, Any]:
        """Compute what crosses the cut."""
        flat = self.model._standardize_inputs(inputs)
        values = {id(tensor): value for tensor, value in zip(self.model.inputs, flat, strict=True)}
        _run(self.below, values, training=False)
        return {name: values[id(tensor)] for name, tensor in self.crossing.items()}

    def suffix(self, crossing: Mapping[str, Any], training: bool | None = None) -> Any:
        """Compute the model's outputs of what crosses the cut."""
        import keras

        values = {id(tensor): crossing[name] for name, tensor in self.crossing.items()}
        _run(self.above, values, training)
        return keras.tree.map_structure(lambda t: values[id(t)], self.model._outputs_struct)

    @property
    def frozen_variables(self) -> list[Any]:
        """The variables below the cut."""
        found = {id(v): v for node in self.below for v in getattr(node.operation, "variables", ())}
        return list(found.values())


def _run(nodes: Iterable[Any], values: dict[int, Any], training: bool | None) -> None:
    """Compute nodes of a graph one after the other, as a functional model does.

    New models of the tensors at the cut would do it too, but Keras then writes into the nodes of
    inputs that cross it, after which the model as a whole can no longer be described.
    """
    import keras

    for node in nodes:
        given, named = node.arguments.fill_in(values)
        # Also to layers whose `call` takes none: those within them may.
        takes = "training" in getattr(node.operation, "_call_context_args", ())
        if takes and training is not None:
            named["training"] = training
        made = keras.tree.flatten(node.operation(*given, **named))
        values |= {id(t): value for t, value in zip(node.output_tensors, made, strict=True)}


def cut(model: keras.Model) -> Cut | None:
    """Cut a functional model where the first trainable or random layer begins.

    What lies on no path from such a layer is below the cut: frozen layers, and layers without
    weights that compute the same each time, pooling among them. Dropout inside the frozen network
    counts as part of it and rests, as fixed statistics of batch normalization do; dropout of the
    head, and layers that change images at random, stay above, and so do embeddings with noise
    (`regularize.embedding_noise`) where more than the head trains.

    Args:
        model: A functional `keras.Model`, with its variables selected for a stage.

    Returns:
        A `Cut`, or `None` where no layer with weights lies before all that trains.

    Example:
        >>> inputs, body = keras.Input((4,)), keras.layers.Dense(8, name="body")
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="head")(body(inputs)))
        >>> body.trainable = False
        >>> cut(model).layers
        ('body',)
    """
    active: set[int] = set()
    head = getattr(model, "head_layers", ())
    of_head, own = {id(layer) for layer in head}, {id(v) for la in head for v in la.variables}
    alone = all(id(variable) in own for variable in model.trainable_variables)
    crossing: dict[int, Any] = {}
    below, above = [], []
    for node in nodes_of(model):
        downstream = any(id(tensor) in active for tensor in node.input_tensors)
        noisy = not alone and _is_noisy(node.operation)
        if downstream or noisy or _is_active(node.operation, id(node.operation) in of_head):
            crossing |= {id(t): t for t in node.input_tensors if id(t) not in active}
            active |= {id(tensor) for tensor in node.output_tensors}
            above.append(node)
        else:
            below.append(node)
    layers = [n.operation.name for n in below if getattr(n.operation, "variables", None)]
    if not layers or not all(id(tensor) in active for tensor in model.outputs):
        return None
    return Cut(
        model, tuple(below), tuple(above),
        {f"cut_{i}": tensor for i, tensor in enumerate(crossing.values())},
        tuple(dict.fromkeys(layers)),
    )


def nodes_of(model: keras.Model) -> Iterator[Any]:
    """Yield the nodes of a functional model's graph in the order of computing, without inputs."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)


def _is_active(operation: keras.Operation, of_head: bool) -> bool:
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
    # Of the layers that change images some do it the same way each time: resizing, cropping.
    if any(isinstance(p, _augmenting()) and p._seed_generators for p in parts):
        return True
    # Dropout of the backbone rests where it is frozen; that of the head is there for the head.
    return of_head and any(hasattr(p, "seed_generator") for p in parts)


def _is_noisy(operation: keras.Operation) -> bool:
    """Whether noise is put on what an operation embeds, see `regularize.embedding_noise`."""
    parts: list[Any] = getattr(operation, "_flatten_layers", list)()
    return any(hasattr(part, "embedding_noise") for part in parts)


def _augmenting() -> Any:
    """Return what all layers of Keras that change images descend from."""
    import keras

    return keras.layers.RandomFlip.__mro__[1]


def open_sides(cut: Cut) -> str | None:
    """Say why what crosses a cut cannot be kept row by row, or `None` where it can."""
    # See `model.text.windows`: what is computed there has several rows an example.
    many: set[int] = set()
    for node in cut.below:
        splits = getattr(node.operation, "splits_rows", False)
        joins = getattr(node.operation, "joins_rows", False)
        if splits or (not joins and any(id(tensor) in many for tensor in node.input_tensors)):
            many |= {id(tensor) for tensor in node.output_tensors}
    if many & {id(tensor) for tensor in cut.crossing.values()}:
        return ("the boundary lies where long texts are in windows (task.windows); they are whole "
                "again at the head alone")
    for tensor in cut.crossing.values():
        if any(side is None for side in tensor.shape[2:]):
            shape = " x ".join("?" if side is None else str(side) for side in tensor.shape[1:])
            return f"a tensor of {shape} crosses the boundary, whose size is not known beforehand"
    return None


def identity(cut: Cut) -> str:
    """Return the SHA-256 of all that decides what a prefix computes: graph, weights, versions.

    Layers count by what they are and what they take, not by their names: Keras numbers them as
    they are made.
    """
    import keras

    together = hashlib.sha256()
    numbers: dict[int, int] = {}

    def number(value: object) -> Any:
        if isinstance(value, keras.KerasTensor):
            return numbers.setdefault(id(value), len(numbers))
        return _in_full(value)

    for tensor in cut.model.inputs:
        together.update(repr([number(tensor), tensor.shape, tensor.dtype]).encode())
    for node in cut.below:
        kind, layer = type(node.operation), node.operation
        parts = list(getattr(layer, "_flatten_layers", list)())
        row = [
            f"{kind.__module__}.{kind.__qualname__}", nameless(_config_of(layer)),
            [part.compute_dtype for part in parts], digest_code(map(type, [layer, *parts])),
            [number(value) for value in node.arguments._flat_arguments],
            [number(value) for value in node.output_tensors],
        ]
        # Of layers within a layer its config says nothing.
        if scales := [p.low_rank.scale for p in parts if hasattr(p, "low_rank")]:
            row.append(scales)
        together.update(json.dumps(row, sort_keys=True, default=repr).encode())
    together.update(repr([number(tensor) for tensor in cut.crossing.values()]).encode())
    for variable in cut.frozen_variables:
        if "seed" in variable.path.rsplit("/", 1)[-1]:
            continue
        together.update(np.ascontiguousarray(variable.value.numpy()).view("uint8").data)
    for name in MAKERS:
        together.update(f"{name}={importlib.metadata.version(name)}\n".encode())
    return together.hexdigest()


def _config_of(layer: keras.Operation) -> Any:
    """Return what a layer is made of, also where its class cannot say it itself."""
    try:
        return layer.get_config()
    except (AttributeError, NotImplementedError):
        # The decoder of Llama in KerasHub 0.29 asks itself for an attribute of another name.
        plain = (bool, int, float, str, tuple, type(None))
        return {
            name: value for name, value in sorted(vars(layer).items())
            if isinstance(value, plain) and not name.startswith("_")
        }


def _in_full(value: object) -> str:
    """Describe a constant of the graph; libraries abbreviate large arrays."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array = np.ascontiguousarray(value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    return repr(value)


def multiply_adds(nodes: Iterable[Any], positions: float) -> float:
    """Return about how many multiply-adds nodes of a graph take for one example.

    Each number of a kernel meets each place of the layer's output once. The products of attention
    are left out: they are few at the lengths of fine-tuning.

    Args:
        nodes: Nodes, see `nodes_of`.
        positions: The mean length, where the network leaves it open.

    Returns:
        Multiply-adds of one forward pass.
    """
    total = 0.0
    for node in nodes:
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
