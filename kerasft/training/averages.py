"""Running averages of weights: followed in each update, and in the model's place when it is judged.

What trains are the weights as the optimizer moves them. What is validated, kept, exported, and
handed to the next stage, is their average.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kerasft.catalogue.averages import require_sound
from kerasft.errors import UserError
from kerasft.training.keep_best import values_of
from kerasft.training.rates import innermost
from kerasft.training.soup import Soup

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Running(Protocol):
    """What averages the weights while they train."""

    def told(self) -> str:
        """Say in a few words what is averaged."""

    def schedule(self, schedule: Any, steps: int) -> Any:
        """Return the learning rate's schedule for a stage of so many steps."""

    def of_stage(self, steps: int, every: int) -> Running:
        """Return what averages in a stage of so many steps, `every` of which make an update."""

    def stays(self, update: tf.Tensor) -> Any:
        """Return the share of the average that stays in an update, counted from 1: a tensor."""


class Ema:
    """An exponential moving average: `a = d a + (1 - d) w` after each update of the weights `w`.

    With warm-up, `d = min(decay, (n - 1) / (n + 9))` in update `n` of a stage: as long as `decay`
    is larger, the average is about that of the last tenth of the updates, so that it is of use in
    short runs too. The micro-steps of gradient accumulation are no updates. Statistics of batch
    normalization are averaged likewise.

    Args:
        decay: What stays of the average in each update: from 0, which averages nothing, to below
            1. `1 / (1 - decay)` updates back, an update has about a third of the newest one's part.
        warm_up: Whether the first updates are forgotten faster.

    Raises:
        UserError: If a value is out of its range.

    Example:
        >>> [round(float(Ema(decay=0.99).stays(update)), 2) for update in (1.0, 11.0, 5000.0)]
        [0.0, 0.5, 0.99]

        On the command line: `kerasft train average=ema average.ema.decay=0.99`.
    """

    def __init__(self, *, decay: float = 0.999, warm_up: bool = True):
        require_sound("Ema", decay=decay, warm_up=warm_up)
        self.decay, self.warm_up = float(decay), warm_up

    def told(self) -> str:
        return f"exponential, decay {self.decay:g}"

    def schedule(self, schedule: Any, steps: int) -> Any:
        """Return the learning rate's schedule, which stays as it is."""
        return schedule

    def of_stage(self, steps: int, every: int) -> Ema:
        """Return what averages in a stage; it does so in all of them alike."""
        return self

    def stays(self, update: tf.Tensor) -> Any:
        """Return the share of the average that stays in an update, counted from 1."""
        from keras import ops

        if self.warm_up:
            return ops.minimum(self.decay, (update - 1.0) / (update + 9.0))
        # What is there before the first update is no average of anything.
        return ops.where(update > 1.0, self.decay, 0.0)


class Swa:
    """The plain mean of the weights after each update from some point of a stage on.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018,
    <https://arxiv.org/abs/1803.05407>. There, weights of the ends of epochs are averaged, while the
    learning rate stays high; fine-tuning has few epochs, so each update counts here. Before that
    point the weights are judged as they are. Statistics of batch normalization are averaged
    likewise, in place of a pass over the data.

    Args:
        start: Where it begins, as a share of a stage's steps.
        hold: Whether the learning rate stays from there on as it is there. A rate that has fallen
            to nothing gives weights that are all the same.

    Raises:
        UserError: If a value is out of its range.

    Example:
        On the command line: `kerasft train average=swa average.swa.start=0.5`.
    """

    def __init__(self, *, start: float = 0.75, hold: bool = True):
        require_sound("Swa", start=start, hold=hold)
        self.start, self.hold, self.before = float(start), hold, 0

    def told(self) -> str:
        rate = ", the learning rate held there" if self.hold else ""
        return f"the mean (SWA) from {self.start:.0%} of a stage's steps on{rate}"

    def schedule(self, schedule: Any, steps: int) -> Any:
        """Return the learning rate's schedule, held where the mean begins."""
        import keras

        from kerasft.training.schedules import Held

        if not self.hold or not isinstance(
            schedule, keras.optimizers.schedules.LearningRateSchedule
        ):
            return schedule
        return Held(schedule, math.floor(self.start * steps))

    def of_stage(self, steps: int, every: int) -> Swa:
        """Return what averages in a stage.

        Args:
            steps: Its steps.
            every: Steps of an update.
        """
        made = Swa(start=self.start, hold=self.hold)
        made.before = math.floor(self.start * steps) // every
        return made

    def stays(self, update: tf.Tensor) -> Any:
        """Return the share of the average that stays in an update, counted from 1."""
        from keras import ops

        taken = ops.maximum(update - self.before, 1.0)
        return (taken - 1.0) / taken


