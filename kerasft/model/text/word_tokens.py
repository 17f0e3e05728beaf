"""Texts whose words are tokenized once each, and that are packed without padding."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.model.text.tokenizing import cuts_at_blanks, tokens_of
from kerasft.rows import constant
from kerasft.spec import TextPreprocess

if TYPE_CHECKING:
    import keras_hub

# Texts of characters that no tokenizer takes for blanks, or for nothing: Latin and Cyrillic ones.
PLAIN = "[ -~À-ɏЀ-ҁ]*"
# Words that are known are forgotten beyond so many, or so many characters of all: some 100 MB.
MOST, MOST_CHARACTERS = 400_000, 30_000_000
# The bytes of a token.
SIZE = 4


def end_to_end(
    preprocess: TextPreprocess, texts: Sequence[Any]
) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
    """Return many texts as a `TextPreprocess` does, all rows end to end.

    Args:
        preprocess: The preprocessing.
        texts: The texts, `str`, or pairs of them.

    Returns:
        `int32[sum of lengths]` by input of the network, and the length of each row, `int64[N]`:
        that of its tokens, or always `sequence_length` for a network that takes no mask, which
        reads the padding, too. `None` where words cannot be tokenized one by one, or where not all
        is text: bytes, say.
    """
    given = _flat(texts, preprocess.pair)
    if given is None or not cuts_at_blanks(preprocess.tokenizer):
        return None
    held = vars(preprocess).get("_words")
    if held is None:
        held = vars(preprocess)["_words"] = WordTokens(preprocess.tokenizer)
    tokens = held(given)
    if preprocess.pair:
        pairs = _pairs(preprocess, tokens[::2], tokens[1::2])
    else:
        pairs = ((row, b"") for row in _singles(preprocess, tokens))
    pad = _bytes([preprocess.pad])
    masked, width = "padding_mask" in preprocess.inputs, SIZE * preprocess.sequence_length
    rows: list[bytes] = []
    segments: list[tuple[int, int, int]] = []  # bytes of the first, of the second, of padding
    for first, second in pairs:
        if masked:  # an empty text in a vocabulary without frame tokens still needs one position
            padding = b"" if first or second else pad
        else:
            first = first[:width]
            second = second[: width - len(first)]
            padding = pad * ((width - len(first) - len(second)) // SIZE)
        rows.append(first + second + padding)
        segments.append((len(first), len(second), len(padding)))
    made = np.frombuffer(b"".join(rows), "int32")
    lengths = np.fromiter(map(len, rows), "int64", len(rows)) // SIZE
    whole = {"token_ids": made, "padding_mask": constant(1, len(made), "int32"),
             "segment_ids": constant(0, len(made), "int32")}  # fmt: skip
    if preprocess.pair:
        runs = np.array(segments, "int64").reshape(-1) // SIZE
        whole["segment_ids"] = np.repeat(np.tile(np.array([0, 1, 0], "int32"), len(rows)), runs)
    return {name: whole[name] for name in preprocess.inputs}, lengths


def _flat(texts: Sequence[Any], pair: bool) -> Sequence[str] | None:
    """Return texts, those of pairs one after the other; `None` where they are not such."""
    given = texts
    if pair:
        if not all(isinstance(one, tuple | list | np.ndarray) and len(one) == 2 for one in texts):
            return None
        given = [text for one in texts for text in one]
    return given if all(isinstance(text, str) for text in given) else None


def _singles(preprocess: TextPreprocess, tokens: Sequence[bytes]) -> list[bytes]:
    start, end = _token(preprocess.start), _token(preprocess.end)
    room = max(0, SIZE * preprocess.sequence_length - len(start) - len(end))
    return [start + one[:room] + end for one in tokens]


def _pairs(
    preprocess: TextPreprocess, firsts: Sequence[bytes], seconds: Sequence[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield what belongs to the first text of each pair, and what to the second."""
    start, end = _token(preprocess.start), _token(preprocess.end)
    between = end if preprocess.doubled else b""
    frame = (len(start) + 2 * len(end) + len(between)) // SIZE
    room = preprocess.sequence_length - frame
    for first, second in zip(firsts, seconds, strict=True):
        # The longer text gives way until both have half of the room.
        most = min(len(first) // SIZE, max(room - len(second) // SIZE, room - room // 2))
        yield (start + first[: SIZE * max(0, most)] + end,
               between + second[: SIZE * max(0, room - most)] + end)  # fmt: skip


def _token(token: int | None) -> bytes:
    return b"" if token is None else _bytes([token])


class WordTokens:
    """The tokens of texts, of a tokenizer that cuts at blanks: each word is tokenized once.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: keras_hub.tokenizers.Tokenizer) -> None:
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
