"""The loop around Keras' own step: stage after stage in one run, and the best weights back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

from kerasft.training import epochs, frozen, recorder
from kerasft.training.callbacks import EpochLog, FirstStep, KeepBest, Validation
from kerasft.training.checkpoint import Position, Saver, State
from kerasft.training.faults import Fault, Policy, Watch
from kerasft.training.fused import add_up_rows, fuse
from kerasft.training.replay import Replay
from kerasft.training.stages import Stage, describe, select
from kerasft.training.supply import Supply
from kerasft.training.watchdog import Watchdog, standing


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
    run = _Run(
        model, task, optimizer, schedule, callbacks, fast, progress, saver, replay, say, logs,
        keep, log, watch,
    )
    at = Position(next(iter(stages)), 0, 0, 0)
    if resumed is None:
        # An earlier process may have died before its first checkpoint.
        log.set_state({"rows": [], "epochs": log.epochs})
    else:
        at = run.take_up(resumed)
        heard(f"going on after {at.epoch} epochs and {at.step} of {steps} steps")
    began, names = at.began, list(stages)
    for name in names[names.index(at.stage) :] if at.stage else []:
        stage = stages[name]
        select(model, stage, pretrained=pretrained)
        peak = stage.peak(learning_rate, usual_rate)
        if on_stage is not None:
            on_stage(name, stage, peak, steps * to_run[name], describe(model))
        course = _Course(
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
    if replay is not None:
        replay.require_done()
    keep.close(model)
    return History(log.rows, keep.epoch, keep.stage, keep.best or 0.0, tuple(run.stopped))


@dataclass(frozen=True)
class _Course:
    """A stage: what it is fed with, and from where to where it goes.

    Args:
        name: Its name.
        following: The next one's; `""` after the last one.
        peak: Its peak learning rate.
        fed: What it is fed with.
        began: The epoch that it begins with.
        last: The epoch that it ends before.
        steps: Steps of an epoch.
        of_all: Steps that all training examples take.
    """

    name: str
    following: str
    peak: float
    fed: Feed
    began: int
    last: int
    steps: int
    of_all: int

    def place(self, epoch: int, step: int) -> int:
        """Return the number of the batch at a step, counted over all epochs of all stages."""
        return self.began * self.of_all + (epoch - self.began) * self.steps + step


@dataclass
class _Run:
    """What all stages of a run share."""

    model: Any
    task: Any
    optimizer: Callable[[Any], Any]
    schedule: Callable[[float, int], Any]
    callbacks: Callable[[], Mapping[str, Any]]
    fast: bool
    progress: bool
    saver: Saver | None
    replay: Replay | None
    say: Callable[[str], None] | None
    logs: Path | None
    keep: KeepBest
    log: EpochLog
    watch: Watch
    stopped: list[str] = field(default_factory=list)

    @property
    def ours(self) -> dict[str, Any]:
        return {"best": self.keep, "log": self.log, "watch": self.watch}

    def take_up(self, state: State) -> Position:
        """Give model, log and the rest what they were, and return where that was."""
        recorder.restore_variables("model", self.model.variables, state)
        recorder.restore_callbacks(self.ours, state)
        self.stopped[:] = state.plain["stopped"]
        return state.position

    def go(self, course: _Course, here: Position, state: State | None, *, first: bool) -> int:
        """Train from a position to the end of its stage.

        Args:
            course: The stage.
            here: The position.
            state: What the run was there; `None` where it comes from the stage before.
            first: Whether it is the first stage of this process.

        Returns:
            The epochs that are done then.
        """
        model, watch, fed = self.model, self.watch, course.fed
        heard = self.say or (lambda line: None)
        amid = state if here.epoch > course.began or here.step else None
        # An epoch goes on where it was, though an execution may have held other steps then.
        to = self.replay.wanted.position.step if self.replay else 0
        at_once = gcd(together(fed.at_once, course.steps), here.step, to)
        at_once = 1 if watch.carefully else at_once
        steps = course.steps * (course.last - course.began)
        compiled(
            model, self.optimizer(self.schedule(course.peak * watch.rate, steps)), self.task,
            steps=steps, fast=self.fast, at_once=at_once,
        )
        own = self.callbacks()
        record = recorder.Recorder(
            model, self.saver, self.ours | {f"own/{key}": one for key, one in own.items()},
            watch=watch, replay=self.replay, stage=course.name, began=course.began,
            stopped=self.stopped, at_once=at_once,
        )
        if amid:
            epochs.build_metrics(model, fed.batches.targets[:1])
        watch.begin(fed.batches, course.place, at_once)
        record.begin(here, state)
        ahead = course.place(here.epoch, here.step)
        watchdog = Watchdog(
            watch.policy.stall_minutes, partial(standing, fed.batches, watch.ids), self.logs, heard
        )
        with (
            self.saver.attending() if self.saver else nullcontext(),
            model.entered(fed.entry), watchdog.watching(),
        ):
            epochs.run(
                model, fed.batches.from_step(ahead, without=watch.skipped), first=here.epoch,
                last=course.last, steps=course.steps, done=here.step, at_once=at_once,
                progress=self.progress, restore=partial(record.restore, amid) if amid else None,
                between=record.at,
                is_left_out=lambda epoch, step: course.place(epoch, step) in watch.skipped,
                callbacks=[
                    watchdog, watch, FirstStep(heard, reports=first), Validation(fed.validate),
                    self.keep, self.log, *own.values(),
                    # Last, since what it measures takes time that is not the epoch's.
                    *([Supply(fed.batches, ahead, self.say)] if self.say else []),
                ],
            )
            ended = len(self.log.rows)
            if ended < course.last:
                self.stopped.append(course.name)
                self.log.epochs -= course.last - ended
            record.close(course.following, ended)
        return ended


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
