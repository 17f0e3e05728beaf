"""Times the steps of a Keras model, whoever runs them: kerasft's loop or `fit`."""

from __future__ import annotations

import json
import time

import keras


class StepClock(keras.callbacks.Callback):
    """Notes clock and processor time whenever steps have ended.

    Args:
        path: A file that they are written to when training ends; `None` for none.
    """

    def __init__(self, path: str | None = None):
        super().__init__()
        self.path, self.before, self.last = path, 0, 0
        # Steps that are done, the time since 1970, and processor seconds of the process.
        self.marks: list[tuple[int, float, float]] = []

    def on_train_begin(self, logs=None):
        self.mark()

    def on_train_batch_end(self, batch, logs=None):
        self.last = self.before + batch + 1
        self.mark()

    def on_epoch_end(self, epoch, logs=None):
        self.before = self.last

    def on_train_end(self, logs=None):
        self.mark()
        if self.path is not None:
            with open(self.path, "w", encoding="utf-8") as file:
                json.dump(self.marks, file)

    def mark(self):
        self.marks.append((self.last, time.time(), time.process_time()))

    def get_state(self):
        return {}

    def set_state(self, state):
        """Begin anew: what was before a stop is another process'."""
