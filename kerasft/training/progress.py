"""The bar of an epoch at work, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from kerasft.system.terminal import bar, columns, duration, status

# The bar of an epoch is so wide at most, and at least; where there is less room it is left out.
WIDEST, NARROWEST = 24, 8
# How much of the newest step's time goes into what a step is expected to take.
NEWEST = 0.1


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
        self.step_seconds: float | None = None  # without the first step, which compiles
        self.validation_seconds: float | None = None
        self.last: tuple[int, float] | None = None  # the newest step, and when it ended

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw inside the block, and leave nothing behind however it ends."""
        try:
            yield
        finally:
            status.show("")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.last = epoch, None
        if self.step_seconds is None:
            status.show(f"{self._head()}  compiling the training step ...")

    def on_train_batch_end(self, batch, logs=None):
        done, now = batch + 1, time.perf_counter()
        if self.last is not None and done > self.last[0]:
            one = (now - self.last[1]) / (done - self.last[0])
            known = self.step_seconds
            self.step_seconds = one if known is None else known + NEWEST * (one - known)
        self.last, self.done = (done, now), done
        if status.is_due() or done >= self.steps:
            status.show(self._text(logs or {}))

    def validating(self, validate: Callable[[Any], dict[str, float]]) -> Callable[[Any], Any]:
        """Return a function that validates, and shows that it does."""

        def shown(model: Any) -> dict[str, float]:
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
        if self.step_seconds is None:
            return None
        epochs = self.end - self.epoch
        return (
            self.step_seconds * (epochs * self.steps - self.done)
            + (self.validation_seconds or 0.0) * epochs
        )

    def _head(self) -> str:
        return f"epoch {self.epoch + 1}/{self.epochs()} [{self.stage}]"

    def _text(self, logs: dict[str, Any]) -> str:
        head = f"{self._head()}  {self.done:,}/{self.steps:,}"
        left = self.seconds_left()
        tail = "" if left is None else f"  {duration(left)} left"
        if tail and not self.is_last:
            tail += f" in {self.stage}"
        room = columns() - 1 - len(head) - len(tail)
        found = [f"  {name} {float(np.asarray(logs[name])):.4f}" for name in self.shown
                 if name in logs]  # fmt: skip
        texts: list[str] = []
        for text in found:  # the first ones matter most
            if room - len(text) < NARROWEST + 2:
                break
            texts.append(text)
            room -= len(text)
        width = min(room - 2, WIDEST)
        drawn = f"  {bar(self.done, self.steps, width)}" if width >= NARROWEST else ""
        return f"{head}{drawn}{''.join(texts)}{tail}"
