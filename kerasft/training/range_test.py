"""The learning-rate range test: the rate rises from update to update while the loss is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasft.training.randomness import undisturbed

# A smoothed loss of so many times the lowest one so far ends a test, as in fastai; and it must be
# above the first one: of a loss near zero four times is no divergence.
DIVERGED = 4.0
# What one more update leaves of the smoothed loss that this goes by.
KEPT = 0.9


@keras.saving.register_keras_serializable("kerasft")
class Rising(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from one rate to another by the same factor at each update.

    Args:
        start: The first rate.
        end: The last rate, which stays.
        updates: Updates of the weights from the one to the other, at least 2.
        each: Batches of an update, see `gradient_accumulation_steps` of Keras' optimizers.

    Example:
        >>> rising = Rising(1e-4, 1e-2, updates=3, each=2)
        >>> [round(float(rising(step)), 5) for step in range(6)]
        [0.0001, 0.0001, 0.001, 0.001, 0.01, 0.01]
    """

    def __init__(self, start, end, updates, each=1):
        self.start, self.end = float(start), float(end)
        self.updates, self.each = int(updates), int(each)

    def __call__(self, step):
        update = ops.floor_divide(ops.cast(step, "int64"), self.each)
        done = ops.minimum(ops.cast(update, "float32") / (self.updates - 1), 1.0)
        return self.start * ops.exp(done * float(np.log(self.end / self.start)))

    def rates(self) -> np.ndarray:
        """Return the rate of each update, `float64[updates]`."""
        return np.geomspace(self.start, self.end, self.updates)

    def get_config(self):
        return {name: getattr(self, name) for name in ("start", "end", "updates", "each")}


@dataclass(frozen=True)
class Curve:
    """What a range test recorded.

    Args:
        rates: The learning rate of each update, `float64[N]`, rising.
        losses: The training loss of its examples before it, `float64[N]`.
        counts: How many examples these are, `int64[N]`: the last batch of an epoch may be small,
            and its loss says little. By default as many each time.
        diverged: Whether the loss ended the test before the last rate.
    """

    rates: np.ndarray
    losses: np.ndarray
    counts: np.ndarray | None = None
    diverged: bool = False


def record(
    model: keras.Model, data: Iterator[Any], rising: Rising, counts: np.ndarray | None = None
) -> Curve:
    """Train a model while its rate rises, until the loss diverges.

    The model learns from it: see `unchanged`.

    Args:
        model: The model, compiled with `rising` as the rate of its optimizer.
        data: An iterator over training batches.
        rising: The schedule.
        counts: The examples of each update, `int64[updates]`; by default as many each time.

    Returns:
        A `Curve`. Losses that are no numbers are not part of it.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> rising = Rising(1e-4, 10.0, updates=50)
        >>> model.compile(keras.optimizers.SGD(rising), loss="mse")
        >>> batch = np.ones((4, 1), "float32"), np.ones((4, 1), "float32")
        >>> import tensorflow as tf
        >>> data = iter(tf.data.Dataset.from_tensors(batch).repeat())
        >>> record(model, data, rising).diverged
        True
    """
    model.make_train_function()
    losses: list[float] = []
    mean = lowest = np.inf
    for number in range(rising.updates):
        model.reset_metrics()  # each loss is of its own examples alone
        for _ in range(rising.each):
            logs = model.train_function(data)
        loss = float(np.asarray(logs["loss"]))
        if not np.isfinite(loss):
            break
        losses.append(loss)
        mean = loss if number == 0 else KEPT * mean + (1 - KEPT) * loss
        lowest = min(lowest, mean)
        if mean > max(DIVERGED * lowest, losses[0]):
            break
    done = len(losses)
    return Curve(
        rising.rates()[:done], np.array(losses), None if counts is None else counts[:done],
        diverged=done < rising.updates,
    )


@contextmanager
def unchanged(model: keras.Model) -> Iterator[None]:
    """Give a model back what it holds after a block, and the random numbers of Python and NumPy.

    Weights, moving statistics and the states of its random numbers, to the last bit. What it is
    compiled with, and which of its variables train, is set anew for each stage anyway.

    Args:
        model: A built model.
    """
    before = [(variable, np.array(variable)) for variable in model.variables]
    with undisturbed():
        try:
            yield
        finally:
            for variable, value in before:
                variable.assign(value)
