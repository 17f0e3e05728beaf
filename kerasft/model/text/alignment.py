"""Where the words of a text stand, in characters, and which token each of them begins with.

Tokenizers of KerasHub tell no offsets, and what they do to a text first (case folding, stripping
accents) would move them. So words are split off the text as it is, and tokens are laid on them: of
WordPiece by tokenizing each word, of byte-level BPE by the bytes that each token stands for, of
SentencePiece by the offsets that its op gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kerasft.errors import UserError
from kerasft.rows import Column, Rows, joined

if TYPE_CHECKING:
    import keras_hub
    import tensorflow as tf

    from kerasft.spec import TextPreprocess

# What parts words and is none itself, and what is a word each: punctuation, and signs of Chinese.
BLANK = r"\s|\p{Cc}|\p{Cf}"
MARK = r"[!-/]|[:-@]|[\[-`]|[{-~]|[\p{P}]"
CJK = (
    r"[\x{4E00}-\x{9FFF}]|[\x{3400}-\x{4DBF}]|[\x{20000}-\x{2A6DF}]|[\x{2A700}-\x{2B73F}]"
    r"|[\x{2B740}-\x{2B81F}]|[\x{2B820}-\x{2CEAF}]|[\x{F900}-\x{FAFF}]|[\x{2F800}-\x{2FA1F}]"
)
# What is one word in posts, besides: addresses of the web and of mail, and the names of people and
# subjects that are marked.
POSTED = (
    r"(?:https?://|www\.)[^\s<>\"]*[\p{L}\p{N}/]"
    r"|[\p{L}\p{N}._%+-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.\p{L}{2,}"
    r"|[@#][\p{L}\p{N}\p{M}_]+"
)
# What a word is.
LETTERS, POSTS = KINDS = ("letters", "posts")
# The group of columns with a value for each word of a text.
WORDS = "words"
# Texts that are looked at together.
_AT_ONCE = 512
# Offsets of a batch in one row: no text is as long.
_FAR = 1 << 40


class Words(NamedTuple):
    """The words of each text, ragged `int32[batch, words]`.

    Args:
        place: The token that a word begins with, counted from the first of the text's own.
        start: Its first character.
        end: The character behind its last one.
    """

    place: Any
    start: Any
    end: Any


def require_known(tokenizer: keras_hub.tokenizers.Tokenizer) -> None:
    """See that words can be found again among a tokenizer's tokens.

    Raises:
        UserError: If not.
    """
    import keras_hub

    kinds = keras_hub.tokenizers
    known = (kinds.WordPieceTokenizer, kinds.BytePairTokenizer, kinds.SentencePieceTokenizer)
    if not isinstance(tokenizer, known) or not getattr(tokenizer, "split", True):
        raise UserError(
            "task=tagging needs a tokenizer whose tokens can be laid on the words of a text: "
            "WordPiece, byte-level BPE or SentencePiece. Received: "
            f"{type(tokenizer).__name__}. Choose another backbone.preset."
        )


def aligned(
    tokenizer: keras_hub.tokenizers.Tokenizer, tokenize: Callable[[Any], tf.RaggedTensor],
    text: tf.Tensor, words: str = LETTERS,
) -> tuple[tf.RaggedTensor, Words]:
    """Return the tokens of texts, and the words of each.

    The tokens are those that the tokenizer makes of the whole text. Words that begin with one token
    are one. A text whose tokens do not add up to its words has none: nothing is told of it.

    Args:
        tokenizer: A KerasHub tokenizer, see `require_known`.
        tokenize: Makes ragged tokens of strings, `[N]`.
        text: `tf.string[batch]`.
        words: What a word is: `"letters"`, a run of letters and digits, or a punctuation mark; or
            `"posts"`, by which `@name`, `#subject` and addresses are one word each, too.
    """
    import keras_hub
    import tensorflow as tf

    if isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer):
        tokens, place, start, end = _by_words(tokenizer, tokenize, text, words)
    else:
        tokens = tokenize(text)
        if isinstance(tokenizer, keras_hub.tokenizers.BytePairTokenizer):
            first, last, whole = _by_bytes(tokenizer, tokens, text)
        else:
            first, last, whole = _by_offsets(tokenizer, tokens, text)
        _, start, end = _split(text, True, words)
        place, found = _laid_on(first, last, start, end)
        found = found & tf.gather(whole, start.value_rowids())
        place, start, end = (_some(part, found) for part in (place, start, end))
        start, end, place = _as_one(start, end, place)
    start, end = (characters(text, part) for part in (start, end))
    return tokens, Words(*(tf.cast(part, tf.int32) for part in (place, start, end)))


def _split(text: tf.Tensor, cjk: bool, kind: str) -> tuple[Any, Any, Any]:
    """Return the words of texts, and where they begin and end, in bytes."""
    import tensorflow_text

    kept = f"{MARK}|{CJK}" if cjk else MARK
    kept = f"{POSTED}|{kept}" if kind == POSTS else kept
    return tensorflow_text.regex_split_with_offsets(
        text, delim_regex_pattern=f"{BLANK}|{kept}", keep_delim_regex_pattern=kept
    )


def _by_words(
    tokenizer: keras_hub.tokenizers.Tokenizer, tokenize: Callable[[Any], tf.RaggedTensor],
    text: tf.Tensor, kind: str,
) -> tuple[Any, Any, Any, Any]:
    """Return tokens, and the words that have any, by counting those of each."""
    import tensorflow as tf

    words, start, end = _split(text, tokenizer.split_on_cjk, kind)
    # In one go: a tokenizer makes the largest part of the graph.
    count = tf.shape(text)[0]
    made = tokenize(tf.concat([text, words.flat_values], 0))
    tokens, lengths = made[:count], made[count:].row_lengths()
    behind = words.with_flat_values(tf.cumsum(lengths))
    before = tf.gather(tf.concat([[tf.zeros([], tf.int64)], behind.flat_values], 0),
                       words.row_splits)  # fmt: skip
    rows = words.value_rowids()
    place = behind.flat_values - lengths - tf.gather(before, rows)
    whole = before[1:] - before[:-1] == tokens.row_lengths()
    found = (lengths > 0) & tf.gather(whole, rows)
    laid = words.with_flat_values(place)
    return tokens, *(_some(part, found) for part in (laid, start, end))


def _by_bytes(
    tokenizer: keras_hub.tokenizers.Tokenizer, tokens: tf.RaggedTensor, text: tf.Tensor
) -> tuple[Any, Any, Any]:
    """Return where tokens begin and end in a text, each letter of them standing for a byte."""
    import tensorflow as tf

    vocabulary = tokenizer.vocabulary
    sizes = np.zeros(max(vocabulary.values()) + 1, "int64")
    for token, number in vocabulary.items():
        sizes[number] = len(token)
    lengths = tf.gather(tf.constant(sizes), tokens.flat_values)
    ends = tokens.with_flat_values(tf.cumsum(lengths))
    before = tf.gather(tf.concat([[tf.zeros([], tf.int64)], ends.flat_values], 0),
                       tokens.row_splits)  # fmt: skip
    added = 1 if getattr(tokenizer, "add_prefix_space", False) else 0
    last = ends.flat_values - tf.gather(before[:-1], tokens.value_rowids()) - added
    sums = before[1:] - before[:-1] - added
    sizes_of = tf.cast(tf.strings.length(text), tf.int64)
    whole = (sums == sizes_of) | ((sizes_of == 0) & (tokens.row_lengths() == 0))
    return (tokens.with_flat_values(tf.maximum(last - lengths, 0)), tokens.with_flat_values(last),
            whole)  # fmt: skip


def _by_offsets(
    tokenizer: keras_hub.tokenizers.Tokenizer, tokens: tf.RaggedTensor, text: tf.Tensor
) -> tuple[Any, Any, Any]:
    """Return where tokens begin and end in a text, as SentencePiece's own op tells."""
    import tensorflow as tf

    tokenizer._maybe_initialized_tf()
    _, first, last = tokenizer._sentence_piece.tokenize_with_offsets(text)
    whole = first.row_lengths() == tokens.row_lengths()
    return *(tf.cast(part, tf.int64) for part in (first, last)), whole


