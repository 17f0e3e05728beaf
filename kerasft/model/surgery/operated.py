"""A network after surgery: layers of another one, called again in another order.

This file imports Keras alone: an export that holds such a network carries a copy of it.
"""

from __future__ import annotations

import inspect
import re

import keras


class GraphError(ValueError):
    """A change that leaves a graph which cannot be computed."""


class Node:
    """One call of an operation.

    Args:
        operation: What is called.
        takes: The numbers of the tensors that it takes.
        gives: The numbers of the tensors that it returns.
        of: Which call of the source this was; `None` for one that is new.
        source: That call in the source: what it was given beside tensors.
    """

    def __init__(self, operation, takes, gives, *, of=None, source=None):
        self.operation, self.takes, self.gives = operation, list(takes), list(gives)
        self.of, self.source = of, source
        # Whether the operation is not the source's, and is saved with the graph.
        self.is_new = source is None

    def call(self, tensors):
        """Call the operation on tensors, and return a list of what it gives."""
        given, named = tensors, {}
        if self.source is not None:
            own = self.source.arguments
            values = {id(t): new for t, new in zip(own.keras_tensors, tensors, strict=True)}
            given, named = own.fill_in(values)
            if self.is_new:  # a layer of another kind may take less beside tensors
                takes = inspect.signature(self.operation.call).parameters
                named = {name: value for name, value in named.items() if name in takes}
        try:
            return keras.tree.flatten(self.operation(*given, **named))
        except Exception as error:  # the layers' own words, of any type
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise GraphError(
                f"the layer {self.operation.name!r} ({type(self.operation).__name__}) cannot "
                f"follow: it was given {shapes}. ({said})"
            ) from error


class Graph:
    """The graph of a functional model as a list of calls that can be changed.

    Networks within the network are unfolded, so that their layers stand in the list themselves.
    Tensors are numbered; the numbers of one network are always the same.

    Args:
        network: A functional `keras.Model`. Its layers are shared, and may be changed in place.
    """

    def __init__(self, network):
        self.network = network
        self.shapes = [tuple(tensor.shape[1:]) for tensor in network.inputs]
        self.nodes: list[Node] = []
        # What was changed within layers of the source: see `edit`.
        self.edits: list[dict] = []
        # The variables that got other values on purpose, by `id`.
        self.touched: set[int] = set()
        self._calls = 0
        self.count = len(self.shapes)
        numbers = {id(tensor): i for i, tensor in enumerate(network.inputs)}
        self._read(network, numbers)
        # What its operations are called, also where Keras numbers them otherwise each time.
        self.names = names_of([node.operation for node in self.nodes])
        self.outputs = keras.tree.map_structure(
            lambda tensor: numbers[id(tensor)], network._outputs_struct
        )

    def _read(self, model, numbers):
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                takes = [numbers[id(tensor)] for tensor in node.input_tensors]
                inner = unfolded(node.operation)
                if inner is not None and len(takes) == len(inner.inputs):
                    within = {id(t): n for t, n in zip(inner.inputs, takes, strict=True)}
                    # Whether it was called in inference mode is lost, as it is in Keras: a call of
                    # the whole decides. What a stage freezes computes in inference mode.
                    self._read(inner, within)
                    for outer, its in zip(node.outputs, inner.outputs, strict=True):
                        numbers[id(outer)] = within[id(its)]
                    continue
                gives = [self.number() for _ in node.outputs]
                numbers |= {id(t): n for t, n in zip(node.outputs, gives, strict=True)}
                self.nodes.append(Node(node.operation, takes, gives, of=self._calls, source=node))
                self._calls += 1

    def number(self):
        """Return the number of a tensor that is to come."""
        self.count += 1
        return self.count - 1

    def run(self):
        """Call everything on new inputs, and return the symbolic tensors by number."""
        tensors = {
            i: keras.Input(shape, dtype=old.dtype, name=old.name)
            for i, (shape, old) in enumerate(zip(self.shapes, self.network.inputs, strict=True))
        }
        for node in self.nodes:
            made = node.call([tensors[number] for number in node.takes])
            tensors |= dict(zip(node.gives, made, strict=True))
        return tensors

    def edit(self, at, change):
        """Change a layer of the source in place, and note it down.

        Args:
            at: The call in the source, and then the place among the layers of each layer.
            change: `{"rate": 0.1}` for dropout, `{"activation": "gelu"}`, or `{"layer": ...}`, a
                serialized layer that takes the place of the one there.

        Returns:
            The layer that is there now.
        """
        at = list(at)
        parent, layer = None, next(n.operation for n in self.nodes if n.of == at[0])
        for place in at[1:]:
            parent, layer = layer, layer._layers[place]
        if "layer" in change:
            new = keras.saving.deserialize_keras_object(change["layer"])
            layer = exchange(parent, layer, new)
        elif "rate" in change:
            set_rate(layer, change["rate"])
        else:
            layer.activation = keras.activations.get(change["activation"])
        self.edits.append({"at": at, **change})
        return layer

    def to_dict(self):
        """Return what `restored` makes the same graph of, as plain values."""
        new = {n.operation.name: n.operation for n in self.nodes if n.is_new}
        return {
            "shapes": [list(shape) for shape in self.shapes],
            "nodes": [
                {"of": n.of, "name": n.operation.name, "new": n.is_new, "bare": n.source is None,
                 "takes": n.takes, "gives": n.gives}
                for n in self.nodes
            ],
            "outputs": self.outputs,
            "layers": {name: serialized(one) for name, one in new.items()},
            "edits": self.edits,
        }  # fmt: skip

    @classmethod
    def restored(cls, network, values, custom_objects=None):
        """Make a graph of a network as it was before surgery, and of what `to_dict` returned."""
        graph = cls(network)
        for edit in values["edits"]:
            graph.edit(edit["at"], {key: one for key, one in edit.items() if key != "at"})
        layers = {
            name: keras.saving.deserialize_keras_object(one, custom_objects)
            for name, one in values["layers"].items()
        }
        source = {node.of: node for node in graph.nodes}
        graph.nodes = []
        for one in values["nodes"]:
            if (node := source.get(one["of"])) is None:
                node = Node(layers[one["name"]], one["takes"], one["gives"])
            node.takes, node.gives = one["takes"], one["gives"]
            if one["new"]:
                node.operation, node.is_new = layers[one["name"]], True
            if one["bare"]:
                node.source = None
            # Keras numbers what has no name as it is made; others find tensors by the name.
            node.operation.name = one["name"]
            graph.nodes.append(node)
        graph.shapes = [tuple(shape) for shape in values["shapes"]]
        graph.outputs = values["outputs"]
        graph.count = 1 + max(n for node in graph.nodes for n in node.gives)
        return graph


