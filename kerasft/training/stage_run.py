"""One stage of a run: compiled, fed, watched, and trained from a position to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

import keras

from kerasft.distributed.group import current
from kerasft.system.accelerators import gpus, is_deterministic
from kerasft.system.tf_data import prefetched
from kerasft.training import averages, epochs, recorder, replicated
from kerasft.training.callbacks import Ends, OnEpoch, Validation
from kerasft.training.checkpoint import Position, Saver, State
from kerasft.training.epoch_log import EpochLog
from kerasft.training.faults import Policy, Watch
from kerasft.training.input_stall import InputStall
from kerasft.training.keep_best import KeepBest
from kerasft.training.progress import EpochBar
from kerasft.training.proof import FirstStep
from kerasft.training.recipe import Recipe
from kerasft.training.replay import Replay
from kerasft.training.stages import Stage
from kerasft.training.trainability import Part
from kerasft.training.updates import Updates
from kerasft.training.watchdog import Watchdog, pipeline_state


@dataclass(frozen=True)
class Feed:
    """What a stage is fed with.

    Args:
        batches: Training batches, with `steps` in an epoch and `from_step(first)`.
        validate: Figures of the validation split for the model as it is.
        entry: What the model computes through meanwhile, see `Assembled.entered`; `None` for its
            whole graph.
        steps_per_execution: The most training steps in a call of the compiled function; more than 1
            where a step is shorter than Python's part of it.
        kept: Whether the batches hold what the frozen part computed earlier.
        image_size: Rows and columns of the images where they are not the model's own; metrics are
            then those of another task, and not compared with others.
        ends: From which epoch on a step of augmentation is left out, of those that end.
    """

    batches: Any
    validate: Callable[[Any], dict[str, float]]
    entry: Callable | None = None
    steps_per_execution: int = 1
    kept: bool = False
    image_size: tuple[int, int] | None = None
    ends: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRun:
    """A stage as it is run: what it is fed with, and its epochs among those of the whole run.

    Args:
        name: Its name.
        following: The next one's; `""` after the last one.
        peak: Its peak learning rate.
        fed: What it is fed with.
        first_epoch: The epoch that it begins with.
        end_epoch: The epoch that it ends before.
        steps: Steps of an epoch.
        full_steps: Steps that all training examples take.
    """

    name: str
    following: str
    peak: float
    fed: Feed
    first_epoch: int
    end_epoch: int
    steps: int
    full_steps: int

    def global_batch(self, epoch: int, step: int) -> int:
        """Return the number of the batch at a step, counted over all epochs of all stages."""
        before = self.first_epoch * self.full_steps
        return before + (epoch - self.first_epoch) * self.steps + step


@dataclass(frozen=True)
class Recovery:
    """How a run outlives faults and stops.

    Args:
        policy: What is done about faults.
        saver: Writes checkpoints; `None` writes none.
        resumed: What to go on from; `None` begins at the beginning.
        replay: What an earlier process wrote further on, to be compared with; `None` for nothing.
    """

    policy: Policy = field(default_factory=Policy)
    saver: Saver | None = None
    resumed: State | None = None
    replay: Replay | None = None


@dataclass(frozen=True)
class Reporting:
    """What a run writes and shows of itself while it trains.

    Args:
        output_dir: The run folder; `None` writes nothing.
        progress: Whether a bar is drawn of the epoch at work.
        say: Prints a line; `None` for a run that says nothing.
        on_stage: Called with each stage before its first step: its name, the stage, its peak rate,
            its steps, and what trains, see `Part`.
        on_stage_end: Called after each stage with all epochs so far, as `History` has them.
        on_epoch: Called likewise after each epoch.
    """

    output_dir: Path | None = None
    progress: bool = False
    say: Callable[[str], None] | None = None
    on_stage: Callable[[str, Stage, float, int, list[Part]], None] | None = None
    on_stage_end: Callable[[list[dict[str, Any]]], None] | None = None
    on_epoch: Callable[[list[dict[str, Any]]], None] | None = None

    @property
    def logs(self) -> Path | None:
        return self.output_dir and self.output_dir / "logs"

    def line(self, text: str) -> None:
        """Print a line, if the run says anything."""
        if self.say is not None:
            self.say(text)


@dataclass
class Run:
    """What all stages of a run share.

    Args:
        model: The assembled model.
        recipe: How it is trained.
        recovery: How it outlives faults and stops.
        reporting: What it writes and shows.
        keep: The best weights.
        log: The figures of each epoch.
        watch: Looks for faults.
        stopped: The stages that ended early.
        warned: What was warned of already.
        told: The steps of augmentation whose end was told.
        updates: How far the weights move in each epoch.
    """

    model: Any
    recipe: Recipe
    recovery: Recovery
    reporting: Reporting
    keep: KeepBest
    log: EpochLog
    watch: Watch
    updates: Updates
    stopped: list[str] = field(default_factory=list)
    warned: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)

    @property
    def ours(self) -> dict[str, Any]:
        return {
            "best": self.keep, "log": self.log, "watch": self.watch, "updates": self.updates,
        }  # fmt: skip

    def take_up(self, state: State) -> Position:
        """Give model, log and the rest what they were, and return where that was."""
        recorder.restore_variables("model", self.model.variables, state)
        recorder.restore_callbacks(self.ours, state)
        recorder.give_random(state)
        self.stopped[:] = state.plain.get("stopped", [])
        return state.position

    def solve(
        self, name: str, peak: float, epoch: int,
        solve: Callable[[Any], dict[str, float]], validate: Callable[[Any], dict[str, float]],
    ) -> None:
        """Have the head computed in place of an epoch of training.

        A run that is stopped before the next stage computes it again.

        Args:
            name: The stage.
            peak: Its peak learning rate, which nothing learns at.
            epoch: The epoch that it is among those of the whole run.
            solve: Sets the head's weights, and returns figures of the training split.
            validate: Figures of the validation split.
        """
        self.log.stage = self.keep.current_stage = name
        self.log.image_size, self.keep.is_comparable = None, True
        self.recipe.compile(self.model, peak, 1)
        self.keep.as_kept = nullcontext
        listed = keras.callbacks.CallbackList(
            [Validation(validate), self.keep, self.log], model=self.model, epochs=epoch + 1, steps=0
        )
        listed.on_train_begin()
        listed.on_epoch_begin(epoch)
        listed.on_epoch_end(epoch, dict(solve(self.model)))
        listed.on_train_end()

    def go(self, stage: StageRun, here: Position, state: State | None, *, first: bool) -> int:
        """Train from a position to the end of its stage.

        Args:
            stage: The stage.
            here: The position.
            state: What the run was there; `None` where it comes from the stage before.
            first: Whether it is the first stage of this process.

        Returns:
            The epochs that are done then.
        """
        model, watch, fed, line = self.model, self.watch, stage.fed, self.reporting.line
        self.log.stage = self.keep.current_stage = self.updates.stage = stage.name
        self.updates.peak = stage.peak * watch.rate
        self.log.image_size = fed.image_size
        self.keep.is_comparable = fed.image_size is None
        saver, replay, tell = self.recovery.saver, self.recovery.replay, self.reporting.on_epoch
        form = {
            "activations": "kept" if fed.kept else "computed",
            "precision": keras.config.dtype_policy().name,
            "devices": ", ".join(keras.distribution.list_devices()),
            "deterministic": str(is_deterministic()).lower(),
            "jit_compile": str(self.recipe.jit_compile).lower(),
            "replicas": str(current().replicas),
            "workers": str(current().workers),
        }
        amid = state if here.epoch > stage.first_epoch or here.step else None
        for difference in unlike(amid.plain.get("form", {}), form) if amid else ():
            # The same seeds, but those of another replica for some examples.
            draws = ", and dropout draws other random numbers" * difference.startswith("replicas ")
            line("warning: the stage is resumed under other settings; results may differ by "
                 f"rounding{draws}: {difference}")
        # An epoch goes on where it was, though an execution may have held other steps then.
        to = replay.wanted.position.step if replay else 0
        per_execution = gcd(together(fed.steps_per_execution, stage.steps), here.step, to)
        # One step at a time is what a fault is found in, and what the proof of rates looks at.
        factors = self.recipe.factors(model, stage.name)
        group = current()
        one_by_one = watch.carefully or factors
        per_execution = 1 if one_by_one else per_execution
        self.recipe.compile(
            model, stage.peak * watch.rate, stage.steps * (stage.end_epoch - stage.first_epoch),
            steps_per_execution=per_execution, factors=factors,
        )
        as_kept = partial(averages.in_place, model)
        self.keep.as_kept = as_kept
        own = self.recipe.callbacks()
        record = recorder.Recorder(
            model, saver, self.ours | {f"own/{key}": one for key, one in own.items()},
            watch=watch, replay=replay, stopped=self.stopped, stage=recorder.AtStage(
                stage.name, stage.first_epoch, per_execution, {"steps": stage.steps, "form": form}
            ), remarks=recorder.Remarks(line, self.warned),
        )
        if amid:
            with model.entered(fed.entry):
                epochs.build_metrics(model, next(iter(fed.batches.from_step().take(1))))
        watch.begin(fed.batches, stage.global_batch, per_execution)
        record.begin(here, state)
        ahead = stage.global_batch(here.epoch, here.step)
        watchdog = Watchdog(
            watch.policy.stall_minutes, partial(pipeline_state, fed.batches, watch.ids),
            self.reporting.logs, line,
        )
        bar = EpochBar(
            stage.name, lambda: self.log.epochs, stage.end_epoch, stage.steps, self.log.running,
            is_last=not stage.following, done=here.step,
        ) if self.reporting.progress else None
        validation = Validation(
            bar.validating(fed.validate) if bar else fed.validate,
            saver.interrupting if saver else nullcontext,
            begin=lambda epoch: record.compare(epoch, stage.steps),
            stop=lambda epoch: record.at(epoch, stage.steps), as_kept=as_kept,
        )
        with (
            saver.attending() if saver else nullcontext(),
            model.entered(fed.entry), watchdog.watching(),
            bar.drawn() if bar else nullcontext(), group.noticed(),
        ):
            batches = fed.batches.from_step(ahead, without=watch.skipped)
            if self.recipe.prefetch_to_device and gpus():
                batches = prefetched(batches, "/GPU:0")
            epochs.run(
                model, batches if group.strategy is None else replicated.dealt(batches, group),
                first=here.epoch,
                last=stage.end_epoch, steps=stage.steps, done=here.step,
                steps_per_execution=per_execution, waits=not watch.lag,
                restore=partial(record.restore, amid) if amid else None, between=record.at,
                is_left_out=lambda epoch, step: stage.global_batch(epoch, step) in watch.skipped,
                callbacks=[
                    watchdog, *([bar] if bar else []), watch, Ends(fed.ends, line, self.told),
                    FirstStep(line, factors=factors, reports=first, settle=watch.settle),
                    validation,
                    self.keep, self.log, self.updates,
                    *([OnEpoch(lambda *_: tell(self.log.rows))] if tell else []), *own.values(),
                    # Last, since what it measures takes time that is not the epoch's.
                    *([InputStall(fed.batches, ahead, line)] if self.reporting.say else []),
                ],
            )
            ended = len(self.log.rows)
            if ended < stage.end_epoch:
                self.stopped.append(stage.name)
                self.log.epochs -= stage.end_epoch - ended
            record.close(stage.following, ended)
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
