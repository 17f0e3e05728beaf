"""Callbacks: what every run does at the end of an epoch, and what configs may add."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasft.distributed.group import current
from kerasft.errors import UserError
from kerasft.system.variables import scalar
from kerasft.training.rates import innermost
from kerasft.training.signals import Interrupted

# A validation loss that falls by a smaller share of itself has not fallen.
FALL = 1e-3


class Validation(keras.callbacks.Callback):
    """Adds the validation split's figures to the logs of each epoch.

    They come from the same function as the final metrics, computed over all examples at once, so
    that they are right for any batch size and any last batch.

    Args:
        score: A function from the model to figures by name.
        interrupting: Gives a block in which a signal to stop, or the end of the run's time, raises
            `Interrupted`. What a queue allows may be shorter than a validation.
        begin: Called with the epoch before the validation starts.
        stop: Called with the epoch when the validation is interrupted; writes a checkpoint and
            raises `Stopped`.
            The validation is then done anew.
        as_kept: Gives a block in which the model holds the weights that are kept.
    """

    def __init__(
        self, score: Callable[[Any], dict[str, float]],
        interrupting: Callable[[], AbstractContextManager[None]] = nullcontext, *,
        begin: Callable[[int], None] = lambda epoch: None,
        stop: Callable[[int], None] = lambda epoch: None,
        as_kept: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        super().__init__()
        self.score, self.interrupting, self.begin, self.stop = score, interrupting, begin, stop
        self.as_kept = as_kept

    def on_epoch_end(self, epoch, logs=None):
        self.begin(epoch)
        # Who goes on would not know that a callback had ended the stage in the middle of an epoch.
        ends = self.model.stop_training
        try:
            # What puts the weights back is not interrupted.
            with self.as_kept(), nullcontext() if ends else self.interrupting():
                figures = self.score(self.model)
        except Interrupted:
            self.stop(epoch)
            raise
        # Other machines may round otherwise, and what follows must be the same on all.
        agreed = current().from_first(list(figures.values()))
        logs.update({f"val_{name}": value for name, value in zip(figures, agreed, strict=True)})


class OnEpoch(keras.callbacks.Callback):
    """Tells a function of each epoch, counted from 1, and of its figures.

    Args:
        tell: The function; training ends there if it raises `Pruned`.
    """

    def __init__(self, tell: Callable[[int, dict[str, float]], None]):
        super().__init__()
        self.tell = tell

    def on_epoch_end(self, epoch, logs=None):
        self.tell(epoch + 1, {name: float(value) for name, value in (logs or {}).items()})


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Ends a stage that gets no better, as Keras' own does, but lets the schedule have its say.

    An epoch in which the validation loss falls is no epoch in vain, even if accuracy stands; and
    while the schedule holds the learning rate high and is still to lower it, epochs are not
    counted: what the low rates at its end give is not known yet.

    Args:
        monitor: The metric that should get better; by default the task's.
        min_delta: By how much it must get better.
        patience: Epochs in vain after which the stage ends.
        mode: `"max"`, `"min"` or `"auto"`; by default the task's.
        at_rate: Epochs count once the learning rate has fallen to this share of its peak, where
            it is going to fall; 1 counts all.

    Raises:
        UserError: If `at_rate` is no share.

    Example:
        >>> EarlyStopping("val_accuracy", patience=3).patience
        3

        On the command line: `kerasft train callbacks.early_stopping.patience=3`.
    """

    def __init__(
        self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 5,
        mode: str = "auto", at_rate: float = 0.25,
    ):
        super().__init__(monitor, min_delta=min_delta, patience=patience, mode=mode)
        if not 0 < at_rate <= 1:
            raise UserError(
                "callbacks.NAME.at_rate is a share of the peak learning rate, above 0 and up to 1. "
                f"Received: {at_rate}."
            )
        self.at_rate = at_rate
        self.least_loss = self.peak = math.nan

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.least_loss = self.peak = math.nan

    def on_epoch_end(self, epoch, logs=None):
        rate = float(scalar(self.model.optimizer.learning_rate))
        self.peak = rate if math.isnan(self.peak) else max(self.peak, rate)
        if self._loss_fell(logs or {}) or (
            rate > self.at_rate * self.peak and self._is_to_fall(rate, epoch)
        ):
            self.wait = -2  # Keras adds one, and ends the stage if that is `patience`, maybe 0
        super().on_epoch_end(epoch, logs)
        self.wait = max(self.wait, 0)

    def _loss_fell(self, logs: Mapping[str, float]) -> bool:
        loss = logs.get("val_loss", math.nan)
        by = abs(self.min_delta) if self.monitor == "val_loss" else FALL * abs(self.least_loss)
        fell = math.isnan(self.least_loss) or loss < self.least_loss - by
        self.least_loss = float(loss) if fell else self.least_loss
        return fell

    def _is_to_fall(self, rate: float, epoch: int) -> bool:
        """Whether the schedule's last rate is below this one."""
        schedule = getattr(innermost(self.model.optimizer), "_learning_rate", None)
        if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            return False
        left = (self.params["epochs"] - epoch - 1) * self.params["steps"]
        last = schedule(int(scalar(innermost(self.model.optimizer)._iterations)) + left - 1)
        return float(last) < 0.99 * rate


class Deadline(keras.callbacks.Callback):
    """Ends training at a point in time, after the step at work; the epoch is validated as ever.

    Args:
        at: The point in time, of `time.monotonic()`.
        say: Says a sentence to the user.
    """

    def __init__(self, at: float, say: Callable[[str], None]):
        super().__init__()
        self.at, self.say = at, say

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() >= self.at and not self.model.stop_training:
            self.model.stop_training = True
            self.say("budget: the time is over; the best weights so far are kept")


class Ends(keras.callbacks.Callback):
    """Says in which epoch a step of augmentation is left out for the first time.

    The data pipeline knows that by itself, see `kerasft.data.ending`.

    Args:
        ends: From which epoch on, counted from 0, a step is left out.
        say: Says a sentence to the user.
        told: The steps of which it was said; all stages of a run share it.
    """

    def __init__(self, ends: Mapping[str, int], say: Callable[[str], None], told: set[str]):
        super().__init__()
        self.ends, self.say, self.told = ends, say, told

    def on_epoch_begin(self, epoch, logs=None):
        for name, first in self.ends.items():
            if epoch >= first and name not in self.told:
                self.told.add(name)
                self.say(f"augment.{name}: left out from epoch {first + 1} on")


class _Curves(keras.callbacks.TensorBoard):
    """Takes figures that are beyond the range of its files, too."""

    def on_epoch_end(self, epoch, logs=None):
        most = float(np.finfo("float32").max)
        clipped = {n: v if v != v else min(max(v, -most), most) for n, v in (logs or {}).items()}
        super().on_epoch_end(epoch, clipped)


def tensorboard(*, output_dir: str, histogram_freq: int = 0) -> Any:
    """Write the run's curves for TensorBoard into the run folder.

    Args:
        output_dir: The run folder.
        histogram_freq: Every how many epochs histograms of the weights are written; 0 for never.

    Returns:
        A `keras.callbacks.TensorBoard`.
    """
    return _Curves(
        str(Path(output_dir) / "logs" / "tensorboard"), histogram_freq=histogram_freq,
        write_graph=False,
    )