@dataclass(frozen=True)
class Averages:
    """What of the weights is averaged: while they train, and afterwards.

    Args:
        running: Averages in each update; `None` for nothing.
        soup: Averages the best epochs; `None` for nothing.
    """

    running: Running | None = None
    soup: Soup | None = None

    @property
    def told(self) -> str:
        """What is validated and kept, in a sentence; `""` where it is the weights as they are."""
        if self.running is None:
            return ""
        return (
            f"average of weights: {self.running.told()}; it is what is validated, kept and exported"
        )


def sort_out(nodes: Mapping[str, Any]) -> Averages:
    """Return what the nodes of `average` are for.

    Args:
        nodes: What they made, by name.

    Raises:
        UserError: If two are for the same, or one is for neither.
    """
    soups = {name: one for name, one in nodes.items() if isinstance(one, Soup)}
    running = {
        name: one for name, one in nodes.items()
        if all(callable(getattr(one, of, None)) for of in ("stays", "of_stage", "schedule", "told"))
    }
    if strange := set(nodes) - set(soups) - set(running):
        name = sorted(strange)[0]
        raise UserError(
            f"average.{name} must be an average of weights: kerasft.training.averages.Ema or Swa, "
            f"or kerasft.training.soup.Soup. Received: {type(nodes[name]).__name__}."
        )
    for found in (running, soups):
        if len(found) > 1:
            raise UserError(
                f"average: {' and '.join(found)} exclude one another. Leave one of them out: "
                f"~average.{list(found)[-1]}"
            )
    return Averages(next(iter(running.values()), None), next(iter(soups.values()), None))


def follow(optimizer: keras.Optimizer, running: Running | None, steps: int) -> None:
    """Have an optimizer average what it moves, after each update.

    Keras' own average counts the micro-steps of an accumulation, and begins at zero.

    Args:
        optimizer: The optimizer that moves weights, not built yet; it is changed in place. With
            `use_ema` it averages with its own `ema_momentum` where nothing else is wanted.
        running: What averages; `None` for nothing but that.
        steps: Steps of the stage.
    """
    if running is None and not getattr(optimizer, "use_ema", False):
        return
    every = optimizer.gradient_accumulation_steps or 1
    if running is None:
        running = Ema(decay=optimizer.ema_momentum, warm_up=False)
    in_stage = running.of_stage(steps, every)
    optimizer.use_ema = True

    def update(variables: Sequence[Any]) -> None:
        _update(optimizer, in_stage, every)

    def overwrite(variables: Sequence[Any]) -> None:
        for variable, average in pairs_of(optimizer):
            variable.assign(average)

    optimizer._update_model_variables_moving_average = update
    optimizer.finalize_variable_values = overwrite


def begin(model: keras.Model) -> None:
    """Have averages begin with the weights, those of statistics of batch normalization too.

    Args:
        model: A compiled model whose optimizer is built, and may have been given to `follow`.
    """
    optimizer = innermost(model.optimizer)
    if not getattr(optimizer, "use_ema", False):
        return
    optimizer.averaged_statistics = [
        (variable, optimizer.add_variable_from_reference(variable, name="average"))
        for variable in _statistics(model)
    ]
    for variable, average in pairs_of(optimizer):
        average.assign(variable)


def pairs_of(optimizer: keras.Optimizer) -> list[tuple[Any, Any]]:
    """Return each variable that is averaged, and its average.

    Args:
        optimizer: The optimizer that moves weights.
    """
    if not getattr(optimizer, "use_ema", False):
        return []
    averages = optimizer._model_variables_moving_average
    moved = zip(optimizer._trainable_variables, averages, strict=True)
    return [
        *((variable, average) for variable, average in moved if average is not None),
        *optimizer.averaged_statistics,
    ]


@contextmanager
def in_place(model: keras.Model) -> Iterator[None]:
    """Have a model hold the averages of its weights inside the block, where there are any.

    Args:
        model: A compiled model.
    """
    pairs = pairs_of(innermost(model.optimizer))
    weights = [values_of(variable) for variable, _ in pairs]
    try:
        for variable, average in pairs:
            variable.assign(average)
        yield
    finally:
        for (variable, _), weight in zip(pairs, weights, strict=True):
            variable.assign(weight)


def _update(optimizer: keras.Optimizer, running: Running, every: int) -> None:
    import tensorflow as tf

    done = optimizer._iterations + 1  # this step counted
    update = tf.cast(done // every, tf.float32)

    def average() -> tf.Tensor:
        moves = 1.0 - tf.cast(running.stays(update), tf.float32)
        for variable, average in pairs_of(optimizer):
            now = tf.convert_to_tensor(average.value)
            average.value.assign_sub(tf.cast(moves, now.dtype) * (now - variable.value))
        return tf.constant(True)

    if every == 1:
        average()
    else:
        tf.cond(tf.equal(done % every, 0), average, lambda: tf.constant(False))


def _statistics(model: keras.Model) -> list[Any]:
    """Return the statistics of batch normalization that a model's training moves."""
    import keras

    return [
        variable for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        for variable in layer.non_trainable_variables
    ]

