"""Benchmarks a few steps of each stage, and estimates what a run will cost."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from kerasft.data import activations
from kerasft.data.order import once
from kerasft.data.pipeline import Batches, in_one_pass
from kerasft.rows import padded_width
from kerasft.runs.finetuned import eval_batch_size
from kerasft.spec import Backbone
from kerasft.steps.fitting.activations import WRITING, Boundary, Plan
from kerasft.steps.fitting.fit import make_recipe
from kerasft.steps.preparing import sizes
from kerasft.steps.preparing.batches import size_of
from kerasft.steps.preparing.prepare import Parts, Ready
from kerasft.system.console import say, table

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerasft.data.store import Store
    from kerasft.training import frozen

@dataclass(frozen=True)
class Care:
    """How carefully time is taken.

    Args:
        samples: Batches of different widths that are measured.
        rounds: How many times each, the first time apart: it traces and compiles.
    """

    samples: int = 5
    rounds: int = 4


CAREFULLY = Care()
# For whoever has little time.
BRIEFLY = Care(2, 2)


@dataclass(frozen=True)
class Cost:
    """What a way to run a stage takes, in seconds.

    Args:
        step: A training step, on average.
        epoch: All steps of an epoch, and its validation.
        once: Tracing, compiling, and making the activations.
        total: The stage as a whole.
        answering: The validation of an epoch.
    """

    step: float
    epoch: float
    once: float
    total: float
    answering: float


@dataclass(frozen=True)
class StagePlan:
    """What a stage will cost.

    Args:
        name: The stage.
        steps: Its steps.
        learning_rate: Its peak rate.
        trains: How many weights train.
        whole: With the network as a whole.
        cached: With activations from the cache; `None` where the graph has no frozen part that can
            be kept.
        cache_bytes: What they take on disk.
        against: Why the run will not keep them, or `""`.
        memory: The most that the process has held so far, in bytes.
        image_size: Rows and columns of its images; `None` for texts.
    """

    name: str
    steps: int
    learning_rate: float
    trains: int
    whole: Cost
    cached: Cost | None
    cache_bytes: int
    against: str
    memory: int
    image_size: tuple[int, int] | None = None

    @property
    def cost(self) -> Cost:
        """What the way takes that the run will choose."""
        return self.cached if self.cached and not self.against else self.whole

    @property
    def seconds(self) -> float:
        """What the run will take, by the way that it will choose."""
        return self.cost.total

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "stage": self.name, "steps": self.steps, "learning_rate": self.learning_rate,
            "trains": self.trains,
            "whole": vars(self.whole), "cached": vars(self.cached) if self.cached else None,
            "cache_bytes": self.cache_bytes, "cache_declined": self.against or None,
            "memory_bytes": self.memory, "seconds": self.seconds,
            "image_size": list(self.image_size) if self.image_size else None,
        }


class Chosen:
    """An order that goes through a few batches, round after round.

    In a run one width follows another too; the same batch again finds its memory laid out.

    Args:
        batches: The indices of each.
        rounds: How many.
    """

    def __init__(self, batches: Sequence[np.ndarray], rounds: int):
        self.batches, self.steps = batches, len(batches) * rounds

    def batch(self, step: int) -> tuple[int, np.ndarray]:
        """Return epoch 0 and the indices of a batch."""
        return 0, self.batches[step % len(self.batches)]

    draws = batch


def measure_stages(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone, *, model: keras.Model,
    care: Care = CAREFULLY,
) -> list[StagePlan]:
    """Train a few steps of each stage, with and without kept activations, and take the time.

    Args:
        cfg: The config.
        parts: The cheap parts.
        ready: The data.
        backbone: The backbone.
        model: The model that `with_head` made of the backbone.
        care: How carefully.

    Returns:
        A `StagePlan` a stage.
    """
    from contextlib import nullcontext

    from kerasft.model.fast import accelerated
    from kerasft.training import frozen
    from kerasft.training.stage_run import together

    silent: Callable[[Any], None] = lambda line: None  # noqa: E731
    at_sizes = sizes.of_stages(cfg, parts, ready, backbone, model, parts.stages)
    recipe = make_recipe(cfg, parts, ready.task, backbone)
    steps, every = recipe.planned(ready.batches.steps)
    plans = []
    with accelerated(model, steps=steps * sum(every.values())) if cfg.fast else nullcontext():
        for name in parts.stages:
            peak = recipe.select(model, name)
            recipe.compile(model, peak, steps * every[name], factors=recipe.factors(model, name))
            at = at_sizes[name]
            boundary = Boundary(cfg, parts, at.ready, at.model, lambda *given: {}, say=silent)
            found, cut = Timer(cfg, at.ready, model, steps, care), frozen.cut(at.model)
            whole, cached, size, against = found.cost(cut or at.entry, every[name]), None, 0, ""
            if cut is not None and parts.cache.activations != "never":
                plan = boundary.plan(cut, every[name])
                against, size = plan.against, plan.size
                if plan.forms:
                    steps_per_execution = together(boundary.steps_per_execution(cut), steps)
                    cached = found.cost_of_kept(cut, plan, every[name], steps_per_execution)
            trains = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
            plans.append(StagePlan(
                name, steps * every[name], peak, trains, whole, cached, size, against,
                peak_memory(), size_of(at.ready.preprocess),
            ))
    return plans


class Timer:
    """Takes the time of a few batches and reckons it up to all of them.

    Args:
        cfg: The config.
        ready: The data.
        model: The model, compiled for a stage.
        steps: Steps in an epoch.
        care: How carefully.
    """

    def __init__(
        self, cfg: DictConfig, ready: Ready, model: keras.Model, steps: int, care: Care
    ):
        self.cfg, self.ready, self.model, self.steps = cfg, ready, model, steps
        self.care = care
        self.train, self.validation = ready.stores["train"], ready.stores["validation"]
        batches = ready.batches.order.epoch(0)[:steps]
        self.sample = of_all_widths(batches, self.train.lengths, care.samples)
        self.compiling = 0.0  # seconds of a width

    def cost(self, entry: Callable | None, epochs: int) -> Cost:
        """Return what training through a whole graph costs, see `Assembled.entered`."""
        every = self.ready.batches
        batches = Batches(every.store, every.targets, order=Chosen(self.sample, self.care.rounds),
                          batch=every.batch, augment=every.augment)
        with self.model.entered(entry):
            first, step = self._steps(batches)
            answering = self._answers(self.validation)
        return self._cost(epochs, first, step, answering)

    def cost_of_kept(
        self, cut: frozen.Cut, plan: Plan, epochs: int, steps_per_execution: int
    ) -> Cost:
        """Return what it costs to make activations and to train from them."""
        import tensorflow as tf

        prefix = tf.function(cut.prefix, autograph=False)
        making = 0.0 if plan.there else plan.size / WRITING + sum(
            source.views * self._passes(prefix, source.store) for source in plan.sources.values()
        )
        rows, every = np.unique(np.concatenate(self.sample)), self.ready.batches
        kept = activations.compute(
            prefix, plan.forms, activations.Source(self.train.take(rows)),
            batch_size=eval_batch_size(self.cfg),
        )
        batches = Batches(
            kept, every.targets.take(rows), batch=every.batch,
            order=Chosen(
                [np.searchsorted(rows, batch) for batch in self.sample], self.care.rounds
            ),
        )
        with self.model.entered(cut.suffix):
            first, step = self._steps(batches, steps_per_execution)
            answering = self._answers(kept) * len(self.validation) / len(kept)
        return self._cost(epochs, making + first, step, answering)

    def _cost(self, epochs: int, first: float, step: float, answering: float) -> Cost:
        epoch = self.steps * step + answering
        return Cost(step, epoch, first, first + epochs * epoch, answering)

    def _steps(self, batches: Any, steps_per_execution: int = 1) -> tuple[float, float]:
        """Return the seconds for tracing and compiling, and those of a step on average."""
        data = iter(batches.from_step())
        self.model.steps_per_execution = steps_per_execution
        try:
            self.model.make_train_function()
            calls = self.care.rounds if steps_per_execution > 1 else batches.order.steps
            took = [timed(lambda: self.model.train_function(data)) for _ in range(calls)]
        finally:
            self.model.steps_per_execution = 1
        if steps_per_execution > 1:  # so short that the width does not matter
            return took[0], float(np.median(took[1:])) / steps_per_execution
        by_round = np.reshape(took, [self.care.rounds, -1])
        steady = np.median(by_round[1:], axis=0)
        extra = np.maximum(by_round[0] - steady, 0.0)
        # The first step traces; each new width may be compiled. What the whole network compiled is
        # there already when kept activations are measured, and would not be in a run.
        if len(extra) > 1:
            self.compiling = max(self.compiling, float(np.median(extra[1:])))
        widths = widths_of(self.ready.batches.order.epoch(0)[: self.steps], self.train)
        steps = reckon(widths_of(self.sample, self.train), steady, widths)
        return float(extra[0]) + self.compiling * (len(set(widths)) - 1), float(steps.mean())

    def _answers(self, store: Store) -> float:
        """Return the seconds that answers for a store take."""
        import tensorflow as tf

        compute = tf.function(lambda inputs: self.model(inputs, training=False), autograph=False)
        return self._passes(compute, store)

    def _passes(self, compute: tf.types.experimental.GenericFunction, store: Store) -> float:
        """Return the seconds of a forward pass over a store."""
        size = eval_batch_size(self.cfg)
        every = once(len(store), size, store.lengths)
        sample = of_all_widths(every, store.lengths, self.care.samples)
        found = [in_one_pass(store.take(indices), size)[0] for indices in sample]
        compute.get_concrete_function(found[0].element_spec)
        batches = [next(iter(data)) for data in found]
        took = [
            [timed(partial(compute, batch)) for batch in batches] for _ in range(self.care.rounds)
        ]
        steady, everywhere = np.median(took[1:], axis=0), widths_of(every, store)
        return float(reckon(widths_of(sample, store), steady, everywhere).sum())


def timed(act: Callable[[], Any]) -> float:
    """Return the seconds that an act takes until the tensors that it returns are there."""
    import keras

    began = time.perf_counter()
    for tensor in keras.tree.flatten(act()):
        np.asarray(tensor)
    return time.perf_counter() - began


def of_all_widths(
    batches: Sequence[np.ndarray], lengths: np.ndarray | None, samples: int = Care.samples
) -> list[np.ndarray]:
    """Return some of the batches, from the narrowest to the widest."""
    if lengths is None:
        return list(batches[:1])
    ordered = sorted(batches, key=lambda batch: int(lengths[batch].max()))
    places = np.unique(np.linspace(0, len(ordered) - 1, samples).round().astype(int))
    return [ordered[place] for place in places]


def widths_of(batches: Sequence[np.ndarray], store: Store) -> list[int]:
    """Return how many positions each batch takes, with padding."""
    if store.lengths is None:
        return [len(batch) for batch in batches]
    return [len(b) * padded_width(store.lengths[b], store.longest) for b in batches]


def reckon(here: Sequence[int], took: np.ndarray, everywhere: Sequence[int]) -> np.ndarray:
    """Return the seconds of batches of any width, from those that were measured.

    Between two widths the time rises in a line.

    Example:
        >>> reckon([10, 20], np.array([1.0, 3.0]), [10, 15, 20]).tolist()
        [1.0, 2.0, 3.0]
    """
    places = np.argsort(here, kind="stable")
    return np.interp(everywhere, np.asarray(here, float)[places], np.asarray(took)[places])


def peak_memory() -> int:
    """Return the most bytes that the process has held, or those on a GPU where there is one."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def tell(plans: Sequence[StagePlan]) -> None:
    """Print a plan as a table, and what the cache does in words."""
    rows = []
    several = len({plan.image_size for plan in plans}) > 1
    for plan in plans:
        images = ["x".join(map(str, plan.image_size or ()))] if several else []
        ways: Mapping[str, Cost | None] = {"whole network": plan.whole, "kept": plan.cached}
        for way, cost in ways.items():
            if cost is not None:
                rows.append([
                    plan.name, way, *images, plan.steps, f"{plan.learning_rate:g}",
                    f"{cost.step * 1e3:.1f}", f"{cost.epoch:.1f}", f"{cost.once:.1f}",
                    f"{cost.total:.0f}",
                    f"{plan.cache_bytes / 1e6:,.0f}" if way == "kept" else "",
                    f"{plan.memory / 1e9:.1f}",
                ])
    say(table(rows, ["stage", "activations", *(["images"] if several else []), "steps",
                     "rate up to", "ms a step", "s an epoch", "s once", "s in all", "MB on disk",
                     "GB memory"]))
    for plan in plans:
        if plan.against:
            say(f"stage {plan.name}: activations are not kept, {plan.against}")
        elif plan.cached:
            say(f"stage {plan.name}: kept activations save "
                f"{plan.whole.total - plan.cached.total:,.0f} s, "
                f"{plan.whole.total / plan.cached.total:.2f} times as fast")
    say(f"in all about {in_words(sum(plan.seconds for plan in plans))}, beside start-up, what "
        "comes after training, and a baseline where one is asked for")


def in_words(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> in_words(42.3), in_words(4000)
        ('42 s', '67 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
