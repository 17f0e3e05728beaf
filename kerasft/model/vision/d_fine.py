"""The decoder of a D-FINE: queries that become boxes and classes, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

if TYPE_CHECKING:
    import keras_hub

# What a side's distance is spread over: KerasHub has the paper's numbers, and takes no others.
BINS, REACH, SCALE = 32, 0.5, 4.0
# Behind the logits of each layer in training: the distribution of each side, and the box that its
# distances are counted from.
SIDES, REFERENCE = 4 * (BINS + 1), 4
# What a decoder is made by, of the config of KerasHub's `DFineBackbone`.
SETTINGS = (
    "hidden_dim", "decoder_in_channels", "num_feature_levels", "feat_strides", "num_queries",
    "learn_initial_query", "num_decoder_layers", "eval_idx", "decoder_attention_heads",
    "decoder_ffn_dim", "decoder_method", "decoder_n_points", "lqe_hidden_dim", "num_lqe_layers",
)  # fmt: skip


@keras.saving.register_keras_serializable("kerasft")
class DFineHead(keras.layers.Layer):
    """Finds objects in the maps of a D-FINE's encoder.

    Peng et al., "D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution
    Refinement", 2024 (arXiv:2410.13842). The layers are KerasHub's, in the order of its
    `DFineBackbone`, which has the number of classes and the size of the images built in. Queries
    for contrastive denoising are left out: they are made of the labels, and only help training.

    Args:
        classes: Number of classes.
        queries: How many objects are looked for, at most the places of all maps.
        settings: The values of `SETTINGS`.

    Takes `float32[batch, height, width, channels]` for each map. Gives what the last layer says of
    each query, `float32[batch, queries, 8 + classes]`: left, top, right and bottom of a box in
    pixels, likewise the whole image, for any query may find anything in it, and a logit a class.
    In training it gives `float32[batch, layers, queries, 8 + classes + SIDES + REFERENCE]`: the
    same of the encoder, of the first guess, and of all layers of the decoder.
    """

    def __init__(self, classes, queries, settings, **kwargs):
        super().__init__(**kwargs)
        from keras_hub.src.models.d_fine.d_fine_decoder import DFineDecoder
        from keras_hub.src.models.d_fine.d_fine_layers import DFineMLPPredictionHead

        self.classes, self.queries, self.settings = classes, queries, dict(settings)
        self.notice = ""
        width, dtype = settings["hidden_dim"], self.dtype_policy
        self.narrow, self.norms = [], []
        if width != settings["decoder_in_channels"][-1]:
            given = len(settings["decoder_in_channels"])
            for level in range(max(given, settings["num_feature_levels"])):
                size, stride = (1, 1) if level < given else (3, 2)
                self.narrow.append(keras.layers.Conv2D(
                    width, size, strides=stride, padding="same", use_bias=False, dtype=dtype,
                    name=f"narrow_{level}",
                ))  # fmt: skip
                self.norms.append(
                    keras.layers.BatchNormalization(epsilon=1e-5, dtype=dtype, name=f"norm_{level}")
                )
        self.seen = keras.layers.Dense(width, dtype=dtype, name="seen")
        self.seen_norm = keras.layers.LayerNormalization(
            epsilon=1e-5, dtype=dtype, name="seen_norm"
        )
        rare = 0.01  # the share of queries that hold a class, at the start
        self.scores = keras.layers.Dense(
            classes, dtype=dtype, name="scores",
            bias_initializer=keras.initializers.Constant(float(np.log(rare / (1 - rare)))),
        )  # fmt: skip
        self.boxes = DFineMLPPredictionHead(
            width, width, 4, 3, last_layer_initializer="zeros", dtype=dtype, name="boxes"
        )
        self.learned = keras.layers.Embedding(
            queries, width, dtype=dtype, name="learned"
        ) if settings["learn_initial_query"] else None  # fmt: skip
        named = {
            name: settings[name] for name in SETTINGS
            if name in ("hidden_dim", "num_feature_levels", "num_decoder_layers", "eval_idx",
                        "lqe_hidden_dim", "num_lqe_layers") or name.startswith("decoder_")
        }  # fmt: skip
        del named["decoder_in_channels"]
        self.decoder = DFineDecoder(
            **named, num_labels=classes, num_queries=queries, max_num_bins=BINS,
            upsampling_factor=REACH, reg_scale=SCALE, layer_scale=1.0, top_prob_values=4,
            dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, layer_norm_eps=1e-5,
            decoder_activation_function="relu", decoder_offset_scale=0.5, spatial_shapes=(),
            initializer_bias_prior_prob=rare, dtype=dtype, name="decoder",
        )  # fmt: skip

    def build(self, shapes):
        width = self.settings["hidden_dim"]
        shapes = list(shapes)
        for level, (narrow, norm) in enumerate(zip(self.narrow, self.norms, strict=True)):
            if level == len(shapes):  # the coarsest map is made coarser
                shapes.append(self.narrow[-1].compute_output_shape(shapes[-1]))
            narrow.build(shapes[level])
            norm.build((*shapes[level][:3], width))
        tokens = (None, None, width)
        for layer in (self.seen, self.seen_norm, self.scores, self.boxes):
            layer.build(tokens)
        if self.learned is not None:
            self.learned.build(None)
        self.decoder.build((None, self.queries, width))
        self.built = True

    def call(self, maps, training=None):
        import tensorflow as tf

        levels = self._levels(maps, training)
        shapes = [tuple(x.shape[1:3]) for x in levels]
        stride = self.settings["feat_strides"][0]
        size = np.array(shapes[0][::-1] * 2, "float32") * stride  # width and height, twice
        tokens = ops.concatenate(
            [ops.reshape(x, (-1, h * w, x.shape[-1])) for x, (h, w) in
             zip(levels, shapes, strict=True)], axis=1,
        )  # fmt: skip
        anchors, inside = _anchors(shapes)
        seen = self.seen_norm(self.seen(ops.where(inside, tokens, 0.0)))
        scores = self.scores(seen)
        best = ops.top_k(ops.max(scores, axis=-1), self.queries, sorted=True)[1]
        scores, chosen = (tf.gather(x, best, batch_dims=1) for x in (scores, seen))
        guess = self.boxes(chosen) + tf.gather(anchors, best)
        queries = ops.stop_gradient(chosen)
        if self.learned is not None:
            queries = ops.zeros_like(queries) + self.learned(np.arange(self.queries))
        for layer in self.decoder.decoder_layers:
            layer.encoder_attn.spatial_shapes = shapes  # KerasHub's own are of one size
        # Without the attentions KerasHub's decoder (0.32) takes a batch apart for a pair.
        _, _, logits, boxes, sides, reference, *_ = self.decoder(
            inputs_embeds=queries, encoder_hidden_states=tokens,
            reference_points=ops.stop_gradient(guess), spatial_shapes=np.array(shapes, "int32"),
            output_attentions=True, training=training,
        )  # fmt: skip
        if not training:
            return _joined(boxes[:, -1], logits[:, -1], size)
        # The sides of the first guess are none: KerasHub repeats those of the first layer there.
        none = ops.zeros_like(sides[:, :1])
        return _joined(
            ops.concatenate([ops.expand_dims(ops.sigmoid(guess), 1), boxes], axis=1),
            ops.concatenate([ops.expand_dims(scores, 1), logits], axis=1), size,
            ops.concatenate([none, none, sides[:, 1:]], axis=1),
            ops.concatenate([reference[:, :1], reference], axis=1),
        )  # fmt: skip

    def _levels(self, maps, training):
        """Return the maps at the decoder's width, coarser ones made of the last."""
        if not self.narrow:
            return list(maps)
        made: list[Any] = []
        for level, (narrow, norm) in enumerate(zip(self.narrow, self.norms, strict=True)):
            below = maps[level] if level < len(maps) else (
                maps[-1] if level == len(maps) else made[-1]
            )  # fmt: skip
            made.append(norm(narrow(below), training=training))
        return made

    def compute_output_shape(self, shapes):
        return (shapes[0][0], self.queries, 8 + self.classes)

    def get_config(self):
        return {
            **super().get_config(), "classes": self.classes, "queries": self.queries,
            "settings": {name: self.settings[name] for name in SETTINGS},
        }  # fmt: skip


