"""The bar of an epoch at work, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from kerasft.system.progress import Pace, line
from kerasft.system.terminal import duration, status


class EpochBar(keras.callbacks.Callback):
    """Shows how far an epoch is, its running metrics, and how long the stage still takes.

    Nothing of it stays: the line of the epoch comes from the log. The time left is that of the
    stage, since steps of other stages take another time; it counts the validations, and knows
    nothing of early stopping.

    Args:
        stage: The name of the stage.
        epochs: Gives the number of epochs of the whole run.
        end: The epoch that the stage ends before.
        steps: Steps in an epoch.
        shown: The metrics that are shown, where there is room.
        is_last: Whether no other stage follows.
        done: Steps of the first epoch that are done already.
    """

    def __init__(
        self, stage: str, epochs: Callable[[], int], end: int, steps: int, shown: tuple[str, ...],
        *, is_last: bool = True, done: int = 0,
    ):
        super().__init__()
        self.stage, self.epochs, self.end, self.steps = stage, epochs, end, steps
        self.shown, self.is_last, self.done = shown, is_last, done
        self.epoch = 0
        self.pace = Pace()
        self.validation_seconds: float | None = None

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw inside the block, and leave nothing behind however it ends."""
        try:
            yield
        finally:
            status.show("")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.pace.restart()
        if self.pace.seconds is None:
            status.show(f"{self._head()}  compiling the training step ...")

    def on_train_batch_end(self, batch, logs=None):
        self.done = batch + 1
        self.pace.after(self.done)
        if status.is_due() or self.done >= self.steps:
            status.show(self._text(logs or {}))

    def validating(self, validate: Callable[[Any], dict[str, float]]) -> Callable[[Any], Any]:
        """Return a function that validates, and shows that it does."""

        def shown(model: keras.Model) -> dict[str, float]:
            status.show(f"{self._head()}  validating ...")
            began = time.perf_counter()
            figures = validate(model)
            self.validation_seconds = time.perf_counter() - began
            self.done = 0
            status.show("")  # what other callbacks print at the end of an epoch stands alone
            return figures

        return shown

    def seconds_left(self) -> float | None:
        """Return the time until the stage ends; `None` where nothing is known of it yet."""
        if self.pace.seconds is None:
            return None
        epochs = self.end - self.epoch
        return (
            self.pace.seconds * (epochs * self.steps - self.done)
            + (self.validation_seconds or 0.0) * epochs
        )

    def _head(self) -> str:
        return f"epoch {self.epoch + 1}/{self.epochs()} [{self.stage}]"

    def _text(self, logs: dict[str, Any]) -> str:
        left = self.seconds_left()
        tail = "" if left is None else f"{duration(left)} left"
        if tail and not self.is_last:
            tail += f" in {self.stage}"
        notes = [f"{name} {float(np.asarray(logs[name])):.4f}" for name in self.shown
                 if name in logs]  # fmt: skip
        return line(self._head(), self.done, self.steps, notes, tail)
