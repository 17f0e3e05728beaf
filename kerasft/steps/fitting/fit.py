"""Training: assembles the model, trains it, and its baseline from random weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kerasft.abilities import Reading
from kerasft.config.composition import build_named, plain
from kerasft.contracts import Task
from kerasft.data.annotations.plain import plain as plain_labels
from kerasft.distributed.group import ALONE, Group, current, working
from kerasft.evaluation.diagnosis.chance import chance
from kerasft.evaluation.diagnosis.curves import early_sign
from kerasft.evaluation.metrics import direction
from kerasft.evaluation.setback import setback
from kerasft.rows import Rows
from kerasft.runs import run_folder
from kerasft.runs.finetuned import FineTuned, eval_batch_size, loss_batch_size
from kerasft.spec import Backbone, Splits, placed, takes_texts
from kerasft.steps.fitting.activations import Boundary
from kerasft.steps.fitting.deadline import deadline
from kerasft.steps.fitting.solved_head import require_solvable, solver
from kerasft.steps.fitting.trainable import MOST_PARTS, tell
from kerasft.steps.measuring.measure import finalize, measure
from kerasft.steps.measuring.untrained import tell_before
from kerasft.steps.preparing import adapting, sizes
from kerasft.steps.preparing.devices import require_same_checkpoint
from kerasft.steps.preparing.heads import with_head
from kerasft.steps.preparing.prepare import (
    Parts,
    Ready,
    load_backbone,
    make_optimizer,
    make_schedule,
    set_rate,
    watched,
)
from kerasft.system.console import listing, say, warn
from kerasft.system.files import write_json
from kerasft.system.terminal import status
from kerasft.tasks.monitors import require_known

if TYPE_CHECKING:
    import keras

    from kerasft.data.store import Store
    from kerasft.training.recipe import Recipe
    from kerasft.training.soup import Made
    from kerasft.training.stage_run import Recovery
    from kerasft.training.trainability import Part


def fit(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone,
    folder: run_folder.RunFolder | None, *, quiet: bool = False, verify: bool = False,
    on_epoch: Any = None,
) -> tuple[Any, Any]:
    """Put the head on, regularize, and train stage by stage."""
    from kerasft.model.fast import accelerated
    from kerasft.training import loop
    from kerasft.training.callbacks import Deadline, OnEpoch
    from kerasft.training.stage_run import Reporting

    if folder is not None:  # some figures are of two classes alone, or of many
        require_known(ready.task, plain(cfg.callbacks), len(ready.splits.labels.names))
    with current().scope():
        model = with_head(cfg, ready.task, ready.splits.labels, backbone)
    if backbone.pretrained and not quiet:
        for notice in filter(None, (getattr(layer, "notice", "") for layer in model.head_layers)):
            say(f"head: {notice}")
    require_solvable(parts, ready.task, model)
    if not quiet:
        adapting.announce(model)
    reads = backbone.pretrained and isinstance(ready.task, Reading)
    if folder is not None and folder.leads and reads:
        tell_before(ready, model, folder, eval_batch_size(cfg))

    recovery = make_recovery(cfg, parts, folder, verify=verify)
    if folder is not None:
        require_same_checkpoint(recovery.resumed)
    with watched(parts, folder) if folder is not None else nullcontext():
        boundaries = make_boundaries(
            cfg, parts, ready, backbone, model, recovery, say=(lambda line: None) if quiet else say
        )

    end = deadline(cfg, folder) if folder is not None else None  # before it logs epochs of its own

    def callbacks() -> dict[str, Any]:
        if folder is None:
            return {}
        made: dict[str, Any] = {}
        for name, node in (cfg.callbacks or {}).items():
            # A callback that watches another metric than the task's goes the way of that one.
            monitor = (node and node.get("monitor")) or ready.task.monitor
            mode = ready.task.mode if monitor == ready.task.monitor else direction(str(monitor))
            made |= build_named(
                {name: node}, monitor=monitor, mode=mode, output_dir=str(folder.own)
            )
        # Under names that no config can give.
        return made | ({"(on epoch)": OnEpoch(on_epoch)} if on_epoch else {}) | (
            {"(deadline)": Deadline(end, say)} if end is not None else {}
        )

    recipe = make_recipe(cfg, parts, ready.task, backbone, callbacks=callbacks)
    place = folder.path if folder and folder.leads else None
    reporting = Reporting(place, status.is_live) if quiet else Reporting(
        place, status.is_live, say=say, on_stage=partial(tell, most=MOST_PARTS),
        on_stage_end=partial(tell_setback, ready=ready), on_epoch=early_signs(ready),
    )
    # Of the whole model, for what one process may do alone; few runs need it.
    validate = cache(lambda: validator(cfg, ready))
    steps, epochs = recipe.planned(ready.batches.steps)
    # What XLA compiles cannot be a part of what replicas compute together.
    to_come = 0 if current().strategy is not None else steps * sum(epochs.values())
    with accelerated(model, steps=to_come) if cfg.fast else nullcontext():
        examples = loop.Examples(
            lambda name, epochs, end: boundaries[name].feed(name, epochs, end),
            ready.batches.steps, ready.splits.train.ids,
            lambda network: validate()(network, ready.stores["validation"]),
            solver(cfg, parts, ready, quiet=quiet),
        )
        history = loop.fit(model, examples, recipe, recovery, reporting)
    for boundary in {id(one): one for one in boundaries.values()}.values():
        boundary.report(history)
    if not quiet:
        say(
            f"best epoch: {history.best_epoch} [{history.best_stage}], {ready.task.monitor} "
            f"{history.best_value:.4f}; best weights restored"
            + (f" (stopped early: {', '.join(history.stopped_early)})"
               if history.stopped_early else "")
        )
        if history.soup is not None:
            tell_soup(history.soup, ready.task.monitor)
    if folder is None or folder.leads:
        adapting.write(model, folder, backbone)
    return model, history


def tell_soup(soup: Made, monitor: str) -> None:
    """Say which epochs' weights the mean is of, and what it gave."""
    tried = listing((one.epoch for one in soup.tried), 10)
    if len(soup.taken) == 1:
        say(f"soup: of the epochs {tried}, no mean was as good as epoch {soup.taken[0]} alone")
        return
    say(
        f"soup: the mean of the epochs {listing(soup.taken, 10)} (tried: {tried}): {monitor} "
        f"{soup.tried[0].value:.4f} -> {soup.value:.4f}; it is kept and exported"
    )


