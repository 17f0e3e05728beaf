"""Causal language models: each token after those before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from kerasft.abilities import Begun, Prepare
from kerasft.artifact.comparison import PADDING, Output
from kerasft.data import packing
from kerasft.data.annotations import language as annotated
from kerasft.errors import UserError, nearest
from kerasft.model.text import templates
from kerasft.model.text.generation import Generation
from kerasft.model.text.likeliest import LIKELIEST
from kerasft.rows import Rows
from kerasft.spec import (
    Backbone,
    Decision,
    Kind,
    Labels,
    Modality,
    Mode,
    Preprocess,
    Splits,
    Tensors,
    takes_texts,
)
from kerasft.tasks import reading, shared

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


LOSS_ON = ("answers", "all")
EMBEDDINGS = ("mean", "last")
FIGURES = ("bits_per_byte", "perplexity", "loss", "accuracy", "end_found")


@dataclass(frozen=True)
class CausalLM:
    """A network learns which token comes next.

    Documents teach all of their tokens and that they end; conversations their answers. Each token
    that is learned weighs the same in all of an epoch, whatever batch it is in, also where several
    batches make an update.

    Args:
        packing: `"isolated"` puts several short texts into one row that do not see each other;
            `"joined"` cuts blocks out of all texts in a row; `"none"` gives each text a row.
        loss_on: Of conversations, whether `"answers"` are learned, or `"all"`.
        template: How conversations become tokens, see `kerasft explain template=alpaca`; `None`
            for documents.
        generate: How answers are written, see `Generation`: `max_new`, `temperature`, ...
        embedding: Which vector of a text exports give under `embed`: the `"mean"` of the last
            layer's features over its tokens, or those of its `"last"` token.
        monitor: The figure by which the best epoch is chosen.
        learned: How many tokens of an example are learned, on average; known from the data.
        examples: How many examples a training batch has, on average; 0 where none is trained on.

    Example:
        >>> CausalLM().head(Labels("language"))
        {}
    """

    packing: Literal["isolated", "joined", "none"] = "isolated"
    loss_on: Literal["answers", "all"] = "answers"
    template: dict[str, str] | None = None
    generate: dict[str, Any] = field(default_factory=dict)
    embedding: Literal["mean", "last"] = "mean"
    monitor: str = "val_bits_per_byte"
    learned: float = 1.0
    examples: float = 0.0

    kind: ClassVar[Kind] = annotated.KIND
    modalities: ClassVar[tuple[Modality, ...]] = ("text",)
    left_to_right: ClassVar[bool] = True
    mode: ClassVar[Mode] = "min"
    follows_pixels: ClassVar[bool] = False
    headlines: ClassVar[tuple[str, ...]] = ("bits_per_byte", "perplexity", "accuracy", "end_found")
    each_epoch: ClassVar[tuple[str, ...]] = ("val_bits_per_byte", "val_perplexity")

    def __post_init__(self) -> None:
        problems = [
            f"task.{name} must be one of {', '.join(allowed)}. Received: {value!r}."
            f"{nearest(str(value), allowed)}"
            for name, value, allowed in (
                ("packing", self.packing, packing.WAYS), ("loss_on", self.loss_on, LOSS_ON),
                ("embedding", self.embedding, EMBEDDINGS),
            )
            if value not in allowed
        ]  # fmt: skip
        if self.monitor.removeprefix("val_") in ("accuracy", "end_found"):
            problems.append(
                "task.monitor must be a figure of which less is better: val_bits_per_byte, "
                f"val_perplexity or val_loss. Received: {self.monitor!r}."
            )
        for made in (lambda: templates.check(self.template), lambda: Generation.of(self.generate)):
            try:
                made()
            except UserError as error:
                problems += error.problems
        if problems:
            raise UserError(problems=problems)

    def head(self, labels: Labels) -> dict[str, Any]:
        return {}

    def adapt(self, annotations: Rows) -> CausalLM:
        """Return a copy that knows how many tokens of a training example are learned."""
        return replace(self, learned=reading.mean_learned(annotations))

    def batched(self, examples: float, alone: bool = False) -> CausalLM:
        """Return a copy by which each token moves weights alike, whichever batch it is in."""
        return replace(self, examples=examples)

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        """Return which tokens are learned, see `model.text.language.LEARNED`."""
        names = (reading.LEARNED, reading.CUT)
        return annotations.only([name for name in names if name in annotations])

    def batch(self, inputs: Tensors, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        import tensorflow as tf

        y = tf.cast(targets[reading.LEARNED] > 0, tf.float32) / self.learned
        if not self.examples:
            return y, None
        # Keras divides by the examples of this batch, whatever those of the others are.
        here = tf.cast(tf.shape(y)[0], tf.float32)
        return tf.stack([y, y * (here / self.examples)], axis=-1), None

    def compile(self) -> dict[str, Any]:
        return {"loss": token_loss}

    def keep(
        self, outputs: tf.Tensor, inputs: Tensors, targets: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Keep five numbers of each text: nats, tokens, right ones, ends, and ends found."""
        import tensorflow as tf

        nats, right, real = tf.unstack(tf.cast(outputs, tf.float32), axis=-1)
        if reading.LEARNED in targets:
            # Evidence and answers are padded to other widths.
            wide = tf.shape(nats)[1]
            given = targets[reading.LEARNED][:, :wide]
            learned = tf.pad(given, [[0, 0], [0, wide - tf.shape(given)[1]]])
        else:
            learned = tf.concat([tf.zeros_like(real[:, :1]), real[:, 1:]], axis=1)
        weighs = tf.cast(learned > 0, tf.float32)
        ends = tf.cast(learned == reading.END, tf.float32)
        summed = tf.stack([nats * weighs, weighs, right * weighs, ends, right * ends], axis=-1)
        return {"sums": tf.reduce_sum(summed, axis=1)}

    def answer(self, kept: Rows, labels: Labels) -> dict[str, np.ndarray]:
        """Return what each text cost: `nats`, `tokens` and `perplexity`."""
        nats, tokens = np.asarray(kept["sums"], "float64").T[:2]
        mean = nats / np.maximum(tokens, 1)
        return {"nats": nats, "tokens": tokens.astype("int64"), "perplexity": np.exp(mean)}

    def answers(
        self, outputs: tf.Tensor, labels: Labels, decision: Decision | None = None
    ) -> dict[str, Any]:
        """Return how likely texts are.

        Returns:
            `log_likelihood` `float32[B]`, in nats, of all tokens but the first; `nats`
            `float32[B, positions]`, what each token cost, and -1 behind the last one; `tokens`
            `int32[B]`.
        """
        import tensorflow as tf

        nats, _, real = tf.unstack(tf.cast(outputs, tf.float32), axis=-1)
        return {
            "log_likelihood": -tf.reduce_sum(nats, axis=1),
            "nats": tf.where(real > 0, nats, float(PADDING)),
            "tokens": tf.cast(tf.reduce_sum(real, axis=1), tf.int32),
        }

    def outputs(self, labels: Labels, decision: Decision | None = None) -> dict[str, Output]:
        decided = Output("decided", by="margin", cutoffs=0.0)
        return {
            "next_ids": Output("ranked", by="next_logits", top=LIKELIEST),
            "nats": Output(padded=True), "text": decided, "stopped": decided, "tokens": decided,
        }  # fmt: skip

    def statistics(
        self, annotations: Rows, kept: Rows, labels: Labels, decision: Decision | None = None
    ) -> dict[str, np.ndarray]:
        return {"sums": np.asarray(kept["sums"], "float64"),
                "bytes": np.asarray(annotations["bytes"], "float64")}  # fmt: skip

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        """Return figures of all tokens together, whatever text they are of.

        Returns:
            `loss` (nats a token), `perplexity`, `bits_per_byte` (what the tokens cost, for each
            byte of the texts in UTF-8: vocabularies can be compared by it), `accuracy` (of the
            likeliest token), and where texts end `end_found`: the share whose end was the likeliest
            token there.
        """
        return _figures(statistics["sums"].sum(axis=0), float(statistics["bytes"].sum()))

    def sums(
        self, metric: str, statistics: Mapping[str, np.ndarray], labels: Labels
    ) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
        if metric not in FIGURES:
            return None
        every = np.concatenate([statistics["sums"], statistics["bytes"][:, None]], axis=1)
        return every, lambda total, _: _figures(total[:5], float(total[5])).get(metric, 0.0)

    def samples(self, labels: Labels) -> dict[str, np.ndarray]:
        return {"sums": np.array([[2.0, 2.0, 1.0, 1.0, 1.0]] * 2), "bytes": np.array([4.0, 4.0])}

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: Path, *, split: str
    ) -> list[Path]:
        return []

    def describe(self, targets: Mapping[str, np.ndarray], labels: Labels) -> list[str]:
        """Say how many tokens of each row are learned, and how many would be that are cut off."""
        said = [f"{int((row > 0).sum())} tokens learned" for row in targets[reading.LEARNED]]
        cut = targets.get(reading.CUT, np.zeros(len(said)))
        return [f"{one}, {int(lost)} tokens cut off" if lost else one
                for one, lost in zip(said, cut, strict=True)]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return shared.to_dict(self)

    # --- how examples are read, see `abilities.Reading`

    def reading(self, backbone: Backbone) -> Backbone:
        made = reading.prepared(
            backbone, self.template, self.loss_on, apart=self.packing == "isolated"
        )
        preprocess: Any = made.preprocess
        self.settings(preprocess).room(preprocess.sequence_length)  # told before anything trains
        return made

    def read(
        self, splits: Splits, preprocess: Preprocess, prepare: Prepare, *, seed: int
    ) -> tuple[Splits, dict[str, Any]]:
        return reading.read(splits, preprocess, prepare, packing=self.packing, seed=seed)

    # --- how texts are gone on with, see `abilities.Generates`

    def generating(self, settings: Mapping[str, Any]) -> CausalLM:
        return replace(self, generate={**self.generate, **settings})

    @property
    def converses(self) -> bool:
        return self.template is not None

    def begun(self, example: str) -> Begun:
        return reading.begun(example, conversation=self.converses)

    @property
    def draws(self) -> bool:
        return Generation.of(self.generate).temperature > 0

    def writer(
        self, model: keras.Model, preprocess: Preprocess
    ) -> Callable[..., Mapping[str, Any]]:
        from kerasft.model.text.generation import writer

        made: Any = preprocess
        return writer(model, made, self.settings(made))

    def read_off(self, model: keras.Model) -> tuple[Any, Any]:
        from kerasft.model.text.generation import read_off

        return read_off(model)

    def likeliest(
        self, model: keras.Model, preprocess: Preprocess
    ) -> Callable[[Any], Mapping[str, Any]]:
        from kerasft.model.text.likeliest import likeliest

        made: Any = preprocess
        return likeliest(model, made, self.settings(made))

    def embedder(self, model: keras.Model) -> Callable[[Any], Any] | None:
        from kerasft.model.text.generation import embedder

        return embedder(model, self.embedding)

    def settings(self, preprocess: Preprocess) -> Generation:
        """Return how is written; of short rows, at most half."""
        if "max_new" in self.generate:
            return Generation.of(self.generate)
        assert takes_texts(preprocess)
        most = min(Generation.max_new, preprocess.sequence_length // 2)
        return Generation.of({**self.generate, "max_new": most})

    def write(
        self, model: keras.Model, preprocess: Preprocess, texts: Sequence[str],
        seeds: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        return reading.write(self, model, preprocess, texts, seeds)


def _figures(sums: np.ndarray, size: float) -> dict[str, float]:
    nats, tokens, right, ends, found = map(float, sums)
    mean = nats / max(tokens, 1.0)
    made = {
        "loss": mean, "perplexity": float(np.exp(min(mean, 700.0))),
        "bits_per_byte": nats / float(np.log(2.0)) / max(size, 1.0),
        "accuracy": right / max(tokens, 1.0),
    }  # fmt: skip
    return made | ({"end_found": found / ends} if ends else {})


def token_loss(y: tf.Tensor, outputs: tf.Tensor) -> Any:
    """Return what the tokens of each text cost that are learned.

    It is the sum over a text, divided by how many tokens texts teach on average: the mean over all
    examples of an epoch is then one over tokens. Where batches differ in size, what is shown is
    still that, but the gradient is of the sum over the tokens of the batch, divided by how many
    tokens batches teach on average: each token moves weights alike, whichever batch it is in, also
    where several batches make an update, of whose gradients Keras takes the mean.

    Args:
        y: `float32[batch, positions]`, 1 over that average where a token is learned, else 0; or
            `float32[batch, positions, 2]` with this, and the same by which weights move.
        outputs: `float32[batch, positions, 3]`, see `model.text.next_token`.

    Returns:
        `float32[batch]`.

    Example:
        >>> import numpy as np
        >>> float(token_loss(np.array([[0.0, 1.0]]), np.array([[[0, 0, 1], [0.5, 1, 1.0]]]))[0])
        0.5
    """
    import tensorflow as tf

    outputs = tf.cast(outputs, tf.float32)
    nats, y = outputs[..., 0], tf.cast(y, tf.float32)
    if len(y.shape) == 2:
        return tf.reduce_sum(nats * y, axis=1)
    shown, moves = (tf.reduce_sum(nats * one, axis=1) for one in tf.unstack(y, axis=-1))
    return moves + tf.stop_gradient(shown - moves)
