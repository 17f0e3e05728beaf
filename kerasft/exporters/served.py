"""A network with what stands before and after it: from raw input to all that is answered."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.abilities import Generates
from kerasft.artifact.comparison import PADDING, Output, filled_up
from kerasft.contracts import Framed, Located, Ranked, Rephrasing, Scored, Task
from kerasft.raw_input import as_raw
from kerasft.rows import Rows, joined
from kerasft.spec import Decision, Labels, Preprocess, Tensors, placed, takes_images, takes_texts
from kerasft.system.tf_data import mapped, untuned

if TYPE_CHECKING:
    import tensorflow as tf

NONE = Decision()
POOLED = "head_pooling"
# The input of the signature that draws by a seed for each text.
SEED = "seed"
# Examples that are taken through the network in memory at a time.
BATCH = 16

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Expected:
    """What the network in memory gives for examples, as evaluation makes it.

    Args:
        answers: The outputs of the call for raw input.
        tensors: Those of the call for tensors.
        scored: Those of `classify` or `regress`; empty where the task has no such call.
        embedding: Those of `embed`; empty where the head has no pooled features.
        forms: Those of the signatures with the same answers in other forms, by signature.
        kept: What the task keeps of each example.
    """

    answers: Arrays
    tensors: Arrays
    scored: Arrays = field(default_factory=dict)
    embedding: Arrays = field(default_factory=dict)
    forms: Mapping[str, Arrays] = field(default_factory=dict)
    kept: Rows | None = None

    def of(self, signature: str) -> Arrays:
        """Return what a signature should answer."""
        if signature in self.forms:
            return self.forms[signature]
        if signature in ("embed", "tensors"):
            return self.embedding if signature == "embed" else self.tensors
        return self.scored if signature in ("classify", "regress") else self.answers


@dataclass(frozen=True)
class Served:
    """All that is needed to answer raw input: the network with what stands before and after it.

    Args:
        model: The Keras model, from what `preprocess` gives to the network's outputs.
        preprocess: Turns a batch of raw strings into the network's input.
        task: Its `answers` are what is served.
        labels: What the labels mean.
        decision: The temperature and thresholds that are served.
        top_k: How many of the likeliest labels are named.
        buckets: The lengths that texts are padded to; to the longest of the batch where empty.
    """

    model: Any
    preprocess: Preprocess
    task: Task
    labels: Labels
    decision: Decision = NONE
    top_k: int = 5
    buckets: tuple[int, ...] = ()

    def rebuild_tokenizer(self) -> None:
        """Create the kernel of the tokenizer again, which the graph to be traced refers to.

        A SentencePiece model lives in a TensorFlow kernel, and `tf.random.set_seed` discards all
        kernels. A call of the preprocessing outside of a graph makes a new one.
        """
        if takes_texts(self.preprocess):
            self.preprocess([["", ""]] if self.preprocess.pair else [""])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the raw inputs."""
        if not takes_texts(self.preprocess):
            return ("image_bytes",)
        return ("text", "text_pair") if self.preprocess.pair else ("text",)

    def answers(self, outputs: Tensors) -> dict[str, Any]:
        """Turn what the network puts out into all that is answered.

        Positions are in the network's pixels or tokens, see `in_input`.
        """
        # A task of the user's own may know nothing of decisions.
        further = () if self.decision == NONE else (self.decision,)
        made = dict(self.task.answers(outputs, self.labels, *further))
        if isinstance(self.task, Ranked):
            made |= self.task.ranked(made, self.labels, self.top_k)
        return made

    @property
    def framed(self) -> bool:
        """Whether answers hold positions in what is sent, which need to know how it was placed."""
        if takes_images(self.preprocess):
            return isinstance(self.task, Framed)
        return isinstance(self.task, Located) and takes_texts(self.preprocess)

    def by_token(self, answers: Mapping[str, Any], inputs: Tensors) -> Mapping[str, Any]:
        """Return answers for each token with `PADDING` where there is none."""
        import tensorflow as tf

        if not isinstance(self.task, Located) or "padding_mask" not in inputs:
            return answers
        real = tf.cast(inputs["padding_mask"], tf.bool)[..., None]
        return {name: tf.where(real, value, tf.cast(PADDING, value.dtype))
                for name, value in answers.items()}  # fmt: skip

    def in_input(
        self, answers: Mapping[str, Any], frames: tf.Tensor | Mapping[str, tf.Tensor]
    ) -> dict[str, Any]:
        """Return answers with positions in the pixels or characters of what was sent."""
        if isinstance(self.task, Located):
            found = self.task.in_text(answers, frames, self.labels)
            return {name: _padded(value) for name, value in found.items()}
        assert isinstance(self.task, Framed)
        return dict(self.task.in_image(answers, frames, self.labels))

    @property
    def writes(self) -> bool:
        """Whether texts are answered by going on with them."""
        return isinstance(self.task, Generates)

    def writer(self) -> Any:
        """Return a function of raw texts to what is written behind them, in TensorFlow ops."""
        assert isinstance(self.task, Generates)
        return self.task.writer(self.model, self.preprocess)

    def likeliest(self) -> Any:
        """Return a function of raw texts to what begins answers, in TensorFlow ops."""
        assert isinstance(self.task, Generates)
        return self.task.likeliest(self.model, self.preprocess)

    @property
    def forms(self) -> tuple[str, ...]:
        """The signatures with the same answers in other forms."""
        return self.task.forms if self.framed and isinstance(self.task, Rephrasing) else ()

    def rephrased(self, form: str, answers: Mapping[str, Any], frames: tf.Tensor) -> dict[str, Any]:
        """Return answers in another form."""
        assert isinstance(self.task, Rephrasing)
        return dict(self.task.rephrased(form, answers, frames, self.labels))

    def rules(self) -> dict[str, Output]:
        """Return how each output is compared, see `Output`."""
        found = self.task.outputs(self.labels, self.decision)
        return {
            name: dataclasses.replace(rule, top=self.top_k)
            if rule.rule == "ranked" and rule.top is None else rule
            for name, rule in found.items()
        }

    def scored(self, answers: Mapping[str, Any]) -> dict[str, Any]:
        """Turn answers into what `classify` or `regress` gives back."""
        assert isinstance(self.task, Scored)
        return dict(self.task.scored(answers, self.labels))

    def embedder(self) -> Callable[[Any], Any] | None:
        """Return the part of the model up to the features that the head pooled, or `None`.

        Tasks that write say themselves what stands for a text.
        """
        import keras

        if isinstance(self.task, Generates):
            return self.task.embedder(self.model)
        # Not `layer.output`: the layer stands in the graph of the head by itself, too.
        nodes = [node for found in self.model._nodes_by_depth.values() for node in found]
        pooled = [node for node in nodes if node.operation and node.operation.name == POOLED]
        if not pooled:
            return None
        return keras.Function(self.model.input, pooled[0].output_tensors[0])

    def ready(self, raw: tf.Tensor) -> Any:
        """Preprocess raw strings as the artifact does: padded to the buckets, too."""
        return self._bucketed(self.preprocess(raw))

    def placed(self, raw: tf.Tensor) -> tuple[Any, Any]:
        """Return what `ready` does, and how each of it was placed, see `framed`."""
        made, frames = self.preprocess.framed(raw)  # type: ignore[attr-defined]
        return self._bucketed(made), frames

    def _bucketed(self, made: Tensors) -> Any:
        import tensorflow as tf

        if not self.buckets or "padding_mask" not in made:
            return made
        length = tf.shape(made["token_ids"])[1]
        widths = tf.constant(sorted(self.buckets))
        fitting = tf.boolean_mask(widths, widths >= length)
        width = tf.cond(tf.size(fitting) > 0, lambda: fitting[0], lambda: length)
        fill = {"token_ids": getattr(self.preprocess, "pad", 0)}
        return {
            name: tf.pad(value, [[0, 0], [0, width - length]], constant_values=fill.get(name, 0))
            for name, value in made.items()
        }

    def expected(self, raw: np.ndarray, annotations: Rows | None = None) -> Expected:
        """Return all that the artifact should answer, computed once in memory.

        Args:
            raw: Raw examples, `[N]`, pairs `[N, 2]`.
            annotations: Their labels, where what the task keeps of them is wanted too.
        """
        import tensorflow as tf

        embedder = self.embedder()
        targets = None
        if annotations is not None:
            targets = self.task.targets(placed(annotations, self.preprocess), self.labels)
        parts: list[tuple[Arrays, Arrays, Arrays, Arrays, dict[str, Arrays], Rows | None]] = []
        prepare: Any = lambda raw: (self.preprocess(raw), ())  # noqa: E731
        if self.framed:
            prepare = self.preprocess.framed  # type: ignore[attr-defined]
        with tf.device("/CPU:0"):
            batches = tf.data.Dataset.from_tensor_slices(raw.tolist()).batch(BATCH)
            for number, (batch, frames) in enumerate(untuned(mapped(batches, prepare))):
                outputs = self.model(batch, training=False)
                rows = np.arange(number * BATCH, min((number + 1) * BATCH, len(raw)))
                made = self.answers(outputs)
                seen = self.in_input(made, frames) if self.framed else made
                parts.append((
                    _arrays(seen), _arrays(self.by_token(made, batch)),
                    _arrays(self.scored(made)) if isinstance(self.task, Scored) else {},
                    {} if embedder is None else
                    {"embedding": tf.cast(embedder(batch), tf.float32).numpy()},
                    {form: _arrays(self.rephrased(form, seen, frames)) for form in self.forms},
                    None if targets is None else Rows.of_tensors(
                        self.task.keep(outputs, batch, targets.gather(rows))),
                ))  # fmt: skip
        answers, tensors, scored, embedding, forms, kept = zip(*parts, strict=True)
        made = _concatenated(answers)
        in_forms = {form: _concatenated([one[form] for one in forms]) for form in self.forms}
        if isinstance(self.task, Generates):
            in_forms["score"] = made
            ask = self.likeliest()
            in_forms["next"] = _concatenated([
                _arrays(ask(tf.constant(raw[i : i + BATCH].tolist())))
                for i in range(0, len(raw), BATCH)
            ])
            texts = raw.tolist()
            made = in_forms["generate"] = self.task.write(self.model, self.preprocess, texts)
            if self.task.draws:
                in_forms["sample"] = self.task.write(
                    self.model, self.preprocess, texts, seeds_of(texts)
                )
        return Expected(
            made, _concatenated(tensors), _concatenated(scored), _concatenated(embedding),
            in_forms,
            None if targets is None else joined([rows for rows in kept if rows is not None]),
        )


def _padded(value: Any) -> Any:
    """Return ragged rows filled up to the longest, as `filled_up` does."""
    if not hasattr(value, "to_tensor"):
        return value
    return value.to_tensor("" if value.dtype.name == "string" else PADDING)


def _arrays(tensors: Mapping[str, Any]) -> Arrays:
    return {name: value.numpy() for name, value in tensors.items()}


def _concatenated(parts: Sequence[Arrays]) -> Arrays:
    """Return arrays one behind the other, filled up where batches have rows of several sizes."""
    return {name: np.concatenate(filled_up([part[name] for part in parts])) for name in parts[0]}


def seeds_of(texts: Sequence[bytes]) -> list[int]:
    """Return the seeds by which texts are answered in a proof: each has its own, in any batch."""
    return [zlib.crc32(text) for text in texts]


def raw_examples(examples: Sequence[Any], modality: str) -> np.ndarray:
    """Return examples as the object array that all of these take."""
    return examples if isinstance(examples, np.ndarray) else as_raw(examples, modality)
