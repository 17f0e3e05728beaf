"""The tokens that are the likeliest to begin an answer, in TensorFlow ops alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kerasft.model.text.generation import Generation, prompts_of, read_off
from kerasft.model.text.language import LanguagePreprocess

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# How many tokens are told.
LIKELIEST = 5


def likeliest(
    model: keras.Model, preprocess: LanguagePreprocess, settings: Generation
) -> Callable[[Any], dict[str, Any]]:
    """Return a function of raw texts to the tokens that are the likeliest to follow.

    Args:
        model: A network with the head of a language model.
        preprocess: What stands before it.
        settings: How is written: of a long text as much is read as `writer` reads.

    Returns:
        Takes `tf.string[batch]`; gives `next_ids` `int32[batch, 5]`, the likeliest first, and
        `next_logits` `float32[batch, 6]`: their scores, as the network gives them, and that of the
        one behind them, by which it shows whether the last place was nearly a tie.
    """
    import keras
    import tensorflow as tf

    given, embedding = read_off(model)
    features, names = keras.Function(model.input, given), list(model.input)
    room = settings.room(preprocess.sequence_length)

    def ask(raw: tf.Tensor) -> dict[str, Any]:
        prompts = prompts_of(preprocess, raw, room)
        lengths = tf.cast(prompts.row_lengths(), tf.int32)
        ids = prompts.to_tensor(preprocess.pad)
        ids.set_shape([None, None])
        mask = tf.sequence_mask(lengths, tf.shape(ids)[1], tf.int32)
        inputs = {"token_ids": ids, "padding_mask": mask}
        found = features({name: inputs[name] for name in names})
        last = tf.gather(found, lengths - 1, batch_dims=1)
        scores = tf.cast(embedding(last[:, None], reverse=True)[:, 0], tf.float32)
        best = tf.math.top_k(scores, k=LIKELIEST + 1)
        return {"next_ids": best.indices[:, :LIKELIEST], "next_logits": best.values}

    return ask
