"""`batch_size=auto`: the largest batch that fits in memory, measured before a run begins."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kerasft.config import auto_batch
from kerasft.config.auto_batch import ACCUMULATION, AUTO
from kerasft.config.composition import load
from kerasft.data.manifest import read_manifest
from kerasft.data.order import Order
from kerasft.data.pipeline import Batches
from kerasft.runs.run_folder import RunFolder
from kerasft.spec import Backbone
from kerasft.steps import prepare, sizes
from kerasft.steps.fit import make_recipe
from kerasft.steps.heads import with_head
from kerasft.steps.memory import OutOfMemory, let_go, noticed
from kerasft.steps.prepare import Parts, Ready
from kerasft.system import memory
from kerasft.system.console import say, warn
from kerasft.system.files import at_home
from kerasft.system.terminal import status

if TYPE_CHECKING:
    import keras

# Share of the memory that a run may plan with: the rest is for what it does beside training steps.
SHARE = 0.9
# How many times the largest batch that was measured the next one may be. Out of memory on a GPU is
# an error that can be caught; on a processor it ends the process.
FARTHER, FARTHER_ON_GPU = 4, 2
# Steps of a batch that are measured: the second one moves the weights.
STEPS = 2


@dataclass(frozen=True)
class Room:
    """What a batch may take.

    Args:
        limit: Bytes in all; `None` where only trying tells, as on a GPU.
        base: Bytes that are held before the first step.
        farther: How many times the largest batch that was measured the next one may be.
    """

    limit: float | None
    base: int
    farther: int


@dataclass(frozen=True)
class Fit:
    """What was found.

    Args:
        size: Examples, or tokens, of a batch.
        each: Batches of an update.
        peaks: Bytes that the process held at most with each batch that was measured.
        limit: The bytes that it may hold; `None` where that is not known.
        suffices: Whether the batch fits; the smallest may not.
    """

    size: int
    each: int
    peaks: dict[int, int]
    limit: float | None
    suffices: bool = True


def settle(cfg: DictConfig) -> None:
    """Find the largest batch that fits, where a config leaves that open, and write it into it.

    What is measured is a model of its own, before the run's: the run is the one whose config says
    the numbers that were found. A run that goes on keeps those that it began with.

    Args:
        cfg: The config, changed in place where it has `batch_size=auto`.

    Raises:
        UserError: For any mistake in the data or the parts.
    """
    from kerasft.training.randomness import undisturbed

    if cfg.batch_size != AUTO or _took_up(cfg):
        return
    # The run says all of this once more.
    with undisturbed(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), \
            prepare.runtime(cfg):  # fmt: skip
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        backbone = prepare.load_backbone(cfg, splits)
        ready = prepare.make_ready(cfg, parts, splits, backbone)
        with status.showing("measuring memory ..."):
            found, moving = measure(cfg, parts, ready, backbone)
    del parts, splits, backbone, ready
    let_go()
    tell(cfg, found, moving)
    write(cfg, found)


def _took_up(cfg: DictConfig) -> bool:
    """Take the numbers of the run that goes on in the folder of a config, if there is one."""
    if not cfg.resume or cfg.output_dir is None:
        return False
    place = at_home(cfg.output_dir) / "config.yaml"
    if not place.is_file():
        return False
    then = load(place)
    try:
        if not isinstance(then.batch_size, int) or not _is_same(then, cfg, place.parent):
            return False
        for key in _written(cfg):
            OmegaConf.update(cfg, key, OmegaConf.select(then, key), force_add=True)
    except OmegaConfBaseException:  # whoever goes on with it tells what is wrong with it
        return False
    return True


def _is_same(then: DictConfig, now: DictConfig, folder: Path) -> bool:
    """Whether an update of a run in a folder learns from as much as one of a config."""
    whole, wanted = then.effective_batch, now.effective_batch
    if whole is None or whole >= wanted:
        return bool(whole == wanted)
    if now.batch_tokens is not None:  # a number of tokens that cannot be divided is rounded down
        each = auto_batch.accumulated(then)
        return bool(whole == wanted // each * each)
    # Where there are not so many examples, it learns from all of them.
    manifest = RunFolder(folder).manifest
    return manifest.is_file() and whole == len(read_manifest(manifest)["splits"]["train"])


def _written(cfg: DictConfig) -> list[str]:
    """Return the keys that are set once the batch is known."""
    keys = ["batch_size", f"optimizer.{ACCUMULATION}"]
    if cfg.batch_tokens is not None:
        keys.append("batch_tokens")
    if cfg.max_steps is not None:
        keys.append("max_steps")
    if _warmup(cfg) > 1:
        keys.append("schedule.warmup")
    return keys


def _warmup(cfg: DictConfig) -> float:
    """Return what the schedule rises over: a share of the steps, or above 1 a number of them."""
    found = OmegaConf.select(cfg, "schedule.warmup")
    return float(found) if isinstance(found, int | float) else 0.0


def write(cfg: DictConfig, found: Fit) -> None:
    """Write into a config what was found. Numbers of steps count batches, and grow with them.

    Args:
        cfg: The config, changed in place.
        found: What was found.
    """
    before = auto_batch.accumulated(cfg)
    if cfg.batch_tokens is None:
        cfg.batch_size = found.size
    else:
        cfg.batch_size, cfg.batch_tokens = auto_batch.examples(cfg), found.size
    key = f"optimizer.{ACCUMULATION}"
    if found.each > 1 or OmegaConf.select(cfg, key) is not None:
        each = found.each if found.each > 1 else None
        OmegaConf.update(cfg, key, each, force_add=True)
    for key in ("max_steps", "schedule.warmup"):
        if key in _written(cfg) and found.each != before:
            steps = OmegaConf.select(cfg, key) * found.each / before
            OmegaConf.update(cfg, key, max(round(steps), 1))
    auto_batch.keep_whole(cfg)


def tell(cfg: DictConfig, found: Fit, moving: Sequence[str]) -> None:
    """Say what was found, and what of it changes the result.

    Args:
        cfg: The config, before it is written into.
        found: What was found.
        moving: Layers whose statistics are those of a batch.
    """
    what = "examples" if cfg.batch_tokens is None else "tokens"
    whole = found.size * found.each
    peak = found.peaks.get(found.size)
    held = "" if peak is None else f" ({peak / 1e9:.1f} GB" + (
        f" of {found.limit / 1e9:.1f} GB)" if found.limit else ")"
    )
    if found.each == 1:
        say(f"batch_size=auto: {found.size:,} {what}, all that an update learns from, fit{held}")
    else:
        say(f"batch_size=auto: {found.size:,} {what} fit{held}; an update learns from "
            f"{found.each} such batches, {whole:,} {what}")
    if not found.suffices:
        warn(f"batch_size=auto: even {found.size:,} {what} may take more memory than there is. "
             "What takes less: a shorter backbone.sequence_length or smaller backbone.image_size; "
             "finetune=linear_probe; precision=mixed_bfloat16")  # fmt: skip
    if moving and found.each > 1:
        warn(f"batch normalization that trains ({moving[0]}"
             + (f" and {len(moving) - 1} more" if len(moving) > 1 else "")
             + f") goes by the statistics of {found.size:,} {what}, not of {whole:,}: results "
             "differ from those of whole batches. batch_norm=frozen of the stage keeps them fixed")


def measure(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone
) -> tuple[Fit, list[str]]:
    """Measure the memory that steps take, and find the largest batch that fits.

    Args:
        cfg: The config, with `batch_size=auto`.
        parts: The cheap parts.
        ready: The data.
        backbone: The backbone.

    Returns:
        What was found; and the names of the layers with statistics of their own batch.
    """
    from kerasft.model.fast import accelerated

    accumulating = cfg.copy()  # as with several batches an update, whose gradients are kept
    OmegaConf.update(accumulating, f"optimizer.{ACCUMULATION}", 2, force_add=True)
    model = with_head(cfg, ready.task, ready.splits.labels, backbone)
    recipe = make_recipe(accumulating, parts, ready.task, backbone)
    recipe.require(model)
    at_sizes = sizes.of_stages(cfg, parts, ready, backbone, model, parts.stages)
    steps, epochs = recipe.planned(ready.batches.steps)
    possible = candidates(cfg, ready)
    found: Fit | None = None
    moving: dict[str, None] = {}
    with accelerated(model, steps=steps * sum(epochs.values())) if cfg.fast else nullcontext():
        trains = {name: _trains(model, recipe, name, moving) for name in parts.stages}
        for name in decisive(trains, {name: at.image_size for name, at in at_sizes.items()}):
            at, peak = at_sizes[name], recipe.select(model, name)
            recipe.compile(
                model, peak, steps * epochs[name], factors=recipe.factors(model, name)
            )
            trial = Trial(cfg, at, model)
            with model.entered(trial.entry):
                model.make_train_function()
                one = largest(list(possible), trial, _room(cfg))
            # Another stage can only have room for less.
            possible = {size: each for size, each in possible.items() if size <= one.size}
            found = replace(one, each=possible[one.size], peaks=one.peaks)
    assert found is not None, "A run has a stage."
    return found, list(moving)


def candidates(cfg: DictConfig, ready: Ready) -> dict[int, int]:
    """Return the sizes that a batch can have, rising, with how many of it an update takes.

    Args:
        cfg: The config, with `batch_size=auto`.
        ready: The data.

    Returns:
        By size, the batches of an update: of examples, the divisors of what it learns from; of
        tokens, all parts of it that hold the longest text.
    """
    from kerasft.rows import padded_width

    train = ready.stores["train"]
    whole = cfg.effective_batch or auto_batch.examples(cfg)
    if cfg.batch_tokens is None:
        whole = min(whole, len(train))
        return {size: whole // size for size in range(1, whole + 1) if whole % size == 0}
    longest = padded_width(train.lengths, train.longest)
    most = max(whole // longest, 1)
    return {whole // each: each for each in range(most, 0, -1)}


def decisive(trains: dict[str, int], image_sizes: dict[str, Any]) -> list[str]:
    """Return the stages that can take the most memory: of each image size the largest part.

    Args:
        trains: By stage, how many weights train.
        image_sizes: By stage, the size of its images.

    Example:
        >>> decisive({"head": 10, "all": 90}, {"head": None, "all": None})
        ['all']
    """
    largest: dict[Any, str] = {}
    for name, size in image_sizes.items():
        if size not in largest or trains[name] > trains[largest[size]]:
            largest[size] = name
    return list(largest.values())


def _trains(model: keras.Model, recipe: Any, name: str, moving: dict[str, None]) -> int:
    """Return how many weights train in a stage, and note which layers go by their batch."""
    import keras

    recipe.select(model, name)
    moving |= {
        layer.name: None for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    }
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


class Trial:
    """Trains steps of a stage with batches of a size, and tells the memory that they took.

    Args:
        cfg: The config.
        at: Model and data at the size of the stage.
        model: The model, compiled for the stage.
    """

    def __init__(self, cfg: DictConfig, at: sizes.AtSize, model: keras.Model):
        from kerasft.training import frozen

        self.cfg, self.ready, self.model = cfg, at.ready, model
        # Not from kept activations: whether they are kept may change, and they take less.
        self.entry: Callable | None = frozen.cut(at.model) or at.entry
        self.is_traced = False

    def __call__(self, size: int) -> int:
        """Return the most bytes held in steps with such batches, of the longest texts.

        Raises:
            OutOfMemory: If there are not so many.
        """
        with noticed(self.cfg):
            if not self.is_traced:  # tracing takes memory of its own, once
                self._steps(size)
                self.is_traced = True
            with _measured() as peak:
                self._steps(size)
        return int(peak.bytes)

    def _steps(self, size: int) -> None:
        every = self.ready.batches
        order = self._order(size)
        widest = max(
            order.epoch(0), key=lambda batch: (len(batch), 0) if order.lengths is None
            else (len(batch) * int(order.lengths[batch].max()), len(batch)),
        )  # fmt: skip
        batches = Batches(
            every.store, every.targets, order=_Again(widest), batch=every.batch,
            augment=every.augment,
        )
        data = iter(batches.from_step())
        for _ in range(STEPS):
            logs = self.model.train_function(data)
        np.asarray(logs["loss"])  # until it is there

    def _order(self, size: int) -> Order:
        run, train = self.ready.batches.order, self.ready.batches.store
        tokens = size if self.cfg.batch_tokens is not None else None
        return Order(
            run.count, run.batch_size if tokens else size, seed=run.seed, lengths=run.lengths,
            positions=tokens, longest=train.longest or 1, keys=run.keys,
        )


class _Again:
    """An order of one batch, again and again.

    Args:
        batch: Its indices.
    """

    def __init__(self, batch: np.ndarray):
        self.indices, self.steps = batch, STEPS

    def batch(self, step: int) -> tuple[int, np.ndarray]:
        return 0, self.indices


def largest(sizes: Sequence[int], trial: Callable[[int], int], room: Room) -> Fit:
    """Find the largest batch that fits, from small ones up.

    What a batch will take is expected from the two largest that were measured; it is tried only
    where that is within the limit and no more than `room.farther` times as large. So each answer
    but that of batches which are too large was measured.

    Args:
        sizes: Sizes of a batch, rising.
        trial: Returns the bytes that a batch of a size takes at most.
        room: What it may take.

    Returns:
        What was found, with `each=1`.

    Example:
        >>> found = largest([1, 2, 4, 8, 16], lambda size: 100 + 10 * size, Room(190.0, 100, 4))
        >>> found.size, found.peaks
        (8, {1: 110, 2: 120, 8: 180})
    """
    limit = float("inf") if room.limit is None else room.limit
    peaks: dict[int, int] = {}
    best, top, place = -1, len(sizes), 0
    while True:
        size = sizes[place]
        try:
            peaks[size] = trial(size)
            fits = peaks[size] <= limit
        except OutOfMemory:
            fits = False
        if fits:
            best = place
        else:
            top = place
        within = [
            other for other in range(best + 1, top)
            if best >= 0 and _expected(sizes[other], peaks, room.base) <= limit
            and (other == best + 1 or sizes[other] <= room.farther * sizes[best])
        ]  # fmt: skip
        if not within:
            break
        place = within[0] if len(peaks) == 1 else within[-1]
    return Fit(sizes[max(best, 0)], 1, peaks, room.limit, suffices=best >= 0)


def _expected(size: int, peaks: dict[int, int], base: int) -> float:
    """Return the bytes that a batch is expected to take at most."""
    measured = sorted(peaks.items())
    (before, less), (last, most) = ([(0, base), *measured])[-2:]
    return most + max(most - less, 0) / (last - before) * (size - last)


def _room(cfg: DictConfig) -> Room:
    """Return the memory that a run may plan with."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        limit = None if cfg.memory_gb is None else cfg.memory_gb * 1e9
        return Room(limit, int(tf.config.experimental.get_memory_info("GPU:0")["current"]),
                    FARTHER_ON_GPU)  # fmt: skip
    held = memory.resident()
    limit = SHARE * (held + memory.available())
    if cfg.memory_gb is not None:
        limit = min(limit, cfg.memory_gb * 1e9)
    return Room(limit, held, FARTHER)


@contextmanager
def _measured() -> Any:
    """Measure the most memory that is held while a block runs: of the GPU where there is one."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        gc.collect()
        with memory.peak() as found:
            yield found
        return
    tf.config.experimental.reset_memory_stats("GPU:0")
    found = memory.Peak()
    yield found
    found.bytes = int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
