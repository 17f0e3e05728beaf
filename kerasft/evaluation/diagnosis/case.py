"""A run as the rules see it: its curves, its figures, its updates, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from kerasft.evaluation.diagnosis.chance import error, is_chance

Row = Mapping[str, Any]
HEAD = "head"
# A class that has more than so many times its share of the examples makes accuracy blind to others.
UNEVEN = 1.5


class Figure(NamedTuple):
    """A figure between a floor and 1, on training examples and on validation.

    Args:
        name: Its name.
        train: Its value on the training sample; NaN where it is not known.
        validation: Its value on validation.
        floor: What an answer that is the same for all examples is worth.
    """

    name: str
    train: float
    validation: float
    floor: float

    def skill(self, value: float) -> float:
        """Return what part of the way from the floor to 1 a value has come."""
        return (value - self.floor) / max(1 - self.floor, 1e-9)


class Lagging(NamedTuple):
    """A slice of validation that is clearly worse than all of it.

    Args:
        column: The column of the data.
        value: Its value there.
        examples: How many examples there are.
        figure: What the figure that epochs are chosen by comes to.
    """

    column: str
    value: str
    examples: int
    figure: float


@dataclass(frozen=True)
class Case:
    """What is known of a run.

    Args:
        epochs: The rows of `logs/epochs.jsonl`.
        updates: The rows of `logs/updates.jsonl`; none for a run of an earlier version.
        monitor: The figure of validation that chose the best epoch.
        mode: `"max"` or `"min"`.
        validation: Figures of the validation split, with the kept weights.
        sample: The same of the training sample; empty where it was not measured.
        floor: Figures of an answer that is the same for all examples, see `chance`.
        train: Training examples.
        held_out: Validation examples.
        sampled: Examples of the training sample.
        classes: Training examples of each class; empty where labels are no classes.
        answered: Records of both as `predictions/validation.jsonl` has them, by split:
            `"training sample"` and `"validation"`.
        copies: Validation examples that also are training examples.
        faults: Losses that were not a number, and how each was answered.
        frozen: Whether the backbone rested in all stages.
        modality: `"text"` or `"images"`.
        lagging: Slices of validation that are clearly worse than all of it, the worst first.
    """

    epochs: Sequence[Row]
    updates: Sequence[Row] = ()
    monitor: str = "val_loss"
    mode: str = "min"
    validation: Mapping[str, Any] = field(default_factory=dict)
    sample: Mapping[str, Any] = field(default_factory=dict)
    floor: Mapping[str, float] = field(default_factory=dict)
    train: int = 0
    held_out: int = 0
    sampled: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    answered: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    copies: int = 0
    faults: int = 0
    frozen: bool = False
    modality: str = ""
    lagging: Sequence[Lagging] = ()

    @cached_property
    def compared(self) -> list[Row]:
        """The epochs on images of the model's own size, which alone are compared."""
        return [row for row in self.epochs if not row.get("image_size")] or list(self.epochs)

    @cached_property
    def best(self) -> Row:
        """The epoch whose weights are kept: of equal ones that with the lower validation loss."""
        sign = 1.0 if self.mode == "max" else -1.0
        return max(self.compared, key=lambda row: (
            _or(sign * row.get(self.monitor, math.nan)), _or(-row["val_loss"])
        ))  # fmt: skip

    @cached_property
    def figure(self) -> Figure | None:
        """The figure by which training and validation are compared; `None` where none will do.

        Accuracy; where one class makes up most of the examples, the average recall of the classes;
        for numbers the coefficient of determination; else the monitor, if it lies in 0 to 1.
        """
        shares = np.array([*self.classes.values()]) / max(sum(self.classes.values()), 1)
        uneven = len(shares) and shares.max() * len(shares) > UNEVEN
        names = ["recall_macro", "accuracy"] if uneven else ["accuracy"]
        for name in [*names, "roc_auc", "r2"]:
            if name in self.floor and name in self.validation:
                floor = self.floor[name]
                break
        else:
            name, floor = self.monitor.removeprefix("val_"), 0.0
            value = self.validation.get(name)
            if self.mode != "max" or not (isinstance(value, int | float) and 0 <= value <= 1):
                return None
        seen = self.sample.get(name) if self.sample else self.best.get(name)
        train = float(seen) if isinstance(seen, int | float) else math.nan
        return Figure(name, train, float(self.validation[name]), floor)

    @cached_property
    def gap(self) -> float:
        """How much farther from the floor training is than validation; NaN if not known."""
        one = self.figure
        return one.skill(one.train) - one.skill(one.validation) if one else math.nan

    @cached_property
    def gap_noise(self) -> float:
        """The standard error of the gap."""
        one = self.figure
        if one is None or math.isnan(one.train):
            return math.nan
        seen = self.sampled or self.train
        both = error(one.train, seen) ** 2 + error(one.validation, self.held_out) ** 2
        return math.sqrt(both) / max(1 - one.floor, 1e-9)

    @property
    def fit(self) -> float:
        """How far from the floor training is, up to 1; NaN if not known."""
        return self.figure.skill(self.figure.train) if self.figure else math.nan

    @property
    def skill(self) -> float:
        """How far from the floor validation is, up to 1; NaN if not known."""
        return self.figure.skill(self.figure.validation) if self.figure else math.nan

    @cached_property
    def validation_is_chance(self) -> bool | None:
        return is_chance(self.validation, self.floor, max(self.held_out, 1))

    @cached_property
    def training_is_chance(self) -> bool | None:
        return is_chance(self.sample, self.floor, max(self.sampled, 1)) if self.sample else None

    def moved(self, row: Row, *, head: bool) -> float | None:
        """Return how far head or backbone moved in an epoch, as a share of their weights' norm."""
        of = [part for name, part in row["parts"].items() if (name == HEAD) == head]
        size = sum(part["weights"] ** 2 for part in of)
        return math.sqrt(sum(part["moved"] ** 2 for part in of) / size) if size else None

    @cached_property
    def backbone_moves(self) -> list[float]:
        """How far the backbone moved in each epoch in which it trained."""
        found = (self.moved(row, head=False) for row in self.updates)
        return [one for one in found if one is not None]

    @cached_property
    def head_moves(self) -> list[float]:
        """How far the head moved in each epoch in which it trained."""
        found = (self.moved(row, head=True) for row in self.updates)
        return [one for one in found if one is not None]

    def values(self, name: str) -> list[float]:
        """Return a figure of all epochs on images of the model's own size, where it is a number."""
        found = (row.get(name) for row in self.compared)
        return [float(one) for one in found if isinstance(one, int | float) and math.isfinite(one)]

    @property
    def peak(self) -> float:
        """The peak learning rate of the last stage; NaN where no epoch has ended."""
        if not self.epochs:
            return math.nan
        stage = self.epochs[-1]["stage"]
        rows = [row for row in self.updates if row["stage"] == stage]
        if rows:
            return float(rows[-1]["peak"])
        return max(float(row["learning_rate"]) for row in self.epochs if row["stage"] == stage)


def _or(value: float) -> float:
    return -math.inf if math.isnan(value) else value
