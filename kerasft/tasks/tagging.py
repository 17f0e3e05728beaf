"""Tagging: entities in texts, each a few words with a type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from kerasft.artifact.comparison import Output
from kerasft.errors import UserError
from kerasft.evaluation import entities as figures
from kerasft.evaluation import plots
from kerasft.evaluation.metrics import direction
from kerasft.model.text import tags
from kerasft.model.text.alignment import KINDS, WORDS
from kerasft.rows import Column, Rows, joined
from kerasft.spec import Backbone, Decision, Kind, Labels, Modality, Mode, Tensors
from kerasft.tasks import shared, tagged
from kerasft.tasks.class_weights import check_class_weight, of_classes, weights_by_name
from kerasft.tasks.losses import at_words, tagging_loss
from kerasft.tasks.windowed import in_windows, in_words, window_problems

if TYPE_CHECKING:
    import tensorflow as tf

DECODINGS = ("constrained", "independent")
# What is tried for `outside`: the probability of "no entity" is multiplied by e to the power of it.
_OUTSIDE = np.arange(-3.0, 1.01, 0.25)


@dataclass(frozen=True)
class Tagging:
    """Words of a text belong to entities of a few types, or to none.

    A word is tagged where its first token stands: with `B` where an entity begins, `I` where one
    goes on, or `O` outside (Ramshaw and Marcus, "Text Chunking using Transformation-Based
    Learning", 1995, https://arxiv.org/abs/cmp-lg/9505040).

    Args:
        decoding: `"constrained"`: the likeliest sequence of tags in which an entity goes on only
            where it has begun (Viterbi). `"independent"`: the likeliest tag of each word.
        outside_weight: The weight of words outside of all entities in the loss, against 1 of the
            others; below 1, more entities are found and more of them are wrong.
        class_weight: How much the words of each type of entity count in the loss: `None` (all
            alike), a mapping of type to weight (others weigh 1), e.g.
            `task.class_weight={product: 3}`, or, for the words outside as well, `"balanced"` or
            `"auto"`, see `Classification`. Words outside weigh `outside_weight` times that.
        monitor: The figure by which the best epoch is chosen.
        windows: The most windows that a text is read in, each of `backbone.sequence_length` tokens;
            with 1, what is longer than one loses its end. Each word is answered by the window in
            which it has most context.
        overlap: Tokens that a window shares with the next one; by default a quarter of a window.
        words: What a word is: `"letters"`, a run of letters and digits, or a punctuation mark;
            `"posts"`: besides, `@name`, `#subject` and addresses of the web and of mail are one
            word each.
        outside: What is added to the logarithm of the probability of `O`; tuned on validation to
            the best F1.
        counts: How many training words are outside of entities, and of each type, as the data has.
        texts: How many training texts these are in; known from the data.
        examples: How many examples a training batch has, on average; 0 where none is trained on.
        alone: Whether each training batch is an update of its own, and as large as the others.

    Example:
        >>> Tagging().head(Labels("spans", ("person", "place")))
        {'tags': 5}
    """

    decoding: Literal["constrained", "independent"] = "constrained"
    outside_weight: float = 1.0
    class_weight: str | Mapping[str, float] | None = None
    monitor: str = "val_f1"
    windows: int = 1
    overlap: int | None = None
    words: Literal["letters", "posts"] = "letters"
    outside: float = 0.0
    counts: tuple[int, ...] = ()
    texts: int = 0
    examples: float = 0.0
    alone: bool = False

    kind: ClassVar[Kind] = "spans"
    modalities: ClassVar[tuple[Modality, ...]] = ("text",)
    follows_pixels: ClassVar[bool] = False
    headlines: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "partial_f1")
    each_epoch: ClassVar[tuple[str, ...]] = ("val_f1", "val_precision", "val_recall")

    def __post_init__(self) -> None:
        problems = []
        if self.decoding not in DECODINGS:
            problems.append(
                f"task.decoding must be one of {', '.join(DECODINGS)}. Received: "
                f"{self.decoding!r}."
            )
        if not self.outside_weight > 0:
            problems.append(
                f"task.outside_weight must be above 0. Received: {self.outside_weight}."
            )
        try:
            check_class_weight(self.class_weight)
        except UserError as error:
            problems += error.problems
        if isinstance(self.class_weight, Mapping) and "O" in self.class_weight:
            problems.append(
                "task.class_weight is of types of entities; words outside of all weigh "
                f"task.outside_weight. Received: O: {self.class_weight['O']}. Set "
                f"task.outside_weight={self.class_weight['O']}."
            )
        object.__setattr__(self, "counts", tuple(map(int, self.counts)))
        if self.words not in KINDS:
            problems.append(f"task.words must be one of {', '.join(KINDS)}. Received: "
                            f"{self.words!r}.")  # fmt: skip
        problems += window_problems(self.windows, self.overlap)
        if problems:
            raise UserError(problems=problems)

    def reading(self, backbone: Backbone) -> Backbone:
        return in_windows(in_words(backbone, self.words), self.windows, self.overlap)

    def advice(self, annotations: Rows) -> str:
        return tagged.about_posts(annotations) if self.words == "letters" else ""

    @property
    def mode(self) -> Mode:
        return direction(self.monitor)

    def head(self, labels: Labels) -> dict[str, Any]:
        return {"tags": tags.count(len(labels.names))}

    def adapt(self, annotations: Rows) -> Tagging:
        """Return a copy that knows how many words are learned, of each type where that matters."""
        if "place" not in annotations:  # nothing was tokenized yet
            return self
        texts = len(annotations)
        if self.class_weight is None and self.outside_weight == 1.0:
            counts = np.array([annotations.columns["place"].spans(annotations.index)[1].sum()])
        else:
            each = [tagged.tags_of(annotations.row(i)) for i in range(texts)]
            counts = np.bincount(tagged.kinds_of(np.concatenate([np.zeros(0, "int32"), *each])))
        return dataclasses.replace(self, counts=tuple(counts.tolist()), texts=texts)

    def batched(self, examples: float, alone: bool = False) -> Tagging:
        """Return a copy by which the words of an update move weights alike."""
        return dataclasses.replace(self, examples=examples, alone=alone)

    def weights(self, labels: Labels) -> np.ndarray:
        """Return what words outside of entities count in the loss, and those of each type.

        Raises:
            UserError: If `class_weight` names a type that the data does not have.
        """
        if isinstance(self.class_weight, str):
            found = of_classes(self.class_weight, self._counts(labels))
        else:
            found = np.concatenate([[1.0], weights_by_name(self.class_weight, labels)])
        found[0] *= self.outside_weight
        return found

    def _counts(self, labels: Labels) -> np.ndarray:
        counts = np.zeros(1 + len(labels.names), "int64")
        counts[: len(self.counts)] = self.counts
        return counts

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        """Return the words that the network sees, each with its tag."""
        found = [tagged.tags_of(annotations.row(i)) for i in range(len(annotations))]
        names = ("place",) if training else ("place", "start", "end", "text")
        # Those that were chosen of others, in their order.
        kept = joined([annotations.only(names)]).columns
        learned = Column.ragged(found, group=WORDS, fill=-1, dtype="int32")
        return Rows.of({**kept, "tags": learned}, len(annotations))

    def batch(self, inputs: Tensors, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        import tensorflow as tf

        place, tag = (tf.convert_to_tensor(targets[name]) for name in ("place", "tags"))
        # Types are weighed where they are learned.
        alike = np.array([self.outside_weight, *(1.0 for _ in labels.names)])
        weights = self.weights(labels) if self.examples else alike
        mean = float((weights * self._counts(labels)).sum()) / max(self.texts, 1)
        each = 0.0 if self.alone else self.examples
        return tagged.weighed(place, tag, weights, mean=mean, examples=each), None

    def compile(self) -> dict[str, Any]:
        return {"loss": tagging_loss}

    def keep(
        self, outputs: tf.Tensor, inputs: Tensors, targets: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Keep how likely each tag is for each word, where the word stands, and the text."""
        import tensorflow as tf

        logits = at_words(outputs, targets["place"])
        counts = tf.reduce_sum(tf.cast(targets["place"] >= 0, tf.int64), axis=1)
        parts = {"probabilities": tf.nn.softmax(logits),
                 "start": targets["start"], "end": targets["end"]}  # fmt: skip
        kept = {n: tf.RaggedTensor.from_tensor(v, lengths=counts) for n, v in parts.items()}
        return {**kept, "text": tf.convert_to_tensor(targets["text"])}

    def answers(
        self, outputs: tf.Tensor, labels: Labels, decision: Decision | None = None
    ) -> dict[str, Any]:
        """Return how likely each tag is for each token.

        Returns:
            `tag_probabilities` `float32[B, positions, tags]`.
        """
        import tensorflow as tf

        logits = tf.cast(outputs, tf.float32)
        return {"tag_probabilities": tf.nn.softmax(logits + self._shift(logits.shape[-1]))}

    def _shift(self, count: int) -> np.ndarray:
        return np.where(np.arange(count) == 0, self.outside, 0.0).astype("float32")

    def rule(self, labels: Labels, *, chosen: bool = True) -> dict[str, Any]:
        return tagged.rule_of(self.decoding, self.words, labels.names)

    def in_text(
        self, answers: Mapping[str, Any], frames: Mapping[str, Any], labels: Labels
    ) -> dict[str, Any]:
        """Return the entities of each text, from left to right.

        Returns:
            Ragged `[B, entities]`: `type`, `text` (strings), `start` and `end` (int32, characters
            of the text), `score` (float32); and `count` `int32[B]`.
        """
        import tensorflow as tf

        place = frames["place"]
        chances = tf.gather(answers["tag_probabilities"], tf.maximum(place, 0), batch_dims=1)
        chosen = self._decided(chances, place >= 0)
        kinds, opens, closes = tags.entities(chosen)
        sure = tf.gather(chances, chosen, batch_dims=2)
        start = tf.ragged.boolean_mask(frames["start"], opens)
        end = tf.ragged.boolean_mask(frames["end"], closes)
        # The words of each entity, numbered through the batch.
        inside = tf.ragged.boolean_mask(sure, kinds >= 0).flat_values
        begins = tf.ragged.boolean_mask(opens, kinds >= 0).flat_values
        number = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        score = tf.math.segment_mean(inside, number)
        texts = tf.gather(frames["text"], start.value_rowids())
        return {
            "type": start.with_flat_values(tf.gather(
                tf.constant(labels.names), tf.ragged.boolean_mask(kinds, opens).flat_values)),
            "text": start.with_flat_values(tf.strings.substr(
                texts, start.flat_values, end.flat_values - start.flat_values, "UTF8_CHAR")),
            "start": start, "end": end, "score": start.with_flat_values(score),
            "count": tf.reduce_sum(tf.cast(opens, tf.int32), axis=1),
        }  # fmt: skip

    def answer(self, kept: Rows, labels: Labels) -> dict[str, Any]:
        """Return `in_text` for what was kept of texts, as rows of lengths of their own."""
        import tensorflow as tf

        parts: dict[str, list[Any]] = {}
        for frames, chances, real in self._shifted(kept):
            chances /= np.maximum(chances.sum(axis=-1, keepdims=True), 1e-30)
            place = np.where(real, np.arange(chances.shape[1]), -1).astype("int32")
            found = self.in_text(
                {"tag_probabilities": tf.constant(chances, tf.float32)},
                {**{n: tf.constant(frames[n]) for n in ("start", "end")},
                 "text": tf.constant(frames["text"].tolist()), "place": tf.constant(place)}, labels,
            )  # fmt: skip
            for name, value in found.items():
                rows = value.to_list() if hasattr(value, "to_list") else value.numpy()
                parts.setdefault(name, []).extend(rows)
        return {name: np.array(rows) if name == "count" else [np.array(row) for row in rows]
                for name, rows in parts.items()}  # fmt: skip

    def _decided(self, chances: tf.Tensor, real: tf.Tensor) -> Any:
        return tagged.decided(chances, real, self.decoding == "constrained")

    def outputs(self, labels: Labels, decision: Decision | None = None) -> dict[str, Output]:
        shown = {
            name: Output(padded=True, among="score", item=name)
            for name in ("type", "text", "start", "end")
        }
        return {**shown, "score": Output(padded=True, item="score"),
                "count": Output("exact", among="score"),
                "tag_probabilities": Output(padded=True)}  # fmt: skip

    def statistics(
        self, annotations: Rows, kept: Rows, labels: Labels, decision: Decision | None = None
    ) -> dict[str, np.ndarray]:
        types = len(labels.names)
        chosen = self._chosen(kept)
        made: dict[str, list[Any]] = {"counts": [], "overlaps": [], "unseen": []}
        for i, found in enumerate(chosen):
            row, words = annotations.row(i), kept.row(i)
            there = list(zip(row["labels"].tolist(), row["span_starts"].tolist(),
                             row["span_ends"].tolist(), strict=True))  # fmt: skip
            seen = int(words["end"][-1]) if len(words["end"]) else 0
            entities = figures.of_tags(found, words["start"], words["end"])
            made["counts"].append(figures.counted(entities, there, types))
            made["overlaps"].append(figures.overlapping(entities, there, types))
            made["unseen"].append(sum(start >= seen for _, start, _ in there))
        return {name: np.array(values, "int64").reshape(len(chosen), *shape) for name, values, shape
                in zip(made, made.values(), ((types, 3), (types,), ()), strict=True)}  # fmt: skip

    def _chosen(self, kept: Rows) -> list[np.ndarray]:
        """Return the tags of the words of each example."""
        import tensorflow as tf

        if not len(kept):
            return []
        decide = tagged.decider(
            self.decoding == "constrained", kept.columns["probabilities"].values.shape[-1]
        )
        made = []
        for _, chances, real in self._shifted(kept):
            rows = decide(tf.constant(chances, tf.float32), tf.constant(real)).numpy()
            made += [row[:length] for row, length in zip(rows, real.sum(axis=1), strict=True)]
        return made

    def _shifted(
        self, kept: Rows
    ) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
        """Yield what was kept of some texts, their shares of the tags, and which words are real."""
        for frames, real in tagged.gathered(kept):
            yield frames, self._weighed(frames), real

    def _weighed(self, frames: Mapping[str, np.ndarray]) -> np.ndarray:
        chances = frames["probabilities"]
        return chances * np.exp(self._shift(chances.shape[-1]))

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        """Return precision, recall and F1 of all entities together, and of each type."""
        made = figures.summary(
            statistics["counts"].sum(axis=0), statistics["overlaps"].sum(axis=0), labels.names
        )
        made["unseen"] = int(statistics["unseen"].sum())
        return made

    def sums(
        self, metric: str, statistics: Mapping[str, np.ndarray], labels: Labels
    ) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
        if metric.removeprefix("partial_") not in ("precision", "recall", "f1"):
            return None
        counts = statistics["counts"].sum(axis=1)
        if metric.startswith("partial_"):
            counts = np.stack([statistics["overlaps"].sum(axis=1), *counts.T[1:]], axis=1)
        return counts, lambda sums, _: figures.of_sums(metric, sums)

    def samples(self, labels: Labels) -> dict[str, np.ndarray]:
        types = len(labels.names)
        return {
            "counts": np.ones((2, types, 3), "int64"),
            "overlaps": np.ones((2, types), "int64"),
            "unseen": np.zeros(2, "int64"),
        }

    def tune(self, annotations: Rows, kept: Rows, labels: Labels) -> Tagging:
        """Return a copy whose weight of "no entity" gives the best F1 on these examples."""
        # Only what F1 takes: entities that are right, found, and there.
        import tensorflow as tf

        weights = sorted(_OUTSIDE.tolist(), key=abs)
        ways = [dataclasses.replace(self, outside=one) for one in weights]
        right, found = np.zeros((2, len(ways)), "int64")
        there = done = 0
        for frames, real in tagged.gathered(kept):
            true = figures.marked(annotations, range(done, done + len(real)))
            there, done = there + len(true), done + len(real)
            count = frames["probabilities"].shape[-1]
            decide = tagged.decider(self.decoding == "constrained", count)
            for number, one in enumerate(ways):
                chosen = decide(tf.constant(one._weighed(frames), tf.float32), tf.constant(real))
                some = figures.of_rows(chosen.numpy(), frames["start"], frames["end"])
                right[number] += len(some.intersection(true))
                found[number] += len(some)
        sums = np.stack([right, found, np.full_like(found, there)], axis=1)
        return ways[int(np.argmax([figures.of_sums("f1", one) for one in sums]))]

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: str | Path, *,
        split: str,
    ) -> list[Path]:
        """Draw the F1 of each type that is there."""
        by_type = self.figures(statistics, labels)["per_class"]
        there = {
            name: (one["f1"], f"{one['f1']:.3f}  ({one['entities']:,})")
            for name, one in by_type.items() if one["entities"]
        }
        if not there:
            return []
        path = Path(directory) / f"{split}_f1_by_type.png"
        return [plots.bars(there, path, label="F1 by entity (how many there are)", mean="mean")]

    def describe(self, targets: Mapping[str, np.ndarray], labels: Labels) -> list[str]:
        """Count the entities of each type that are learned."""
        return tagged.described(targets["tags"], labels.names)

    def to_dict(self) -> dict[str, Any]:
        return shared.to_dict(self)

