"""Writing: a network that goes on with texts, a token after the other, in TensorFlow ops alone."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError, nearest
from kerasft.model.text.language import LanguagePreprocess
from kerasft.model.text.sampled import drawn, without_repetition

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

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
            A request to an export's signature `sample` brings one for each text.

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
        elif isinstance(self.stop, list):
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
        several = isinstance(self.stop, tuple)
        if not several or not all(isinstance(one, str) and one for one in self.stop):
            said.append(
                "generate.stop must hold texts that are not empty, such as generate.stop=END or "
                f"'generate.stop=[END,STOP]'. Received: "
                f"{list(self.stop) if several else self.stop}."
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

    def room(self, sequence_length: int) -> int:
        """Return how many tokens a prompt may have.

        Raises:
            UserError: If answers leave none.
        """
        if self.max_new >= sequence_length:
            raise UserError(
                f"generate.max_new must be below backbone.sequence_length={sequence_length}, so "
                f"that a prompt has room. Received: {self.max_new}."
            )
        return sequence_length - self.max_new

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {**dataclasses.asdict(self), "stop": list(self.stop)}


def writer(
    model: keras.Model, preprocess: LanguagePreprocess, settings: Generation, *,
    cached: bool = True,
) -> Callable[..., dict[str, Any]]:
    """Return a function of raw texts to what a network writes behind them.

    Networks of KerasHub keep what their layers computed of earlier tokens; others, and those after
    surgery, compute all positions anew for each token. A prompt that leaves no room loses its
    beginning.

    Args:
        model: A network with the head of a language model.
        preprocess: What stands before it.
        settings: How is written.
        cached: Whether what was computed may be kept.

    Returns:
        Takes `tf.string[batch]` and, if need be, a seed for each of them, `int64[batch]`, instead
        of that of the settings; gives `text`, `tokens` (how many were written, those that a stop
        text cut off among them), `stopped` (whether the answer ended by itself) and `margin` (the
        smallest lead of a token that was chosen, `float32[batch, 1]`: where it is next to nothing,
        rounding decides).
    """
    import tensorflow as tf

    stepper = (_cached(model) if cached else None) or _anew(model)
    room = settings.room(preprocess.sequence_length)

    def write(raw: tf.Tensor, seeds: tf.Tensor | None = None) -> dict[str, Any]:
        if seeds is None:
            seeds = tf.fill([tf.size(raw)], tf.constant(settings.seed, tf.int64))
        prompts = prompts_of(preprocess, raw, room)
        lengths = tf.cast(prompts.row_lengths(), tf.int32)
        longest = tf.reduce_max(tf.concat([lengths, [1]], 0))
        width = tf.minimum(-(-longest // BUCKET) * BUCKET, room)
        shape = tf.stack([tf.size(raw), width + settings.max_new])
        ids = prompts.to_tensor(preprocess.pad, shape=tf.cast(shape, tf.int64))
        ids.set_shape([None, None])
        ids, count, stopped, margin = _loop(
            stepper, ids, lengths, preprocess, settings, seeds
        )
        whole = tf.RaggedTensor.from_tensor(ids, lengths=lengths + count)
        before, text = preprocess.texts(prompts), preprocess.texts(whole)
        # Both are read whole: what begins a text may lose the blank before it.
        text = tf.strings.substr(
            text, tf.minimum(tf.strings.length(before), tf.strings.length(text)),
            tf.strings.length(text),
        )
        # Tokens may be parts of a character: what is none in the end is told as such (U+FFFD).
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8")
        for one in settings.stop:
            cut = tf.strings.regex_replace(text, f"(?s){re.escape(one)}.*", "")
            stopped = stopped | (cut != text)
            text = cut
        return {"text": text, "tokens": count, "stopped": stopped, "margin": margin[:, None]}

    return write


def prompts_of(preprocess: LanguagePreprocess, raw: tf.Tensor, room: int) -> Any:
    """Return what stands before answers as tokens, the end of it where it is too long."""
    import tensorflow as tf

    prompts = preprocess.prompts(raw)[:, -room:]
    # With nothing before it, no token can be the next one.
    first = preprocess.pad if preprocess.start is None else preprocess.start
    bare = tf.fill([tf.size(raw), 1], first)
    none = prompts.row_lengths() == 0
    return tf.concat([tf.ragged.boolean_mask(bare, none[:, None]), prompts], axis=1)


# What begins with a batch of tokens, and what gives the scores of the token at an index.
Stepper = tuple[Callable[[Any], Any], Callable[[Any, Any, Any], tuple[Any, Any]]]


def _anew(model: keras.Model) -> Stepper:
    """Return steps that compute all positions of a network each time."""
    import keras
    import tensorflow as tf

    given, embedding = read_off(model)
    features = keras.Function(model.input, given)
    names = list(model.input)

    def step(ids: tf.Tensor, index: tf.Tensor, kept: tf.Tensor) -> tuple[Any, Any]:
        mask = tf.cast(tf.range(tf.shape(ids)[1])[None] < index, tf.int32)
        inputs = {"token_ids": ids, "padding_mask": mask + tf.zeros_like(ids)}
        found = features({name: inputs[name] for name in names})
        scores = embedding(found[:, index - 1, None], reverse=True)
        return tf.cast(scores[:, 0], tf.float32), kept

    return (lambda ids: tf.zeros([])), step


def read_off(model: keras.Model) -> tuple[Any, Any]:
    """Return what a language model's head reads tokens off, and the embedding that it reads by.

    Args:
        model: A network with the head of a language model.

    Returns:
        The symbolic features of its positions, `[batch, positions, width]`; and the layer.

    Raises:
        UserError: If it has another head.
    """
    node = next(
        (node for nodes in model._nodes_by_depth.values() for node in nodes
         if node.operation.name == HEAD), None,
    )  # fmt: skip
    if node is None:
        raise UserError("A language model writes by head=language. Received: another head.")
    given = node.input_tensors[0]
    embedding = next(one for one in model.layers if hasattr(one, "tie_weights"))
    if given._keras_history.operation is embedding:  # logits of all positions are not wanted
        made = next(one for one in embedding._inbound_nodes
                    if any(given is tensor for tensor in one.output_tensors))  # fmt: skip
        given = made.input_tensors[0]
    return given, embedding


def embedder(model: keras.Model, how: str) -> Callable[[Any], Any] | None:
    """Return a function of what a network takes to one vector a text.

    Args:
        model: A network with the head of a language model.
        how: `"mean"` takes the mean of the last layer's features over all tokens; `"last"` those
            of the last token, which alone has seen all others.

    Returns:
        Takes the inputs by name; gives `float32[batch, width]`. `None` for a network that is not
        told what is padding.
    """
    import keras
    import tensorflow as tf

    if "padding_mask" not in model.input:
        return None
    features = keras.Function(model.input, read_off(model)[0])

    def embed(inputs: Mapping[str, tf.Tensor]) -> Any:
        found = tf.cast(features(inputs), tf.float32)
        real = tf.cast(inputs["padding_mask"], tf.float32)
        count = tf.reduce_sum(real, axis=1, keepdims=True)
        weighs = real / count
        if how == "last":
            place = tf.cast(count[:, 0], tf.int32) - 1
            weighs = tf.one_hot(place, tf.shape(real)[1])
        return tf.reduce_sum(found * weighs[..., None], axis=1)

    return embed


def _cached(model: keras.Model) -> Stepper | None:
    """Return steps that keep what layers computed, as KerasHub's own do; `None` without such."""
    import keras_hub
    import tensorflow as tf

    network = getattr(model, "_parts", None) and model._parts.models.get("network")
    network = getattr(network, "within", network)
    every = [getattr(keras_hub.models, name) for name in dir(keras_hub.models)]
    kind = next(
        (one for one in every if isinstance(one, type)
         and issubclass(one, keras_hub.models.CausalLM) and hasattr(one, "call_with_cache")
         and getattr(one, "backbone_cls", None) is type(network)), None,
    )  # fmt: skip
    if kind is None:
        return None
    takes = list(inspect.signature(kind.call_with_cache).parameters)
    if takes != ["self", "token_ids", "cache", "cache_update_index"]:
        return None  # it takes images, too
    language_model = kind(backbone=network, preprocessor=None)

    def step(ids: tf.Tensor, index: tf.Tensor, kept: tf.Tensor) -> tuple[Any, Any]:
        token = ids[:, index - 1, None]
        logits, _, now = language_model.call_with_cache(token, kept, index - 1)
        now.set_shape(kept.shape)
        return tf.cast(logits[:, 0], tf.float32), now

    return (lambda ids: language_model._build_cache(ids)[1]), step


