"""The loop around Keras' own step: stage after stage in one run, and the best weights back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kerasft.errors import UserError
from kerasft.training import frozen
from kerasft.training.callbacks import EpochLog, KeepBest
from kerasft.training.checkpoint import Position, Saver, State
from kerasft.training.faults import Fault, Policy, Watch
from kerasft.training.replay import Replay
from kerasft.training.stage_run import Course, Feed, Run
from kerasft.training.stages import Stage, describe, is_head_alone, select


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
    ids: Sequence[str],
    steps: int,
    stages: Mapping[str, Stage],
    task: Any,
    optimizer: Callable[[Any], Any],
    schedule: Callable[[float, int], Any],
    learning_rate: float | None,
    usual_rate: float,
    pretrained: bool,
    policy: Policy | None = None,
    callbacks: Callable[[], Mapping[str, Any]] = dict,
    output_dir: Path | None = None,
    max_steps: int | None = None,
    fast: bool = True,
    progress: bool = False,
    saver: Saver | None = None,
    resumed: State | None = None,
    replay: Replay | None = None,
    say: Callable[[str], None] | None = None,
    on_stage: Callable[[str, Stage, float, int, list[tuple[str, int, int]]], None] | None = None,
    on_stage_end: Callable[[list[dict[str, Any]]], None] | None = None,
) -> History:
    """Train a model stage by stage.

    Args:
        model: The assembled model.
        feed: Gives what a stage is fed with: of its name, where its graph can be cut, and its
            epochs.
        ids: The names of the training examples, in order.
        steps: Steps in an epoch.
        stages: Stages by name, in order.
        task: Gives loss, metrics, monitor and mode.
        optimizer: Makes an optimizer for a rate or schedule.
        schedule: Makes a schedule of a peak and a number of steps.
        learning_rate: The peak that the user chose, or `None`.
        usual_rate: The peak for the backbone as a whole where the user chose none.
        pretrained: Whether the backbone is pretrained.
        policy: What is done about faults; `None` for its defaults.
        callbacks: Makes the user's callbacks anew for each stage.
        output_dir: The run folder; `None` writes nothing.
        max_steps: The most steps of a stage.
        fast: Whether the optimizer's update is fused, see `fuse`.
        progress: Whether Keras' progress bar is drawn.
        saver: Writes checkpoints; `None` writes none.
        resumed: What to go on from; `None` begins at the beginning.
        replay: What an earlier process wrote further on, to be compared with; `None` for nothing.
        say: Prints a line; `None` for a run that says nothing.
        on_stage: Told of each stage before its first step: its name, the stage, its peak rate, its
            steps, and what trains.
        on_stage_end: Told after each stage of all epochs so far, as `History` has them.

    Returns:
        A `History`; the model holds the best epoch's weights.
    """
    heard = say or (lambda line: None)
    logs = output_dir and output_dir / "logs"
    keep = KeepBest(
        task.monitor, task.mode, output_dir and output_dir / "checkpoints",
        top=saver.policy.top if saver else 0,
    )
    keep.set_model(model)
    log = EpochLog(logs, None if progress else heard)
    log.shown = (
        "loss", "val_loss", "accuracy", "mae", "val_accuracy", "val_pearson", task.monitor,
    )
    watch = Watch(policy or Policy(), ids, logs, heard)
    of_all = steps
    steps, to_run = planned(stages, steps, max_steps)
    log.epochs = sum(to_run.values())
    run = Run(
        model, task, optimizer, schedule, callbacks, fast, progress, saver, replay, say, logs,
        keep, log, watch,
    )
    at = Position(next(iter(stages)), 0, 0, 0)
    if resumed is None:
        # An earlier process may have died before its first checkpoint.
        log.set_state({"rows": [], "epochs": log.epochs})
    else:
        at = run.take_up(resumed)
        if at.stage not in (*stages, ""):
            raise UserError(
                f"The checkpoint is of the stage {at.stage!r}, and the run has only "
                f"{', '.join(stages)}. Begin anew in another folder."
            )
        if resumed.plain.get("steps", steps) != steps:
            heard("warning: an epoch has other steps than before; the last one begins anew")
            at = replace(at, step=0)
        heard(f"going on after {at.epoch} epochs and {at.step} of {steps} steps")
    began, names = at.began, list(stages)
    for name in names[names.index(at.stage) :] if at.stage else []:
        stage = stages[name]
        select(model, stage, pretrained=pretrained)
        peak = stage.peak(learning_rate, usual_rate, head_alone=is_head_alone(model))
        if on_stage is not None:
            on_stage(name, stage, peak, steps * to_run[name], describe(model))
        course = Course(
            name, dict(zip(names, [*names[1:], ""], strict=True))[name], peak,
            feed(name, frozen.cut(model), to_run[name]), began, began + to_run[name], steps, of_all,
        )
        log.stage = keep.current_stage = name
        here = at if name == at.stage else Position(name, began, began, 0)
        state = resumed if name == at.stage else None
        while True:
            try:
                began = run.go(course, here, state, first=name == at.stage and state is resumed)
                break
            except Fault as fault:
                state = watch.answer(fault)
                here = run.take_up(state)
        if on_stage_end is not None:
            on_stage_end(log.rows)
    if replay is not None:
        replay.require_done()
    keep.close(model)
    return History(log.rows, keep.epoch, keep.stage, keep.best or 0.0, tuple(run.stopped))


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
