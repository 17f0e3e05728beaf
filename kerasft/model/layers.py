"""Keras layers and models that kerasft adds; imported only where a network is built or loaded."""

from __future__ import annotations

from contextlib import contextmanager

import keras
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
        if self.bgr:
            x = ops.flip(x, axis=-1)
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


@keras.saving.register_keras_serializable("kerasft")
class PictureNetwork(keras.Model):
    """A network for pictures that takes `uint8` pixels and scales them itself.

    Its layers stand in one flat graph, but it is saved as what the network says of itself: of
    some KerasHub networks the single layers do not come back from a file (ViT, Llama, Qwen3).

    Args:
        network: A functional `keras.Model` on one picture.
        height: Rows of the pictures.
        width: Columns of the pictures.
        scale: See `Normalize`, as `offset` and `bgr`.
    """

    def __init__(self, network, height, width, scale=1.0, offset=0.0, bgr=False, name=None):
        images = keras.Input((height, width, 3), dtype="uint8", name="images")
        # A network that came out of a run has a layer of that name already.
        again = any(layer.name == "normalize" for layer in network.layers)
        first = Normalize(scale, offset, bgr, name="normalize_before" if again else "normalize")
        scaled = first(images)
        # `call`, not the layer call: the network's own layers then stand in this graph.
        taken = {next(iter(network.input)): scaled} if isinstance(network.input, dict) else scaled
        super().__init__(inputs=images, outputs=network.call(taken), name=name)
        self._parts = _Parts(network=network)
        self._values = (height, width, scale, offset, bgr)

    def get_config(self):
        names = ("height", "width", "scale", "offset", "bgr")
        values = dict(zip(names, self._values, strict=True))
        return {"name": self.name, **self._parts.get_config(), **values}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network = keras.saving.deserialize_keras_object(config.pop("network"), custom_objects)
        return cls(network, **config)


@keras.saving.register_keras_serializable("kerasft")
class Assembled(keras.Model):
    """A network with its head, in one flat graph; saved as these two, see `PictureNetwork`.

    Args:
        network: The backbone's network.
        places: The tensors of the network that the head takes: the sequence, and the mask if any.
        outputs: What the head made of them.
    """

    def __init__(self, network, places, outputs, name=None):
        super().__init__(inputs=network.input, outputs=outputs, name=name)
        self._parts = _Parts(network=network, head=keras.Model(places, outputs, name="head"))
        self._set_entry(None)

    def __call__(self, *args, **kwargs):
        if self._entry is not None:
            return self._entry(*args, **kwargs)
        return super().__call__(*args, **kwargs)

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

    def get_config(self):
        return {"name": self.name, **self._parts.get_config()}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network, head = (
            keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("network", "head")
        )
        places = places_of(network)
        # `head.call` would write a cast to the precision of training into the graph.
        return cls(network, places, keras.Function.call(head, places), name=config["name"])


def places_of(network):
    """Return a network's output as a sequence `[batch, positions, width]`, and its mask if any."""
    output = network.output
    if isinstance(output, dict):
        output = output.get("sequence_output", next(iter(output.values())))
    elif isinstance(output, list | tuple):
        output = output[-1]
    if len(output.shape) != 3:
        # The places of a feature map row by row; a vector is one place.
        output = keras.layers.Reshape((-1, output.shape[-1]), name="head_places")(output)
    inputs = network.input if isinstance(network.input, dict) else {}
    return [output, inputs["padding_mask"]] if "padding_mask" in inputs else [output]
