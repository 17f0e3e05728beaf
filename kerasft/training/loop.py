"""The loop around Keras' own step: stage after stage in one run, and the best weights back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasft.training import frozen
from kerasft.training.callbacks import EpochLog, FirstStep, KeepBest, StopAtNaN, Validation
from kerasft.training.fused import add_up_rows, fuse
from kerasft.training.stages import Stage, describe, select
from kerasft.training.supply import Supply


@dataclass(frozen=True)
class Feed:
    """What a stage is fed with.

    Args:
        batches: Training batches, with `steps` in an epoch and `from_step(first)`.
        validate: Figures of the validation split for the model as it is.
        entry: What the model computes through meanwhile, see `Assembled.entered`; `None` for its
            whole graph.
        at_once: The most steps that run without a look at what came out, where one is so short that
            Python's part would be the larger one.
    """

    batches: Any
    validate: Callable[[Any], dict[str, float]]
    entry: Callable | None = None
    at_once: int = 1


@dataclass(frozen=True)
class History:
    """What a training run went through.

    Args:
        rows: One dict an epoch: `epoch`, `stage`, figures, `learning_rate`, `seconds`.
        best_epoch: The epoch whose weights the model holds now, counted from 1.
        best_stage: The stage that it belongs to.
        best_value: The monitor's value there.
        stopped_early: The stages that ended before their last epoch.
    """

    rows: list[dict[str, Any]]
    best_epoch: int
    best_stage: str
    best_value: float
    stopped_early: tuple[str, ...] = field(default_factory=tuple)


def fit(
    model: Any,
    feed: Callable[[str, frozen.Cut | None, int], Feed],
    *,
    steps: int,
    stages: Mapping[str, Stage],
    task: Any,
    optimizer: Callable[[Any], Any],
    schedule: Callable[[float, int], Any],
    learning_rate: float | None,
    usual_rate: float,
    pretrained: bool,
    callbacks: Callable[[], Mapping[str, Any]] = dict,
    output_dir: Path | None = None,
    max_steps: int | None = None,
    fast: bool = True,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
    on_stage: Callable[[str, Stage, float, int, list[tuple[str, int, int]]], None] | None = None,
) -> History:
    """Train a model stage by stage.

    Args:
        model: The assembled model.
        feed: Gives what a stage is fed with: of its name, where its graph can be cut, and its
            epochs.
        steps: Steps in an epoch.
        stages: Stages by name, in order.
        task: Gives loss, metrics, monitor and mode.
        optimizer: Makes an optimizer for a rate or schedule.
        schedule: Makes a schedule of a peak and a number of steps.
        learning_rate: The peak that the user chose, or `None`.
        usual_rate: The peak for the backbone as a whole where the user chose none.
        pretrained: Whether the backbone is pretrained.
        callbacks: Makes the user's callbacks anew for each stage.
        output_dir: The run folder; `None` writes nothing.
        max_steps: The most steps of a stage.
        fast: Whether the optimizer's update is fused, see `fuse`.
        progress: Whether Keras' progress bar is drawn.
        say: Prints a line; `None` for a run that says nothing.
        on_stage: Told of each stage before its first step: its name, the stage, its peak rate, its
            steps, and what trains.

    Returns:
        A `History`; the model holds the best epoch's weights.
    """
    keep = KeepBest(task.monitor, task.mode, output_dir and output_dir / "checkpoints")
    heard = say or (lambda line: None)
    log = EpochLog(output_dir and output_dir / "logs", None if progress else heard)
    log.shown = (
        "loss", "val_loss", "accuracy", "mae", "val_accuracy", "val_pearson", task.monitor,
    )
    of_all = steps
    steps, to_run = planned(stages, steps, max_steps)
    log.epochs = sum(to_run.values())
    first_epoch, stopped = 0, []
    for name, stage in stages.items():
        epochs = to_run[name]
        select(model, stage, pretrained=pretrained)
        peak = stage.peak(learning_rate, usual_rate)
        if on_stage is not None:
            on_stage(name, stage, peak, steps * epochs, describe(model))
        fed = feed(name, frozen.cut(model), epochs)
        at_once = together(fed.at_once, steps)
        compiled(
            model, optimizer(schedule(peak, steps * epochs)), task,
            steps=steps * epochs, fast=fast, at_once=at_once,
        )
        log.stage = keep.current_stage = name
        before = len(log.rows)
        with model.entered(fed.entry):
            model.fit(
                fed.batches.from_step(first_epoch * of_all),
                initial_epoch=first_epoch,
                epochs=first_epoch + epochs,
                steps_per_epoch=steps,
                shuffle=False,
                verbose=1 if progress else 0,
                callbacks=[
                    StopAtNaN(), FirstStep(heard, reports=not first_epoch),
                    Validation(fed.validate), keep, log, *callbacks().values(),
                    # Last, since what it measures takes time that is not the epoch's.
                    *([Supply(fed.batches, first_epoch * of_all, say)] if say else []),
                ],
            )
        done = len(log.rows) - before
        if done < epochs:
            stopped.append(name)
            log.epochs -= epochs - done
        first_epoch += done
    keep.close(model)
    return History(log.rows, keep.epoch, keep.stage, keep.best or 0.0, tuple(stopped))


def planned(
    stages: Mapping[str, Stage], steps: int, max_steps: int | None
) -> tuple[int, dict[str, int]]:
    """Return the steps of an epoch and the epochs of each stage.

    With fewer steps allowed than an epoch has, an epoch ends there; with more, a stage ends after
    whole epochs.

    Args:
        stages: Stages by name.
        steps: Steps that all training examples take.
        max_steps: The most steps of a stage.

    Example:
        >>> planned({"full": Stage("all", epochs=3)}, 100, 250)
        (100, {'full': 2})
    """
    steps = min(steps, max_steps or steps)
    return steps, {
        name: min(stage.epochs, (max_steps or stage.epochs * steps) // steps)
        for name, stage in stages.items()
    }


def together(most: int, steps: int) -> int:
    """Return how many steps run in one execution: an epoch ends where an execution does.

    Example:
        >>> together(32, 217), together(32, 211)
        (31, 1)
    """
    return max(n for n in range(1, most + 1) if steps % n == 0)


def compiled(
    model: Any, optimizer: Any, task: Any, *, steps: int, fast: bool, at_once: int = 1
) -> None:
    """Compile a model whose variables are selected, with an optimizer ready for its first step."""
    exclude_from_decay(optimizer, model)
    add_up_rows(optimizer)
    if fast:
        fuse(optimizer, steps=steps)
    # Slots made in the first step would have TensorFlow trace it twice.
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer=optimizer, loss=task.loss(), metrics=task.metrics(), jit_compile=False,
        steps_per_execution=at_once,
    )


def exclude_from_decay(optimizer: Any, model: Any) -> None:
    """Leave norms and biases, which have one dimension or none, out of weight decay."""
    if getattr(optimizer, "weight_decay", None):
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in model.trainable_variables if len(v.shape) < 2]
        )