def trainable(
    cfg: DictConfig, parts: Parts, splits: Splits, backbone: Backbone
) -> dict[str, list[Part]]:
    """Assemble the model, and tell what trains in each stage, part by part."""
    task = parts.task.adapt(splits.train.annotations)
    model = with_head(cfg, task, splits.labels, backbone)
    recipe = make_recipe(cfg, parts, task, backbone)
    recipe.require(model)
    found = {}
    for name, stage in parts.stages.items():
        peak = recipe.select(model, name)
        found[name] = recipe.describe(model, name, peak)
        tell(name, stage, peak, None, found[name])
    return found


def make_boundaries(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone, model: keras.Model,
    recovery: Recovery, *, say: Callable[[str], None],
) -> dict[str, Boundary]:
    """Return for each stage that is to come what decides where it starts from."""
    names = list(parts.stages)
    if recovery.resumed is not None:
        at = recovery.resumed.position.stage
        names = names[names.index(at):] if at in names else []
    found = sizes.of_stages(
        cfg, parts, ready, backbone, model, {name: parts.stages[name] for name in names}
    )
    made = {
        id(one): Boundary(
            cfg, parts, one.ready, one.model, validator(cfg, one.ready, current()), say=say,
            image_size=one.image_size,
        )
        for one in found.values()
    }
    return {name: made[id(one)] for name, one in found.items()}


def validator(
    cfg: DictConfig, ready: Ready, group: Group = ALONE
) -> Callable[[Any, Any], dict[str, float]]:
    """Return a function to figures of a model, of it and the validation split as it takes it.

    Args:
        cfg: The config.
        ready: The data.
        group: Who shares the work, and must call it together.
    """
    annotations = placed(ready.splits.validation.annotations, ready.preprocess)
    targets = ready.task.targets(annotations, ready.splits.labels)

    def validate(network: keras.Model, examples: Store) -> dict[str, float]:
        now = FineTuned(
            network, ready.preprocess, ready.task, ready.splits.labels, eval_batch_size(cfg)
        )
        return validation_figures(
            now, ready, examples, targets, group, loss=loss_batch_size(cfg)
        )

    return validate


