"""Texts whose words are tokenized once each, and that are packed without padding."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from kerasft.model.tokenizing import PLAIN, cuts_at_blanks, tokens_of

# Words that are known are forgotten beyond so many, or so many characters of all: some 100 MB.
MOST, MOST_CHARACTERS = 400_000, 30_000_000


def end_to_end(
    preprocess: Any, texts: Sequence[Any]
) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
    """Return many single texts as a `TextPreprocess` does, all rows end to end.

    Args:
        preprocess: The preprocessing.
        texts: The texts, `str`.

    Returns:
        `int32[sum of lengths]` by input of the network, and the length of each row, `int64[N]`;
        `None` where words cannot be tokenized one by one, or rows are no single texts.
    """
    if preprocess.pair or "padding_mask" not in preprocess.inputs:
        return None
    if not cuts_at_blanks(preprocess.tokenizer):
        return None
    held = vars(preprocess).setdefault("_words", None)
    if held is None:
        held = preprocess._words = WordTokens(preprocess.tokenizer)
    tokens, counts = held(texts)
    start, end = preprocess.start, preprocess.end
    first, frame = int(start is not None), (start is not None) + (end is not None)
    kept = np.minimum(counts, preprocess.sequence_length - frame)
    if (kept < counts).any():
        within = np.arange(len(tokens)) - np.repeat(np.cumsum(counts) - counts, counts)
        tokens = tokens[within < np.repeat(kept, counts)]
    # An empty text in a vocabulary without frame tokens still needs one position.
    lengths = np.maximum(kept + frame, 1)
    ends = np.cumsum(lengths)
    made = np.full(int(ends[-1]) if len(ends) else 0, preprocess.pad, "int32")
    places = np.arange(len(tokens)) + np.repeat(ends - lengths - (np.cumsum(kept) - kept), kept)
    made[places + first] = tokens
    if start is not None:
        made[ends - lengths] = start
    if end is not None:
        made[ends - 1] = end
    whole = {"token_ids": made, "segment_ids": np.zeros_like(made),
             "padding_mask": np.ones_like(made)}  # fmt: skip
    return {name: whole[name] for name in preprocess.inputs}, lengths


class WordTokens:
    """The tokens of texts, of a tokenizer that cuts at blanks: each word is tokenized once.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.plain = re.compile(PLAIN).fullmatch
        self._call: Any = None
        self._forget()

    def _forget(self) -> None:
        self.known: dict[str, int] = {}
        self.characters = 0
        self.tokens = array("i")
        self.ends = array("q", [0])

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of texts, end to end, `int32[M]`, and how many each has, `int64[N]`."""
        # Of the characters of plain texts blanks alone part words; any other text is one word.
        split = [
            text.split() if (text.isascii() and text.isprintable()) or self.plain(text)
            else [text] for text in texts
        ]
        words = list(chain.from_iterable(split))
        if len(self.known) > MOST or self.characters > MOST_CHARACTERS:
            self._forget()
        found = list(map(self.known.get, words))
        if None in found:
            self._learn([word for word, code in zip(words, found, strict=True) if code is None])
            found = list(map(self.known.__getitem__, words))
        codes = np.array(found, "int64")
        ends = np.frombuffer(self.ends, "int64")
        starts, sizes = ends[codes], ends[codes + 1] - ends[codes]
        after = np.cumsum(sizes)
        places = np.arange(int(after[-1]) if len(after) else 0)
        places += np.repeat(starts - (after - sizes), sizes)
        known = np.frombuffer(self.tokens, "int32") if len(self.tokens) else np.zeros(0, "int32")
        upto = np.concatenate([[0], after])[np.cumsum(list(map(len, split)), dtype="int64")]
        return known[places], np.diff(upto, prepend=0)

    def _learn(self, words: Sequence[str]) -> None:
        import tensorflow as tf

        if self._call is None:
            self._call = tf.function(
                lambda given: tokens_of(self.tokenizer, given), autograph=False,
                input_signature=[tf.TensorSpec([None], tf.string)],
            )
        new = list(dict.fromkeys(words))
        self.characters += sum(map(len, new))
        made = self._call(tf.constant(new, tf.string))
        self.known |= zip(new, range(len(self.known), len(self.known) + len(new)), strict=True)
        self.tokens.frombytes(made.flat_values.numpy().astype("int32").tobytes())
        ends = self.ends[-1] + made.row_splits.numpy()[1:].astype("int64")
        self.ends.frombytes(ends.tobytes())
