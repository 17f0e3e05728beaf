"""A stage on its way: the model compiled for it, fed, watched, and trained from a position on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

import keras

from kerasft.training import epochs, recorder
from kerasft.training.callbacks import EpochLog, FirstStep, KeepBest, Validation
from kerasft.training.checkpoint import Position, Saver, State
from kerasft.training.faults import Watch
from kerasft.training.fused import add_up_rows, fuse
from kerasft.training.input_stall import Supply
from kerasft.training.replay import Replay
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
        kept: Whether the batches hold what the frozen part computed earlier.
    """

    batches: Any
    validate: Callable[[Any], dict[str, float]]
    entry: Callable | None = None
    at_once: int = 1
    kept: bool = False


@dataclass(frozen=True)
class Course:
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
class Run:
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
    warned: set[str] = field(default_factory=set)

    @property
    def ours(self) -> dict[str, Any]:
        return {"best": self.keep, "log": self.log, "watch": self.watch}

    def take_up(self, state: State) -> Position:
        """Give model, log and the rest what they were, and return where that was."""
        recorder.restore_variables("model", self.model.variables, state)
        recorder.restore_callbacks(self.ours, state)
        recorder.give_random(state)
        self.stopped[:] = state.plain.get("stopped", [])
        return state.position

    def go(self, course: Course, here: Position, state: State | None, *, first: bool) -> int:
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
        form = {
            "activations": "kept" if fed.kept else "computed",
            "precision": keras.config.dtype_policy().name,
            "devices": ", ".join(keras.distribution.list_devices()),
        }
        heard = self.say or (lambda line: None)
        amid = state if here.epoch > course.began or here.step else None
        for difference in unlike(amid.plain.get("form", {}), form) if amid else ():
            heard(f"warning: the stage goes on otherwise than before, up to rounding: {difference}")
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
            stopped=self.stopped, at_once=at_once, facts={"steps": course.steps, "form": form},
            say=heard, warned=self.warned,
        )
        if amid:
            with model.entered(fed.entry):
                epochs.build_metrics(model, next(iter(fed.batches.from_step().take(1))))
        watch.begin(fed.batches, course.place, at_once)
        record.begin(here, state)
        ahead = course.place(here.epoch, here.step)
        watchdog = Watchdog(
            watch.policy.stall_minutes, partial(standing, fed.batches, watch.ids), self.logs, heard
        )
        validation = Validation(
            fed.validate, self.saver.interrupting if self.saver else nullcontext,
            begin=lambda epoch: record.compare(epoch, course.steps),
            stop=lambda epoch: record.at(epoch, course.steps),
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
                    watchdog, watch, FirstStep(heard, reports=first), validation,
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


def unlike(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say what is otherwise than it was.

    Example:
        >>> unlike({"precision": "float32"}, {"precision": "mixed_bfloat16"})
        ['precision was float32, now mixed_bfloat16']
    """
    return [f"{n} was {then[n]}, now {now[n]}" for n in now if n in then and then[n] != now[n]]


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
        optimizer=optimizer, jit_compile=False, steps_per_execution=at_once, **task.compile()
    )
    if not model.optimizer.built:  # Keras put another one around it, which scales the loss
        model.optimizer.build(model.trainable_variables)


def exclude_from_decay(optimizer: Any, model: Any) -> None:
    """Leave norms and biases, which have one dimension or none, out of weight decay."""
    if getattr(optimizer, "weight_decay", None):
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in model.trainable_variables if len(v.shape) < 2]
        )
