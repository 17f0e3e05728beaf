"""Running a network over a data set: what is kept of each example leaves the graph, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.rows import Rows, joined

if TYPE_CHECKING:
    import keras

# What makes the values that leave the graph of a batch: of outputs, inputs and targets.
Produce = Callable[[Any, Any, Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Measured:
    """What a pass over a data set gave.

    Args:
        rows: What was kept, a row an example.
        loss: The model's own loss, averaged over the examples; `None` where it was not asked for.
    """

    rows: Rows
    loss: float | None = None


def stream(
    model: keras.Model, dataset: Any, order: np.ndarray, produce: Produce, *, key: Any,
    batch: Callable[[Any, dict[str, Any]], tuple[Any, Any]] | None = None,
) -> Measured:
    """Run a network over a data set, batch by batch, and keep a few values of each example.

    Memory does not grow with the network's outputs: they never leave the graph of their batch.

    Args:
        model: A Keras model.
        dataset: A `tf.data.Dataset` of inputs and targets, in batches.
        order: `int64[N]`, the index of each example as it comes.
        produce: Tensors by name of a batch's outputs, inputs and targets, the batch first; of
            lengths of their own as `tf.RaggedTensor`.
        key: What `produce` and `batch` compute, by equality: a later call with an equal key finds
            the function traced.
        batch: What the loss compares with, see `Batches`, where the loss is asked for; the model
            must be compiled then.

    Returns:
        A `Measured`, its rows in the order of the examples.
    """
    step = _compiled(model, produce, batch, key)
    # One trace for batches of any size and width, before the first one makes some.
    step.get_concrete_function(*dataset.element_spec)
    parts, losses, sizes = [], [], []
    for inputs, targets in dataset:
        kept, loss = step(inputs, targets)
        parts.append(Rows.of_tensors(kept))
        losses.append(float(loss))
        sizes.append(len(parts[-1]))
    rows = joined(parts, order)
    return Measured(rows, None if batch is None else float(np.average(losses, weights=sizes)))


def _compiled(model: keras.Model, produce: Produce, batch: Any, key: Any) -> Any:
    """Return the function of a batch, the one of before where nothing has changed."""
    import tensorflow as tf

    # Through another part of its graph, a model computes another function.
    key = (key, batch is None, getattr(model, "_entry", None))
    held = vars(model).get("_kerasft_measure")
    if held is not None and held[0] == key:
        return held[1]

    @tf.function(autograph=False, reduce_retracing=True)
    def step(inputs: Any, targets: Any) -> tuple[dict[str, Any], Any]:
        outputs = model(inputs, training=False)
        loss = tf.zeros([])
        if batch is not None:
            y, weights = batch(inputs, targets)
            loss = model.compute_loss(inputs, y, outputs, weights, training=False)
        return dict(produce(outputs, inputs, targets)), loss

    # Out of sight of Keras' tracking.
    object.__setattr__(model, "_kerasft_measure", (key, step))
    return step