def _laid_on(
    first: tf.RaggedTensor, last: tf.RaggedTensor, start: tf.RaggedTensor, end: tf.RaggedTensor
) -> tuple[Any, Any]:
    """Return the first token of each word, and which words have one."""
    import tensorflow as tf

    def row_of(part: tf.RaggedTensor) -> Any:
        return tf.cast(part.value_rowids(), tf.int64)

    ends = tf.concat([last.flat_values + row_of(last) * _FAR, [tf.int64.max]], 0)
    begins = tf.concat([first.flat_values + row_of(first) * _FAR, [tf.int64.max]], 0)
    rows = row_of(start)
    at = tf.searchsorted(ends, tf.cast(start.flat_values, tf.int64) + rows * _FAR, side="right")
    found = tf.gather(begins, at) < tf.cast(end.flat_values, tf.int64) + rows * _FAR
    place = tf.cast(at, tf.int64) - tf.gather(first.row_splits, start.value_rowids())
    return start.with_flat_values(place), found


def _as_one(
    start: tf.RaggedTensor, end: tf.RaggedTensor, place: tf.RaggedTensor
) -> tuple[Any, Any, Any]:
    """Return words so that those that begin with one token are one."""
    import tensorflow as tf

    rows, places = place.value_rowids(), place.flat_values
    marks = tf.cast(rows, tf.int64) * _FAR + places
    changes = marks[1:] != marks[:-1]
    one = tf.ones([tf.minimum(tf.size(marks), 1)], tf.bool)
    opens, closes = tf.concat([one, changes], 0), tf.concat([changes, one], 0)
    return _some(start, opens), _some(end, closes), _some(place, opens)


