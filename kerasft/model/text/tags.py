"""Tags of words, from probabilities to entities, in TensorFlow ops.

Tag 0 stands outside of all entities; of type `k` begin entities with tag `1 + 2k` and go on with
`2 + 2k` (BIO, as IOB2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

# Below the logarithm of any probability.
_NEVER = -1e9


def count(types: int) -> int:
    """Return how many tags there are for so many types."""
    return 1 + 2 * types


def decoded(scores: tf.Tensor, real: tf.Tensor, *, constrained: bool) -> Any:
    """Return the tag of each word.

    Args:
        scores: Logarithms of probabilities, `float32[batch, words, tags]`.
        real: Which words there are, bool `[batch, words]`; those of a text come first.
        constrained: Whether the likeliest sequence is taken in which an entity goes on only where
            one of its type has begun (Viterbi 1967); else the likeliest tag of each word.

    Returns:
        `int32[batch, words]`, 0 where there is no word.

    Example:
        >>> import tensorflow as tf
        >>> scores = tf.math.log([[[0.5, 0.4, 0.1], [0.3, 0.1, 0.6]]])
        >>> real = tf.constant([[True, True]])
        >>> [decoded(scores, real, constrained=way).numpy().tolist() for way in (False, True)]
        [[[0, 2]], [[1, 2]]]
    """
    import tensorflow as tf

    found = _likeliest(scores, real) if constrained else tf.argmax(scores, -1, tf.int32)
    return tf.where(real, found, 0)


def allowed(tags: int) -> np.ndarray:
    """Return which tag may follow which, bool `[tags, tags]`: no `I` without its own `B` before."""
    before, behind = np.arange(tags)[:, None], np.arange(tags)[None]
    inside = (behind > 0) & (behind % 2 == 0)
    return ~inside | (before == behind) | (before == behind - 1)


def _likeliest(scores: tf.Tensor, real: tf.Tensor) -> Any:
    """Return the likeliest sequences of tags that are allowed."""
    import tensorflow as tf

    tags, words = scores.shape[-1], tf.shape(scores)[1]
    follow = tf.constant(np.where(allowed(tags), 0.0, _NEVER).astype("float32"))
    # A word behind the last one, which changes nothing, so that there is one.
    by_step = tf.transpose(tf.pad(scores, [[0, 0], [0, 1], [0, 0]]), [1, 0, 2])
    there = tf.transpose(tf.pad(real, [[0, 0], [0, 1]]), [1, 0])[..., None]
    stay = tf.zeros_like(by_step[0], tf.int32) + tf.range(tags)
    # Outside of all entities before the first word.
    outside = tf.zeros_like(by_step[0]) + tf.where(tf.range(tags) == 0, 0.0, _NEVER)

    def forward(state: tuple[tf.Tensor, tf.Tensor], step: tuple[tf.Tensor, tf.Tensor]) -> Any:
        best, _ = state
        now, word = step
        ways = best[:, :, None] + follow
        found = tf.reduce_max(ways, 1) + now
        return tf.where(word, found, best), tf.where(word, tf.argmax(ways, 1, tf.int32), stay)

    bests, cames = tf.scan(forward, (by_step, there), initializer=(outside, stay))
    end = tf.argmax(bests[-1], -1, tf.int32)
    # From the last word on, the tag that each one came from is that of the word before.
    before = tf.scan(lambda tag, came: tf.gather(came, tag, batch_dims=1), cames,
                     initializer=end, reverse=True)  # fmt: skip
    return tf.transpose(before[1:], [1, 0])[:, :words]


def entities(tags: tf.Tensor) -> tuple[Any, Any, Any]:
    """Return of each word the type of its entity, and whether one begins or ends with it.

    A tag that goes on with nothing begins an entity, as `conlleval` has it.

    Args:
        tags: `int32[batch, words]`.

    Returns:
        `int32[batch, words]`, -1 outside; and bool `[batch, words]` twice.

    Example:
        >>> import tensorflow as tf
        >>> kinds, opens, closes = entities(tf.constant([[1, 2, 0, 4, 3]]))
        >>> kinds.numpy().tolist(), opens.numpy().tolist()
        ([[0, 0, -1, 1, 1]], [[True, False, False, True, True]])
    """
    import tensorflow as tf

    kinds = (tags + 1) // 2 - 1
    begins = tags % 2 == 1
    before = tf.pad(kinds, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
    behind = tf.pad(kinds, [[0, 0], [0, 1]], constant_values=-1)[:, 1:]
    next_begins = tf.pad(begins, [[0, 0], [0, 1]])[:, 1:]
    inside = kinds >= 0
    return (kinds, inside & (begins | (before != kinds)),
            inside & (next_begins | (behind != kinds)))  # fmt: skip
