"""A model on images of another size: the same weights, computed through another graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerasft.errors import UserError, in_short
from kerasft.model.layers import nodes_of

if TYPE_CHECKING:
    from keras import KerasTensor

# Largest allowed RMS difference between the outputs of both graphs, relative to their standard
# deviation. Their operations are the same; half precision rounds what is computed in another order.
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}


class Resized(keras.Model):
    """The graph of a model for another size of images, on that model's own layers.

    Whatever has weights or other variables is the model's; only operations without any, which may
    have sizes built in (padding, resizing, positions of boxes), are its own. So there is one set of
    weights, and training through this graph trains the model.

    Args:
        model: The model.
        twin: A model of the same architecture for the other size. Its weights are not used.
        shared: The layer of the model for each layer of the twin that has variables, by `id`.
    """

    def __init__(self, model: keras.Model, twin: keras.Model, shared: Mapping[int, Any]):
        (images,) = (keras.Input(x.shape[1:], dtype=x.dtype, name="images") for x in twin.inputs)

        def operation(layer):
            # A model within the model has its size built in, too: its layers are called instead.
            if id(layer) not in shared and (graph := _graph_of(layer)):
                return lambda inputs, **named: graph._run_through_graph(inputs, operation)
            return shared.get(id(layer), layer)

        outputs = twin._run_through_graph(images, operation)
        super().__init__(inputs=images, outputs=outputs, name=f"{model.name}_resized")
        # Out of sight of Keras' tracking: they are layers of this model already.
        object.__setattr__(self, "head_layers", [
            shared.get(id(layer), layer) for layer in getattr(twin, "head_layers", ())
        ])  # fmt: skip


def resized(model: keras.Model, twin: keras.Model, *, name: str) -> Resized:
    """Return the graph of a model for another size of images.

    Args:
        model: The model.
        twin: A model that was made of the same config for the other size. It is given the weights
            of the model, to prove that both compute the same.
        name: The name of the backbone, for messages.

    Returns:
        A `Resized`: it takes images of the twin's size, and its variables are the model's.

    Raises:
        UserError: If a weight depends on the size, or the graphs differ in more than operations
            without weights.
    """
    here, there = (shape_of(one) for one in (model, twin))
    begins = f"{name} cannot be trained on images of both {there} and {here} pixels: "
    pairs = list(_pairs(model, twin, begins))
    for mine, its in pairs:
        for one, other in zip(mine.variables, its.variables, strict=True):
            other.assign(one)
    shared = {id(its): mine for mine, its in pairs}
    try:
        made = Resized(model, twin, shared)
    except Exception as error:  # the layers' own words, of any type
        raise UserError(f"{begins}a layer takes one size alone ({in_short(error)}). "
                        "Train all stages at one size.") from error
    _require_same(made, twin, begins)
    return made


def shape_of(model: keras.Model) -> str:
    """Return the size of the images that a model takes, as text.

    Example:
        >>> images = keras.Input((240, 320, 3))
        >>> shape_of(keras.Model(images, keras.layers.GlobalMaxPooling2D()(images)))
        '240x320'
    """
    return "x".join(str(side) for side in model.inputs[0].shape[1:3])


def _pairs(model: keras.Model, twin: keras.Model, begins: str) -> Iterator[tuple[Any, Any]]:
    """Yield each layer with variables and the one in its place in a twin."""
    nodes = nodes_of(model), nodes_of(twin)
    advice = (
        "Choose sizes that divide by the same power of two, such as multiples of 32, or train all "
        "stages at one size."
    )
    if len(nodes[0]) != len(nodes[1]) or _wiring(nodes[0]) != _wiring(nodes[1]):
        raise UserError(f"{begins}their layers are connected differently. {advice}")
    seen = set()
    for mine, its in ((a.operation, b.operation) for a, b in zip(*nodes, strict=True)):
        of_mine, of_its = (getattr(one, "variables", []) for one in (mine, its))
        if id(its) in seen or not (of_mine or of_its):
            continue
        seen.add(id(its))
        graphs = _graph_of(mine), _graph_of(its)
        if all(graphs):
            yield from _pairs(*graphs, begins)
            continue
        if type(mine) is not type(its) or len(of_mine) != len(of_its):
            raise UserError(
                f"{begins}{mine.name} is a {type(mine).__name__} at one size and a "
                f"{type(its).__name__} with other weights at the other. {advice}"
            )
        for one, other in zip(of_mine, of_its, strict=True):
            if one.shape != other.shape:
                raise UserError(
                    f"{begins}the shape of the weight {one.path} depends on the size "
                    f"({_sides(other)} and {_sides(one)}). That is so of networks with learned "
                    "positions, as vision transformers have them, and of dense layers on flattened "
                    "feature maps. Train all stages at one size, or choose a convolutional "
                    "backbone."
                )
        yield mine, its


def _graph_of(layer: keras.Layer) -> Any:
    """Return the graph of layers that a model within a model is, `None` for any other layer."""
    graph = getattr(layer, "_functional", layer)  # where Sequential keeps it
    return graph if isinstance(layer, keras.Model) and hasattr(graph, "_nodes_by_depth") else None


def _wiring(nodes: list[Any]) -> list[list[int]]:
    """Return which tensors each node takes, by their numbers in the order of computing."""
    numbers: dict[int, int] = {}
    for node in nodes:
        for tensor in node.outputs:
            numbers[id(tensor)] = len(numbers)
    return [[numbers[id(tensor)] for tensor in node.input_tensors] for node in nodes]


def _require_same(made: Resized, twin: keras.Model, begins: str) -> None:
    """See that a graph computes what the twin does with the same weights.

    A layer with weights may have noted its size where nobody sees it.
    """
    shape = (1, *twin.inputs[0].shape[1:])
    image = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    found, wanted = (_numbers(one(image, training=False)) for one in (made, twin))
    allowed = TOLERANCE.get(keras.config.dtype_policy().compute_dtype, 1e-3)
    apart = float(np.sqrt(np.mean((found - wanted) ** 2)))
    spread = max(float(wanted.std()), float(np.abs(wanted).mean()), 1e-3)
    if not apart <= allowed * spread:
        raise UserError(
            f"{begins}a layer with weights was made for one size alone: with the same weights, the "
            f"outputs differ by {apart:.3g}. Train all stages at one size."
        )


def _numbers(outputs: Any) -> np.ndarray:
    return np.concatenate(
        [np.asarray(one, "float64").ravel() for one in keras.tree.flatten(outputs)]
    )


def _sides(tensor: KerasTensor) -> str:
    return "x".join(str(side) for side in tensor.shape)