def _some(part: tf.RaggedTensor, which: tf.Tensor) -> Any:
    """Return some of the values of a ragged tensor, by a mask of all of them."""
    import tensorflow as tf

    return tf.ragged.boolean_mask(part, part.with_flat_values(which))


def characters(text: tf.Tensor, offsets: tf.RaggedTensor) -> tf.RaggedTensor:
    """Return the characters that bytes of texts belong to.

    Args:
        text: `tf.string[batch]`.
        offsets: Ragged `[batch, ...]`, in bytes.

    Example:
        >>> import tensorflow as tf
        >>> text = tf.constant(["Zürich"])
        >>> characters(text, tf.ragged.constant([[0, 3, 7]])).to_list()
        [[0, 2, 6]]
    """
    import tensorflow as tf

    _, begins = tf.strings.unicode_decode_with_offsets(text, "UTF-8")
    rows = tf.cast(begins.value_rowids(), tf.int64)
    keys = begins.flat_values + rows * _FAR
    wanted = tf.cast(offsets.flat_values, tf.int64)
    own = tf.cast(offsets.value_rowids(), tf.int64)
    before = tf.gather(begins.row_splits, own)
    at = tf.cast(tf.searchsorted(keys, wanted + own * _FAR, side="left"), tf.int64)
    return offsets.with_flat_values(at - before)


def framed(preprocess: TextPreprocess, raw: tf.Tensor) -> tuple[Any, dict[str, Any]]:
    """Return texts as a network takes them, and where their words stand; to be traced.

    Args:
        preprocess: Of single texts.
        raw: `tf.string[batch]`.

    Returns:
        What the network takes; and by name `place`, `start` and `end` of each word that it sees,
        `int32[batch, words]`, -1 behind the last one, and `text`. See `Words`; places count all
        positions of a row.
    """
    import tensorflow as tf

    tokens, words = aligned(preprocess.tokenizer, preprocess.tokens, raw, preprocess.words)
    before = int(preprocess.start is not None)
    room = preprocess.sequence_length - before - (preprocess.end is not None)
    seen = words.place < room
    parts = {name: tf.ragged.boolean_mask(part, seen).to_tensor(-1)
             for name, part in words._asdict().items()}  # fmt: skip
    parts["place"] = tf.where(parts["place"] < 0, -1, parts["place"] + before)
    return preprocess.pack(raw, tokens), {**parts, "text": raw}


def _words_of(preprocess: TextPreprocess) -> Any:
    """Return the function that tells where words stand, traced once."""
    import tensorflow as tf

    preprocess(tf.constant([""]))  # which is traced anew where its model was cleared
    own = vars(preprocess)
    held = own.get("_words_of")
    if held is not None and held[0] is own["_packed"]:
        return held[1]
    made = tf.function(
        lambda raw: framed(preprocess, raw)[1], autograph=False,
        input_signature=[tf.TensorSpec([None], tf.string)],
    )  # fmt: skip
    own["_words_of"] = own["_packed"], made
    return made


def placed(preprocess: TextPreprocess, annotations: Rows) -> Rows:
    """Return annotations of texts with their words as a network sees them.

    Args:
        preprocess: Of single texts.
        annotations: Rows with a column `text`, of bytes.

    Returns:
        The rows with `place`, `start` and `end` of each word as ragged columns.
    """
    import tensorflow as tf

    require_known(preprocess.tokenizer)
    words_of = _words_of(preprocess)
    texts = annotations["text"]
    found: dict[str, list[np.ndarray]] = {name: [] for name in Words._fields}
    for begin in range(0, len(texts), _AT_ONCE):
        made = words_of(tf.constant(texts[begin : begin + _AT_ONCE].tolist(), tf.string))
        real = made["place"].numpy() >= 0
        for name, rows in found.items():
            rows += [row[seen] for row, seen in zip(made[name].numpy(), real, strict=True)]
    columns = {
        name: Column.ragged(rows, group=WORDS, fill=-1, dtype="int32")
        for name, rows in found.items()
    }
    return Rows.of({**joined([annotations]).columns, **columns}, len(texts))
