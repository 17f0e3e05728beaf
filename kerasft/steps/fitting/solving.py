"""Features of a network as it is, and the best linear head on them: what needs no training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.contracts import Solvable, Task, Tunable
from kerasft.evaluation import uncertainty
from kerasft.rows import Rows
from kerasft.spec import Backbone, Features, Labels
from kerasft.steps.preparing.stages import LEARNED, POOLED
from kerasft.system.cache import Cache, CacheError

if TYPE_CHECKING:
    import keras

    from kerasft.data.store import Store
    from kerasft.model.linear import Linear
    from kerasft.training.taps import Tap

# Nearer to the optimum, figures are the same.
ROUGHLY = 1e-5


@dataclass(frozen=True)
class Solved:
    """A linear head at its optimum, and what it is worth.

    Args:
        linear: The head.
        task: The task, its decisions tuned on validation.
        labels: What the labels mean.
        statistics: By split what the task measures of each example.
    """

    linear: Linear
    task: Task
    labels: Labels
    statistics: Mapping[str, Mapping[str, np.ndarray]]

    def figures(self, split: str) -> dict[str, Any]:
        """Return the task's figures of a split."""
        return self.task.figures(self.statistics[split], self.labels)

    def interval(self, split: str, metric: str) -> tuple[float, float] | None:
        """Return between which values a figure lies, at 95 %, as far as the examples tell.

        Wilson's interval for shares of examples, else the bootstrap; `None` where neither can be.
        """
        return uncertainty.intervals(
            self.task, self.labels, [metric], self.statistics[split], repeats=500
        ).get(metric)


def pooling_of(head: Mapping[str, Any], learned: str = "auto") -> str:
    """Return how a head makes one vector of positions.

    Args:
        head: Its node of a config.
        learned: What is returned where a head learns that, or is none of ours.
    """
    ours = str(head.get("_target_")).startswith(POOLED)
    wanted = str(head.get("pooling", "auto")) if ours else learned
    return learned if wanted == LEARNED else wanted


def pooled(backbone: Backbone, pooling: str, tap: Tap | None = None) -> Any:
    """Return the one vector an example that a head takes of a backbone, as a symbolic tensor.

    Args:
        backbone: The backbone.
        pooling: See `kerasft.model.heads.pooled.pool`.
        tap: The place before its end that it is taken at.
    """
    from kerasft.model.assemble import features_of
    from kerasft.model.heads.pooled import pool
    from kerasft.model.layers import as_sequence

    features: Features = features_of(backbone)
    if tap is not None and tap.share < 1:
        sequence = as_sequence(tap.tensor)
        vector = pool(replace(features, sequence=sequence), pooling)  # type: ignore[arg-type]
        # Several places of one model; its operations need names of their own.
        for tensor, kind in ((sequence, "places"), (vector, "pooled")):
            if tensor is not tap.tensor:
                tensor._keras_history.operation.name = f"{tap.operation.name}_{kind}"
        return vector
    return pool(features, pooling)  # type: ignore[arg-type]


def compute(
    model: keras.Model, stores: Mapping[str, Store], cache: Cache, *, batch_size: int, about: str,
) -> dict[str, dict[str, np.ndarray]]:
    """Return what a model puts out, in inference mode, from the cache where it is kept there.

    A stage that trains a head from the same activations finds them, and the other way round.

    Args:
        model: A functional model that puts out a tensor of one size, or several by name.
        stores: Preprocessed examples by split.
        cache: Where they are kept.
        batch_size: Examples computed at once.
        about: What they are of, in words.

    Returns:
        By split, an array by the name of the output; `cut_0` where there is only one.
    """
    import tensorflow as tf

    from kerasft.data import activations
    from kerasft.training import frozen, taps

    cut = taps.behind(model)
    forms, prefix = activations.forms(cut.crossing), frozen.identity(cut)
    function = tf.function(cut.prefix, autograph=False)
    found = {}
    for name, store in stores.items():
        source = activations.Source(store)
        key = {"prefix": prefix, "examples": store.key, "views": 1, "augment": None}
        try:
            if not store.key or cache.activations == "never":
                raise CacheError("they are not to be kept")
            kept = activations.keep(
                cache, key, function, forms, source, batch_size=batch_size,
                about=f"{len(store):,} examples through {len(cut.layers)} layers, of {about}",
            )
        except CacheError:
            kept = activations.compute(function, forms, source, batch_size=batch_size)
        found[name] = {one: np.asarray(kept.inputs[one], "float32") for one in forms}
    return found


def solve(
    task: Task, labels: Labels, features: Mapping[str, Any], annotations: Mapping[str, Rows],
    *, seed: int = 0,
) -> Solved:
    """Solve a linear head on the features of training examples, and measure the other splits.

    The strength of the penalty, and what the task tunes, are chosen on validation.

    Args:
        task: A task that is `Solvable`, as it fits the data.
        labels: What the labels mean.
        features: `[N, width]` by split, `train` and `validation` among them.
        annotations: The labels of the same examples.
        seed: Of random numbers.

    Returns:
        A `Solved`.
    """
    assert isinstance(task, Solvable)
    learned = task.targets(annotations["train"], labels, training=True)
    held = task.targets(annotations["validation"], labels)
    linear = task.solve(
        features["train"], learned, labels, validation=(features["validation"], held), seed=seed,
        tolerance=ROUGHLY,
    )
    kept = {
        name: kept_of(task, linear(features[name])) for name in annotations if name != "train"
    }
    tuned: Task = task
    if isinstance(task, Tunable):
        tuned = task.tune(annotations["validation"], kept["validation"], labels)
    return Solved(linear, tuned, labels, {
        name: tuned.statistics(annotations[name], kept[name], labels) for name in kept
    })  # fmt: skip


def kept_of(task: Task, outputs: np.ndarray) -> Rows:
    """Return what a task keeps of each example's outputs."""
    import tensorflow as tf

    return Rows.of_tensors(task.keep(tf.constant(outputs, tf.float32), None, {}))


def part_of(store: Store, rows: np.ndarray) -> Store:
    """Return some examples of a store, under a key of their own; all of them are the store."""
    if len(rows) == len(store):
        return store
    key = hashlib.sha256(store.key.encode() + rows.tobytes()).hexdigest() if store.key else ""
    return store.take(rows, key)


def headline(task: Task, figures: Mapping[str, Any]) -> str:
    """Return the figure that a task is judged by: its monitor, else the first of its headlines.

    `""` where these examples have none of them.

    Example:
        >>> from kerasft.tasks.classification import Classification
        >>> headline(Classification(), {"accuracy": 0.9, "f1_macro": 0.8})
        'accuracy'
    """
    names = [task.monitor.removeprefix("val_"), *task.headlines]
    return next((name for name in names if isinstance(figures.get(name), float)), "")
