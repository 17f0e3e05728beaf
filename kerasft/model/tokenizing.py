"""How tokenizers of KerasHub are called in graphs, whatever their kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made")

# Texts of characters that no tokenizer takes for blanks, or for nothing: Latin and Cyrillic ones.
PLAIN = "[ -~À-ɏЀ-ҁ]*"


def tokens_of(tokenizer: Any, text: Any) -> Any:
    """Return the tokens of texts, `[N]`, ragged."""
    import tensorflow as tf

    tokens = tokenizer(text)
    if isinstance(tokens, tf.RaggedTensor):
        return tokens
    return tf.RaggedTensor.from_tensor(tokens)


def many(preprocess: Any, raw: Any) -> Any:
    """Return many texts as a `TextPreprocess` does, in a fraction of the time where that can be.

    The words that texts have in common are tokenized once, by tokenizers that cut texts at blanks
    before all else.

    Args:
        preprocess: The preprocessing.
        raw: `tf.string[N]`, or `[N, 2]` for pairs.
    """
    import tensorflow as tf

    if not cuts_at_blanks(preprocess.tokenizer):
        return preprocess(raw)

    def packed(raw: Any) -> Any:
        return preprocess.pack(raw, _tokens_by_word(preprocess.tokenizer, tf.reshape(raw, [-1])))

    known = vars(preprocess)
    if "_many" not in known:
        shape = tf.TensorSpec([None, 2] if preprocess.pair else [None], tf.string)
        known["_many"] = tf.function(packed, input_signature=[shape], autograph=False)
    return known["_many"](tf.convert_to_tensor(raw, tf.string))


def cuts_at_blanks(tokenizer: Any) -> bool:
    """Whether the tokens of a text are those of the words between its blanks, one by one."""
    import keras_hub

    if not isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer):
        return False
    # A special token that texts may hold may have a blank in it.
    special = getattr(tokenizer, "_special_tokens_for_splitting", lambda: True)()
    return bool(tokenizer.split) and not special and not tokenizer.sequence_length


def _tokens_by_word(tokenizer: Any, texts: Any) -> Any:
    import tensorflow as tf

    plain = tf.strings.regex_full_match(texts, PLAIN)
    words = tf.strings.split(tf.where(plain, texts, ""), " ")
    words = tf.ragged.boolean_mask(words, words != "")
    # Any other text is one word of its own.
    whole = tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(texts, ~plain), tf.cast(~plain, tf.int64), validate=False
    )
    words = tf.concat([words, whole], axis=1)
    each, places = tf.unique(words.flat_values, tf.int64)
    tokens = tf.gather(tokens_of(tokenizer, each), places)
    return tf.RaggedTensor.from_row_splits(tokens, words.row_splits, validate=False).merge_dims(
        1, 2
    )


def called(tokenizer: Any, call: Callable[[], Made], anew: Callable[[], Made]) -> Made:
    """Call what uses a tokenizer, and anew where its model is gone meanwhile.

    Whoever sets TensorFlow's global seed, as each run does, clears its kernels, and a SentencePiece
    model lives in one.

    Args:
        tokenizer: The tokenizer.
        call: What uses it.
        anew: Traces that again and calls it.
    """
    import tensorflow as tf

    try:
        return call()
    except tf.errors.NotFoundError:
        if not hasattr(tokenizer, "set_proto"):
            raise
        tokenizer.set_proto(tokenizer.proto)
        return anew()
