"""Documents in one row that do not see each other. This file imports Keras alone.

Several short documents share a row (packing), and each is read as if it were alone: a mask that is
made of the token ids inside the graph keeps attention within a document, and where positions are
absolute they begin anew. KerasHub's layers are called as they are, so that weights and their paths
are those of the network.
"""

from __future__ import annotations

import inspect

import keras
from keras import ops


class Unfit(ValueError):
    """A network whose documents cannot be kept apart."""


@keras.saving.register_keras_serializable("kerasft")
class Documents(keras.layers.Layer):
    """Tells where documents begin: `int32[batch, positions]` to the number of each one's document.

    Args:
        start: The token that a document begins with.
        end: The token that it ends with. Where both are the same, a document begins at the second
            of two such tokens.
    """

    def __init__(self, start, end, **kwargs):
        super().__init__(**kwargs)
        self.start, self.end = start, end

    def call(self, token_ids):
        begins = ops.equal(token_ids, self.start)
        if self.start == self.end:
            before = ops.pad(begins[:, :-1], [[0, 0], [1, 0]])
            begins = ops.logical_and(begins, before)
        return ops.cumsum(ops.cast(begins, "int32"), axis=1)

    def compute_output_spec(self, token_ids):
        return keras.KerasTensor(token_ids.shape, dtype="int32")

    def get_config(self):
        return {**super().get_config(), "start": self.start, "end": self.end}


@keras.saving.register_keras_serializable("kerasft")
class Apart(keras.layers.Layer):
    """Says which positions may see each other: those of one document, that are no padding."""

    def call(self, documents, padding_mask=None):
        same = ops.equal(ops.expand_dims(documents, 2), ops.expand_dims(documents, 1))
        if padding_mask is not None:
            real = ops.expand_dims(ops.cast(padding_mask, "bool"), 1)
            same = ops.logical_and(same, real)
        return ops.cast(same, "int32")

    def compute_output_spec(self, documents, padding_mask=None):
        return keras.KerasTensor((*documents.shape, documents.shape[1]), dtype="int32")


@keras.saving.register_keras_serializable("kerasft")
class Restarted(keras.layers.Layer):
    """Counts positions within each document: the number of its document to the position in it."""

    def call(self, documents):
        places = ops.cumsum(ops.ones_like(documents), axis=1) - 1
        # Their numbers only grow, so that all of smaller ones stand before.
        before = ops.less(ops.expand_dims(documents, 1), ops.expand_dims(documents, 2))
        return places - ops.sum(ops.cast(before, "int32"), axis=2)

    def compute_output_spec(self, documents):
        return keras.KerasTensor(documents.shape, dtype="int32")


@keras.saving.register_keras_serializable("kerasft")
class Isolated(keras.Model):
    """A language model's network whose documents in one row do not see each other.

    A document alone in its row is read as the network itself would read it. It is saved as the
    network, and made anew.

    Args:
        network: A functional network of KerasHub on `token_ids`, with or without `padding_mask`.
        start: See `Documents`.
        end: See `Documents`.

    Raises:
        Unfit: If the network has layers that cannot be told.
    """

    def __init__(self, network, start, end, name=None):
        inputs = {
            key: keras.Input(one.shape[1:], dtype=one.dtype, name=one.name)
            for key, one in network.input.items()
        }
        documents = Documents(start, end, dtype="float32", name="documents")(inputs["token_ids"])
        padding = inputs.get("padding_mask")
        mask = Apart(dtype="float32", name="documents_apart")(documents, padding)
        values = {id(one): inputs[key] for key, one in network.input.items()}
        told = 0
        for depth in sorted(network._nodes_by_depth, reverse=True):
            for node in network._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                given, named = node.arguments.fill_in(values)
                layer = node.operation
                takes = _takes(layer)
                if "decoder_attention_mask" in takes:
                    named["decoder_attention_mask"] = mask
                    told += 1
                elif hasattr(layer, "_compute_attention_mask") and "padding_mask" in takes:
                    named["padding_mask"] = mask
                    _take_masks(layer)
                    told += 1
                elif {"positions", "start_index"} <= takes:
                    named["positions"] = Restarted(dtype="float32", name="positions_restarted")(
                        documents
                    )
                elif type(layer).__name__ == "TokenAndPositionEmbedding":
                    raise Unfit(
                        f"{type(network).__name__} adds positions inside {layer.name!r}, where "
                        "they cannot begin anew"
                    )
                made = keras.tree.flatten(layer(*given, **named))
                values |= {id(t): new for t, new in zip(node.outputs, made, strict=True)}
        if not told:
            raise Unfit(f"{type(network).__name__} has no layers that take a mask of attention")
        super().__init__(
            inputs=inputs,
            outputs=keras.tree.map_structure(lambda one: values[id(one)], network._outputs_struct),
            name=name or network.name,
        )
        # Out of sight of Keras' tracking: its layers are in this graph.
        object.__setattr__(self, "within", network)
        self.bounds = (start, end)

    def get_config(self):
        made = keras.saving.serialize_keras_object(self.within)
        # KerasHub's Llama leaves this out of its config and would not come back without it.
        if getattr(self.within, "tie_word_embeddings", False):
            made["config"].setdefault("tie_word_embeddings", True)
        start, end = self.bounds
        return {"name": self.name, "network": made, "start": start, "end": end}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network = keras.saving.deserialize_keras_object(config["network"], custom_objects)
        return cls(network, config["start"], config["end"], name=config["name"])


def _takes(layer):
    """Return the names of what a layer's `call` takes."""
    call = getattr(layer, "call", None)
    if call is None or not isinstance(layer, keras.layers.Layer):
        return set()
    return set(inspect.signature(call).parameters)


def _take_masks(layer):
    """Let a layer that takes the padding of rows (Gemma's) take a mask of attention, too."""
    own = layer._compute_attention_mask

    def compute(x, padding_mask, *rest, **named):
        if padding_mask is None or len(padding_mask.shape) == 2:
            return own(x, padding_mask, *rest, **named)
        causal = own(x, None, *rest, **named)
        return ops.minimum(ops.cast(padding_mask, "int32"), ops.cast(causal, "int32"))

    # Past Keras' tracking of attributes.
    object.__setattr__(layer, "_compute_attention_mask", compute)
