"""The epochs of a stage: Keras' train function and callbacks, in a loop that can begin anywhere.

`Model.fit` begins an epoch at its first step and resets what callbacks count; a run that goes on
in the middle of one needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kerasft.distributed.group import current
from kerasft.errors import Pruned, Stopped
from kerasft.system import heap
from kerasft.training import replicated
from kerasft.training.faults import Fault
from kerasft.training.lagging import end_of_step


def run(
    model: keras.Model,
    data: Any,
    callbacks: Sequence[Any],
    *,
    first: int,
    last: int,
    steps: int,
    done: int = 0,
    steps_per_execution: int = 1,
    restore: Callable[[], None] | None = None,
    between: Callable[[int, int], None] = lambda epoch, step: None,
    is_left_out: Callable[[int, int], bool] = lambda epoch, step: False,
    waits: bool = True,
) -> None:
    """Train a compiled model for some epochs.

    Args:
        model: The model.
        data: Endless batches, from the step on that is next.
        callbacks: Keras callbacks.
        first: The epoch to begin with.
        last: The epoch to end before.
        steps: Steps in an epoch.
        done: Steps of the first epoch that are done already.
        steps_per_execution: Steps in an execution of the train function.
        restore: Called once the callbacks have begun, to give all its state back.
        between: Told after each execution where the run stands: the epoch and its steps that are
            done. What it raises ends training there.
        is_left_out: Whether a step of an epoch is not to be done; `data` has no batch for it.
        waits: Whether metrics are read after each execution, see `end_of_step`.

    Raises:
        Fault: If a callback found one.
        Stopped: If `between` did.
        Pruned: If a callback did.
    """
    listed = keras.callbacks.CallbackList(
        list(callbacks), add_history=True, add_progbar=False, verbose=0,
        epochs=last, steps=steps, model=model,
    )
    told = listed.on_train_batch_end if waits else end_of_step(listed)
    model.stop_training = False
    group = current()
    if group.strategy is not None:
        model.train_function = replicated.train_function(model, group, steps_per_execution)
    model.make_train_function()
    replicated.spread_seeds(model, group)
    batches = iter(data)
    listed.on_train_begin()
    logs: Any = {}
    is_traced = False
    try:
        for epoch in range(first, last):
            if restore is not None and not done:
                restore()
            model.reset_metrics()
            listed.on_epoch_begin(epoch)
            if restore is not None and done:
                # Callbacks and metrics are in the middle of this epoch.
                restore()
            if restore is not None:
                replicated.spread_seeds(model, group)
            restore = None
            for step in range(done, steps, steps_per_execution):
                if is_left_out(epoch, step):
                    continue
                listed.on_train_batch_begin(step)
                logs = model.train_function(batches)
                told(step + steps_per_execution - 1, logs)
                if not is_traced:
                    heap.give_back()  # what tracing took lies in gaps that steps cannot fill
                    is_traced = True
                (model.stop_training,) = group.any(model.stop_training)
                if model.stop_training:
                    break
                if step + steps_per_execution < steps:
                    between(epoch, step + steps_per_execution)
            done = 0
            figures = dict(model.get_metrics_result())
            logs = {name: float(np.asarray(value)) for name, value in figures.items()}
            listed.on_epoch_end(epoch, logs)
            (model.stop_training,) = group.any(model.stop_training)
            if model.stop_training:
                break
            if epoch + 1 < last:
                between(epoch + 1, 0)
    except (Stopped, Pruned, Fault):
        # They let go of what they hold: files, threads. What they do to the model meanwhile comes
        # too late to matter: its state is written, or taken from an earlier one.
        listed.on_train_end(logs)
        raise
    if hasattr(model.optimizer, "finalize_variable_values"):
        model.optimizer.finalize_variable_values(model.trainable_weights)
    listed.on_train_end(logs)


def build_metrics(model: keras.Model, batch: tuple[Any, ...]) -> None:
    """Make the variables of a compiled model's metrics, which otherwise the first step makes.

    Args:
        model: The model.
        batch: Inputs, targets, and weights if any.
    """
    inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(batch)
    outputs = model(inputs, training=False)
    # The loss counts each output by itself, where there are several.
    model.compute_loss(inputs, targets, outputs, weights, training=False)
    model.compute_metrics(inputs, targets, outputs, weights)
    model.reset_metrics()
