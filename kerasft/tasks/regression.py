"""A number an example."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from kerasft.artifact.comparison import Output
from kerasft.errors import UserError, nearest
from kerasft.evaluation import calibration, plots
from kerasft.evaluation import metrics as figures
from kerasft.model import linear
from kerasft.rows import Rows
from kerasft.spec import Decision, Kind, Labels, Mode, Tensors
from kerasft.tasks import losses, own_metrics, shared

if TYPE_CHECKING:
    import tensorflow as tf

LOSSES = ("mse", "huber")
_MOST = float(np.finfo("float32").max)
# Standard deviations from the mean that answers may be away.
_REACH = 6.0
# What needs true numbers that differ.
CORRELATIONS = ("pearson", "r2", "spearman")


class OfNumbers(own_metrics.Measuring, Protocol):
    """A task of numbers, as far as its loss goes."""

    @property
    def kind(self) -> Kind: ...

    @property
    def loss_name(self) -> str: ...

    @property
    def huber_delta(self) -> float: ...


@dataclass(frozen=True)
class Regression:
    """Each example has a number.

    Args:
        loss_name: `"mse"`, or `"huber"`, which outliers pull at less.
        huber_delta: Where Huber's loss turns from square to straight, in units of the loss (in
            standard deviations of the training labels, unless `scale` is off).
        loss: The loss, instead of `loss_name`: the name of one of Keras (`"log_cosh"`), or a node
            with a `_target_`. It compares what the network learns: standardized labels, unless
            `scale` is off.
        metrics: Metrics beside those that there are anyway: nodes by name, of `keras.metrics` or of
            your own. They compare numbers in the labels' own units.
        scale: Whether the network learns the labels less their mean and divided by their
            standard deviation, so that prices train as well as shares. Outputs and metrics are
            in the labels' own units either way.
        monitor: The figure by which the best epoch is chosen.
        mean: Subtracted from the labels; set by `adapt`.
        std: The labels are divided by it; set by `adapt`.

    Example:
        >>> Regression().adapt(Rows.of({"label": np.array([10.0, 20.0, 30.0])})).mean
        20.0
    """

    loss_name: str = "mse"
    huber_delta: float = 1.0
    loss: str | Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    scale: bool = True
    monitor: str = "val_pearson"
    mean: float = 0.0
    std: float = 1.0

    kind: ClassVar[Kind] = "number"
    follows_pixels: ClassVar[bool] = False
    headlines: ClassVar[tuple[str, ...]] = ("pearson", "spearman", "mae", "r2")
    each_epoch: ClassVar[tuple[str, ...]] = ("mae", "val_pearson")

    keep = shared.keep_logits
    disagreement = shared.squared_difference
    statistics = shared.answered_statistics
    shares = shared.shares_as_they_are

    def __post_init__(self) -> None:
        check_loss(self.loss_name, self.huber_delta)
        check_own(self)
        if self.scale:
            check_standardized(self.loss)
        if not self.std > 0:
            raise UserError(f"task.std must be above 0. Received: {self.std}.")

    @property
    def mode(self) -> Mode:
        return figures.direction(self.monitor)

    def head(self, labels: Labels) -> dict[str, Any]:
        return {"units": 1}

    def adapt(self, annotations: Rows) -> Regression:
        """Return a copy that standardises by the mean and deviation of the training labels.

        Raises:
            UserError: If float32, in which they are learned, cannot hold them or tell them apart.
        """
        y = np.asarray(annotations["label"], np.float64)
        if not self.scale:
            _check_apart(y)
            return self
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = float(y.mean()), float(y.std())
        if not (math.isfinite(mean) and math.isfinite(std)):
            raise UserError(
                "The labels are too large to be standardized: their mean or standard deviation is "
                f"beyond what a number can be. Received: labels up to {np.abs(y).max():.3g}. Train "
                "on their logarithms, or divide them by something."
            )
        # Labels that are all alike leave nothing to divide by.
        return dataclasses.replace(self, mean=mean, std=std if std > 0 else 1.0)

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        scaled = (np.asarray(annotations["label"], np.float64) - self.mean) / self.std
        return Rows.of({"labels": scaled.astype(np.float32).reshape(-1, 1)})

    def solve(self, features: Any, targets: Rows, labels: Labels, **how: Any) -> linear.Linear:
        return shared.solve(linear.ridge, features, targets, **how)

    def batch(self, inputs: Tensors, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        return targets["labels"], None

    def describe(self, targets: Mapping[str, np.ndarray], labels: Labels) -> list[str]:
        """Return the numbers in the labels' own units."""
        numbers = np.asarray(targets["labels"], np.float64)[:, 0] * self.std + self.mean
        return [shared.number_in_words(number, self.std) for number in numbers.tolist()]

    def compile(self) -> dict[str, Any]:
        import keras

        std = self.std

        class MeanAbsoluteError(keras.metrics.MeanAbsoluteError):
            def result(self):
                return super().result() * std  # shown in the labels' own units

        metrics = [MeanAbsoluteError(name="mae"), *own_metrics.in_training(self)]
        return {"loss": loss_of(self), "metrics": metrics}

    def compared(self, y_true: tf.Tensor, outputs: tf.Tensor) -> tuple[Any, Any]:
        return y_true * self.std + self.mean, outputs * self.std + self.mean

    def answers(
        self, outputs: tf.Tensor, labels: Labels, decision: Decision | None = None
    ) -> dict[str, Any]:
        """Turn the head's output `[B, 1]` into `value`, float32 `[B]`, in the labels' units."""
        import tensorflow as tf

        return {"value": tf.cast(outputs, tf.float32)[:, 0] * self.std + self.mean}

    def answer(self, kept: Rows, labels: Labels) -> dict[str, np.ndarray]:
        """Return what `answers` does, in float64: times and other large numbers stay apart."""
        return {"value": np.asarray(kept["logits"], np.float64)[:, 0] * self.std + self.mean}

    def outputs(self, labels: Labels, decision: Decision | None = None) -> dict[str, Output]:
        return {"value": Output(unit=self.std), "outputs": Output(unit=self.std)}

    method: ClassVar[str] = "regress"

    def scored(self, answers: Mapping[str, Any], labels: Labels) -> dict[str, Any]:
        return {"outputs": answers["value"]}

    def served_precision(self) -> str:
        """Say what float32, in which exports answer, leaves of the labels' differences.

        Returns:
            A sentence, or `""` where no difference is lost that matters.

        Raises:
            UserError: If the labels as a whole are closer together than float32 can tell, or lie
                beyond its numbers.
        """
        reach = abs(self.mean) + _REACH * self.std
        if reach > _MOST:
            raise UserError(
                f"Exports answer in float32, whose numbers end at {_MOST:.3g}, and the labels "
                f"reach there: their mean is {self.mean:.6g} and their standard deviation "
                f"{self.std:.3g}. Predict with the run folder, which answers in float64, or train "
                "on the labels divided by something. Set export=none."
            )
        step = float(np.spacing(np.float32(abs(self.mean))))
        if step < self.std / 1000:
            return ""
        said = (
            f"Exports answer in float32, whose precision near {self.mean:.6g} is {step:g}, and the "
            f"labels' standard deviation is {self.std:.3g}"
        )
        if step > self.std:
            raise UserError(
                f"{said}: their answers could not differ. Predict with the run folder, which "
                f"answers in float64, or train on the labels less {self.mean:.6g}. Set export=none."
            )
        return f"{said}; the run folder answers in float64."

    def decide(
        self, annotations: Rows, kept: Rows, labels: Labels, *, temperature: float | str = 1.0,
        goal: str | None = None, at_least: float | None = None, positive: str | None = None,
    ) -> Decision:
        """Return no decision: there is none to be tuned about a number.

        Raises:
            UserError: If one is asked for.
        """
        self.check_decision(
            temperature=temperature, goal=goal, at_least=at_least, positive=positive
        )
        return Decision()

    def check_validation(self, annotations: Rows) -> None:
        """Raise `UserError` where `monitor` cannot be measured on these validation labels."""
        labels = annotations["label"]
        measured = figures.number(labels, np.zeros(len(labels)))
        name = self.monitor.removeprefix("val_")
        if name in CORRELATIONS and name not in measured:
            value = f"{float(np.ravel(labels)[0]):g}"
            raise UserError(
                f"The validation labels are all alike ({value}), so there is no {self.monitor} to "
                "choose the best epoch by. Validate on other examples, or set "
                f"task.monitor=val_rmse. Received: task.monitor={self.monitor}."
            )

    def check_decision(self, **wanted: Any) -> None:
        calibration.refuse_wanted(**wanted)

    def tune(self, annotations: Rows, kept: Rows, labels: Labels) -> Regression:
        return self

    def statistics_of(
        self, annotations: Rows, answers: Mapping[str, np.ndarray], labels: Labels
    ) -> dict[str, np.ndarray]:
        return {"true": annotations["label"], "value": np.asarray(answers["value"])}

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        true, value = (np.asarray(statistics[key]).reshape(-1, 1) for key in ("true", "value"))
        return own_metrics.with_own(figures.number(true, value), self.metrics, true, value)

    def sums(
        self, metric: str, statistics: Mapping[str, np.ndarray], labels: Labels
    ) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
        if metric not in ("mae", "mse", "rmse"):
            return None
        value = np.asarray(statistics["value"], np.float64).ravel()
        apart = np.abs(value - statistics["true"])
        if metric == "rmse":
            return apart**2, lambda total, count: float(np.sqrt(total / count))
        return apart if metric == "mae" else apart**2, lambda total, count: float(total / count)

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: str | Path, *,
        split: str,
    ) -> list[Path]:
        file = Path(directory) / f"{split}_predicted_against_true.png"
        return [plots.predicted_against_true(statistics["true"], statistics["value"], file)]

    def to_dict(self) -> dict[str, Any]:
        return shared.to_dict(self)


