"""Tells whether training is input-bound: whether the step waits for the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

# The share of a step's time that making a batch may take: both share the processor.
SHARE = 0.5
# Seconds an epoch below which it is not worth a word.
WORTH = 1.0
# Fewer steps say nothing: the first ones trace and compile.
STEPS = 10


class InputStall(keras.callbacks.Callback):
    """Says after the first epoch where the input pipeline takes a large part of the time, and why.

    Args:
        batches: `Batches`.
        first: The step that the stage begins with.
        say: Says a sentence to the user.
    """

    def __init__(self, batches: Any, first: int, say: Callable[[str], None]):
        super().__init__()
        self.batches, self.first, self.say = batches, first, say
        self.ends: list[tuple[int, float]] = []
        self.done = False

    def on_train_batch_end(self, batch, logs=None):
        if not self.done:
            self.ends.append((batch, time.perf_counter()))

    def on_epoch_end(self, epoch, logs=None):
        steps, seconds = np.diff(np.array(self.ends).reshape(-1, 2), axis=0).T
        # From one epoch to the next there is more between two ends than steps.
        within = steps > 0
        if self.done or within.sum() < STEPS:
            return
        self.done = True
        step = float(np.median(seconds[within] / steps[within]))
        gathering, whole = self.batches.pace(self.first)
        if whole * self.batches.steps < WORTH:
            return
        if notice := input_bound(step, gathering, whole, augments=self.batches.augment is not None):
            self.say(notice)


def input_bound(step: float, gathering: float, whole: float, *, augments: bool) -> str:
    """Say that a step waits for its input, and why, or nothing.

    Args:
        step: Seconds that a step takes, its input included.
        gathering: Seconds that it takes to read the examples of a batch.
        whole: Seconds that it takes to make a batch, with nothing else at work.
        augments: Whether images are augmented.

    Returns:
        A sentence, or `""`.

    Example:
        >>> input_bound(0.010, 0.001, 0.002, augments=True)
        ''
    """
    if whole < SHARE * step:
        return ""
    if augments and gathering < whole / 2:
        reason, advice = "augmentation", (
            "Take fewer or cheaper steps (`kerasft explain augment`), or smaller images."
        )
    else:
        reason, advice = "reading examples", "Put cache.directory on a faster disk."
    return (
        f"the input pipeline takes {whole * 1e3:.1f} ms a batch, of {step * 1e3:.1f} ms that a "
        f"step takes: {reason}. {advice}"
    )
