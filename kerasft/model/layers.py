"""Keras layers and models that kerasft adds; imported only where a network is built or loaded."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("kerasft")
class Normalize(keras.layers.Layer):
    """Maps pixel values 0..255 to what a pretrained network expects: `x * scale + offset`.

    Args:
        scale: A number, or one for each channel.
        offset: A number, or one for each channel.
        bgr: Whether the channels are reversed first.

    Example:
        >>> float(Normalize(1 / 127.5, -1.0)(keras.ops.full((1, 2, 2, 3), 255))[0, 0, 0, 0])
        1.0
    """

    def __init__(self, scale=1.0, offset=0.0, bgr=False, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.offset, self.bgr = scale, offset, bgr
        # uint8 pixels must reach `call` as they are.
        self.autocast = False

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        if self.bgr and x.shape[-1] == 3:
            x = ops.flip(x, axis=-1)
        elif self.bgr and x.shape[-1] > 3:  # what is no colour keeps its place
            x = ops.concatenate([ops.flip(x[..., :3], axis=-1), x[..., 3:]], axis=-1)
        x = x * ops.convert_to_tensor(self.scale, "float32")
        return ops.cast(x + ops.convert_to_tensor(self.offset, "float32"), self.compute_dtype)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "offset": self.offset, "bgr": self.bgr}


@keras.saving.register_keras_serializable("kerasft")
class Pooling(keras.layers.Layer):
    """Makes one vector of a sequence: `[batch, positions, width]` to `[batch, width]`.

    Masked positions count in none of the ways. `"concat"` joins average and maximum;
    `"attention"` learns one query and weighs the positions by it.

    Args:
        mode: `"avg"`, `"max"`, `"cls"`, `"last"`, `"attention"` or `"concat"`.
    """

    def __init__(self, mode="avg", **kwargs):
        super().__init__(**kwargs)
        self.mode = mode
        self.supports_masking = True

    def build(self, sequence_shape, mask_shape=None):
        if self.mode == "attention":
            self.query = self.add_weight(
                name="query", shape=(sequence_shape[-1], 1), initializer="zeros"
            )
        self.built = True

    def call(self, sequence, mask=None):
        # Sums over positions lose digits in half precision.
        x = ops.cast(sequence, "float32")
        # `expand_dims`, not `[..., None]`: LiteRT has no op for the latter where lengths vary.
        keep = ops.ones_like(x[..., :1])
        if mask is not None:
            keep = ops.expand_dims(ops.cast(mask, "float32"), -1)
        if self.mode == "cls":
            pooled = x[:, 0]
        elif self.mode == "last":
            last = ops.maximum(ops.cast(ops.sum(keep[..., 0], axis=1), "int32") - 1, 0)
            last = ops.expand_dims(ops.expand_dims(last, -1), -1)
            pooled = ops.squeeze(ops.take_along_axis(x, last, axis=1), axis=1)
        elif self.mode == "attention":
            scores = ops.matmul(x, ops.cast(self.query, "float32")) + (keep - 1.0) * 1e9
            pooled = ops.sum(ops.softmax(scores, axis=1) * x, axis=1)
        else:
            parts = []
            if self.mode in ("avg", "concat"):
                count = ops.maximum(ops.sum(keep, axis=1), 1.0)
                parts.append(ops.sum(x * keep, axis=1) / count)
            if self.mode in ("max", "concat"):
                parts.append(ops.max(x + (keep - 1.0) * 1e9, axis=1))
            pooled = ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        return ops.cast(pooled, self.compute_dtype)

    def compute_mask(self, sequence, mask=None):
        return None  # there are no positions left; Keras' metrics would weigh by them

    def compute_output_shape(self, sequence_shape, mask_shape=None):
        return (sequence_shape[0], sequence_shape[-1] * (2 if self.mode == "concat" else 1))

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable("kerasft")
class Places(keras.layers.Layer):
    """Makes boxes of what a head without anchors says of each place of some feature maps.

    A place says how far the sides of its object are, in strides and as logarithms.

    Args:
        size: Rows and columns of the images.

    Takes `float32[batch, height, width, 4 + classes]` for each map, and gives
    `float32[batch, places, 8 + classes]`: left, top, right and bottom of a box in pixels, likewise
    the place itself, a cell of one stride, and the rest as it is.
    """

    # What a side can be away at most, as a logarithm: beyond, a step would make it endless.
    FARTHEST = 6.0

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = tuple(size)

    def call(self, maps):
        rows, columns = self.size
        made = []
        for x in maps:
            height, width = x.shape[1:3]
            down, across = rows / height, columns / width
            y, x_ = np.meshgrid((np.arange(height) + 0.5) * down,
                                (np.arange(width) + 0.5) * across, indexing="ij")  # fmt: skip
            points = np.stack([x_, y], -1).reshape(1, -1, 2).astype("float32")
            x = ops.reshape(x, (-1, height * width, x.shape[-1]))
            sides = ops.exp(ops.clip(x[..., :4], -self.FARTHEST, self.FARTHEST))
            sides = sides * np.array([across, down, across, down], "float32")
            half = np.array([across / 2, down / 2], "float32")
            cells = np.concatenate([points - half, points + half], axis=-1)
            made.append(ops.concatenate([
                points - sides[..., :2], points + sides[..., 2:],
                ops.broadcast_to(cells, ops.shape(sides)), x[..., 4:],
            ], axis=-1))  # fmt: skip
        return ops.concatenate(made, axis=1)

    def compute_output_shape(self, shapes):
        places = sum(height * width for _, height, width, _ in shapes)
        return (shapes[0][0], places, shapes[0][-1] + 4)

    def get_config(self):
        return {**super().get_config(), "size": list(self.size)}


class _Parts:
    """Models that another one is made of, out of sight of its tracking of layers."""

    def __init__(self, **models):
        self.models = models

    def get_config(self):
        made = {n: keras.saving.serialize_keras_object(m) for n, m in self.models.items()}
        for name, model in self.models.items():
            # KerasHub's Llama leaves this out of its config and would not come back without it.
            if getattr(model, "tie_word_embeddings", False):
                made[name]["config"].setdefault("tie_word_embeddings", True)
        return made


# By the name that files of runs have had since the first one, so that all of them load.
@keras.saving.register_keras_serializable("kerasft", name="PictureNetwork")
class ImageNetwork(keras.Model):
    """A network for images that takes `uint8` pixels and scales them itself.

    Its layers stand in one flat graph, but it is saved as what the network says of itself: of
    some KerasHub networks the single layers do not come back from a file (ViT, Llama, Qwen3).

    Args:
        network: A functional `keras.Model` on one image.
        height: Rows of the images.
        width: Columns of the images.
        scale: See `Normalize`, as `offset` and `bgr`.
    """

    def __init__(self, network, height, width, scale=1.0, offset=0.0, bgr=False, name=None):
        channels = network.inputs[0].shape[-1] or 3
        images = keras.Input((height, width, channels), dtype="uint8", name="images")
        # A network that came out of a run has a layer of that name already.
        again = any(layer.name == "normalize" for layer in network.layers)
        first = Normalize(scale, offset, bgr, name="normalize_before" if again else "normalize")
        scaled = first(images)
        # `call`, not the layer call: the network's own layers then stand in this graph.
        taken = {next(iter(network.input)): scaled} if isinstance(network.input, dict) else scaled
        super().__init__(inputs=images, outputs=network.call(taken), name=name)
        self._parts = _Parts(network=network)
        self.values = (height, width, scale, offset, bgr)

    @property
    def network(self):
        """The network that takes the scaled pixels."""
        return self._parts.models["network"]

    def get_config(self):
        names = ("height", "width", "scale", "offset", "bgr")
        values = dict(zip(names, self.values, strict=True))
        return {"name": self.name, **self._parts.get_config(), **values}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network = keras.saving.deserialize_keras_object(config.pop("network"), custom_objects)
        return cls(network, **config)


@keras.saving.register_keras_serializable("kerasft")
class Assembled(keras.Model):
    """A network with its head, in one flat graph; saved as these two, see `ImageNetwork`.

    The head is what `outputs` were made of beyond the network's own graph. It may take any tensors
    of the network, and use layers of the network once more: a language model's tied embedding, say.

    Args:
        network: The backbone's network.
        outputs: What the head made of the network's tensors: a tensor, or a structure of them.
    """

    def __init__(self, network, outputs, name=None):
        super().__init__(inputs=network.input, outputs=outputs, name=name)
        self._places = _taken_by_head(network, self)
        self._parts = _Parts(network=network, head=_head_of(network, self, self._places))
        self.adaptation = self.around = None  # see `kerasft.model.adapting.adaptation` and `noise`
        self._set_entry(None)

    @property
    def taken_by_head(self):
        """The tensors of the network that the head takes."""
        network = self._parts.models["network"]
        return [_tensor_at(network, place) for place in self._places]

    @property
    def head_layers(self):
        """The layers that the head added, in order; those that it shares are the network's."""
        network, head = self._parts.models["network"], self._parts.models["head"]
        others = {id(layer) for layer in network.layers}
        return [
            layer for layer in head.layers
            if id(layer) not in others and not isinstance(layer, keras.layers.InputLayer)
        ]

    @property
    def head_parts(self):
        """The layers that the head added, and all layers within them."""
        return [
            part for layer in self.head_layers for part in layer._flatten_layers(include_self=True)
        ]

    def __call__(self, *args, **kwargs):
        call = super().__call__ if self._entry is None else self._entry
        return call(*args, **kwargs) if self.around is None else self.around(call, *args, **kwargs)

    @contextmanager
    def entered(self, entry):
        """Compute through another function than the whole graph while a block runs.

        Training, prediction and callbacks then see this model as ever, with all of its weights,
        but feed the function: the part of the graph behind a cut, say.

        Args:
            entry: A function `(inputs, training=None)` to outputs, of this model's own layers;
                `None` for the graph as it is.
        """
        self._set_entry(entry)
        try:
            yield
        finally:
            self._set_entry(None)

    def _set_entry(self, entry):
        # Out of sight of Keras' tracking: its layers are the model's own.
        object.__setattr__(self, "_entry", entry)
        # What was compiled computes as before.
        self.train_function = self.test_function = self.predict_function = None

    def save(self, *args, **kwargs):
        with self._folded():
            super().save(*args, **kwargs)

    def save_weights(self, *args, **kwargs):
        with self._folded():
            super().save_weights(*args, **kwargs)

    def _folded(self):
        """Be a plain model inside the block: files hold no updates, but what they add up to."""
        return nullcontext() if self.adaptation is None else self.adaptation.folded()

    def get_config(self):
        own = {id(layer) for layer in self.head_layers}
        shared = [
            layer.name for layer in self._parts.models["head"].layers
            if id(layer) not in own and not isinstance(layer, keras.layers.InputLayer)
        ]
        return {
            "name": self.name, **self._parts.get_config(),
            "places": [list(place) for place in self._places], "shared": shared,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network, head = (
            keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("network", "head")
        )
        of_now = (_tensor_at(network, place) for place in config.get("places", ()))
        places = list(of_now) if "places" in config else _places_before(network)
        shared = {name: network.get_layer(name) for name in config.get("shared", ())}
        # `head.call` would write a cast to the precision of training into the graph.
        outputs = head._run_through_graph(places, lambda layer: shared.get(layer.name, layer))
        return cls(network, outputs, name=config["name"])


def _taken_by_head(network, model):
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


def _head_of(network, model, places):
    """Return the head of a model as a model of its own."""
    known = {id(tensor) for _, tensor in _places(network)}
    taken = [_tensor_at(network, place) for place in places]
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


def _tensor_at(network, place):
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


def _places_before(network):
    """Return what heads took of a network before models said it: runs of then are still read."""
    output = network.output
    if isinstance(output, dict):
        output = output.get("sequence_output", next(iter(output.values())))
    elif isinstance(output, list | tuple):
        output = output[-1]
    inputs = network.input if isinstance(network.input, dict) else {}
    mask = [inputs["padding_mask"]] if "padding_mask" in inputs else []
    return [as_sequence(output), *mask]