@keras.saving.register_keras_serializable("kerasft")
class Operated(keras.Model):
    """A network after surgery, with its own layers and weights.

    It is saved as the network that it was, and the graph that it became: of some KerasHub networks
    the single layers do not come back from a file, see `ImageNetwork`.

    Args:
        graph: The `Graph`.
    """

    def __init__(self, graph, name=None):
        tensors = graph.run()
        network = graph.network
        inputs = [tensors[i] for i in range(len(network.inputs))]
        super().__init__(
            inputs=keras.tree.pack_sequence_as(network._inputs_struct, inputs),
            outputs=keras.tree.map_structure(lambda number: tensors[number], graph.outputs),
            name=name,
        )
        self._graph = graph

    def get_config(self):
        network = self._graph.network
        made = keras.saving.serialize_keras_object(network)
        # KerasHub's Llama leaves this out of its config and would not come back without it.
        if getattr(network, "tie_word_embeddings", False):
            made["config"].setdefault("tie_word_embeddings", True)
        return {"name": self.name, "network": made, "graph": self._graph.to_dict()}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network = keras.saving.deserialize_keras_object(config["network"], custom_objects)
        graph = Graph.restored(network, config["graph"], custom_objects)
        return cls(graph, name=config["name"])


def names_of(operations):
    """Return what operations are called, by `id`.

    Keras gives layers without a name of their own numbers that go on through a process. Here they
    begin at none, as in a new process.
    """
    named: dict[int, str] = {}
    numbered: dict[str, dict[int, int]] = {}
    for one in operations:
        named[id(one)] = one.name
        kind = snake(type(one).__name__)
        if match := re.fullmatch(rf"{kind}(?:_(\d+))?", one.name):
            numbered.setdefault(kind, {})[id(one)] = int(match[1] or 0)
    for kind, numbers in numbered.items():
        for rank, one in enumerate(sorted(numbers, key=numbers.__getitem__)):
            named[one] = f"{kind}_{rank}" if rank else kind
    return named


def snake(name):
    """Return the name of a class as Keras makes names of layers of it."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def serialized(layer, **changes):
    """Return a layer as Keras saves it, with other values of its config where they are given.

    Some layers of KerasHub (ViT's) write more into their config than they can be made of.
    """
    made = keras.saving.serialize_keras_object(layer)
    made.pop("build_config", None)  # calling it builds it, for what it takes then
    kind = type(layer)
    if kind.from_config.__func__ is keras.layers.Layer.from_config.__func__:
        makers = [one.__dict__["__init__"] for one in kind.__mro__[:-1] if "__init__" in vars(one)]
        takes = {name for maker in makers for name in inspect.signature(maker).parameters}
        made["config"] = {k: v for k, v in made["config"].items() if k in takes}
    made["config"] |= changes
    return made


def unfolded(operation):
    """Return the graph of a model that is called as a layer, `None` for any other operation."""
    graph = getattr(operation, "_functional", operation)  # where Sequential keeps it
    is_model = isinstance(operation, keras.Model) and hasattr(graph, "_nodes_by_depth")
    return graph if is_model else None


def exchange(parent, old, new):
    """Put a layer in the place of another within a layer that holds it.

    Args:
        parent: The layer that holds it as an attribute.
        old: The layer.
        new: What takes its place; it is built for the same input.

    Returns:
        The new layer.
    """
    names = [name for name, value in vars(parent).items() if value is old]
    if not names:
        raise GraphError(
            f"{type(parent).__name__} holds {old.name!r} in a list, where it cannot be exchanged"
        )
    place = next(i for i, layer in enumerate(parent._layers) if layer is old)
    if not new.built and (shape := built_for(old)) is not None:
        new.build(shape)
    parent._tracker.unlock()
    try:
        parent._tracker.untrack(old)
        for name in names:
            setattr(parent, name, new)
    finally:
        parent._tracker.lock()
    # Others count on the place of each layer: files with weights, and the edits to come.
    parent._layers.remove(new)
    parent._layers.insert(place, new)
    return new


def built_for(layer):
    """Return the shape of what a layer inside another one takes, as far as its weights tell."""
    shapes = getattr(layer, "_build_shapes_dict", None)
    if shapes and len(shapes) == 1:
        return next(iter(shapes.values()))
    widths = [v.shape[0] for v in layer.weights if len(v.shape) == 1]
    return (None, None, widths[0]) if widths else None


def set_rate(layer, rate):
    """Set the rate of a dropout layer that is built."""
    if not hasattr(layer, "seed_generator"):
        # Made with rate 0, a layer has none; and once built it takes none unasked.
        layer._tracker.unlock()
        layer.seed_generator = keras.random.SeedGenerator(getattr(layer, "seed", None))
        layer._tracker.lock()
    layer.rate = rate
