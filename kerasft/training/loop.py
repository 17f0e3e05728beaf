"""The loop around Keras' own step: stage after stage in one run, and the best weights back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError, some
from kerasft.training.checkpoint import Position
from kerasft.training.epoch_log import EpochLog
from kerasft.training.faults import Fault, Watch
from kerasft.training.keep_best import KeepBest
from kerasft.training.recipe import Recipe
from kerasft.training.soup import Ingredients, Made
from kerasft.training.stage_run import Feed, Recovery, Reporting, Run, StageRun
from kerasft.training.updates import Updates

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class History:
    """What a training run went through.

    Args:
        rows: One dict an epoch: `epoch`, `stage`, figures, `learning_rate`, `seconds`.
        best_epoch: The epoch whose weights the model holds now, counted from 1.
        best_stage: The stage that it belongs to.
        best_value: The monitor's value there.
        stopped_early: The stages that ended before their last epoch.
        soup: What the mean of the best epochs came to, where the config wants one.
    """

    rows: list[dict[str, Any]]
    best_epoch: int
    best_stage: str
    best_value: float
    stopped_early: tuple[str, ...] = field(default_factory=tuple)
    soup: Made | None = None

    @property
    def kept_value(self) -> float:
        """The monitor's value of the weights that the model holds now."""
        return self.best_value if self.soup is None else self.soup.value


@dataclass(frozen=True)
class Examples:
    """What a run trains on.

    Args:
        feed: Gives what a stage is fed with, of its name, its epochs and the epoch that the run
            will end before, once the variables that train are selected.
        steps: Steps that all training examples take.
        ids: The names of the training examples, in order.
        validate: Figures of the validation split for the whole model as it is.
        solve: Has a model's head be the best one on the features as they are, and returns figures
            of the training split; `None` where the run has no such stage.
    """

    feed: Callable[[str, int, int], Feed]
    steps: int
    ids: Sequence[str]
    validate: Callable[[Any], dict[str, float]]
    solve: Callable[[Any], dict[str, float]] | None = None


def fit(
    model: keras.Model, examples: Examples, recipe: Recipe, recovery: Recovery, reporting: Reporting
) -> History:
    """Train a model stage by stage.

    Args:
        model: The assembled model.
        examples: What it is trained on.
        recipe: How it is trained.
        recovery: How the run outlives faults and stops.
        reporting: What the run writes and shows of itself.

    Returns:
        A `History`; the model holds the best epoch's weights.
    """
    recipe.require(model)
    run = _begun(model, examples, recipe, recovery, reporting)
    steps, epochs = recipe.planned(examples.steps)
    run.log.epochs = sum(epochs.values())
    if recipe.averages.told:
        reporting.line(recipe.averages.told)
    at, resumed = _position(run, steps), recovery.resumed
    first_epoch, following = at.began, dict(pairwise((*recipe.stages, "")))
    names = list(recipe.stages)
    for name in names[names.index(at.stage) :] if at.stage else []:
        peak = recipe.select(model, name)
        if reporting.on_stage is not None:
            reporting.on_stage(
                name, recipe.stages[name], peak, steps * epochs[name],
                recipe.describe(model, name, peak),
            )
        if recipe.stages[name].solve:
            assert examples.solve is not None
            run.solve(name, peak, first_epoch, examples.solve, examples.validate)
            first_epoch += 1
            continue
        # A stage before may have stopped early.
        end = first_epoch + sum(epochs[one] for one in names[names.index(name):])
        stage = StageRun(
            name, following[name], peak, examples.feed(name, epochs[name], end),
            first_epoch, first_epoch + epochs[name], steps, examples.steps,
        )
        here = at if name == at.stage else Position(name, first_epoch, first_epoch, 0)
        state = resumed if name == at.stage else None
        while True:
            try:
                first = name == at.stage and state is resumed
                first_epoch = run.go(stage, here, state, first=first)
                break
            except Fault as fault:
                state = run.watch.answer(fault)
                here = run.take_up(state)
        if reporting.on_stage_end is not None:
            reporting.on_stage_end(run.log.rows)
    if recovery.replay is not None:
        recovery.replay.require_done()
    keep = run.keep
    keep.close(model)
    soup = _soup(run, examples.validate)
    return History(
        run.log.rows, keep.epoch, keep.stage, keep.best or 0.0, tuple(run.stopped), soup
    )


def _soup(run: Run, validate: Callable[[Any], dict[str, float]]) -> Made | None:
    """Have the model hold the mean of the best epochs, where that is wanted and any better."""
    ingredients, keep = run.keep.ingredients, run.keep
    if ingredients is None:
        return None
    if not run.model.compiled:  # nothing was left to train; its loss is a figure too
        run.model.compile(**run.recipe.task.compile())
    name = keep.monitor.removeprefix("val_")
    made = ingredients.mixed(run.model, lambda model: validate(model)[name])
    keep.replace(run.model)
    return made


def _begun(
    model: keras.Model, examples: Examples, recipe: Recipe, recovery: Recovery, reporting: Reporting
) -> Run:
    task, saver, folder = recipe.task, recovery.saver, reporting.output_dir
    keep = KeepBest(
        task.monitor, task.mode, folder and folder / "checkpoints",
        top=saver.policy.top if saver else 0,
    )
    keep.set_model(model)
    if recipe.averages.soup is not None and folder is not None:
        keep.ingredients = Ingredients(
            recipe.averages.soup, keep, folder / "checkpoints" / "soup"
        )
    log = EpochLog(
        reporting.logs, reporting.line, shown=("loss", "val_loss", *task.each_epoch, task.monitor),
        monitor=task.monitor, best=lambda: keep.epoch,
    )
    watch = Watch(recovery.policy, examples.ids, reporting.logs, reporting.line)
    return Run(model, recipe, recovery, reporting, keep, log, watch, Updates(reporting.logs))


def _position(run: Run, steps: int) -> Position:
    """Return where the run begins: at its beginning, or where its checkpoint is taken up."""
    resumed, stages = run.recovery.resumed, run.recipe.stages
    if resumed is None:
        # An earlier process may have died before its first checkpoint.
        run.log.set_state({"rows": [], "epochs": run.log.epochs})
        run.updates.set_state({"rows": [], "before": []})
        return Position(next(iter(stages)), 0, 0, 0)
    at = run.take_up(resumed)
    if at.stage not in (*stages, ""):
        raise UserError(
            f"The checkpoint is of the stage {at.stage!r}, and the run has only "
            f"{', '.join(stages)}. Start again in another folder."
        )
    if resumed.plain.get("steps", steps) != steps:
        run.reporting.line(
            "warning: the number of steps in an epoch has changed; the current epoch is restarted"
        )
        at = replace(at, step=0)
    run.reporting.line(
        f"going on after {some(at.epoch, 'epoch')} and {at.step} of {some(steps, 'step')}"
    )
    return at
