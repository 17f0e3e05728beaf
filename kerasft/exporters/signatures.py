"""What an artifact can be asked: each signature as a function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.artifact.layout import DEFAULT
from kerasft.contracts import Task, Thresholded
from kerasft.errors import UserError, nearest
from kerasft.raw_input import as_raw
from kerasft.spec import Decision, Labels, Preprocess
from kerasft.system.threads import untuned

if TYPE_CHECKING:
    import tensorflow as tf

SIGNATURES = (DEFAULT, "tensors", "classify", "regress", "embed")
NONE = Decision()
POOLED = "head_pooling"
# Examples that are taken through the network in memory at a time.
BATCH = 16


@dataclass(frozen=True)
class Signature:
    """One of the functions of an artifact.

    Args:
        method: `"predict"`, `"classify"` or `"regress"`: the calls of TensorFlow Serving that it
            answers.
        takes: `"raw"`, `"tensors"` or `"examples"` (serialized `tf.train.Example`).
        inputs: The `tf.TensorSpec` of each input, by name.
        answer: Takes the inputs in that order, and returns the outputs by name.
    """

    method: str
    takes: str
    inputs: Mapping[str, Any]
    answer: Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class Served:
    """All that is needed to answer raw input: the network with what stands before and after it.

    Args:
        model: The Keras model, from what `preprocess` gives to logits.
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
        """See that the preprocessing answers before it is traced.

        Whoever sets TensorFlow's global seed clears its kernels, and a SentencePiece model lives
        in one; called by itself, the preprocessing makes it anew.
        """
        if self.preprocess.modality == "text":
            self.preprocess([["", ""]] if len(self.names) == 2 else [""])

    def answers(self, logits: tf.Tensor) -> dict[str, Any]:
        """Turn logits into all outputs."""
        import tensorflow as tf

        # A task of the user's own may know nothing of decisions.
        further = () if self.decision == NONE else (self.decision,)
        outputs = dict(self.task.answers(logits, self.labels, *further))
        if self.labels.kind == "single":
            k = min(self.top_k, len(self.labels.names))
            scores, places = tf.math.top_k(outputs["probabilities"], k)
            outputs["top_labels"] = tf.gather(tf.constant(self.labels.names), places)
            outputs["top_scores"] = scores
        return outputs

    def answers_of(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs for the logits that `in_memory` returned."""
        import tensorflow as tf

        return {k: v.numpy() for k, v in self.answers(tf.constant(found["logits"])).items()}

    @property
    def cutoffs(self) -> Any:
        """The probabilities that decide, for each class or for all, or `None`."""
        if isinstance(self.task, Thresholded):
            return self.task.cutoffs(self.decision)
        if not self.decision.goal:
            return None
        if self.decision.positive is None:
            return self.decision.thresholds
        # Only the probability of the class that the goal is about is held against it.
        cutoffs = np.full(len(self.labels.names), np.inf)
        cutoffs[self.decision.positive] = self.decision.thresholds[0]
        return cutoffs

    @property
    def spread(self) -> float | None:
        """The standard deviation of the labels, where they are numbers."""
        return getattr(self.task, "std", None) if self.labels.kind == "number" else None

    def scored(self, logits: tf.Tensor) -> dict[str, Any]:
        """Turn logits into what the calls `classify` and `regress` give back."""
        import tensorflow as tf

        outputs = self.answers(logits)
        if self.labels.kind == "number":
            return {"outputs": outputs["value"]}
        scores = outputs["probabilities"]
        names = tf.constant(self.labels.names)
        return {"classes": tf.broadcast_to(names, tf.shape(scores)), "scores": scores}

    def embedder(self) -> Any:
        """Return the part of the model up to the features that the head pooled, or `None`."""
        import keras

        # Not `layer.output`: the layer stands in the graph of the head by itself, too.
        nodes = [node for found in self.model._nodes_by_depth.values() for node in found]
        pooled = [node for node in nodes if node.operation and node.operation.name == POOLED]
        if not pooled:
            return None
        return keras.Function(self.model.input, pooled[0].output_tensors[0])

    def in_memory(self, raw: np.ndarray) -> dict[str, np.ndarray]:
        """Return logits and, where there are any, pooled features, as evaluation makes them.

        Args:
            raw: Raw examples, `[N]`, pairs `[N, 2]`.

        Returns:
            `logits`, and `embedding` where the head has pooled features.
        """
        import tensorflow as tf

        embedder, parts = self.embedder(), []
        with tf.device("/CPU:0"):
            batches = tf.data.Dataset.from_tensor_slices(raw.tolist()).batch(BATCH)
            for batch in untuned(batches.map(self.preprocess)):
                part = {"logits": self.model(batch, training=False)}
                if embedder is not None:
                    part["embedding"] = embedder(batch)
                parts.append({k: tf.cast(v, tf.float32).numpy() for k, v in part.items()})
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def expected(self, name: str, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what a signature should answer, from what `in_memory` returned."""
        import tensorflow as tf

        if name == "embed":
            return {"embedding": found["embedding"]}
        if name in ("classify", "regress"):
            return {k: v.numpy() for k, v in self.scored(tf.constant(found["logits"])).items()}
        return self.answers_of(found)

    def inputs_of(self, name: str, raw: np.ndarray) -> dict[str, np.ndarray]:
        """Return raw examples as the inputs of a signature: one batch."""
        import tensorflow as tf

        if name == "tensors":
            made = self._ready(tf.constant(raw.tolist()))
            return {k: v.numpy() for k, v in _by_name(made).items()}
        columns = dict(zip(
            self.names, [raw] if raw.ndim == 1 else [raw[:, i] for i in range(raw.shape[1])],
            strict=True,
        ))  # fmt: skip
        if name not in ("classify", "regress"):
            return columns
        made = np.empty(len(raw), object)
        made[:] = [
            tf.train.Example(features=tf.train.Features(feature={
                key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[values[i]]))
                for key, values in columns.items()
            })).SerializeToString()
            for i in range(len(raw))
        ]  # fmt: skip
        return {"inputs": made}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the raw inputs."""
        if self.preprocess.modality == "images":
            return ("image_bytes",)
        return ("text", "text_pair") if getattr(self.preprocess, "pair", False) else ("text",)

    def _ready(self, raw: Any) -> Any:
        """Preprocess raw strings as the artifact does: padded to the buckets, too."""
        import tensorflow as tf

        made = self.preprocess(raw)
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

    def signatures(self, wanted: Sequence[str] | None) -> dict[str, Signature]:
        """Return the signatures by name.

        Args:
            wanted: Their names; all that this model can have where `None`.

        Raises:
            UserError: For a name that there is not, or not for this model.
        """
        possible = self._possible()
        if wanted is None:
            return possible
        problems = []
        for name in wanted:
            if name not in SIGNATURES:
                problems.append(
                    f"export: there is no signature {name!r}. Allowed: {', '.join(possible)}."
                    f"{nearest(str(name), SIGNATURES)}"
                )
            elif name not in possible:
                problems.append(f"export: {self._why_not(name)} Allowed: {', '.join(possible)}.")
        if problems:
            raise UserError(problems=problems)
        return {name: made for name, made in possible.items() if name in (DEFAULT, *wanted)}

    def _why_not(self, name: str) -> str:
        if name == "embed":
            return (
                f"the signature 'embed' gives the output of a layer {POOLED!r}, which the heads of "
                "kerasft have; this head has none."
            )
        kind = {"single": "one class", "multi": "any number of classes", "number": "a number"}
        return (
            f"the signature {name!r} does not fit a task with {kind[self.labels.kind]} an example."
        )

    def _possible(self) -> dict[str, Signature]:
        import tensorflow as tf

        raw = {name: tf.TensorSpec([None], tf.string, name=name) for name in self.names}
        tensors = {
            name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name=name)
            for name, tensor in _by_name(self._symbolic()).items()
        }
        example = {"inputs": tf.TensorSpec([None], tf.string, name="inputs")}

        def ready(*columns: Any) -> Any:
            return self._ready(columns[0] if len(columns) == 1 else tf.stack(columns, axis=-1))

        def from_tensors(*columns: Any) -> Any:
            named = dict(zip(tensors, columns, strict=True))
            return named["images"] if list(named) == ["images"] else named

        def from_examples(serialized: Any) -> Any:
            feature = tf.io.FixedLenFeature([], tf.string)
            parsed = tf.io.parse_example(serialized, dict.fromkeys(self.names, feature))
            return ready(*(parsed[name] for name in self.names))

        def logits(batch: Any) -> Any:
            return self.model(batch, training=False)

        made = {
            DEFAULT: Signature(
                "predict", "raw", raw, lambda *x: self.answers(logits(ready(*x)))
            ),
            "tensors": Signature(
                "predict", "tensors", tensors, lambda *x: self.answers(logits(from_tensors(*x)))
            ),
        }  # fmt: skip
        call = "regress" if self.labels.kind == "number" else "classify"
        made[call] = Signature(
            call, "examples", example, lambda x: self.scored(logits(from_examples(x)))
        )
        embedder = self.embedder()
        if embedder is not None:
            made["embed"] = Signature("predict", "raw", raw, lambda *x: {
                "embedding": tf.cast(embedder(ready(*x)), tf.float32)
            })  # fmt: skip
        return made

    def _symbolic(self) -> Any:
        """Return what the preprocessing gives for a batch of any size, as specs."""
        import tensorflow as tf

        shape = [None, 2] if len(self.names) == 2 else [None]
        traced = tf.function(self._ready, autograph=False).get_concrete_function(
            tf.TensorSpec(shape, tf.string)
        )
        return traced.structured_outputs


def _by_name(batch: Any) -> dict[str, Any]:
    """Return the network's input by name; pictures are `images`."""
    return dict(batch) if isinstance(batch, Mapping) else {"images": batch}


def raw_examples(examples: Sequence[Any], modality: str) -> np.ndarray:
    """Return examples as the object array that all of these take."""
    return examples if isinstance(examples, np.ndarray) else as_raw(examples, modality)