def make_recipe(
    cfg: DictConfig, parts: Parts, task: Task, backbone: Backbone,
    callbacks: Callable[[], Mapping[str, Any]] = dict,
) -> Recipe:
    """Return how the config wants a model trained."""
    from kerasft.training.recipe import Recipe

    text = takes_texts(backbone.preprocess)
    return Recipe(
        {name: stage.on(text=text) for name, stage in parts.stages.items()},
        task, make_optimizer(cfg), make_schedule(cfg),
        usual_rate=adapting.usual_rate(cfg, backbone), learning_rate=set_rate(cfg),
        pretrained=backbone.pretrained, callbacks=callbacks, fast=cfg.fast,
        max_steps=cfg.max_steps, averages=parts.averages, jit_compile=cfg.jit_compile,
        prefetch_to_device=cfg.prefetch_to_device,
    )


def make_recovery(
    cfg: DictConfig, parts: Parts, folder: run_folder.RunFolder | None, *, verify: bool
) -> Recovery:
    """Return what a run goes on from, if anything, and where it writes checkpoints.

    Args:
        cfg: The config.
        parts: The cheap parts.
        folder: The run folder; `None` writes nothing.
        verify: Whether the last steps are done again, and compared.
    """
    from kerasft.training.checkpoint import Saver
    from kerasft.training.replay import Replay
    from kerasft.training.stage_run import Recovery

    if folder is None:
        return Recovery(parts.faults)
    passed = time.monotonic() - folder.began
    saver = Saver(
        parts.checkpoint, folder.states, say,
        left=None if cfg.max_time is None else cfg.max_time * 60 - passed,
    )
    if not verify:
        return Recovery(parts.faults, saver, saver.newest())
    resumed, last = saver.last_two()
    return Recovery(parts.faults, saver, resumed, Replay(last, say))


def tell_setback(rows: list[dict[str, Any]], *, ready: Ready) -> None:
    """Warn at the end of a stage that has lost what the one before had won."""
    task, splits = ready.task, ready.splits
    if notice := setback(
        rows, monitor=task.monitor, mode=task.mode, train=len(splits.train),
        validation=len(splits.validation),
    ):
        warn(notice)


def early_signs(ready: Ready) -> Callable[[list[dict[str, Any]]], None]:
    """Return what warns after an epoch of what is certain already, once."""
    splits = ready.splits
    floor = chance(plain_labels(splits.validation, splits.labels))

    def look(rows: list[dict[str, Any]]) -> None:
        if notice := early_sign(rows, floor, len(splits.validation), ready.batches.steps):
            warn(notice)

    return look


def validation_figures(
    finetuned: FineTuned, ready: Ready, examples: Store, targets: Rows, group: Group = ALONE, *,
    loss: int,
) -> dict[str, float]:
    """Return loss and scalar metrics of the validation split, made ready as the model takes it.

    Args:
        finetuned: The model.
        ready: The data.
        examples: The validation split, as the model takes it.
        targets: What `FineTuned.targets` made of its labels.
        group: Who shares the work.
        loss: See `FineTuned.measure`.
    """
    part = ready.splits.validation
    found = finetuned.measure(examples, targets, loss=loss, group=group)
    tuned = finetuned.tuned(part.annotations, found.rows)
    figures = {"loss": float(found.loss or 0.0)}
    return figures | scalars(tuned.figures(part.annotations, found.rows))


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}


def train_baseline(
    cfg: DictConfig, parts: Parts, ready: Ready, splits: Splits, folder: run_folder.RunFolder
) -> dict[str, dict[str, Any]] | None:
    """Train the same network from random weights on the same data, for as many epochs."""
    if cfg.baseline is None:
        return None
    import keras

    from kerasft.training.stages import Stage

    say("\nbaseline: the same network from random weights ...")
    keras.utils.set_random_seed(cfg.seed % 2**32)
    epochs = sum(stage.epochs for stage in parts.stages.values())
    scratch = replace(parts, stages={"scratch": Stage("all", epochs=epochs)})
    with working(ALONE):  # the other workers have done their part
        backbone = load_backbone(cfg, splits, pretrained=False)
        model, _ = fit(adapting.without(cfg), scratch, ready, backbone, None, quiet=True)
    finetuned, kept = finalize(cfg, ready, model, None)
    metrics = measure(finetuned, ready, kept, None).metrics
    write_json(folder.path / "baseline.json", metrics)
    return metrics
