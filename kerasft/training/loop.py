"""The loop around Keras' own step: stage after stage in one run, and the best weights back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

from kerasft.training import epochs, frozen, recorder
from kerasft.training.callbacks import EpochLog, FirstStep, KeepBest, StopAtNaN, Validation
from kerasft.training.checkpoint import Position, Saver, State
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
    saver: Saver | None = None,
    resumed: State | None = None,
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
        saver: Writes checkpoints; `None` writes none.
        resumed: What to go on from; `None` begins at the beginning.
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
    at = resumed.position if resumed else Position(next(iter(stages)), 0, 0, 0)
    began, stopped = at.began, []
    if resumed is None:
        # An earlier process may have died before its first checkpoint.
        log.set_state({"rows": [], "epochs": log.epochs})
    else:
        recorder.restore_variables("model", model.variables, resumed)
        keep.set_model(model)
        recorder.restore_callbacks({"best": keep, "log": log}, resumed)
        stopped = resumed.plain["stopped"]
        heard(f"going on after {at.epoch} epochs and {at.step} of {steps} steps")
    names = list(stages)
    for name in names[names.index(at.stage) :] if at.stage else []:
        stage, last = stages[name], began + to_run[name]
        select(model, stage, pretrained=pretrained)
        peak = stage.peak(learning_rate, usual_rate)
        if on_stage is not None:
            on_stage(name, stage, peak, steps * to_run[name], describe(model))
        fed = feed(name, frozen.cut(model), to_run[name])
        here = at if name == at.stage else Position(name, began, began, 0)
        # An epoch goes on where it was, though an execution may have held other steps then.
        at_once = gcd(together(fed.at_once, steps), here.step)
        compiled(
            model, optimizer(schedule(peak, steps * to_run[name])), task,
            steps=steps * to_run[name], fast=fast, at_once=at_once,
        )
        log.stage = keep.current_stage = name
        begun = resumed if here.epoch > began or here.step else None
        own = callbacks()
        record = recorder.Recorder(
            model, saver,
            {"best": keep, "log": log} | {f"own/{key}": one for key, one in own.items()},
            stage=name, began=began, stopped=stopped, at_once=at_once,
        )
        if begun:
            epochs.build_metrics(model, fed.batches.targets[:1])
        ahead = began * of_all + (here.epoch - began) * steps + here.step
        with saver.signals.heeded() if saver else nullcontext():
            with model.entered(fed.entry):
                epochs.run(
                    model, fed.batches.from_step(ahead), first=here.epoch, last=last, steps=steps,
                    done=here.step, at_once=at_once, progress=progress,
                    restore=partial(record.restore, begun) if begun else None,
                    between=record.at,
                    callbacks=[
                        StopAtNaN(), FirstStep(heard, reports=name == at.stage),
                        Validation(fed.validate), keep, log, *own.values(),
                        # Last, since what it measures takes time that is not the epoch's.
                        *([Supply(fed.batches, ahead, say)] if say else []),
                    ],
                )
            ended = len(log.rows)
            if ended < last:
                stopped.append(name)
                log.epochs -= last - ended
            began = ended
            record.close(dict(zip(names, [*names[1:], ""], strict=True))[name], began)
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
    if not model.optimizer.built:  # Keras put another one around it, which scales the loss
        model.optimizer.build(model.trainable_variables)


def exclude_from_decay(optimizer: Any, model: Any) -> None:
    """Leave norms and biases, which have one dimension or none, out of weight decay."""
    if getattr(optimizer, "weight_decay", None):
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in model.trainable_variables if len(v.shape) < 2]
        )