def _loop(
    stepper: Stepper, ids: tf.Tensor, lengths: tf.Tensor, preprocess: LanguagePreprocess,
    settings: Generation, seeds: tf.Tensor,
) -> tuple[Any, Any, Any, Any]:
    """Write until all texts have ended, or as much as may be.

    All texts go on at one place, from the end of the shortest prompt: what is there is kept.
    """
    import tensorflow as tf

    stops = tf.constant(preprocess.stops or [-1], tf.int32)
    begin, step = stepper
    last = tf.reduce_max(tf.concat([lengths, [0]], 0)) + settings.max_new

    def body(
        index: tf.Tensor, ids: tf.Tensor, kept: tf.Tensor, count: tf.Tensor, stopped: tf.Tensor,
        margin: tf.Tensor,
    ) -> Any:
        scores, kept = step(ids, index, kept)
        if settings.repetition_penalty != 1.0:
            scores = without_repetition(scores, ids, index, settings.repetition_penalty)
        ranked = drawn(scores, count, seeds, temperature=settings.temperature,
                       top_k=settings.top_k, top_p=settings.top_p)  # fmt: skip
        best = tf.math.top_k(ranked, k=2)
        open_ = (lengths <= index) & (count < settings.max_new) & ~stopped
        ahead = best.values[:, 0] - best.values[:, 1]
        margin = tf.where(open_, tf.minimum(margin, ahead), margin)
        token = best.indices[:, 0]
        ended = open_ & tf.reduce_any(token[:, None] == stops[None], axis=1)
        goes_on = open_ & ~ended
        here = (tf.range(tf.shape(ids)[1])[None] == index) & goes_on[:, None]
        ids = tf.where(here, token[:, None], ids)
        return (index + 1, ids, kept, count + tf.cast(goes_on, tf.int32), stopped | ended, margin)

    def goes_on(
        index: tf.Tensor, ids: tf.Tensor, kept: tf.Tensor, count: tf.Tensor, stopped: tf.Tensor,
        margin: tf.Tensor,
    ) -> Any:
        return (index < last) & tf.reduce_any(~stopped & (count < settings.max_new))

    none = tf.zeros_like(lengths)
    kept = begin(ids)
    _, ids, _, count, stopped, margin = tf.while_loop(
        goes_on, body,
        (tf.reduce_min(tf.concat([lengths, [2**30]], 0)), ids, kept, none, none > 0,
         tf.fill(tf.shape(lengths), 1e4)),
        shape_invariants=(tf.TensorShape([]), ids.shape, kept.shape, *[lengths.shape] * 3),
    )  # fmt: skip
    return ids, count, stopped, margin
