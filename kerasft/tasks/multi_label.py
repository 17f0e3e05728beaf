"""Any number of classes an example."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kerasft.artifact.comparison import Output
from kerasft.errors import UserError
from kerasft.evaluation import calibration, plots
from kerasft.evaluation import metrics as figures
from kerasft.model import linear
from kerasft.rows import Rows
from kerasft.spec import Decision, Kind, Labels, Mode, Tensors
from kerasft.tasks import losses, own_metrics, shared
from kerasft.tasks.class_weights import check_class_weight, of_labels, weights_by_name
from kerasft.tasks.classification import check_smoothing

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class MultiLabel:
    """Each example has none, one or several of the classes.

    The loss is the binary cross-entropy summed over the classes and averaged over the examples.
    So a logit's gradient is as large as in single-label classification, however many classes
    there are, and the same learning rate, clipping and L2 fit both.

    Args:
        threshold: A class is decided on from this probability on: a number between 0 and 1, or
            `"auto"`, which takes the number with the best micro F1 on the validation split.
        label_smoothing: Share by which 0 and 1 are drawn towards one half, 0 to below 1.
        class_weight: How much each label counts in the loss: `None` (all alike), `"balanced"` (of
            each label, the examples that have it count together as much as those that have it not),
            `"auto"` (of each label by itself, inversely to the effective number of examples with
            and without it, Cui et al. 2019, and only where these differ by a factor above 1.5; the
            run says what it chose), or a mapping of label to the weight of examples that have it (1
            where left out), e.g. `task.class_weight={fear: 3}`.
        loss: The loss, instead of the binary crossentropy: `"focal"` (Lin et al. 2017, with gamma
            2; label smoothing and class weights go with it), the name of one of Keras, or a node
            with a `_target_`, e.g.
            `'task.loss={_target_: keras.losses.BinaryFocalCrossentropy, gamma: 3}'`.
        metrics: Metrics beside those that there are anyway: nodes by name, of `keras.metrics` or of
            your own. They compare rows of 0 and 1 with probabilities.
        monitor: The figure by which the best epoch is chosen.
        tuned: The number that `"auto"` became; set by `tune`.
        frequencies: Which share of the training examples has each label; set by `adapt` where
            `class_weight` is `"balanced"` or `"auto"`.
        examples: How many training examples there are; set with `frequencies`.

    Example:
        >>> MultiLabel(threshold=0.3).cutoff
        0.3
    """

    threshold: float | str = "auto"
    label_smoothing: float = 0.0
    class_weight: str | Mapping[str, float] | None = None
    loss: str | Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    monitor: str = "val_f1_micro"
    tuned: float | None = None
    frequencies: tuple[float, ...] = ()
    examples: int = 0

    kind: ClassVar[Kind] = "multi"
    follows_pixels: ClassVar[bool] = False
    headlines: ClassVar[tuple[str, ...]] = ("f1_macro", "f1_micro", "roc_auc", "subset_accuracy")
    each_epoch: ClassVar[tuple[str, ...]] = ("accuracy",)

    keep = shared.keep_logits
    disagreement = shared.divergence_of_labels
    answer = shared.answer
    describe = shared.describe_classes
    statistics = shared.answered_statistics
    shares = shared.shares_as_they_are

    def __post_init__(self) -> None:
        check_smoothing(self.label_smoothing)
        check_class_weight(self.class_weight)
        losses.check(self.loss, self.kind)
        if self.class_weight is not None and not losses.is_binary(self.loss):
            raise UserError(
                "task.class_weight weighs each label for itself, which needs a binary loss of "
                "Keras (binary_crossentropy, binary_focal_crossentropy). Received: "
                f"task.loss={self.loss}. Leave one of them out."
            )
        own_metrics.check(self.metrics)
        own_metrics.show(self)
        object.__setattr__(self, "frequencies", tuple(map(float, self.frequencies)))
        number = isinstance(self.threshold, (int, float)) and not isinstance(self.threshold, bool)
        if self.threshold != "auto" and not (number and 0 < float(self.threshold) < 1):
            raise UserError(
                "task.threshold must be 'auto' or a number between 0 and 1. "
                f"Received: {self.threshold!r}."
            )

    @property
    def mode(self) -> Mode:
        return figures.direction(self.monitor)

    @property
    def cutoff(self) -> float:
        """The probability from which a class is decided on; 0.5 while `"auto"` is not tuned."""
        if self.threshold != "auto":
            return float(self.threshold)
        return 0.5 if self.tuned is None else self.tuned

    def head(self, labels: Labels) -> dict[str, Any]:
        return {"units": len(labels.names)}

    def adapt(self, annotations: Rows) -> MultiLabel:
        """Return a copy that knows how often each label occurs, where they are weighed by that."""
        if not isinstance(self.class_weight, str):
            return self
        y = np.asarray(annotations["label"], np.float64)
        return dataclasses.replace(self, frequencies=tuple(y.mean(axis=0)), examples=len(y))

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        y = np.asarray(annotations["label"], np.float32)
        if not training or self.class_weight is None:
            return Rows.of({"labels": y})
        self.weights(labels)  # names that there are not are told here, before anything is trained
        return Rows.of({"labels": y, "weighted": np.ones(len(y), bool)})

    def solve(self, features: Any, targets: Rows, labels: Labels, **how: Any) -> linear.Linear:
        return shared.solve(linear.independent, features, targets, **how)

    def batch(self, inputs: Tensors, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        y = targets["labels"]
        if "weighted" not in targets:
            return y, None
        # Of the labels as they are now: MixUp and CutMix may have mixed them.
        with_it, without = self.weights(labels)
        return y, without + (with_it - without) * y

    def weights(self, labels: Labels) -> np.ndarray:
        """Return what each label counts where it is there, and where not, `float32[2, classes]`.

        Raises:
            UserError: If `class_weight` names a class that the data does not have.
        """
        if not isinstance(self.class_weight, str):
            with_it = weights_by_name(self.class_weight, labels)
            return np.stack([with_it, np.ones_like(with_it)]).astype(np.float32)
        # Runs of earlier versions kept no number, and knew no rule that needs it.
        examples = self.examples or 1
        counts = np.array(self.frequencies) * examples
        counts = np.round(counts) if self.examples else counts
        return of_labels(self.class_weight, counts, examples).astype(np.float32)

    def compile(self) -> dict[str, Any]:
        import keras

        loss = losses.made(
            self.loss or "binary_crossentropy", self.kind, activation=keras.ops.sigmoid,
            label_smoothing=self.label_smoothing,
        )
        if losses.is_binary(self.loss):
            loss = losses.summed_over_labels(loss, apart=self.class_weight is not None)
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
        return {"loss": loss, "metrics": [accuracy, *own_metrics.in_training(self)]}

    def compared(self, y_true: tf.Tensor, outputs: tf.Tensor) -> tuple[Any, Any]:
        import keras

        return y_true, keras.ops.sigmoid(keras.ops.cast(outputs, "float32"))

    def answers(
        self, outputs: tf.Tensor, labels: Labels, decision: Decision | None = None
    ) -> dict[str, Any]:
        """Turn logits `[B, classes]` into `probabilities`, `labels` and `label`.

        Args:
            outputs: Logits, a float tensor `[B, classes]` of any precision.
            labels: What the labels mean.
            decision: A temperature, and a threshold for each class; the task's own by default.

        Returns:
            `probabilities` float32 `[B, classes]`, `labels` bool `[B, classes]` (what is decided
            on at the threshold) and `label` string `[B]` (the names of these, joined by commas).
        """
        import tensorflow as tf

        decision = decision or Decision()
        probabilities = tf.sigmoid(tf.cast(outputs, tf.float32) / decision.temperature)
        decided = probabilities >= tf.constant(self.cutoffs(decision), tf.float32)
        chosen = tf.RaggedTensor.from_row_lengths(
            tf.gather(tf.constant(labels.names), tf.where(decided)[:, 1]),
            tf.reduce_sum(tf.cast(decided, tf.int64), axis=-1),
        )
        return {
            "probabilities": probabilities,
            "labels": decided,
            "label": tf.strings.reduce_join(chosen, axis=-1, separator=","),
        }

    def outputs(self, labels: Labels, decision: Decision | None = None) -> dict[str, Output]:
        cutoffs = self.cutoffs(decision or Decision())
        decided = Output(
            "decided", by="probabilities",
            cutoffs=tuple(cutoffs) if isinstance(cutoffs, list) else cutoffs,
        )
        return {
            "label": decided, "labels": dataclasses.replace(decided, each=True),
            "probabilities": Output(each=True),
        }  # fmt: skip

    method: ClassVar[str] = "classify"
    scored = shared.scores_of_classes

    def cutoffs(self, decision: Decision) -> Any:
        """Return the thresholds of a decision: one for each class, or the same for all."""
        if decision.goal:
            return list(decision.thresholds)
        return calibration.rescaled(self.cutoff, decision.temperature)

    def decide(
        self, annotations: Rows, kept: Rows, labels: Labels, *, temperature: float | str = 1.0,
        goal: str | None = None, at_least: float | None = None, positive: str | None = None,
    ) -> Decision:
        """Tune a temperature, and a threshold for each class, on the validation split.

        Args:
            annotations: Its labels of 0 and 1.
            kept: What the network gave for them: `logits`.
            labels: What the labels mean.
            temperature: A number above 0, or `"auto"`: the one with the lowest log loss.
            goal: `"f1"`, `"recall"` or `"precision"`, of each class by itself.
            at_least: The share that recall or precision must reach, above 0 and at most 1.
            positive: Must be left out: the goal is for all classes.

        Returns:
            A `Decision`.

        Raises:
            UserError: If the goal is none, or some class cannot reach it.
        """
        return calibration.decide_multi(
            annotations["label"], kept["logits"], labels, temperature=temperature, goal=goal,
            at_least=at_least, positive=positive, cutoff=self.cutoff,
        )

    def check_decision(self, **wanted: Any) -> None:
        calibration.check_wanted(several=True, **wanted)

    def tune(self, annotations: Rows, kept: Rows, labels: Labels) -> MultiLabel:
        """Return a copy with the threshold that has the best micro F1 on these examples.

        Args:
            annotations: The labels of 0 and 1 of the validation split.
            kept: What the network gave for them: `logits`.
            labels: What the labels mean.

        Returns:
            The task with `tuned` set, or itself where the user fixed the threshold.
        """
        if self.threshold != "auto":
            return self
        probabilities = shared.answer(self, kept, labels)["probabilities"]
        return dataclasses.replace(
            self, tuned=best_threshold(annotations["label"], probabilities)
        )

    def statistics_of(
        self, annotations: Rows, answers: Mapping[str, np.ndarray], labels: Labels
    ) -> dict[str, np.ndarray]:
        probabilities = np.asarray(answers["probabilities"], np.float32)
        decided = answers.get("labels", probabilities >= self.cutoff)
        return {
            "true": np.asarray(annotations["label"]) > 0, "decided": np.asarray(decided, bool),
            "probabilities": probabilities,
        }  # fmt: skip

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        found = figures.multi(
            statistics["true"], statistics["probabilities"], statistics["decided"], labels.names
        )
        true = np.asarray(statistics["true"], np.float32)
        found["threshold"] = self.cutoff
        return own_metrics.with_own(found, self.metrics, true, statistics["probabilities"])

    def sums(
        self, metric: str, statistics: Mapping[str, np.ndarray], labels: Labels
    ) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
        return figures.from_counts(metric, statistics["true"], statistics["decided"])

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: str | Path, *,
        split: str,
    ) -> list[Path]:
        per_class = self.figures(statistics, labels)["per_class"]
        return [plots.f1_by_class(per_class, Path(directory) / f"{split}_f1_by_class.png")]

    def to_dict(self) -> dict[str, Any]:
        return shared.to_dict(self)


def best_threshold(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the one threshold for all classes at which micro F1 is best.

    Args:
        y: Labels of 0 and 1, `[N, classes]`.
        probabilities: `[N, classes]`.

    Returns:
        The middle between the lowest probability that is taken and the highest that is not; 0.5
        where no threshold finds anything.
    """
    true = np.asarray(y).ravel() > 0
    found = calibration.threshold(true, np.asarray(probabilities).ravel(), "f1")
    return 0.5 if found is None else found
