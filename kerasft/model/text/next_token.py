"""How likely each token was for what stands before it. This file imports Keras alone."""

from __future__ import annotations

import keras
from keras import ops

# Vocabularies beyond this many tokens are gone through in slices of positions.
SLICED = 8192
# What a network for language puts out of each position, in this order.
OUTPUTS = ("nats", "right", "real")


class _NextToken(keras.layers.Layer):
    """What both layers share: the shape of what they put out, and how it is put together."""

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.autocast = False

    def compute_output_spec(self, scored, token_ids, *args):
        return keras.KerasTensor((*token_ids.shape, len(OUTPUTS)), dtype="float32")

    @staticmethod
    def _made(nats, right, token_ids, padding_mask):
        """Return what was found of the second position and those behind it, as all positions'."""
        real = ops.ones_like(token_ids) if padding_mask is None else padding_mask
        real = ops.cast(real, "float32")
        known = ops.pad(real[:, 1:], [[0, 0], [1, 0]])
        nats, right = (ops.pad(one, [[0, 0], [1, 0]]) for one in (nats, right))
        return ops.stack([nats * known, right * known, real], axis=-1)


@keras.saving.register_keras_serializable("kerasft")
class NextToken(_NextToken):
    """Measures logits against the tokens that follow.

    Takes `[batch, positions, vocabulary]`, `token_ids` and `padding_mask`, and gives
    `float32[batch, positions, 3]`: the nats that each token cost after those before it, whether
    the likeliest one was right, and whether it is no padding. The first token costs nothing.
    """

    def call(self, logits, token_ids, padding_mask=None):
        logits = ops.cast(logits, "float32")
        # The last position has nothing to foretell. It is left out of what is found, since all
        # logits but its own would be a copy of them, and so would their gradient.
        tokens = ops.pad(ops.cast(token_ids[:, 1:], "int32"), [[0, 0], [0, 1]])
        nats = ops.sparse_categorical_crossentropy(tokens, logits, from_logits=True)
        right = ops.cast(ops.equal(ops.argmax(logits, -1), tokens), "float32")
        return self._made(nats[:, :-1], right[:, :-1], token_ids, padding_mask)


@keras.saving.register_keras_serializable("kerasft")
class EveryToken(keras.layers.Layer):
    """Gives the numbers of all tokens, `int32[vocabulary]`, whatever it takes."""

    def __init__(self, count, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.count = count

    def call(self, token_ids):
        return ops.arange(self.count, dtype="int32")

    def compute_output_spec(self, token_ids):
        return keras.KerasTensor((self.count,), dtype="int32")

    def get_config(self):
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable("kerasft")
class NextTokenSliced(_NextToken):
    """Measures features against the tokens that follow, a slice of positions after the other.

    The logits of all positions are never held: those of 16 x 256 positions and 50,257 tokens take
    0.8 GB, and their gradient as much. In the backward pass they are computed again.

    Takes features `[batch, positions, width]`, `token_ids`, the embedding of each token
    `[vocabulary, width]`, and `padding_mask`; gives what `NextToken` does.

    Args:
        soft_cap: Beyond which logits are bent, as Gemma 2 does; `None` for nowhere.
        most: The most logits that are held at a time.
    """

    def __init__(self, soft_cap=None, most=2**24, **kwargs):
        super().__init__(**kwargs)
        self.soft_cap, self.most = soft_cap, most

    def call(self, features, token_ids, table, padding_mask=None):
        import tensorflow as tf

        tokens = tf.cast(token_ids[:, 1:], tf.int32)
        shape = tf.shape(tokens)
        flat = tf.reshape(features[:, :-1], [-1, features.shape[-1]])
        size = max(self.most // int(table.shape[0]), 1)
        nats, right = _sliced(size, self.soft_cap)(flat, table, tf.reshape(tokens, [-1]))
        nats, right = (tf.reshape(one, shape) for one in (nats, right))
        return self._made(nats, right, token_ids, padding_mask)

    def get_config(self):
        return {**super().get_config(), "soft_cap": self.soft_cap, "most": self.most}


def _sliced(size, soft_cap):
    """Return a function of features, table and tokens to nats and hits, with its own gradient."""
    import tensorflow as tf

    def logits_of(x, table):
        logits = tf.cast(tf.matmul(x, tf.cast(table, x.dtype), transpose_b=True), tf.float32)
        return logits if soft_cap is None else tf.tanh(logits / soft_cap) * soft_cap

    def slices(count):
        return tf.range(0, count, size)

    @tf.custom_gradient
    def measured(features, table, tokens):
        count = tf.shape(features)[0]

        def one(start):
            stop = tf.minimum(start + size, count)
            logits = logits_of(features[start:stop], table)
            picked = tokens[start:stop]
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(picked, logits)
            right = tf.cast(tf.argmax(logits, -1, output_type=tf.int32) == picked, tf.float32)
            return nats, right

        def body(start, nats, right):
            more = one(start)
            place = start // size
            return start + size, nats.write(place, more[0]), right.write(place, more[1])

        def array():
            return tf.TensorArray(
                tf.float32, size=tf.size(slices(count)), infer_shape=False, element_shape=[None]
            )

        _, nats, right = tf.while_loop(
            lambda start, *_: start < count, body, (0, array(), array()), parallel_iterations=1
        )

        def gradient(of_nats, of_right):
            def back(start, of_features, of_table):
                stop = tf.minimum(start + size, count)
                x, picked = features[start:stop], tokens[start:stop]
                with tf.GradientTape() as tape:
                    tape.watch([x, table])
                    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(
                        picked, logits_of(x, table)
                    )
                of_x, more = tape.gradient(nats, [x, table], of_nats[start:stop])
                return (start + size, of_features.write(start // size, of_x),
                        of_table + tf.cast(more, tf.float32))  # fmt: skip

            held = tf.TensorArray(
                features.dtype, size=tf.size(slices(count)), infer_shape=False,
                element_shape=[None, features.shape[-1]],
            )
            _, of_features, of_table = tf.while_loop(
                lambda start, *_: start < count, back,
                (0, held, tf.zeros(tf.shape(table), tf.float32)), parallel_iterations=1,
            )
            return of_features.concat(), tf.cast(of_table, table.dtype), None

        return (nats.concat(), right.concat()), gradient

    return measured
