"""Tokens as people read them, and what of a text lies beyond the last one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from kerasft.model.preprocess import TextPreprocess
from kerasft.raw_input import as_raw
from kerasft.spec import Preprocess

# What stands between the pieces of a word.
SEAM = "·"
# How vocabularies of SentencePiece write a blank, and how a token that is none but one is shown.
BLANK = "▁"
# Longer than any text, and still an int32.
ENDLESS = 2**30
# Columns that tell tokens from padding, and the second text of a pair from the first.
TOLD = ("token_ids", "segment_ids", "padding_mask")


class Naming(Protocol):
    """A tokenizer that tells what its tokens are called; all of KerasHub's do."""

    def id_to_token(self, id: int) -> str: ...


def reader(tokenizer: Naming) -> Callable[[Sequence[int]], str]:
    """Return a function that makes one readable line of token ids.

    Words are apart by spaces, the pieces of a word by `·`, and special tokens stand as they are
    called. A character of which each token holds only some bytes is shown once, with the number of
    its tokens in braces.

    Args:
        tokenizer: A KerasHub tokenizer, or any with `id_to_token`, whose tokens are then shown
            with spaces between.

    Example:
        >>> from keras_hub.tokenizers import WordPieceTokenizer
        >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fine", "##tun", "##ing"]
        >>> reader(WordPieceTokenizer(vocabulary=vocabulary))([2, 4, 5, 6, 1, 3])
        '[CLS] fine·tun·ing [UNK] [SEP]'
    """
    import keras_hub

    kinds = keras_hub.tokenizers
    named = _names(tokenizer)
    special = set(getattr(tokenizer, "special_token_ids", ()))
    pieces: Pieces = _as_they_are
    if isinstance(tokenizer, kinds.WordPieceTokenizer):
        pieces = partial(_word_pieces, suffix=tokenizer.suffix_indicator)
    elif isinstance(tokenizer, kinds.SentencePieceTokenizer):
        pieces = _sentence_pieces
    elif isinstance(tokenizer, kinds.BytePairTokenizer):
        pieces = _byte_pieces

    def read(ids: Sequence[int]) -> str:
        words: list[str] = []
        for is_special, run in groupby(map(int, ids), lambda one: one in special):
            names = [named(one) for one in run]
            first = len(words)
            for text, begins in _as_they_are(names) if is_special else pieces(names):
                if begins or len(words) == first:
                    words.append(text)
                else:
                    words[-1] += SEAM + text
        return " ".join(words)

    return read


def marked(
    read: Callable[[Sequence[int]], str], ids: Sequence[int], learned: Any = None
) -> str:
    """Return tokens as people read them, those that are learned in double brackets.

    Args:
        read: What `reader` returned.
        ids: The tokens.
        learned: A number for each, above 0 where it is learned; `None` where that is not asked.

    Example:
        >>> marked(lambda ids: " ".join(map(str, ids)), [1, 5, 6, 2], [0, 1, 2, 0])
        '1 [[5 6]] 2'
    """
    if learned is None:
        return read(ids)
    runs = groupby(zip(ids, learned[: len(ids)], strict=True), lambda pair: pair[1] > 0)
    parts = [(on, read([one for one, _ in run])) for on, run in runs]
    return " ".join(f"[[{text}]]" if on else text for on, text in parts)


# The text of each token, and whether a word begins there.
Pieces = Callable[[Sequence[str]], list[tuple[str, bool]]]


def _names(tokenizer: Naming) -> Callable[[int], str]:
    vocabulary = getattr(tokenizer, "vocabulary", None)
    if isinstance(vocabulary, dict):  # `id_to_token` would go through all of it for each
        names = {number: token for token, number in vocabulary.items()}
        return lambda one: str(names.get(one, one))
    return lru_cache(maxsize=None)(lambda one: str(tokenizer.id_to_token(one)))


def _as_they_are(tokens: Sequence[str]) -> list[tuple[str, bool]]:
    return [(_spelled(token), True) for token in tokens]


def _word_pieces(tokens: Sequence[str], *, suffix: str) -> list[tuple[str, bool]]:
    return [
        (token, True) if token == suffix or not token.startswith(suffix)
        else (token.removeprefix(suffix), False)
        for token in tokens
    ]  # fmt: skip


