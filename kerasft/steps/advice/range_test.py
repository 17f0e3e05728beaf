"""A range test within a run's own pipeline, and a brief training of the stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from kerasft.config import auto_batch
from kerasft.data import activations
from kerasft.data.activations import Source
from kerasft.data.pipeline import Batches
from kerasft.runs.finetuned import eval_batch_size
from kerasft.spec import Tensors
from kerasft.steps.fitting.activations import Boundary
from kerasft.steps.preparing.prepare import Parts
from kerasft.steps.preparing.sizes import AtSize

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerasft.training.range_test import Curve
    from kerasft.training.recipe import Recipe

# Activations that are kept in memory for a test take at most so many bytes.
ROOM = 1_000_000_000


class Tester:
    """Tests the learning rates of a stage, and trains it briefly.

    It is fed as the run feeds the stage: from kept activations where the run keeps them. They are
    computed here, of the examples that are needed, and stay in memory: the cache is not changed.

    Args:
        cfg: The config.
        parts: The cheap parts.
        at: Model and data at the size of the stage.
        model: The model, with the variables of the stage selected.
        recipe: How it is trained.
        name: The stage.
        first: The number of the first batch of the stage in the run.
        count: How many batches are needed.
        epochs: Epochs of the stage.
        steps: Its steps, by which the optimizer is compiled.
    """

    def __init__(
        self, cfg: DictConfig, parts: Parts, at: AtSize, model: keras.Model, recipe: Recipe,
        name: str, *, first: int, count: int, epochs: int, steps: int,
    ):
        from kerasft.training import frozen

        self.model, self.recipe, self.steps = model, recipe, steps
        self.each, self.factors = auto_batch.accumulated(cfg), recipe.factors(model, name)
        every, cut = at.ready.batches, frozen.cut(at.model)
        self.entry: Callable | None = cut or at.entry
        self.data: Callable[[], Any] = lambda: iter(every.from_step(first))
        self.sizes = np.array([
            len(every.order.batch(step)[1]) for step in range(first, first + count)
        ])  # fmt: skip
        self.kept = False
        if cut is None or parts.cache.activations == "never":
            return
        silent: Callable[[Any], None] = lambda line: None  # noqa: E731
        boundary = Boundary(cfg, parts, at.ready, at.model, lambda *given: {}, say=silent)
        plan = boundary.plan(cut, epochs)
        if plan.against:
            return
        some = Some(every.order, first, count)
        source = of_rows(plan.sources["train"], some.rows, some.epochs)
        if activations.size_of(plan.forms, source) > ROOM:
            return
        kept = activations.compute(
            _traced(cut.prefix), plan.forms, source, batch_size=eval_batch_size(cfg)
        )
        batches = Batches(kept, every.targets.take(some.rows), order=some, batch=every.batch)
        self.entry, self.kept = cut.suffix, True
        self.data = lambda: iter(batches.from_step())

    def test(self, peak: float, start: float, end: float, updates: int) -> Curve:
        """Record the loss while the rate rises; the model is unchanged by it.

        Args:
            peak: The stage's peak rate by the config.
            start: The first rate.
            end: The last rate.
            updates: How many there are.
        """
        from kerasft.training.range_test import Rising, record, unchanged

        rising = Rising(start, end, updates, self.each)
        recipe = replace(self.recipe, schedule=lambda peak, steps: rising)
        with unchanged(self.model), self.model.entered(self.entry):
            recipe.compile(self.model, peak, self.steps, factors=self.factors)
            counts = self.sizes[: updates * self.each].reshape(updates, -1).sum(axis=1)
            return record(self.model, self.data(), rising, counts)

    def train(self, peak: float, steps: int) -> bool:
        """Train the stage briefly, along its own schedule.

        Args:
            peak: The peak rate.
            steps: How many batches.

        Returns:
            Whether that went well; otherwise the model is as before.
        """
        model = self.model
        before = [np.array(variable) for variable in model.variables]
        with model.entered(self.entry):
            self.recipe.compile(model, peak, steps, factors=self.factors)
            model.make_train_function()
            data = self.data()
            for _ in range(steps):
                model.reset_metrics()
                logs = model.train_function(data)
        if np.isfinite(np.asarray(logs["loss"])):
            return True
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
        return False


class Some:
    """A row of batches of an order, over and over, of examples that are a part of the store.

    Args:
        order: An `Order`.
        first: The step that they begin with.
        steps: How many they are.
    """

    def __init__(self, order: Any, first: int, steps: int):
        self.order, self.first, self.steps = order, first, steps
        taken = [order.batch(step) for step in range(first, first + steps)]
        self.rows = np.unique(np.concatenate([indices for _, indices in taken]))
        self.epochs = 1 + taken[-1][0] - taken[0][0]

    def batch(self, step: int) -> tuple[int, np.ndarray]:
        """Return the epoch and the places of the examples of a batch among `rows`."""
        epoch, indices = self.order.batch(self.first + step % self.steps)
        return epoch, np.searchsorted(self.rows, indices)

    draws = batch


def of_rows(source: Source, rows: np.ndarray, epochs: int) -> Source:
    """Return a source of some examples of another, each of them changed as there.

    Args:
        source: The other one.
        rows: Indices of its examples.
        epochs: In how many epochs they are wanted.
    """
    import tensorflow as tf

    augment, places = source.augment, tf.constant(rows, tf.int64)
    if augment is None:
        return Source(source.store.take(rows))

    def changed(
        inputs: Tensors, targets: Mapping[str, tf.Tensor], epoch: tf.Tensor, indices: tf.Tensor
    ) -> Any:
        return augment(inputs, targets, epoch, tf.gather(places, indices))

    return Source(source.store.take(rows), changed, min(source.views, epochs))


def _traced(prefix: Callable) -> Any:
    import tensorflow as tf

    return tf.function(prefix, autograph=False)
