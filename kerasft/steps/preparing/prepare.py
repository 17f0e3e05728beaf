"""Before training: the runtime, data, backbone, and batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kerasft.abilities import Adjusting, Advising
from kerasft.config import auto_batch
from kerasft.config.building import beside, target_of
from kerasft.config.composition import build, build_named, plain
from kerasft.config.schema import Root
from kerasft.contracts import Demanding, Located, Rounding, Task, lacking
from kerasft.data.annotations.plain import counted
from kerasft.distributed.group import current
from kerasft.errors import UserError
from kerasft.runs import again, evidence, run_folder
from kerasft.spec import Backbone, Preprocess, Splits, placed, takes_texts
from kerasft.steps.preparing import adapting, determinism
from kerasft.steps.preparing.arranging import arrange, require_sampling
from kerasft.steps.preparing.averages import build_averages
from kerasft.steps.preparing.batches import make_batches, require_augmentable, size_of
from kerasft.steps.preparing.devices import require_same_data
from kerasft.steps.preparing.dropped import tell_dropped
from kerasft.steps.preparing.heads import follow_head, require_head
from kerasft.steps.preparing.reading import read_source, read_stores
from kerasft.steps.preparing.regularizing import require_task
from kerasft.steps.preparing.stages import build_stages, settled
from kerasft.steps.preparing.surgery import with_surgery
from kerasft.system.console import clock, listing, say, warn
from kerasft.system.folders import looked_up, looked_up_in, several
from kerasft.system.late_errors import told
from kerasft.system.terminal import status
from kerasft.tasks import class_weights
from kerasft.tasks.monitors import require_known
from kerasft.tasks.own_metrics import Measuring, require_sound
from kerasft.tasks.windowed import require_overlap


@dataclass(frozen=True)
class Parts:
    """What can be built before any data is read or any weight is loaded."""

    task: Task
    stages: Mapping[str, Any]
    sampling: Any
    augment: Mapping[str, Any]
    checkpoint: Any
    faults: Any
    cache: Any
    averages: Any


@dataclass(frozen=True)
class Ready:
    """Data and targets as training takes them."""

    splits: Splits
    task: Task
    preprocess: Preprocess
    stores: Mapping[str, Any]
    batches: Any
    held_out: evidence.HeldOut


@contextmanager
def runtime(cfg: DictConfig) -> Iterator[None]:
    """Set seeds, precision and determinism for a run, and put precision back afterwards."""
    clock.begin()
    status.wanted = cfg.progress
    with status.showing("loading TensorFlow ..."):
        import keras

        from kerasft.model.precision import policy_of

    _require_one_device()
    keras.utils.set_random_seed(cfg.seed % 2**32)
    # The same run twice gives the same figures. Processor time of a step with and without it, in
    # turn: 0.34 and 0.33 s for a MobileNet, 0.24 and 0.24 s for a BERT.
    try:
        with determinism.chosen(cfg), told(), in_precision(policy_of(cfg.precision)):
            yield
    finally:
        status.show("")
        status.wanted = None


def _require_one_device() -> None:
    """Refuse a strategy of the caller's: its replicas would take a share of every figure."""
    if "tensorflow" not in sys.modules:
        return
    import keras
    import tensorflow as tf

    found: Any = keras.distribution.distribution()
    if tf.distribute.has_strategy():
        found = tf.distribute.get_strategy()
    if found is not None:
        raise UserError(
            "kerasft makes the strategy that it trains under (distribute=mirrored, multi_worker or "
            "auto): call it outside of the scope of a strategy or distribution of your own. "
            f"Received: {type(found).__name__}."
        )


