"""Exchanging activations, normalizations, dropout rates and kinds of pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from kerasft.errors import UserError, shown
from kerasft.model.surgery.editing import remove
from kerasft.model.surgery.operated import Graph
from kerasft.model.surgery.places import Place, edited, put, with_parts
from kerasft.system.console import listing

# Activations of Keras that stand in a graph as operations and not as layers.
OPERATIONS = ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "HardSilu",
              "Softplus", "Mish")  # fmt: skip
# What opens and closes a path, or makes shares: another function would be no gate.
GATES = ("sigmoid", "hard_sigmoid", "softmax", "log_softmax", "tanh")


def activation(graph: Graph, patterns: str | list[str], name: str) -> str:
    """Exchange the activations of layers."""
    named = {patterns} if isinstance(patterns, str) else set(patterns)

    def exchange(place: Place) -> bool:
        layer, layers = place.layer, keras.layers
        if isinstance(layer, layers.ReLU | layers.LeakyReLU | layers.ELU | layers.PReLU):
            put(graph, place, layers.Activation(name, name=layer.name, dtype=layer.dtype_policy))
            return True
        if not isinstance(layer, layers.Layer):
            if type(layer).__name__ not in OPERATIONS or len(place.node.takes) != 1:
                return False
            for node in [one for one in graph.nodes if one.operation is layer]:
                # Called as an operation, it may have been given more than a tensor.
                node.source = None
            put(graph, place, layers.Activation(name, name=layer.name))
            return True
        now = getattr(getattr(layer, "activation", None), "__name__", "")
        # A layer of layers notes down what those within it have.
        inner = [one for one in layer._flatten_layers(include_self=False) if _active(one)]
        if not now or inner or now == "linear" or (now in GATES and place.path not in named):
            return False
        edited(graph, place, {"activation": name})
        return True

    changed = _each(graph, patterns, exchange, "an activation")
    return f"activation {name} in {listing(changed, 8)}"


def _active(layer: keras.Layer) -> bool:
    name = getattr(getattr(layer, "activation", None), "__name__", "")
    return bool(name) and name != "linear" and name not in GATES


def norm(graph: Graph, patterns: str | list[str], kind: str) -> str:
    """Exchange the normalizations of layers."""
    layers = keras.layers
    kinds = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization,
             layers.RMSNormalization)  # fmt: skip
    if kind == "none":
        found = [p.path for p in with_parts(graph, patterns) if isinstance(p.layer, kinds)]
        if not found:
            raise _nothing(graph, patterns, "a normalization")
        return remove(graph, found)
    pairs = []

    def exchange(place: Place) -> bool:
        old = place.layer
        if not isinstance(old, kinds):
            return False
        new = put(graph, place, _norm(kind, old))
        pairs.append((old, new))
        return True

    changed = _each(graph, patterns, exchange, "a normalization")
    graph.run()  # which builds what is new
    for old, new in pairs:
        have = {_last(v): v for v in old.trainable_variables}
        for variable in new.trainable_variables:
            before = have.get(_last(variable))
            if before is not None and before.shape == variable.shape:
                variable.assign(before)
    return f"{kind} normalization in {listing(changed, 8)}"


def _last(variable: keras.Variable) -> str:
    name = variable.path.rpartition("/")[2]
    return "gamma" if name == "scale" else name


def _norm(kind: str, old: Any) -> Any:
    given = {"name": old.name, "epsilon": old.epsilon, "dtype": old.dtype_policy}
    layers = keras.layers
    if kind == "group":
        width = next((v.shape[-1] for v in old.variables), 32)
        return layers.GroupNormalization(groups=math.gcd(32, int(width)), **given)
    made = {"batch": layers.BatchNormalization, "layer": layers.LayerNormalization,
            "rms": layers.RMSNormalization}  # fmt: skip
    return made[kind](**given)


def dropout(graph: Graph, patterns: str | list[str], rate: float) -> str:
    """Set the rate of dropout layers."""
    layers = keras.layers
    kinds = (layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D,
             layers.GaussianDropout, layers.AlphaDropout)  # fmt: skip

    def exchange(place: Place) -> bool:
        if not isinstance(place.layer, kinds):
            return False
        edited(graph, place, {"rate": rate})
        return True

    changed = _each(graph, patterns, exchange, "dropout")
    return f"dropout {rate:g} in {listing(changed, 8)}"


def pooling(graph: Graph, patterns: str | list[str], kind: str) -> str:
    """Exchange the kind of pooling layers."""
    layers = keras.layers
    pairs = [
        (getattr(layers, f"{whole}MaxPooling{n}D"), getattr(layers, f"{whole}AveragePooling{n}D"))
        for whole in ("", "Global") for n in (1, 2)
    ]  # fmt: skip

    def exchange(place: Place) -> bool:
        for both in pairs:
            if type(place.layer) in both:
                new = both[0] if kind == "max" else both[1]
                put(graph, place, new.from_config(place.layer.get_config()))
                return True
        return False

    changed = _each(graph, patterns, exchange, "pooling")
    return f"{kind} pooling in {listing(changed, 8)}"


def _each(
    graph: Graph, patterns: str | list[str], exchange: Callable[[Place], bool], what: str
) -> list[str]:
    """Exchange something in each layer that has it, and return the paths of these."""
    changed = [place.path for place in with_parts(graph, patterns) if exchange(place)]
    if not changed:
        raise _nothing(graph, patterns, what)
    return changed


def _nothing(graph: Graph, patterns: str | list[str], what: str) -> UserError:
    found = [place.path for place in with_parts(graph, patterns)]
    return UserError(
        f"none of the layers that {shown(patterns)} means has {what} to replace: "
        f"{listing(found, 5)}. `kerasft surgery` shows the layers with their classes."
    )
