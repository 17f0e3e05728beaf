"""Learning-rate schedules that know how many steps there are."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from kerasft.errors import UserError


@keras.saving.register_keras_serializable("kerasft")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Rises in a line to the peak, then falls in the given shape.

    The first step already has a rate above zero, so that it is no lost step.

    Args:
        learning_rate: The peak.
        total_steps: Steps until the end is reached; after that the rate stays.
        warmup_steps: Steps of the rise.
        end: The last rate, as a share of the peak.
        shape: `"constant"`, `"cosine"` or `"linear"`.
    """

    def __init__(self, learning_rate, total_steps, warmup_steps=0, end=0.0, shape="cosine"):
        self.learning_rate, self.total_steps = float(learning_rate), int(total_steps)
        self.warmup_steps, self.end, self.shape = int(warmup_steps), float(end), shape

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = (step + 1.0) / max(self.warmup_steps, 1)
        fall_steps = max(self.total_steps - self.warmup_steps, 1)
        done = ops.clip((step - self.warmup_steps) / fall_steps, 0.0, 1.0)
        if self.shape == "cosine":
            left = 0.5 * (1.0 + ops.cos(math.pi * done))
        elif self.shape == "linear":
            left = 1.0 - done
        else:
            left = ops.ones_like(done)
        fall = self.end + (1.0 - self.end) * left
        return self.learning_rate * ops.where(step < self.warmup_steps, rise, fall)

    def get_config(self):
        names = ("learning_rate", "total_steps", "warmup_steps", "end", "shape")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("kerasft")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from a part of the peak along half a cosine, then falls along another.

    Args:
        learning_rate: The peak.
        total_steps: Steps until the end is reached; after that the rate stays.
        warmup_steps: Steps of the rise.
        start: The first rate, as a share of the peak.
        end: The last rate, as a share of the peak.
    """

    def __init__(self, learning_rate, total_steps, warmup_steps, start=0.04, end=1e-5):
        self.learning_rate, self.total_steps = float(learning_rate), int(total_steps)
        self.warmup_steps, self.start, self.end = int(warmup_steps), float(start), float(end)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        risen = ops.clip(step / max(self.warmup_steps, 1), 0.0, 1.0)
        fall_steps = max(self.total_steps - self.warmup_steps, 1)
        fallen = ops.clip((step - self.warmup_steps) / fall_steps, 0.0, 1.0)
        rise = self.start + (1.0 - self.start) * 0.5 * (1.0 - ops.cos(math.pi * risen))
        fall = self.end + (1.0 - self.end) * 0.5 * (1.0 + ops.cos(math.pi * fallen))
        return self.learning_rate * ops.where(step < self.warmup_steps, rise, fall)

    def get_config(self):
        names = ("learning_rate", "total_steps", "warmup_steps", "start", "end")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("kerasft")
class Held(keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule up to a step; from there on its rate stays.

    Args:
        schedule: The other schedule.
        last: The step.
    """

    def __init__(self, schedule, last):
        self.schedule, self.last = schedule, int(last)

    def __call__(self, step):
        return self.schedule(ops.minimum(ops.cast(step, "float32"), float(self.last)))

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": inner, "last": self.last}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(inner, config["last"])


def constant(learning_rate: float, total_steps: int, *, warmup: float = 0.0) -> Any:
    """The same rate throughout, after a rise over the first `warmup` share of the steps.

    Args:
        learning_rate: The rate.
        total_steps: Steps of the stage.
        warmup: Share of the steps, from 0 up to 1, or a number of steps above 1.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.

    Example:
        >>> round(float(constant(0.1, 100)(50)), 4)
        0.1
    """
    return _schedule(learning_rate, total_steps, warmup, 1.0, "constant")


def warmup_cosine(
    learning_rate: float, total_steps: int, *, warmup: float = 0.1, end: float = 0.0
) -> Any:
    """A rise, then half a cosine down (Loshchilov & Hutter 2016, arXiv:1608.03983).

    Args:
        learning_rate: The peak.
        total_steps: Steps of the stage.
        warmup: Share of the steps, from 0 up to 1, or a number of steps above 1.
        end: The last rate, as a share of the peak.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.

    Example:
        >>> round(float(warmup_cosine(0.1, 100)(99)), 4)
        0.0
    """
    return _schedule(learning_rate, total_steps, warmup, end, "cosine")


def warmup_linear(
    learning_rate: float, total_steps: int, *, warmup: float = 0.1, end: float = 0.0
) -> Any:
    """A rise, then a straight line down (Devlin et al. 2018, arXiv:1810.04805).

    Args:
        learning_rate: The peak.
        total_steps: Steps of the stage.
        warmup: Share of the steps, from 0 up to 1, or a number of steps above 1.
        end: The last rate, as a share of the peak.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.

    Example:
        >>> round(float(warmup_linear(0.1, 100, warmup=0.0)(50)), 4)
        0.05
    """
    return _schedule(learning_rate, total_steps, warmup, end, "linear")


def one_cycle(
    learning_rate: float, total_steps: int, *, warmup: float = 0.25, start: float = 0.04,
    end: float = 1e-5,
) -> Any:
    """Half a cosine up, then half a cosine down (Smith 2018, arXiv:1803.09820), as fastai has it.

    fastai also lowers the momentum while the rate rises; that of the optimizer here stays.

    Args:
        learning_rate: The peak.
        total_steps: Steps of the stage.
        warmup: Share of the steps, from 0 up to 1, or a number of steps above 1.
        start: The first rate, as a share of the peak.
        end: The last rate, as a share of the peak.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.

    Example:
        >>> schedule = one_cycle(0.1, 100)
        >>> [round(float(schedule(step)), 4) for step in (0, 25, 100)]
        [0.004, 0.1, 0.0]
    """
    if not 0 < start <= 1:
        raise UserError(f"schedule.start is a share of the peak, above 0 to 1. Received: {start}.")
    return OneCycle(learning_rate, total_steps, _rise(total_steps, warmup, end), start, end)


def _schedule(learning_rate: float, total_steps: int, warmup: float, end: float, shape: str) -> Any:
    return Schedule(learning_rate, total_steps, _rise(total_steps, warmup, end), end, shape)


def _rise(total_steps: int, warmup: float, end: float) -> int:
    """Return the steps of the rise."""
    if warmup < 0:
        raise UserError(f"schedule.warmup must not be negative. Received: {warmup}.")
    if not 0 <= end <= 1:
        raise UserError(f"schedule.end is a share of the peak, 0 to 1. Received: {end}.")
    rise = round(warmup * total_steps) if warmup <= 1 else int(warmup)
    if rise >= total_steps > 1 and warmup > 1:
        raise UserError(
            f"schedule.warmup must be shorter than the stage, which has {total_steps} steps. "
            f"Received: {warmup}."
        )
    return rise
