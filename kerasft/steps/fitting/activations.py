"""Chooses for each stage between raw inputs and cached activations of the frozen part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from kerasft.distributed.group import current
from kerasft.runs.finetuned import eval_batch_size
from kerasft.spec import Tensors
from kerasft.steps.preparing.prepare import Parts, Ready
from kerasft.system.accelerators import gpus
from kerasft.system.cache import Cache, CacheError, digest_code, nameless

if TYPE_CHECKING:
    import keras

    from kerasft.data.store import Store
    from kerasft.training import frozen, loop

# Multiply-adds and bytes a second that decide whether keeping pays: of a plain processor core and
# disk. They are constants, not measured, because the decision must be the same on each run.
RATE, READING, WRITING = 3e10, 1e9, 2e8
# Of a small GPU, by reading alone: NVIDIA states 65e12 operations a second for a T4 in float16 and
# 8e12 in float32, a multiply-add is two. In between: what is kept in vain costs only the disk.
GPU_RATE = 5e12
# Below so many seconds nothing is won by them.
WORTH = 2.0
# Steps of less than so many seconds' work run so many at once: each costs Python a millisecond.
SHORT, AT_ONCE = 1e-3, 32
# Largest allowed RMS difference between cached and uncached outputs, relative to their standard
# deviation.
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
# How many examples are compared.
COMPARED = 8


@dataclass(frozen=True)
class Made:
    """What a stage's activations cost.

    Args:
        stage: The stage.
        seconds: What it took to make them.
        passes: How many examples went through the frozen layers for it.
        epoch: How many would have in each epoch.
    """

    stage: str
    seconds: float
    passes: int
    epoch: int


@dataclass(frozen=True)
class Plan:
    """What keeping activations would take, and what speaks against it.

    Args:
        sources: By split.
        forms: By tensor.
        size: Bytes.
        against: Why it is not done, or `""`.
        keys: What decides them, by split.
        there: Whether the cache holds them already.
    """

    sources: Mapping[str, Any]
    forms: Mapping[str, Any]
    size: int
    against: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    there: bool = False


class Boundary:
    """Decides at each stage where it starts from, and says so.

    Args:
        cfg: The config.
        parts: The cheap parts, among them the cache and the augmentation.
        ready: The data.
        model: The graph that is trained through: the assembled model, or the same at another size.
        validate: Figures of a model on validation examples in the form that it takes.
        say: Prints a line.
        image_size: Rows and columns of the images where they are not the assembled model's own.
    """

    def __init__(
        self, cfg: DictConfig, parts: Parts, ready: Ready, model: keras.Model,
        validate: Callable[[Any, Any], dict[str, float]], *, say: Callable[[str], None],
        image_size: tuple[int, int] | None = None,
    ):
        self.cfg, self.parts, self.ready, self.model = cfg, parts, ready, model
        self.validate, self.say, self.image_size = validate, say, image_size
        self.cache: Cache = parts.cache
        self.made: list[Made] = []

    def feed(self, stage: str, epochs: int, end: int) -> Any:
        """Return the `Feed` of a stage whose variables are selected.

        Args:
            stage: Its name.
            epochs: Its epochs.
            end: The epoch that the run will end before, all stages together.
        """
        from kerasft.training import frozen
        from kerasft.training.stage_run import Feed

        batches = self.ready.batches.planned(end)
        cut = frozen.cut(self.model)
        examples = self.ready.stores["validation"]
        whole = Feed(
            batches, lambda model: self.validate(model, examples),
            cut or (self.model if self.image_size else None), image_size=self.image_size,
            ends=batches.ends,
        )
        if cut is None or self.cache.activations == "never":
            return whole
        plan = self.plan(cut, epochs)
        if against := agreed(plan.against):
            self.say(f"activation cache: not used, {against}")
            return whole
        try:
            kept = self._keep(stage, cut, plan)
            difference = self._difference(cut, kept["train"])
            if difference and plan.there:
                # Something has changed that their key does not know.
                for key in plan.keys.values():
                    self.cache.forget("activations", key)
                kept = self._keep(stage, cut, replace(plan, there=False))
                difference = self._difference(cut, kept["train"])
        except CacheError as error:
            difference = str(error)
        if difference := agreed(difference):
            self.say(f"activation cache: not used, {difference}")
            return whole
        batches = batches.of(kept["train"])
        return Feed(
            batches, lambda model: self.validate(model, kept["validation"]), cut.suffix,
            steps_per_execution=self.steps_per_execution(cut), kept=True,
            image_size=self.image_size,
        )

    def steps_per_execution(self, cut: frozen.Cut) -> int:
        """Return how many training steps on kept activations a call of the train function runs."""
        from kerasft.training import frozen

        batches = self.ready.batches
        examples = len(batches.store) / batches.steps
        work = examples * frozen.multiply_adds(cut.above, self._positions())
        return AT_ONCE if work / rate() < SHORT else 1

    def _positions(self) -> float:
        lengths = self.ready.stores["train"].lengths
        return 1.0 if lengths is None else float(lengths.mean())

    def plan(self, cut: frozen.Cut, epochs: int) -> Plan:
        """Return what keeping the activations of a stage would take, and what speaks against it."""
        from kerasft.data.activations import Source, forms, size_of
        from kerasft.training import frozen

        train, validation = self.ready.stores["train"], self.ready.stores["validation"]
        augmented = self.ready.batches.augment
        sources = {
            "train": Source(train, augmented, min(self.cache.views, epochs) if augmented else 1),
            "validation": Source(validation),
        }
        if reason := frozen.open_sides(cut):
            return Plan(sources, {}, 0, reason)
        if any(type(step).__name__ in ("MixUp", "CutMix") for step in self.parts.augment.values()):
            return Plan(sources, {}, 0, "MixUp and CutMix make each batch of several images")
        if of_texts(augmented) and augmented.ends:
            name = next(iter(augmented.ends))
            return Plan(sources, {}, 0, f"augment.{name} ends, and kept views would come again")
        if augmented and self.ready.task.follows_pixels:
            return Plan(sources, {}, 0, "each augmented view has labels of its own, which move too")
        shapes, keys = forms(cut.crossing), self._keys(cut, sources)
        size = sum(size_of(shapes, source) for source in sources.values())
        there = all(self.cache.has("activations", key) for key in keys.values())
        against = ""
        try:
            if not there and size > (free := self.cache.free_space()):
                against = (
                    f"it would take {size / 1e9:.1f} GB, and {str(self.cache.directory)!r} may "
                    f"take {free / 1e9:.1f} GB"
                )
        except CacheError as error:
            against = str(error)
        if not against and self.cache.activations == "auto":
            against = self._too_little(cut, sources, size, epochs)
        return Plan(sources, shapes, size, against, keys, there)

    def _too_little(
        self, cut: frozen.Cut, sources: Mapping[str, Any], size: int, epochs: int
    ) -> str:
        """Say why keeping would not pay, if so; the same on each run, whatever is there."""
        from kerasft.training import frozen

        epoch = sum(len(source.store) for source in sources.values())
        saved = epochs * epoch - sum(len(s.store) * s.views for s in sources.values())
        each = frozen.multiply_adds(cut.below, self._positions()) / rate()
        reading = epochs * size / sources["train"].views / READING
        if saved * each - size / WRITING - reading >= WORTH:
            return ""
        return (
            f"it would not pay: {size / 1e6:,.0f} MB kept for {max(saved, 0):,} of "
            f"{epochs * epoch:,} forward passes saved"
        )

    def _keys(self, cut: frozen.Cut, sources: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return all that decides the activations of each split."""
        from kerasft.training import frozen

        prefix = frozen.identity(cut)
        return {
            name: {
                "prefix": prefix, "examples": source.store.key, "views": source.views,
                "augment": self._augmentation() if source.augment else None,
            }
            for name, source in sources.items()
        }

    def _keep(self, stage: str, cut: frozen.Cut, plan: Plan) -> dict[str, Any]:
        import tensorflow as tf

        from kerasft.data import activations

        began = time.perf_counter()
        compute = tf.function(cut.prefix, autograph=False)
        kept = {
            name: activations.keep(
                self.cache, plan.keys[name], compute, plan.forms, source,
                batch_size=eval_batch_size(self.cfg),
                about=f"{len(source.store):,} examples x {source.views} through "
                      f"{len(cut.layers)} frozen layers, of {self.cfg.name}",
            )
            for name, source in plan.sources.items()
        }
        seconds = time.perf_counter() - began
        views = plan.sources["train"].views
        self.say(
            f"activation cache: {plan.size / 1e6:,.0f} MB at the output of "
            f"{cut.layers[-1]}" + (f", {views} views of each image" if views > 1 else "")
            + (", found" if plan.there else f", computed in {seconds:.1f} s")
        )
        if not plan.there:
            sources = plan.sources.values()
            self.made.append(Made(
                stage, seconds, sum(len(s.store) * s.views for s in sources),
                sum(len(s.store) for s in sources),
            ))
        return kept

    def _augmentation(self) -> Any:
        import keras

        from kerasft.data.augment import augmenter

        steps = self.parts.augment
        if of_texts(self.ready.batches.augment):
            return {
                "seed": self.cfg.seed, "steps": [[name, repr(one)] for name, one in steps.items()],
                "code": digest_code([type(self.ready.batches.augment), *map(type, steps.values())]),
            }
        return {
            "seed": self.cfg.seed,
            # In their order: an image that is turned and then cropped is another one.
            "steps": [
                [name, nameless(keras.saving.serialize_keras_object(step)),
                 str(getattr(step, "compute_dtype", None))]
                for name, step in steps.items()
            ],
            "code": digest_code([augmenter, *map(type, steps.values())]),
        }

    def _difference(self, cut: frozen.Cut, kept: Store) -> str:
        """Compare examples with the network as a whole; say how they differ, if they do.

        Of the first batch it is a few: layer by layer, and not traced, a network holds on to what
        all its layers put out.
        """
        import keras

        batches = self.ready.batches
        inputs, cached = (
            keras.tree.map_structure(lambda tensor: tensor[:COMPARED], first)
            for one in (batches, batches.of(kept)) for first, *_ in one.from_step(0).take(1)
        )
        whole = _numbers(self.model(inputs, training=False), inputs)
        found = _numbers(cut.suffix(cached, training=False), inputs)
        kinds = {str(tensor.dtype) for tensor in cut.crossing.values()}
        allowed = max(TOLERANCE.get(kind, 1e-3) for kind in kinds)
        spread = max(float(whole.std()), float(np.abs(whole).mean()), 1e-3)
        apart = float(np.sqrt(np.mean((whole - found) ** 2)))
        if apart <= allowed * spread:
            return ""
        return f"its logits differ from the network's own by {apart:.3g} on one batch"

    def report(self, history: loop.History) -> None:
        """Say what the activations of all stages saved in the epochs that ran."""
        for one in self.made:
            epochs = sum(row["stage"] == one.stage for row in history.rows)
            saved = max(epochs * one.epoch - one.passes, 0) * one.seconds / one.passes
            self.say(
                f"activation cache: stage {one.stage} spent {one.seconds:.1f} s on it and saved "
                f"about {saved:.0f} s of forward passes"
            )


def agreed(against: str) -> str:
    """Return what speaks against keeping activations, with all workers of a group.

    What they have room for may differ, and they share out the examples of one form.

    Args:
        against: What this one has against it; `""` for nothing.
    """
    (not_all,) = current().any(bool(against))
    return against or ("another worker cannot keep them" if not_all else "")


def rate() -> float:
    """Return the multiply-adds a second that decisions reckon with on this machine."""
    return GPU_RATE if gpus() else RATE


def of_texts(augment: Any) -> bool:
    """Whether augmentation changes texts, before they are tokenized."""
    return hasattr(augment, "raw")


def _numbers(outputs: Tensors, inputs: Tensors) -> np.ndarray:
    """Return all that a network puts out in one row, but what it says of padding."""
    import keras

    parts = [np.asarray(one, "float64") for one in keras.tree.flatten(outputs)]
    if isinstance(inputs, Mapping) and "padding_mask" in inputs:
        real = np.asarray(inputs["padding_mask"]).astype(bool)
        parts = [one[real] if one.ndim > 2 and one.shape[:2] == real.shape else one
                 for one in parts]  # fmt: skip
    return np.concatenate([one.ravel() for one in parts])
