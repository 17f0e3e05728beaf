"""Running a network over a data set: what is kept of each example leaves the graph, and no more."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.distributed.group import ALONE, Group
from kerasft.distributed.parcels import packed, unpacked
from kerasft.rows import Rows, as_table, joined, of_table

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
    batch: Callable[[Any, dict[str, Any]], tuple[Any, Any]] | None = None, group: Group = ALONE,
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
        group: The devices and processes that share the work. Each process has a dataset of its
            own, which holds its share of the batches, and all get what came of all of them.

    Returns:
        A `Measured`, its rows in the order of the examples.
    """
    devices = group.devices or ("",)
    step = _compiled(model, produce, batch, key, group if group.devices else ALONE)
    # One trace for batches of any size and width, before the first one makes some.
    for device in devices:
        step.get_concrete_function(*dataset.element_spec, device)
    parts, losses, sizes = [], [], []
    for kept, loss in _computed(step, dataset, devices):
        parts.append(Rows.of_tensors(kept))
        losses.append(float(loss))
        sizes.append(len(parts[-1]))
    if group.workers > 1:
        parts, order, losses, sizes = _of_all(group, parts, order, losses, sizes)
    rows = joined(parts, order)
    return Measured(rows, None if batch is None else float(np.average(losses, weights=sizes)))


def _computed(step: Any, dataset: Any, devices: Sequence[str]) -> Iterator[Any]:
    """Yield what comes of each batch in turn; as many are at work as there are devices."""
    begun: deque[Any] = deque()
    for number, (inputs, targets) in enumerate(dataset):
        begun.append(step(inputs, targets, devices[number % len(devices)]))
        if len(begun) == len(devices):
            yield begun.popleft()
    yield from begun


def _of_all(
    group: Group, parts: list[Rows], order: np.ndarray, losses: list[float], sizes: list[int]
) -> tuple[list[Rows], np.ndarray, list[float], list[int]]:
    """Return what came of the batches of all workers; all must ask.

    Losses are in the order of the batches, so that their mean is that of one process to the last
    bit.
    """
    table, ragged = as_table(joined(parts), "kept") if parts else ({}, {})
    found = [unpacked(parcel) for parcel in group.parcels(packed({
        **table, "ragged": np.frombuffer(json.dumps(ragged).encode(), "uint8"), "order": order,
        "losses": np.array(losses, "float64"), "sizes": np.array(sizes, "int64"),
    }))]  # fmt: skip
    # A worker has none where there are fewer batches than workers.
    there = [one for one in found if len(one["sizes"])]
    return (
        [of_table(one, json.loads(one.pop("ragged").tobytes()), "kept") for one in there],
        np.concatenate([one["order"] for one in there]),
        _in_turn([one["losses"] for one in there]), _in_turn([one["sizes"] for one in there]),
    )


def _in_turn(shares: Sequence[np.ndarray]) -> list[Any]:
    """Return the first of each, then the second of each, and so on."""
    return [
        one[place] for place in range(max(map(len, shares))) for one in shares if place < len(one)
    ]


def _compiled(model: keras.Model, produce: Produce, batch: Any, key: Any, group: Group) -> Any:
    """Return the function of a batch and a device, the one of before where nothing has changed."""
    import tensorflow as tf

    # Through another part of its graph, a model computes another function.
    key = (key, batch is None, getattr(model, "_entry", None), group.devices)
    held = vars(model).get("_kerasft_measure")
    if held is not None and held[0] == key:
        return held[1]

    @tf.function(autograph=False, reduce_retracing=True)
    def step(inputs: Any, targets: Any, device: str) -> tuple[dict[str, Any], Any]:
        with tf.device(device) if device else nullcontext():
            # In the scope a device reads its own copy of the weights. A loss would be divided.
            with group.scope():
                outputs = model(inputs, training=False)
            loss = tf.zeros([])
            if batch is not None:
                y, weights = batch(inputs, targets)
                loss = model.compute_loss(inputs, y, outputs, weights, training=False)
            return dict(produce(outputs, inputs, targets)), loss

    # Out of sight of Keras' tracking.
    object.__setattr__(model, "_kerasft_measure", (key, step))
    return step