def _sentence_pieces(tokens: Sequence[str]) -> list[tuple[str, bool]]:
    # A blank alone is a token, too.
    return [
        (_spelled(token.removeprefix(BLANK)) or BLANK, token.startswith(BLANK)) for token in tokens
    ]


def _byte_pieces(tokens: Sequence[str]) -> list[tuple[str, bool]]:
    codes = _byte_codes()
    made = []
    held, count = b"", 0
    for place, token in enumerate(tokens):
        held += b"".join(codes.get(letter, letter.encode()) for letter in token)
        count += 1
        try:
            text = held.decode()
        except UnicodeDecodeError:
            if place < len(tokens) - 1 and count < 4:  # no character has more bytes
                continue
            text = held.decode(errors="backslashreplace")
        begins = text.startswith(" ")
        text = _spelled(text.removeprefix(" ")) or BLANK
        made.append((text + (f"{{{count}}}" if count > 1 else ""), begins))
        held, count = b"", 0
    return made


@lru_cache(maxsize=1)
def _byte_codes() -> dict[str, bytes]:
    """Return the letters under which byte-pair vocabularies write each byte, as GPT-2's do."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): bytes([byte]) for byte in shown}
    return letters | {chr(256 + place): bytes([byte]) for place, byte in enumerate(others)}


def _spelled(text: str) -> str:
    """Return a text whose line ends and tabs can be seen."""
    return text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


class Cuts:
    """What a preprocessing cuts off at its `sequence_length`.

    Texts are tokenized again without that limit, and only those that reach it.

    Args:
        preprocess: A `TextPreprocess`.

    Example:
        >>> from kerasft.model.tiny import text
        >>> preprocess = text("bert", sequence_length=8).preprocess
        >>> Cuts(preprocess).counts(["a film", "the quick brown fox is a lazy dog"]).tolist()
        [0, 2]
    """

    def __init__(self, preprocess: TextPreprocess):
        self.preprocess = preprocess
        self._endless = preprocess.changed(inputs=TOLD, sequence_length=ENDLESS)

    def counts(self, texts: Sequence[Any]) -> np.ndarray:
        """Return how many tokens each text, or pair of texts, loses: `int64[N]`."""
        rows = self._endless(as_raw(texts, "text"))
        lengths = rows["padding_mask"].numpy().sum(axis=1, dtype="int64")
        return np.maximum(lengths - self.preprocess.sequence_length, 0)

    def lost(self, text: Any, row: Sequence[int]) -> list[list[int]]:
        """Return the tokens that a text loses at its end; of a pair, those of each text.

        Args:
            text: The text, or the pair.
            row: What the network sees of it, without padding.
        """
        made = self.preprocess
        if len(row) < made.sequence_length:
            return [[] for _ in range(1 + made.pair)]
        start = [] if made.start is None else [made.start]
        end = [] if made.end is None else [made.end]
        texts = self._texts(text, len(start), len(end))
        if not made.pair:
            return [texts[0][len(row) - len(start) - len(end) :]]
        first, second = texts
        middle = end * (2 if made.doubled else 1)
        room = len(row) - len(start) - len(middle) - len(end)
        # How many tokens of the first text the row has, the row itself says.
        kept = next(
            count for count in range(room + 1)
            if [*start, *first[:count], *middle, *second[: room - count], *end] == list(row)
        )
        return [first[kept:], second[room - kept :]]

    def _texts(self, text: Any, start: int, end: int) -> list[list[int]]:
        """Return all tokens of each text, without those that frame them."""
        rows = self._endless(as_raw([text], "text"))
        ids, segments = (rows[name].numpy()[0] for name in ("token_ids", "segment_ids"))
        real = rows["padding_mask"].numpy()[0].astype(bool)
        first, second = (ids[real & (segments == segment)].tolist() for segment in (0, 1))
        before = end if self.preprocess.doubled else 0
        found = [first[start : len(first) - end], second[before : len(second) - end]]
        return found[: 1 + self.preprocess.pair]


def cuts(preprocess: Preprocess) -> Cuts | None:
    """Return what tells of a preprocessing what it cuts off; `None` for one of another kind."""
    return Cuts(preprocess) if isinstance(preprocess, TextPreprocess) else None
