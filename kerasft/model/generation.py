"""Writing: a network that goes on with texts, a token after the other, in TensorFlow ops alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError, nearest
from kerasft.model.language import LanguagePreprocess

if TYPE_CHECKING:
    import keras

# Prompts are padded to a multiple of so many tokens, so that a server sees few shapes.
BUCKET = 32
HEAD = "head_next_token"


@dataclass(frozen=True)
class Generation:
    """How a text is gone on with.

    Args:
        max_new: The most tokens that are written.
        temperature: Scores are divided by it before one is drawn; 0 takes the likeliest each time.
        top_k: Draw among the likeliest so many tokens; 0 for all.
        top_p: Draw among the likeliest tokens that together have this probability (Holtzman et al.,
            "The Curious Case of Neural Text Degeneration", 2020,
            https://arxiv.org/abs/1904.09751).
        repetition_penalty: What the scores of tokens that were there already are divided by, where
            they are above 0, or multiplied with (Keskar et al., "CTRL", 2019,
            https://arxiv.org/abs/1909.05858); 1 for nothing.
        stop: Texts before which an answer ends. They are looked for when all is written, so that
            they save no time.
        seed: What is drawn is a function of it and the step; each text is answered as if alone.

    Example:
        >>> Generation(temperature=0.8, top_p=0.9).max_new
        64
        >>> Generation(top_p=2.0)
        Traceback (most recent call last):
        ...
        kerasft.errors.UserError: generate.top_p must be above 0 and at most 1. Received: 2.0.
    """

    max_new: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        object.__setattr__(self, "stop", tuple(self.stop))
        whole = {"max_new": 1, "top_k": 0, "seed": 0}
        said = [
            f"generate.{name} must be a whole number, {least} or more. Received: "
            f"{getattr(self, name)!r}."
            for name, least in whole.items()
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, int)
            or value < least
        ]  # fmt: skip
        for name, fits, words in (
            ("temperature", lambda v: v >= 0, "0 or above"),
            ("top_p", lambda v: 0 < v <= 1, "above 0 and at most 1"),
            ("repetition_penalty", lambda v: v > 0, "above 0"),
        ):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not fits(value):
                said.append(f"generate.{name} must be {words}. Received: {value!r}.")
        if not all(isinstance(one, str) and one for one in self.stop):
            said.append(
                f"generate.stop must hold texts that are not empty. Received: {list(self.stop)}."
            )
        if said:
            raise UserError(problems=said)

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Generation:
        """Return settings as they stand in a config.

        Raises:
            UserError: For one that there is not, or that is wrong.
        """
        known = [one.name for one in dataclasses.fields(cls)]
        if strange := [str(name) for name in settings or () if name not in known]:
            raise UserError(
                f"generate.{strange[0]} is no setting. Allowed: "
                f"{', '.join(f'generate.{one}' for one in known)}.{nearest(strange[0], known)}"
            )
        return cls(**(settings or {}))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {**dataclasses.asdict(self), "stop": list(self.stop)}


def writer(
    model: keras.Model, preprocess: LanguagePreprocess, settings: Generation
) -> Callable[[Any], dict[str, Any]]:
    """Return a function of raw texts to what a network writes behind them.

    Each step computes all positions so far anew. A prompt that leaves no room loses its beginning.

    Args:
        model: A network with the head of a language model.
        preprocess: What stands before it.
        settings: How is written.

    Returns:
        Takes `tf.string[batch]`; gives `text`, `tokens` (how many were written), `stopped` (whether
        the answer ended by itself) and `margin` (the smallest lead of a token that was chosen,
        `float32[batch, 1]`: where it is next to nothing, rounding decides).
    """
    import tensorflow as tf

    score = scorer(model)
    room = preprocess.sequence_length - settings.max_new
    if room < 1:
        raise UserError(
            f"generate.max_new must be below backbone.sequence_length="
            f"{preprocess.sequence_length}, so that a prompt has room. Received: "
            f"{settings.max_new}."
        )

    def write(raw: Any) -> dict[str, Any]:
        prompts = preprocess.prompts(raw)[:, -room:]
        # With nothing before it, no token can be the next one.
        bare = tf.fill([tf.shape(raw)[0], 1], preprocess.start or preprocess.pad)
        first = tf.ragged.boolean_mask(bare, (prompts.row_lengths() == 0)[:, None])
        prompts = tf.concat([first, prompts], axis=1)
        lengths = tf.cast(prompts.row_lengths(), tf.int32)
        longest = -(-tf.reduce_max(tf.concat([lengths, [1]], 0)) // BUCKET) * BUCKET
        width = tf.minimum(longest, preprocess.sequence_length - settings.max_new)
        shape = tf.stack([tf.shape(lengths)[0], width + settings.max_new])
        ids = prompts.to_tensor(preprocess.pad, shape=tf.cast(shape, tf.int64))
        ids.set_shape([None, None])
        ids, count, stopped, margin = _loop(score, ids, lengths, preprocess, settings)
        whole = tf.RaggedTensor.from_tensor(ids, lengths=lengths + count)
        before, text = preprocess.texts(prompts), preprocess.texts(whole)
        # Both are read whole: what begins a text may lose the blank before it.
        text = tf.strings.substr(
            text, tf.minimum(tf.strings.length(before), tf.strings.length(text)),
            tf.strings.length(text),
        )
        for one in settings.stop:
            cut = tf.strings.regex_replace(text, f"(?s){re.escape(one)}.*", "")
            stopped = stopped | (cut != text)
            text = cut
        return {"text": text, "tokens": count, "stopped": stopped, "margin": margin[:, None]}

    return write


def scorer(model: keras.Model) -> Callable[[Any, Any], Any]:
    """Return a function of tokens and how many there are to the scores of the next one.

    Args:
        model: A network with the head of a language model.

    Returns:
        Takes `int32[batch, positions]` and `int32[batch]`; gives `float32[batch, vocabulary]`.
    """
    import keras
    import tensorflow as tf

    node = next(
        node for nodes in model._nodes_by_depth.values() for node in nodes
        if node.operation.name == HEAD
    )
    given = node.input_tensors[0]
    embedding = next(one for one in model.layers if hasattr(one, "tie_weights"))
    source = given._keras_history.operation
    if source is embedding:  # its logits of all positions are not wanted
        made = next(one for one in source._inbound_nodes if given in one.output_tensors)
        given = made.input_tensors[0]
    features = keras.Function(model.inputs, given)
    names = list(model.input)

    def score(ids: Any, lengths: Any) -> Any:
        mask = tf.sequence_mask(lengths, tf.shape(ids)[1], tf.int32)
        inputs = {"token_ids": ids, "padding_mask": mask}
        found = features([inputs[name] for name in names], training=False)
        last = tf.gather(found, lengths - 1, axis=1, batch_dims=1)
        return tf.cast(embedding(last[:, None], reverse=True)[:, 0], tf.float32)

    return score


def _loop(
    score: Callable, ids: Any, lengths: Any, preprocess: LanguagePreprocess, settings: Generation
) -> tuple[Any, Any, Any, Any]:
    """Write until all texts have ended, or as much as may be."""
    import tensorflow as tf

    rows = tf.range(tf.shape(ids)[0])
    stops = tf.constant(preprocess.stops or [-1], tf.int32)

    def body(step: Any, ids: Any, count: Any, stopped: Any, margin: Any) -> Any:
        at = lengths + count
        raw = score(ids, at)
        if settings.repetition_penalty != 1.0:
            raw = _without_repetition(raw, ids, at, settings.repetition_penalty)
        chances = drawn(raw, step, settings)
        best = tf.math.top_k(chances, k=2)
        token = best.indices[:, 0]
        ahead = best.values[:, 0] - best.values[:, 1]
        token = tf.where(stopped, preprocess.pad, token)
        margin = tf.where(stopped, margin, tf.minimum(margin, ahead))
        ended = tf.reduce_any(token[:, None] == stops[None], axis=1) & ~stopped
        goes_on = ~stopped & ~ended
        places = tf.stack([rows, tf.minimum(at, tf.shape(ids)[1] - 1)], axis=1)
        old = tf.gather_nd(ids, places)
        ids = tf.tensor_scatter_nd_update(ids, places, tf.where(goes_on, token, old))
        return step + 1, ids, count + tf.cast(goes_on, tf.int32), stopped | ended, margin

    none = tf.zeros_like(lengths)
    _, ids, count, stopped, margin = tf.while_loop(
        lambda step, _ids, _count, stopped, _margin:
            (step < settings.max_new) & ~tf.reduce_all(stopped),
        body, (0, ids, none, none > 0, tf.fill(tf.shape(lengths), 1e4)),
        shape_invariants=(
            tf.TensorShape([]), ids.shape, lengths.shape, lengths.shape, lengths.shape
        ),
    )  # fmt: skip
    return ids, count, stopped, margin


def drawn(scores: Any, step: Any, settings: Generation) -> Any:
    """Return scores whose largest is the token to take.

    Noise is added that makes the largest one a draw (Gumbel). It is the same for each row: what a
    text is answered hangs on no other text of its batch.

    Args:
        scores: `float32[batch, vocabulary]`.
        step: How many tokens were written before.
        settings: How is written.
    """
    import tensorflow as tf

    if not settings.temperature:
        return scores
    scores = scores / settings.temperature
    least = tf.constant(-1e9)
    if 0 < settings.top_k < scores.shape[-1]:
        lowest = tf.math.top_k(scores, k=settings.top_k).values[:, -1:]
        scores = tf.where(scores < lowest, least, scores)
    if settings.top_p < 1.0:
        order = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
        ranked = tf.gather(scores, order, axis=1, batch_dims=1)
        chances = tf.nn.softmax(ranked)
        # The one that reaches the share is in.
        inside = tf.cumsum(chances, axis=1, exclusive=True) < settings.top_p
        lowest = tf.reduce_min(tf.where(inside, ranked, float("inf")), axis=1, keepdims=True)
        scores = tf.where(scores < lowest, least, scores)
    uniform = tf.random.stateless_uniform(
        [scores.shape[-1]], [settings.seed, step], minval=1e-20, maxval=1.0
    )
    return scores - tf.math.log(-tf.math.log(uniform))[None]


def _without_repetition(scores: Any, ids: Any, at: Any, penalty: float) -> Any:
    """Return scores of which those of tokens that were there are lower."""
    import tensorflow as tf

    count = scores.shape[-1]
    real = tf.sequence_mask(at, tf.shape(ids)[1])
    there = tf.math.bincount(
        tf.where(real, ids, -1) + 1, minlength=count + 1, maxlength=count + 1, axis=-1,
        binary_output=True,
    )[:, 1:]  # fmt: skip
    lower = tf.where(scores > 0, scores / penalty, scores * penalty)
    return tf.where(there > 0, lower, scores)