def _anchors(shapes):
    """Return where the encoder's boxes start from, as logits, and which of them are well inside.

    KerasHub's `DFineAnchorGenerator`, as numbers: a box around each place, wider on coarser maps.
    """
    made = []
    for level, (height, width) in enumerate(shapes):
        y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width,
                           indexing="ij")  # fmt: skip
        made.append(np.stack([x, y, *[np.full_like(x, 0.05 * 2**level)] * 2], -1).reshape(-1, 4))
    anchors = np.concatenate(made)
    inside = ((anchors > 0.01) & (anchors < 0.99)).all(axis=-1, keepdims=True)
    kept = np.where(inside, anchors, 0.5)
    logits = np.where(inside, np.log(kept / (1 - kept)), np.finfo("float32").max)
    return logits.astype("float32"), inside


def _joined(boxes, logits, size, *more):
    """Return boxes of centers and sides in parts of the image as pixels, and what follows."""
    # A distribution may put the right side left of the left one.
    center, half = boxes[..., :2], ops.abs(boxes[..., 2:]) / 2
    corners = ops.concatenate([center - half, center + half], axis=-1) * size
    whole = np.concatenate([np.zeros(2, "float32"), size[:2]])
    return ops.concatenate([corners, ops.zeros_like(corners) + whole, logits, *more], axis=-1)


def settings_of(network: keras_hub.models.Backbone) -> dict[str, Any]:
    """Return what the decoder of a D-FINE is made by, as plain values."""
    config = network.get_config()
    return {name: list(v) if isinstance(v := config[name], tuple) else v for name in SETTINGS}


def teach(head: DFineHead, network: keras_hub.models.Backbone) -> None:
    """Give a head the weights of a D-FINE's decoder, but for those that tell classes apart.

    Args:
        head: The head, built; it is changed in place.
        network: KerasHub's `DFineBackbone` with the same settings.
    """
    own = {id(v) for layer in head.decoder.class_embed for v in layer.variables}
    dense, norm = network.enc_output_layers
    pairs = [(dense, head.seen), (norm, head.seen_norm), (network.enc_bbox_head, head.boxes),
             (network.decoder, head.decoder)]  # fmt: skip
    if head.narrow:
        theirs = [layer for pair in network.decoder_input_proj_layers for layer in pair]
        mine = [x for pair in zip(head.narrow, head.norms, strict=True) for x in pair]
        pairs += list(zip(theirs, mine, strict=True))
    for theirs, mine in pairs:
        for one, other in zip(theirs.variables, mine.variables, strict=True):
            if id(other) not in own:
                other.assign(one)
    if head.learned is not None:
        rows = network.initial_query_reference_generator.weight_embedding.embeddings
        head.learned.embeddings.assign(rows[: head.queries])
    head.notice = (
        "the preset's decoder with its weights; the layers that tell classes apart are new"
    )
