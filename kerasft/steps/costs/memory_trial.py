"""Measures the memory that training steps take, and finds the largest batch that fits."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from kerasft.config import auto_batch
from kerasft.config.auto_batch import ACCUMULATION
from kerasft.data.order import Order
from kerasft.data.pipeline import Batches
from kerasft.spec import Backbone
from kerasft.steps.costs.memory import OutOfMemory, noticed
from kerasft.steps.fitting.fit import make_recipe
from kerasft.steps.preparing import sizes
from kerasft.steps.preparing.heads import with_head
from kerasft.steps.preparing.prepare import Parts, Ready
from kerasft.system import heap, memory

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
            suffices = one.suffices and (found is None or found.suffices)
            found = replace(one, each=possible[one.size], suffices=suffices)
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

    draws = batch


def largest(sizes: Sequence[int], trial: Callable[[int], int], room: Room) -> Fit:
    """Find the largest batch that fits, from small ones up.

    What a batch will take is expected from the two largest that were measured; it is tried only
    where that is within the limit and no more than `room.farther` times as large. Whatever is
    returned was measured.

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
    heap.give_back()
    held = memory.resident()
    limit = SHARE * (held + memory.available())
    if cfg.memory_gb is not None:
        limit = min(limit, cfg.memory_gb * 1e9)
    return Room(limit, held, FARTHER)


@contextmanager
def _measured() -> Iterator[memory.Peak]:
    """Measure the most memory that is held while a block runs: of the GPU where there is one."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        gc.collect()
        heap.give_back()
        with memory.peak() as found:
            yield found
        return
    tf.config.experimental.reset_memory_stats("GPU:0")
    found = memory.Peak()
    yield found
    found.bytes = int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
