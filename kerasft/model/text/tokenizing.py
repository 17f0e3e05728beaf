"""How tokenizers of KerasHub are called in graphs, whatever their kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import keras_hub
    import tensorflow as tf

Made = TypeVar("Made")


def tokens_of(tokenizer: keras_hub.tokenizers.Tokenizer, text: tf.Tensor) -> Any:
    """Return the tokens of texts, `[N]`, ragged."""
    import tensorflow as tf

    tokens = tokenizer(text)
    if isinstance(tokens, tf.RaggedTensor):
        return tokens
    return tf.RaggedTensor.from_tensor(tokens)


def cuts_at_blanks(tokenizer: keras_hub.tokenizers.Tokenizer) -> bool:
    """Whether the tokens of a text are those of the words between its blanks, one by one."""
    import keras_hub

    if not isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer):
        return False
    # A special token that texts may hold may have a blank in it.
    special = getattr(tokenizer, "_special_tokens_for_splitting", lambda: True)()
    return bool(tokenizer.split) and not special and not tokenizer.sequence_length


def dropped_by(tokenizer: keras_hub.tokenizers.Tokenizer | None) -> str:
    """Return the characters of texts that a tokenizer gives no token, blanks aside.

    KerasHub's byte-pair tokenizers mark the words of a text by a Devanagari digit, and take the
    mark out afterwards, whoever wrote it.
    """
    import keras_hub

    return "६" if isinstance(tokenizer, keras_hub.tokenizers.BytePairTokenizer) else ""


def called(
    tokenizer: keras_hub.tokenizers.Tokenizer, call: Callable[[], Made], anew: Callable[[], Made]
) -> Made:
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
