"""Texts whose words are tokenized once each, and that are packed without padding."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from kerasft.model.tokenizing import PLAIN, cuts_at_blanks, tokens_of
from kerasft.rows import constant

# Words that are known are forgotten beyond so many, or so many characters of all: some 100 MB.
MOST, MOST_CHARACTERS = 400_000, 30_000_000
# The bytes of a token.
SIZE = 4


def end_to_end(
    preprocess: Any, texts: Sequence[Any]
) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
    """Return many single texts as a `TextPreprocess` does, all rows end to end.

    Args:
        preprocess: The preprocessing.
        texts: The texts, `str`.

    Returns:
        `int32[sum of lengths]` by input of the network, and the length of each row, `int64[N]`;
        `None` where words cannot be tokenized one by one, or rows are no single texts but pairs, or
        bytes.
    """
    if preprocess.pair or "padding_mask" not in preprocess.inputs:
        return None
    if not cuts_at_blanks(preprocess.tokenizer) or not all(isinstance(t, str) for t in texts):
        return None
    held = vars(preprocess).get("_words")
    if held is None:
        held = preprocess._words = WordTokens(preprocess.tokenizer)
    first, last = (b"" if token is None else _bytes([token])
                   for token in (preprocess.start, preprocess.end))  # fmt: skip
    most = SIZE * preprocess.sequence_length - len(first) - len(last)
    # An empty text in a vocabulary without frame tokens still needs one position.
    empty = _bytes([preprocess.pad])
    rows = [first + tokens[:most] + last or empty for tokens in held(texts)]
    made = np.frombuffer(b"".join(rows), "int32")
    lengths = np.fromiter(map(len, rows), "int64", len(rows)) // SIZE
    whole = {"token_ids": made, "segment_ids": constant(0, len(made), "int32"),
             "padding_mask": constant(1, len(made), "int32")}  # fmt: skip
    return {name: whole[name] for name in preprocess.inputs}, lengths


class WordTokens:
    """The tokens of texts, of a tokenizer that cuts at blanks: each word is tokenized once.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.plain = re.compile(PLAIN).fullmatch
        self.known: dict[str, bytes] = {}
        self.characters = 0
        self._call: Any = None

    def __call__(self, texts: Sequence[str]) -> list[bytes]:
        """Return the tokens of each text, as the bytes of `int32`."""
        # Of the characters of plain texts blanks alone part words; any other text is one word.
        split = [
            text.split() if (text.isascii() and text.isprintable()) or self.plain(text)
            else [text] for text in texts
        ]
        if len(self.known) > MOST or self.characters > MOST_CHARACTERS:
            self.known, self.characters = {}, 0
        known = self.known.__getitem__
        try:
            return [b"".join(map(known, words)) for words in split]
        except KeyError:
            self._learn({word for words in split for word in words} - self.known.keys())
        return [b"".join(map(known, words)) for words in split]

    def _learn(self, words: Collection[str]) -> None:
        import tensorflow as tf

        if self._call is None:
            self._call = tf.function(
                lambda given: tokens_of(self.tokenizer, given), autograph=False,
                input_signature=[tf.TensorSpec([None], tf.string)],
            )
        new = list(words)
        made = self._call(tf.constant(new, tf.string))
        tokens = _bytes(made.flat_values.numpy())
        ends = (SIZE * made.row_splits.numpy()).tolist()
        self.known |= {
            word: tokens[start:end]
            for word, start, end in zip(new, ends, ends[1:], strict=False)
        }
        self.characters += sum(map(len, new))


def _bytes(tokens: Any) -> bytes:
    return np.asarray(tokens, "int32").tobytes()