def check_loss(name: str, delta: float) -> None:
    """Raise `UserError` unless there is such a loss."""
    if name not in LOSSES:
        raise UserError(
            f"task.loss_name must be one of {', '.join(LOSSES)}. "
            f"Received: {name!r}.{nearest(name, LOSSES)}"
        )
    if not delta > 0:
        raise UserError(f"task.huber_delta must be above 0. Received: {delta}.")


def check_own(task: OfNumbers) -> None:
    """Refuse a loss or metrics of a task of numbers that are none; show the metrics else."""
    losses.check(task.loss, task.kind)
    if task.loss is not None and task.loss_name != LOSSES[0]:
        raise UserError(
            "task.loss and task.loss_name both choose the loss. Received: "
            f"task.loss={task.loss}, task.loss_name={task.loss_name}. Leave one of them out."
        )
    own_metrics.check(task.metrics)
    own_metrics.show(task)


def check_standardized(loss: str | Mapping[str, Any] | None) -> None:
    """Refuse losses that are of positive labels: standardized, half of them are negative."""
    named = losses.class_of(loss, "number") if isinstance(loss, str) else (
        str(loss["_target_"]).removeprefix("keras.losses.") if loss else "")  # fmt: skip
    if named in losses.POSITIVE:
        raise UserError(
            f"task.loss={named} is of labels above 0, and the network learns standardized labels. "
            "Set task.scale=false, or choose another loss."
        )


def loss_of(task: OfNumbers) -> Any:
    """Return the loss of a task of numbers."""
    import keras

    if task.loss is not None:
        return losses.made(task.loss, task.kind)
    if task.loss_name == "huber":
        return keras.losses.Huber(delta=task.huber_delta)
    return keras.losses.MeanSquaredError()


def _check_apart(y: np.ndarray) -> None:
    """Refuse labels that are learned as they are, and that float32 cannot hold or tell apart."""
    if (most := float(np.abs(y).max())) > _MOST:
        raise UserError(
            f"task.scale=false learns the labels as they are, in float32, whose numbers end at "
            f"{_MOST:.3g}. Received: labels up to {most:.3g}. Set task.scale=true."
        )
    if np.ptp(y) > 0 and np.ptp(y.astype(np.float32)) == 0:
        raise UserError(
            f"task.scale=false learns the labels as they are, in float32, whose precision near "
            f"{y[0]:.6g} is {float(np.spacing(np.float32(abs(y[0])))):g}: they become one number. "
            "Set task.scale=true."
        )