@contextmanager
def in_precision(policy: str) -> Iterator[None]:
    """Have layers made inside the block compute as a policy says."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_task(cfg: DictConfig) -> Task:
    """Build the task, with the loss of the head, and see that it is one.

    Raises:
        UserError: If it lacks what every task has, or its loss does not train the head.
    """
    node, own = cfg.task, {}
    if hasattr(target_of(node), "compared"):  # it builds its loss and metrics itself
        own = {key: plain(node[key]) for key in ("loss", "metrics") if node.get(key) is not None}
        node = OmegaConf.masked_copy(node, [key for key in node if key not in own])
        node._set_parent(cfg)
    task = build(node, **own)
    if missing := lacking(task):
        raise UserError(
            f"task: {cfg.task['_target_']} is no task: it lacks {', '.join(missing)}. "
            "`kerasft.contracts.Task` says what every task has."
        )
    return follow_head(cfg, task)


def cheap_parts(cfg: DictConfig) -> Parts:
    """Build what costs nothing: a typo in an optimizer must not cost a download."""
    with in_precision("float32"):  # images have no use for less, and MixUp fails with it
        augment = build_named(cfg.augment)
    task = build_task(cfg)
    require_head(cfg, task)
    require_augmentable(augment, task)
    parts = Parts(
        task=task,
        stages=settled(build_stages(cfg.finetune), task, cfg.head, cfg.backbone),
        sampling=build(cfg.sampling),
        augment=augment,
        checkpoint=build(cfg.checkpoint),
        faults=build(cfg.faults),
        cache=build(cfg.cache),
        averages=build_averages(cfg),
    )
    require_sampling(parts.sampling, task)
    for stage in parts.stages.values():
        make_optimizer(cfg)(make_schedule(cfg)(stage.peak(set_rate(cfg), 1e-4), 100))
    return parts


def check_exports(cfg: DictConfig) -> None:
    """Check before a run has a folder what would otherwise fail late: device, monitors, exports.

    A monitor of a figure that does not exist would be noticed at the end of the first epoch. The
    settings of an export are checked by `check_early` of its module, where it has one.
    """
    _require_one_device()
    task = require_monitors(cfg)
    for one in (cfg.export or {}).values():
        if one and (check_early := beside(one, "check_early")) is not None:
            settings = plain(one)
            settings.pop("_target_")
            check_early(task=task, adapted=adapting.may_adapt(cfg), **settings)


def require_monitors(cfg: DictConfig) -> Any:
    """See that whatever watches a figure watches one that the task has, and return the task.

    Its windows and the stages are looked at, too, the latter by being made.
    """
    task = build_task(cfg)
    require_overlap(task, cfg.backbone.get("sequence_length"))
    require_known(task, plain(cfg.callbacks))
    require_task(cfg, task)
    build_stages(cfg.finetune)
    return task


def set_rate(cfg: DictConfig) -> float | None:
    """Return the rate that the user set, or `None`."""
    return cfg.optimizer.get("learning_rate")


def make_optimizer(cfg: DictConfig) -> Callable[[Any], Any]:
    """Return a function from a schedule to the config's optimizer."""
    node = cfg.optimizer.copy()
    node.learning_rate = None
    node._set_parent(cfg)
    return lambda rate: build(node, learning_rate=rate)


def make_schedule(cfg: DictConfig) -> Callable[[float, int], Any]:
    """Return a function from a peak rate and a number of steps to the config's schedule."""
    return lambda peak, total: build(cfg.schedule, learning_rate=peak, total_steps=total)


@contextmanager
def watched(parts: Parts, folder: run_folder.RunFolder) -> Iterator[None]:
    """Have it said inside the block when reading and making ready does not move."""
    from kerasft.data.current_read import followed
    from kerasft.training.watchdog import watching_preparation

    minutes, logs = parts.faults.stall_minutes, folder.path / "logs"
    with watching_preparation(minutes, logs, say) as follower, followed(follower):
        yield


@status.showing("reading data ...")
def read_data(cfg: DictConfig, parts: Parts, folder: run_folder.RunFolder | None) -> Splits:
    """Read the examples, say what they are, and write the manifest into the run folder, if any."""
    from kerasft.data.changed_texts import displaced, require_changers
    from kerasft.data.copies import write_copies
    from kerasft.data.manifest import is_written, write_manifest

    manifest = folder.manifest if folder is not None else None
    splits, differences = read_splits(cfg, parts.task.kind, manifest)
    for notice in splits.notices:
        warn(notice)
    say(f"data: {describe(splits)}")
    size, count = auto_batch.examples(cfg), len(splits.train)
    if cfg.batch_tokens is None and size > count and cfg.batch_size != auto_batch.AUTO:
        if size != Root.batch_size:
            raise UserError(
                f"batch_size must not be larger than the training split, which has {count} "
                f"examples. Received: {size}. Set batch_size={count} or less."
            )
        warn(f"the training split has {count} examples, fewer than batch_size={size}, "
             "the default: each step takes all of them. batch_size=8, say, takes more steps")
    require_changers(parts.augment, splits.train.modality)
    if parts.augment and isinstance(parts.task, Located):
        raise UserError(displaced(parts.augment))
    if folder is not None and folder.leads:
        _require_same(differences, folder, accept=cfg.resume == "accept")
        if differences or not is_written(splits, folder.manifest):
            write_manifest(splits, folder.manifest)
        write_copies(splits.copies, folder.copies)
        if splits.copies:
            say(f"copies: {folder.copies} names all {len(splits.copies):,}")
    return splits


def read_splits(cfg: DictConfig, kind: str, manifest: Path | None) -> tuple[Splits, list[str]]:
    """Read the examples, and say how they differ from those of a run's manifest.

    A run that was moved may find files of the same name in several of its folders: those that are
    as the run saw them are meant.

    Args:
        cfg: The config.
        kind: The kind of its task.
        manifest: The file; `None`, or one that there is not, where nothing is compared.

    Returns:
        The examples, and one sentence a difference.
    """
    from kerasft.data.manifest import diff_manifest, read_manifest

    splits = read_source(cfg, kind)
    if manifest is None or not manifest.is_file():
        return splits, []
    then = read_manifest(manifest)
    differences = diff_manifest(then, splits)
    given = plain(cfg.data).values()
    found = [places for one in given if isinstance(one, str) and (places := several(one))]
    if not differences or not found:
        return splits, differences
    folders = looked_up()
    for first in folders[1:]:
        try:
            with looked_up_in([first, *folders]):
                other = read_source(cfg, kind)
        except UserError:
            continue
        if not diff_manifest(then, other):
            say(f"data: what is in {str(first)!r} is what the run saw, and not what is in "
                f"{str(found[0][0].parent)!r}")
            return other, []
    there = "; ".join(
        f"{str(first)!r} was read, and there {'is' if len(rest) == 1 else 'are'} "
        f"{listing(repr(str(one)) for one in rest)} too" for first, *rest in found
    )
    return splits, [*differences[:2], f"{there}.", *differences[2:]]


