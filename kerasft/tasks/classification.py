"""One class an example."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kerasft.artifact.comparison import Output
from kerasft.errors import UserError
from kerasft.evaluation import calibration, ordered, plots
from kerasft.evaluation import metrics as figures
from kerasft.model import linear
from kerasft.rows import Rows
from kerasft.spec import Decision, Kind, Labels, Mode, Tensors
from kerasft.tasks import losses, own_metrics, shared
from kerasft.tasks.class_weights import check_class_weight, of_classes, weights_by_name

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Classification:
    """Each example has exactly one of two or more classes.

    Args:
        label_smoothing: Share of the label that is spread over all classes, 0 to below 1.
        class_weight: How much each class counts in the loss: `None` (all examples alike),
            `"balanced"` (inversely to how often the class occurs in the training split), `"auto"`
            (inversely to the effective number of its examples, Cui et al. 2019, and only where
            these differ by a factor above 1.5; the run says what it chose), or a mapping of class
            name to weight (classes left out weigh 1), e.g. `task.class_weight={spam: 3}`. Their
            mean over the training examples is 1 for `"balanced"` and `"auto"`.
        loss: The loss, instead of the crossentropy: `"focal"` (Lin et al. 2017, with gamma 2), the
            name of one of Keras, or a node with a `_target_`, e.g.
            `'task.loss={_target_: keras.losses.CategoricalFocalCrossentropy, gamma: 3}'`.
        metrics: Metrics beside those that there are anyway: nodes by name, of `keras.metrics` or of
            your own. They compare rows of 0 and 1 with probabilities.
        ordered: Whether the classes have an order, as stars and grades have: `True` for that of
            the numbers that they are called by, or their names, the lowest first. Figures then say
            how far off an answer is: `mae`, in steps of the order, and `quadratic_kappa`.
        top_k: `top_{k}_accuracy` is reported where there are more than this many classes.
        monitor: The figure by which the best epoch is chosen.
        counts: How many training examples each class has; set by `adapt` where `class_weight` is
            `"balanced"` or `"auto"`.

    Example:
        >>> Classification().head(Labels("single", ("cat", "dog")))
        {'units': 2}
    """

    label_smoothing: float = 0.0
    class_weight: str | Mapping[str, float] | None = None
    loss: str | Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    ordered: bool | Sequence[str] = False
    top_k: int = 5
    monitor: str = "val_accuracy"
    counts: tuple[int, ...] = ()

    kind: ClassVar[Kind] = "single"
    follows_pixels: ClassVar[bool] = False
    headlines: ClassVar[tuple[str, ...]] = ("accuracy", "f1_macro", "roc_auc")
    each_epoch: ClassVar[tuple[str, ...]] = ("accuracy", "val_accuracy")

    keep = shared.keep_logits
    disagreement = shared.divergence_of_classes
    answer = shared.answer
    describe = shared.describe_classes
    statistics = shared.answered_statistics

    def __post_init__(self) -> None:
        check_smoothing(self.label_smoothing)
        check_class_weight(self.class_weight)
        if self.top_k < 1:
            raise UserError(f"task.top_k must be at least 1. Received: {self.top_k}.")
        losses.check(self.loss, self.kind)
        own_metrics.check(self.metrics)
        own_metrics.show(self, ordered.NAMES if self.ordered else ())
        object.__setattr__(self, "counts", tuple(map(int, self.counts)))

    @property
    def mode(self) -> Mode:
        return figures.direction(self.monitor)

    def head(self, labels: Labels) -> dict[str, Any]:
        return {"units": len(labels.names)}

    def adapt(self, annotations: Rows) -> Classification:
        """Return a copy that knows how often each class occurs, where they are weighed by that."""
        if not isinstance(self.class_weight, str):
            return self
        counts = np.bincount(np.asarray(annotations["label"], np.int64))
        return dataclasses.replace(self, counts=tuple(counts.tolist()))

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        # One-hot in the batch: a million examples of 1,000 classes would be 4 GB.
        y = annotations["label"].astype(np.int64)
        if training and self.ordered:
            ranks_of(self.ordered, labels.names)  # an order that is none is told before training
        weighted = training and self.class_weight is not None
        if not weighted:
            return Rows.of({"labels": y})
        task = self if self.counts else self.adapt(annotations)
        return Rows.of({"labels": y, "weight": task.weights(labels)[y].astype(np.float32)})

    def batch(self, inputs: Tensors, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        y, weight = self.shares(targets, labels)["labels"], targets.get("weight")
        if weight is not None and not targets["labels"].dtype.is_integer:
            # MixUp and CutMix mix labels: an example weighs what its classes do, by their shares.
            weight = y @ self.weights(labels).astype(np.float32)[:, None]
            weight = weight[:, 0]
        return y, weight

    def shares(self, targets: Mapping[str, Any], labels: Labels) -> dict[str, Any]:
        """Return targets whose `labels` are `[batch, classes]`, 1 at the class of each example."""
        import tensorflow as tf

        if not targets["labels"].dtype.is_integer:  # they are mixed already
            return dict(targets)
        return {**targets, "labels": tf.one_hot(targets["labels"], len(labels.names))}

    def weights(self, labels: Labels) -> np.ndarray:
        """Return what each class counts in the loss, `float64[classes]`.

        Raises:
            UserError: If `class_weight` names a class that the data does not have.
        """
        if not isinstance(self.class_weight, str):
            return weights_by_name(self.class_weight, labels)
        counts = np.zeros(len(labels.names), np.int64)
        counts[: len(self.counts)] = self.counts
        return of_classes(self.class_weight, counts)

    def solve(self, features: Any, targets: Rows, labels: Labels, **how: Any) -> linear.Linear:
        return shared.solve(
            linear.logistic, features, targets, classes=len(labels.names), **how
        )

    def compile(self) -> dict[str, Any]:
        import keras

        return {
            "loss": losses.made(
                self.loss or "categorical_crossentropy", self.kind,
                activation=keras.ops.softmax, label_smoothing=self.label_smoothing,
            ),
            "metrics": [
                keras.metrics.CategoricalAccuracy(name="accuracy"), *own_metrics.in_training(self)
            ],
        }

    def compared(self, y_true: tf.Tensor, outputs: tf.Tensor) -> tuple[Any, Any]:
        import keras

        return y_true, keras.ops.softmax(keras.ops.cast(outputs, "float32"))

    def answers(
        self, outputs: tf.Tensor, labels: Labels, decision: Decision | None = None
    ) -> dict[str, Any]:
        """Turn logits `[B, classes]` into `probabilities`, `label` and `score`.

        Args:
            outputs: Logits, a float tensor `[B, classes]` of any precision.
            labels: What the labels mean.
            decision: A temperature and thresholds, see `decide`; none by default.

        Returns:
            `probabilities` float32 `[B, classes]`, `label` string `[B]` (the likeliest class, or
            the positive one from its threshold on) and `score` float32 `[B]` (its probability).
            With a threshold for each class also `decided` bool `[B]`: whether it is reached.
        """
        import tensorflow as tf

        decision = decision or Decision()
        probabilities = tf.nn.softmax(tf.cast(outputs, tf.float32) / decision.temperature)
        best = tf.argmax(probabilities, axis=-1)
        if decision.goal and decision.positive is not None:
            chance = probabilities[:, decision.positive]
            without = probabilities - tf.one_hot(decision.positive, len(labels.names)) * 2.0
            best = tf.where(
                chance >= tf.constant(decision.thresholds[0], tf.float32),
                tf.constant(decision.positive, tf.int64), tf.argmax(without, axis=-1),
            )
        made = {
            "probabilities": probabilities,
            "label": tf.gather(tf.constant(labels.names), best),
            "score": tf.gather(probabilities, best, batch_dims=1),
        }
        if decision.goal and decision.positive is None:
            enough = tf.constant(decision.thresholds, tf.float32)
            made["decided"] = made["score"] >= tf.gather(enough, best)
        return made

    def outputs(self, labels: Labels, decision: Decision | None = None) -> dict[str, Output]:
        decision = decision or Decision()
        cutoffs: tuple[float | None, ...] | None = decision.thresholds or None
        if decision.goal and decision.positive is not None:
            # Only the probability of the class that the goal is about is held against it.
            only = dict.fromkeys([decision.positive], decision.thresholds[0])
            cutoffs = tuple(only.get(i) for i in range(len(labels.names)))
        decided = Output("decided", by="probabilities", largest=True, cutoffs=cutoffs)
        return {
            "label": decided, "score": Output(), "decided": decided,
            "probabilities": Output(each=True), "top_labels": Output("ranked", by="probabilities"),
        }  # fmt: skip

    def ranked(self, answers: Mapping[str, Any], labels: Labels, top: int) -> dict[str, Any]:
        import tensorflow as tf

        scores, places = tf.math.top_k(answers["probabilities"], min(top, len(labels.names)))
        return {"top_labels": tf.gather(tf.constant(labels.names), places), "top_scores": scores}

    method: ClassVar[str] = "classify"
    scored = shared.scores_of_classes

    def decide(
        self, annotations: Rows, kept: Rows, labels: Labels, *, temperature: float | str = 1.0,
        goal: str | None = None, at_least: float | None = None, positive: str | None = None,
    ) -> Decision:
        """Tune temperature and threshold on the validation split.

        Args:
            annotations: Its labels.
            kept: What the network gave for them: `logits`.
            labels: What the labels mean.
            temperature: A number above 0, or `"auto"`: the one with the lowest log loss.
            goal: `"f1"`, the best F1 of the positive class; `"recall"`, its best precision with at
                least this recall; or `"precision"`, the other way about. Without a positive class
                among more than two, `"precision"` tells of each label whether it is as certain.
            at_least: The share that recall or precision must reach, above 0 and at most 1.
            positive: The class that the goal is about; the second of two by default.

        Returns:
            A `Decision`.

        Raises:
            UserError: If the goal is none, cannot be reached, or needs a positive class.
        """
        return calibration.decide_single(
            annotations["label"], kept["logits"], labels, temperature=temperature, goal=goal,
            at_least=at_least, positive=positive,
        )

    def check_decision(self, **wanted: Any) -> None:
        calibration.check_wanted(**wanted)

    def tune(self, annotations: Rows, kept: Rows, labels: Labels) -> Classification:
        return self

    def statistics_of(
        self, annotations: Rows, answers: Mapping[str, np.ndarray], labels: Labels
    ) -> dict[str, np.ndarray]:
        probabilities = np.asarray(answers["probabilities"])
        return {
            "true": np.asarray(annotations["label"], np.int64),
            "predicted": _predicted(answers, labels), "probabilities": probabilities,
        }  # fmt: skip

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        true, probabilities = statistics["true"], statistics["probabilities"]
        found = figures.single(
            true, probabilities, labels.names, top_k=self.top_k, predicted=statistics["predicted"]
        )
        if self.ordered:
            ranks = ranks_of(self.ordered, labels.names)
            found |= ordered.figures(ranks[true], ranks[statistics["predicted"]])
        return own_metrics.with_own(
            found, self.metrics, true, probabilities, classes=len(labels.names)
        )

    def sums(
        self, metric: str, statistics: Mapping[str, np.ndarray], labels: Labels
    ) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
        true, predicted = statistics["true"], statistics["predicted"]
        if metric == "accuracy":
            return true == predicted, lambda right, count: float(right / count)
        if self.ordered and metric in ordered.NAMES:
            ranks = ranks_of(self.ordered, labels.names)
            return ordered.sums(metric, ranks[true], ranks[predicted])
        rows = np.eye(len(labels.names), dtype=bool)
        return figures.from_counts(metric, rows[true], rows[predicted], seen_alone=True)

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: str | Path, *,
        split: str,
    ) -> list[Path]:
        matrix = figures.confusion(statistics["true"], statistics["predicted"], labels.names)
        file = Path(directory) / f"{split}_confusion_matrix.png"
        return [plots.confusion_matrix(matrix, labels.names, file)]

    def to_dict(self) -> dict[str, Any]:
        return shared.to_dict(self)


def ranks_of(order: bool | Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return the place of each class in the order of classes, `int64[classes]`.

    Args:
        order: `True` for the order of numbers, or the names in their order.
        names: The class names, in the order of the network's outputs.

    Raises:
        UserError: If the classes are not called by numbers, or others are named.

    Example:
        >>> ranks_of(True, ("1", "2", "10")).tolist()
        [0, 1, 2]
        >>> ranks_of(["low", "high"], ("high", "low")).tolist()
        [1, 0]
    """
    if isinstance(order, bool):
        values = [_value(name) for name in names]
        if None in values:
            raise UserError(
                "task.ordered=true takes the order of the numbers that classes are called by, and "
                f"these are words. Received: {', '.join(names)}. Give their order, the lowest "
                f"first: 'task.ordered=[{','.join(names)}]'."
            )
        wanted: Sequence[Any] = sorted(values)
        return np.array([wanted.index(value) for value in values], np.int64)
    wanted = [str(name) for name in order]
    if sorted(wanted) != sorted(names):
        raise UserError(
            "task.ordered must name each class once, the lowest first. Received: "
            f"{', '.join(wanted)}. The classes are {', '.join(names)}."
        )
    return np.array([wanted.index(name) for name in names], np.int64)


def _value(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None


def _predicted(answers: Mapping[str, np.ndarray], labels: Labels) -> np.ndarray:
    """Return the index of the class that was decided on: a tuned threshold may move it."""
    if "label" not in answers:
        return np.argmax(answers["probabilities"], axis=-1)
    places = {name: i for i, name in enumerate(labels.names)}
    said = (v.decode() if isinstance(v, bytes) else str(v) for v in answers["label"])
    return np.array([places[name] for name in said], np.int64)


def check_smoothing(value: float) -> None:
    """Raise `UserError` unless `value` is a share that label smoothing can take."""
    if not 0 <= value < 1:
        raise UserError(
            f"task.label_smoothing must be at least 0 and below 1. Received: {value}. "
            "0.1 is a usual value; 0 turns it off."
        )
