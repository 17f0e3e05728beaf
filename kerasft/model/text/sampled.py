"""Which token is written next: the likeliest, or a draw among the likeliest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


def drawn(
    scores: tf.Tensor, count: tf.Tensor, seeds: tf.Tensor, *, temperature: float, top_k: int = 0,
    top_p: float = 1.0,
) -> Any:
    """Return scores whose largest is the token to take.

    Noise is added that makes the largest one a draw (Gumbel). It is a function of a text's seed and
    of how many tokens it has got: what it is answered hangs on no other text of its batch.

    Args:
        scores: `float32[batch, vocabulary]`.
        count: `int32[batch]`, how many tokens were written before.
        seeds: The seed of each text, `int64[batch]`.
        temperature: See `Generation`, as `top_k` and `top_p`.
        top_k: The same.
        top_p: The same.
    """
    import tensorflow as tf

    if not temperature:
        return scores
    scores = scores / temperature
    size = scores.shape[-1]
    least = tf.constant(-1e9)
    if 0 < top_k < size:
        lowest = tf.math.top_k(scores, k=top_k).values[:, -1:]
        scores = tf.where(scores < lowest, least, scores)
    if top_p < 1.0:
        ranked = tf.sort(scores, axis=1, direction="DESCENDING")
        # The one that reaches the share is in.
        inside = tf.cumsum(tf.nn.softmax(ranked), axis=1, exclusive=True) < top_p
        lowest = tf.reduce_min(tf.where(inside, ranked, float("inf")), axis=1, keepdims=True)
        scores = tf.where(scores < lowest, least, scores)
    uniform = tf.map_fn(
        lambda one: tf.random.stateless_uniform(
            [size], tf.stack(one), minval=1e-20, maxval=1.0
        ),
        (seeds, tf.cast(count, tf.int64)),
        fn_output_signature=tf.TensorSpec([size], tf.float32),
    )  # fmt: skip
    return scores - tf.math.log(-tf.math.log(uniform))


def without_repetition(
    scores: tf.Tensor, ids: tf.Tensor, index: tf.Tensor, penalty: float
) -> Any:
    """Return scores of which those of tokens that were there are lower.

    Args:
        scores: `float32[batch, vocabulary]`.
        ids: What was written so far, `int32[batch, positions]`.
        index: How many positions hold something.
        penalty: See `Generation`.
    """
    import tensorflow as tf

    count = scores.shape[-1]
    real = tf.range(tf.shape(ids)[1])[None] < index
    there = tf.math.bincount(
        tf.where(real, ids, -1) + 1, minlength=count + 1, maxlength=count + 1, axis=-1,
        binary_output=True,
    )[:, 1:]  # fmt: skip
    lower = tf.where(scores > 0, scores / penalty, scores * penalty)
    return tf.where(there > 0, lower, scores)