def _require_same(differences: list[str], folder: run_folder.RunFolder, *, accept: bool) -> None:
    """See that a run goes on with the data that it began with."""
    if differences:
        said = f"The data has changed since the run began: {' '.join(differences[:3])}"
        if accept:
            warn(f"{said} It goes on with what is there now.")
            return
        raise UserError(
            f"{said} Put it back, start again ({again.train(folder.path)}), or go on all the same "
            f"({again.resume(folder.path, accept=True)})."
        )


def describe(splits: Splits) -> str:
    """Return a line on the sizes of the splits and their labels."""
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in splits.parts.items())
    return sizes + counted(splits.labels)


def _require_fit(task: Task, splits: Splits, cfg: DictConfig) -> None:
    """See before training that what comes after it can be done with these labels."""
    if isinstance(task, Measuring):
        require_sound(task, splits.train.annotations, splits.labels)
    if isinstance(task, Rounding) and any((cfg.export or {}).values()):
        task.served_precision()


@status.showing("loading the backbone ...")
def load_backbone(cfg: DictConfig, splits: Splits, *, pretrained: bool = True) -> Backbone:
    """Load the backbone and see that it and the data speak of the same thing."""
    # None where pretrained: the node's own default, or what the user set, holds.
    with current().scope():
        backbone = build(cfg.backbone, **({} if pretrained else {"pretrained": False}))
    has, wants = splits.train.modality, backbone.preprocess.modality
    if has != wants:
        word = {"text": "text", "images": "images"}
        raise UserError(
            f"The data is {word[has]}, but the backbone {backbone.name} takes {word[wants]}. "
            f"Choose a backbone for {word[has]} (backbone.preset=...; `kerasft models` lists them) "
            "or other data."
        )
    if has == "text":
        pair = isinstance(splits.train.inputs[0], tuple)
        backbone = replace(backbone, preprocess=backbone.preprocess.paired(pair))
    with current().scope():
        backbone = with_surgery(cfg, backbone, quiet=not pretrained)
    task = build_task(cfg)
    adapting.settle(cfg, task, backbone, quiet=not pretrained)
    return task.reading(backbone) if isinstance(task, Adjusting) else backbone


@status.showing("decoding or tokenizing ...")
def make_ready(
    cfg: DictConfig, parts: Parts, splits: Splits, backbone: Backbone, *, spare_test: bool = False
) -> Ready:
    """Tokenize or decode everything once, and make the training batches."""
    from kerasft.data.changed_texts import unchangeable
    from kerasft.training.stages import require_sizes

    require_sizes(parts.stages, size_of(backbone.preprocess))
    if isinstance(parts.task, Demanding):
        parts.task.check_validation(splits.validation.annotations)
    tell_dropped(splits, backbone.preprocess, parts.task)
    if isinstance(parts.task, Advising) and (said := parts.task.advice(splits.train.annotations)):
        warn(said)
    splits, stores = read_stores(cfg, parts.task, splits, backbone.preprocess, parts.cache)
    require_same_data(splits, stores)
    annotations = placed(splits.train.annotations, backbone.preprocess)
    task = parts.task.adapt(annotations)
    if task.follows_pixels and getattr(backbone.preprocess, "resize", "") == "crop":
        warn("backbone.resize=crop cuts off what is too long, and what is there is neither learned "
             "nor found: backbone.resize=stretch or pad shows the network whole images")
    _require_fit(task, splits, cfg)
    targets = task.targets(annotations, splits.labels, training=True)
    if said := class_weights.described(task, splits.labels):
        say(said)
    train = stores["train"]
    arranged = arrange(cfg, parts.sampling, task, splits, train)
    if parts.augment and takes_texts(backbone.preprocess):
        for notice in filter(None, [unchangeable(splits.train.inputs)]):
            warn(notice)
    batches = make_batches(
        cfg, train, targets, arranged, task=task, labels=splits.labels,
        preprocess=backbone.preprocess, texts=splits.train.inputs, augment=parts.augment,
        stages=parts.stages,
    )
    if padding := batches.padding():
        say(
            f"padding: {padding['used']:.0%} of the positions of a batch "
            f"({padding['ungrouped']:.0%} without length_grouping, {padding['full']:.0%} if all "
            f"were {train.longest} long); {batches.widths()} widths, one compiled step"
        )
    chosen = evidence.choose(splits, spare_test=spare_test)
    return Ready(splits, task, backbone.preprocess, stores, batches, chosen)
