"""What each stage is fed with: the network's own inputs, or what its frozen part made of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from omegaconf import DictConfig

from kerasft.cache import Cache, CacheError, nameless
from kerasft.finetuned import eval_batch_size
from kerasft.steps.prepare import Parts, Ready

# Multiply-adds and bytes a second that decide whether keeping pays: of a plain processor core and
# disk. They are constants, not measured, because the decision must be the same on each run.
RATE, READING, WRITING = 3e10, 1e9, 2e8
# Below so many seconds nothing is won by them.
WORTH = 2.0
# Steps of less than so many seconds' work run so many at once: each costs Python a millisecond.
SHORT, AT_ONCE = 1e-3, 32
# The most that logits may differ between the ways, as a share of their own spread.
TOLERANCE = {"float32": 1e-3, "float16": 3e-2, "bfloat16": 1e-1}


@dataclass(frozen=True)
class Saved:
    """What a stage's cache cost and saved, in seconds."""

    stage: str
    spent: float
    passes: float
    per_pass: float


@dataclass(frozen=True)
class Plan:
    """What keeping activations would take, and what speaks against it.

    Args:
        sources: By split.
        forms: By tensor.
        size: Bytes.
        passes: Forward passes saved, in units of those that making it takes.
        against: Why it is not done, or `""`.
    """

    sources: Mapping[str, Any]
    forms: Mapping[str, Any]
    size: int
    passes: float
    against: str


class Boundary:
    """Decides at each stage where it starts from, and says so.

    Args:
        cfg: The config.
        parts: The cheap parts, among them the cache and the augmentation.
        ready: The data.
        model: The assembled model.
        validate: Figures of a model on validation examples in the form that it takes.
        say: Prints a line.
    """

    def __init__(
        self, cfg: DictConfig, parts: Parts, ready: Ready, model: Any,
        validate: Callable[[Any, Any], dict[str, float]], *, say: Callable[[str], None],
    ):
        self.cfg, self.parts, self.ready, self.model = cfg, parts, ready, model
        self.validate, self.say = validate, say
        self.cache: Cache = parts.cache
        self.saved: list[Saved] = []

    def feed(self, stage: str, cut: Any, epochs: int) -> Any:
        """Return the `Feed` of a stage.

        Args:
            stage: Its name.
            cut: Where its graph can be cut, or `None`.
            epochs: Its epochs.
        """
        from kerasft.training.loop import Feed

        examples = self.ready.stores["validation"]
        whole = Feed(self.ready.batches, lambda model: self.validate(model, examples), cut)
        if cut is None or self.cache.activations == "never":
            return whole
        plan = self.plan(cut, epochs)
        if plan.against:
            self.say(f"activation cache: not used, {plan.against}")
            return whole
        try:
            kept = self._keep(stage, cut, plan)
        except CacheError as error:
            self.say(f"activation cache: not used, {error}")
            return whole
        if difference := self._difference(cut, kept["train"]):
            self.say(f"activation cache: not used, {difference}")
            return whole
        batches = self.ready.batches.of(kept["train"])
        return Feed(
            batches, lambda model: self.validate(model, kept["validation"]), cut.suffix,
            at_once=self.at_once(cut),
        )

    def at_once(self, cut: Any) -> int:
        """Return how many steps from kept activations run without a look at what came out."""
        from kerasft.training import frozen

        work = self.cfg.batch_size * frozen.multiply_adds(cut.above, self._positions())
        return AT_ONCE if work / RATE < SHORT else 1

    def _positions(self) -> float:
        lengths = self.ready.stores["train"].lengths
        return 1.0 if lengths is None else float(lengths.mean())

    def plan(self, cut: Any, epochs: int) -> Plan:
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
            return Plan(sources, {}, 0, 0.0, reason)
        if any(type(step).__name__ in ("MixUp", "CutMix") for step in self.parts.augment.values()):
            return Plan(sources, {}, 0, 0.0, "MixUp and CutMix make each batch of several pictures")
        shapes = forms(cut.crossing, sources["train"])
        size = sum(size_of(shapes, source) for source in sources.values())
        made = sum(len(source.store) * source.views for source in sources.values())
        saved = epochs * (len(train) + len(validation)) - made
        each = frozen.multiply_adds(cut.below, self._positions()) / RATE
        reading = epochs * size / sources["train"].views / READING
        won = saved * each - size / WRITING - reading
        against = ""
        if size > self.cache.room():
            against = (
                f"it would take {size / 1e9:.1f} GB, and {str(self.cache.directory)!r} may take "
                f"{self.cache.room() / 1e9:.1f} GB"
            )
        elif self.cache.activations == "auto" and won < WORTH:
            against = (
                f"it would not pay: {size / 1e6:,.0f} MB kept for {max(saved, 0):,} of "
                f"{epochs * (len(train) + len(validation)):,} forward passes saved"
            )
        return Plan(sources, shapes, size, saved / max(made, 1), against)

    def _keep(self, stage: str, cut: Any, plan: Plan) -> dict[str, Any]:
        import tensorflow as tf

        from kerasft.data import activations
        from kerasft.training import frozen

        began, prefix = time.perf_counter(), frozen.identity(cut)
        compute = tf.function(cut.prefix, autograph=False)
        kept, computed = {}, False
        for name, source in plan.sources.items():
            key = {
                "prefix": prefix, "examples": source.store.key, "views": source.views,
                "augment": self._augmentation() if source.augment else None,
            }
            computed |= not self.cache.has("activations", key)
            kept[name] = activations.keep(
                self.cache, key, compute, plan.forms, source,
                batch_size=eval_batch_size(self.cfg),
                about=f"{len(source.store):,} examples x {source.views} through "
                      f"{len(cut.layers)} frozen layers, of {self.cfg.name}",
            )
        spent = time.perf_counter() - began
        views = plan.sources["train"].views
        self.say(
            f"activation cache: {plan.size / 1e6:,.0f} MB at the output of "
            f"{cut.layers[-1]}" + (f", {views} views of each picture" if views > 1 else "")
            + (f", computed in {spent:.1f} s" if computed else ", found")
        )
        if computed:
            self.saved.append(Saved(stage, spent, plan.passes, spent))
        return kept

    def _augmentation(self) -> Any:
        import keras

        steps = {n: keras.saving.serialize_keras_object(s) for n, s in self.parts.augment.items()}
        return {"seed": self.cfg.seed, "steps": nameless(steps)}

    def _difference(self, cut: Any, kept: Any) -> str:
        """Compare one batch with the network as a whole; say how they differ, if they do."""
        batches = self.ready.batches
        inputs, _, _ = next(iter(batches.from_step(0).take(1)))
        cached, _, _ = next(iter(batches.of(kept).from_step(0).take(1)))
        whole = np.asarray(self.model(inputs, training=False), "float32")
        found = np.asarray(cut.suffix(cached, training=False), "float32")
        kinds = {str(tensor.dtype) for tensor in cut.crossing.values()}
        allowed = max(TOLERANCE.get(kind, 1e-3) for kind in kinds)
        spread = max(float(whole.std()), float(np.abs(whole).mean()), 1e-3)
        worst = float(np.abs(whole - found).max())
        if worst <= allowed * spread * 4:
            return ""
        return f"its logits differ from the network's own by {worst:.3g} on one batch"

    def report(self) -> None:
        """Say what the caches of all stages saved."""
        for one in self.saved:
            gain = one.passes * one.per_pass
            self.say(
                f"activation cache: stage {one.stage} spent {one.spent:.1f} s on it and saved "
                f"about {gain:.0f} s of forward passes"
            )
