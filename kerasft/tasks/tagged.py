"""Tags of words as a tagger learns and decides them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.model.text import tags
from kerasft.rows import Rows

if TYPE_CHECKING:
    import tensorflow as tf

# Texts whose tags are decided together when a split is measured.
_AT_ONCE = 512
# Texts that are looked at for names that are marked, and the share of them that makes them posts.
LOOKED_AT, POSTS = 20_000, 0.05
_MARKED = re.compile(r"(?<!\w)[@#]\w")


def decided(chances: tf.Tensor, real: tf.Tensor, constrained: bool) -> Any:
    import tensorflow as tf

    return tags.decoded(tf.math.log(tf.maximum(chances, 1e-30)), real, constrained=constrained)


@lru_cache(maxsize=8)
def decider(constrained: bool, count: int) -> Any:
    """Return what chooses tags, traced once for texts and words of any number."""
    import tensorflow as tf

    shapes = [tf.TensorSpec([None, None, count]), tf.TensorSpec([None, None], tf.bool)]
    return tf.function(
        lambda chances, real: decided(chances, real, constrained), input_signature=shapes,
        autograph=False,
    )  # fmt: skip


def gathered(kept: Rows) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Yield what was kept of some texts, and which words there are."""
    for first in range(0, len(kept), _AT_ONCE):
        some = kept.take(range(first, min(first + _AT_ONCE, len(kept))))
        frames = some.gather(np.arange(len(some)))
        lengths = np.array([len(some.row(i)["start"]) for i in range(len(some))], "int64")
        yield frames, np.arange(frames["start"].shape[1]) < lengths[:, None]


def kinds_of(tag: Any) -> Any:
    """Return 0 for `O` and behind the last word, and 1 and up for the types of entities."""
    return (tag + 1) // 2


def tags_of(row: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the tag of each word of a text: of the entity that it shares a character with."""
    made = np.zeros(len(row["start"]), "int32")
    for kind, start, end in zip(row["labels"], row["span_starts"], row["span_ends"], strict=True):
        inside = np.flatnonzero((row["start"] < end) & (row["end"] > start) & (made == 0))
        made[inside] = 2 + 2 * kind
        made[inside[:1]] -= 1
    return made


def weighed(
    place: tf.Tensor, tag: tf.Tensor, weights: np.ndarray, *, mean: float, examples: float
) -> Any:
    """Return what `tagging_loss` takes of words.

    Args:
        place: The token that each word begins with, `[batch, words]`.
        tag: Its tag; -1 behind the last one.
        weights: What words outside of entities count, and those of each type.
        mean: What the words of a text weigh together, on average.
        examples: How many examples a batch has, on average; 0 for the mean of each batch's words.
    """
    import tensorflow as tf

    weight = tf.gather(tf.constant(weights, tf.float32), kinds_of(tag))
    columns = [place, tag, tf.where(tag < 0, 0.0, weight)]
    if examples:
        columns[2] /= max(mean, 1e-6)
        # Keras divides by the examples of this batch, whatever those of the others are.
        here = tf.cast(tf.shape(tag)[0], tf.float32)
        columns.append(columns[2] * (here / examples))
    return tf.stack([tf.cast(one, tf.float32) for one in columns], axis=-1)


def rule_of(decoding: str, kind: str, types: Sequence[str]) -> dict[str, Any]:
    """Return in words how entities follow from the probabilities of tags, see `Explained`."""
    names = ["O", *(f"{way}-{name}" for name in types for way in "BI")]
    how = {
        "constrained": "the likeliest sequence of tags in which I-x follows B-x or I-x alone",
        "independent": "the likeliest tag of each word",
    }[decoding]
    whole = {"letters": "", "posts": ", and @name, #subject and addresses are one word each"}[kind]
    return {
        "rule": "a word has the probabilities of the token that it begins with; words are "
                f"parted by blanks, and punctuation marks are words{whole}; {how}; B-x begins an "
                "entity of the type x and I-x goes on with it; start and end are characters of "
                "the text (end: the one behind the last), score is the mean of the words' "
                "probabilities of their tags, count is the number of entities",
        "tags": names, "decoding": decoding, "words": kind,
    }  # fmt: skip


def about_posts(annotations: Rows) -> str:
    """Return what to set where texts are posts, `""` elsewhere.

    Args:
        annotations: With `text` and `span_starts`.

    Example:
        >>> from kerasft.data.annotations.spans import Marked, encode
        >>> marked = [Marked("@anna is in Rome", ((12, 16, "place"),))]
        >>> rows = encode(marked, ["1"], names=None, key="data.path")[1]
        >>> about_posts(rows).partition(":")[0]
        '1 of 1 texts has @names or #subjects'
    """
    seen = min(len(annotations), LOOKED_AT)
    some = annotations.take(range(seen))
    texts, spans = some["text"], some.only(["span_starts"])
    count = 0
    for i, raw in enumerate(texts.tolist()):
        text = raw.decode("utf-8")
        count += _MARKED.search(text) is not None
        starts = spans.row(i)["span_starts"].tolist()
        if any(start and text[start - 1] in "@#" for start in starts):
            return ""  # entities are marked without the sign
    if count < POSTS * seen or not count:
        return ""
    return (f"{count:,} of {seen:,} texts {'has' if count == 1 else 'have'} @names or #subjects: "
            "task.words=posts takes each, and addresses, as one word; else what stands behind @ is "
            "learned as a word outside of entities")  # fmt: skip


def described(learned: np.ndarray, types: Sequence[str]) -> list[str]:
    """Count the entities of each type that are learned of each text."""
    made = []
    for row in np.asarray(learned):
        begun = row[(row > 0) & (row % 2 == 1)] // 2
        counts = np.bincount(begun, minlength=len(types))
        words = [f"{name} {n}" for name, n in zip(types, counts, strict=True) if n]
        made.append(", ".join(words) or "no entity")
    return made
