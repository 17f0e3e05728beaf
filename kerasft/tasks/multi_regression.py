"""Several numbers an example."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kerasft.artifact.comparison import Output
from kerasft.errors import UserError
from kerasft.evaluation import metrics as figures
from kerasft.evaluation import plots
from kerasft.model import linear
from kerasft.rows import Rows
from kerasft.spec import Decision, Kind, Labels, Mode, Tensors
from kerasft.tasks import own_metrics, shared
from kerasft.tasks.regression import check_loss, check_own, check_standardized, loss_of

if TYPE_CHECKING:
    import tensorflow as tf

# Numbers that are drawn by themselves.
DRAWN = 8


@dataclass(frozen=True)
class MultiRegression:
    """Each example has several numbers, such as the coordinates of a point.

    Args:
        loss_name: `"mse"`, or `"huber"`, which outliers pull at less.
        huber_delta: Where Huber's loss turns from square to straight, in standard deviations of
            the training labels.
        loss: The loss, instead of `loss_name`: the name of one of Keras (`"log_cosh"`), or a node
            with a `_target_`. It compares standardized labels.
        metrics: Metrics beside those that there are anyway: nodes by name, of `keras.metrics` or of
            your own. They compare numbers in the labels' own units.
        monitor: The figure by which the best epoch is chosen.
        means: Subtracted from the labels, one for each number; set by `adapt`.
        stds: The labels are divided by them; set by `adapt`. So that each number counts alike in
            the loss, whatever its unit.

    Example:
        >>> annotations = Rows.of({"label": np.array([[10.0, 1.0], [20.0, 1.0], [30.0, 4.0]])})
        >>> MultiRegression().adapt(annotations).means
        (20.0, 2.0)
    """

    loss_name: str = "mse"
    huber_delta: float = 1.0
    loss: str | Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    monitor: str = "val_r2"
    means: tuple[float, ...] = ()
    stds: tuple[float, ...] = ()

    kind: ClassVar[Kind] = "numbers"
    follows_pixels: ClassVar[bool] = False
    headlines: ClassVar[tuple[str, ...]] = ("r2", "pearson", "spearman", "mae")
    each_epoch: ClassVar[tuple[str, ...]] = ("val_r2", "val_pearson")

    keep = shared.keep_logits
    disagreement = shared.squared_difference
    statistics = shared.answered_statistics
    shares = shared.shares_as_they_are

    def __post_init__(self) -> None:
        check_loss(self.loss_name, self.huber_delta)
        check_own(self)
        check_standardized(self.loss)
        object.__setattr__(self, "means", tuple(map(float, self.means)))
        object.__setattr__(self, "stds", tuple(map(float, self.stds)))
        if not all(std > 0 for std in self.stds):
            raise UserError(f"task.stds must be above 0. Received: {list(self.stds)}.")

    @property
    def mode(self) -> Mode:
        return figures.direction(self.monitor)

    def head(self, labels: Labels) -> dict[str, Any]:
        return {"units": len(labels.names)}

    def adapt(self, annotations: Rows) -> MultiRegression:
        """Return a copy that standardizes by mean and deviation of the training labels."""
        y = np.asarray(annotations["label"], np.float64)
        stds = y.std(axis=0)
        # A number that is always the same leaves nothing to divide by.
        return dataclasses.replace(
            self, means=tuple(y.mean(axis=0)), stds=tuple(np.where(stds > 0, stds, 1.0))
        )

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        y = np.asarray(annotations["label"], np.float64)
        return Rows.of({"labels": ((y - self.means) / self.stds).astype(np.float32)})

    def solve(self, features: Any, targets: Rows, labels: Labels, **how: Any) -> linear.Linear:
        return shared.solve(linear.ridge, features, targets, **how)

    def batch(self, inputs: Tensors, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        return targets["labels"], None

    def describe(self, targets: Mapping[str, np.ndarray], labels: Labels) -> list[str]:
        """Return the numbers in the labels' own units, each behind its name."""
        numbers = np.asarray(targets["labels"], np.float64) * self.stds + self.means
        return [
            ", ".join(
                f"{name} {shared.number_in_words(one, std)}"
                for name, one, std in zip(labels.names, row, self.stds, strict=True)
            )
            for row in numbers.tolist()
        ]

    def compile(self) -> dict[str, Any]:
        return {"loss": loss_of(self), "metrics": own_metrics.in_training(self)}

    def compared(self, y_true: tf.Tensor, outputs: tf.Tensor) -> tuple[Any, Any]:
        stds, means = (np.array(one, np.float32) for one in (self.stds, self.means))
        return y_true * stds + means, outputs * stds + means

    def answers(
        self, outputs: tf.Tensor, labels: Labels, decision: Decision | None = None
    ) -> dict[str, Any]:
        """Turn the head's output `[B, numbers]` into `values`, float32, in the labels' units."""
        import tensorflow as tf

        stds, means = (tf.constant(one, tf.float32) for one in (self.stds, self.means))
        return {"values": tf.cast(outputs, tf.float32) * stds + means}

    def answer(self, kept: Rows, labels: Labels) -> dict[str, np.ndarray]:
        """Return what `answers` does, in float64."""
        return {"values": np.asarray(kept["logits"], np.float64) * self.stds + self.means}

    def outputs(self, labels: Labels, decision: Decision | None = None) -> dict[str, Output]:
        return {"values": Output(unit=self.stds, each=True)}

    def statistics_of(
        self, annotations: Rows, answers: Mapping[str, np.ndarray], labels: Labels
    ) -> dict[str, np.ndarray]:
        return {"true": annotations["label"], "values": np.asarray(answers["values"])}

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        """Return the mean of each figure over the numbers, as scikit-learn's do, and each alone."""
        true, values = statistics["true"], statistics["values"]
        each = {
            name: figures.number(true[:, i], values[:, i]) for i, name in enumerate(labels.names)
        }
        names = dict.fromkeys(name for found in each.values() for name in found)
        whole = [n for n in names if all(n in found for found in each.values())]
        averaged = {n: float(np.mean([found[n] for found in each.values()])) for n in whole}
        found = {**averaged, "per_number": each}
        return own_metrics.with_own(found, self.metrics, true, values)

    def sums(
        self, metric: str, statistics: Mapping[str, np.ndarray], labels: Labels
    ) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
        if metric not in ("mae", "mse"):
            return None
        apart = np.abs(np.asarray(statistics["values"], np.float64) - statistics["true"])
        each = (apart if metric == "mae" else apart**2).mean(axis=1)
        return each, lambda total, count: float(total / count)

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: str | Path, *,
        split: str,
    ) -> list[Path]:
        made = []
        for i in range(min(len(labels.names), DRAWN)):
            file = Path(directory) / f"{split}_predicted_against_true_{i}.png"
            made.append(plots.predicted_against_true(
                statistics["true"][:, i], statistics["values"][:, i], file,
                name=labels.names[i],
            ))  # fmt: skip
        return made

    def to_dict(self) -> dict[str, Any]:
        return shared.to_dict(self)
