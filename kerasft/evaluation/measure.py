"""Running a network over a data set: what is kept of each example leaves the graph, and no more."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.distributed.group import ALONE, Group
from kerasft.distributed.parcels import packed, unpacked
from kerasft.rows import Rows, as_table, joined, of_table
from kerasft.spec import Tensors

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

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
    model: keras.Model, dataset: tf.data.Dataset, order: np.ndarray, produce: Produce, *, key: Any,
    batch: Callable[[Any, Mapping[str, Any]], tuple[Any, Any]] | None = None, group: Group = ALONE,
    most: int | None = None,
) -> Measured:
    """Run a network over a data set, batch by batch, and keep a few values of each example.

    Memory does not grow with the network's outputs: none outlive their batch.

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
        most: Examples that go through the network at once, where a batch has more and the loss is
            asked for: it is still that of the whole batch, which may count words or pixels, so that
            a mean over smaller batches would be another number. `None` for all of a batch.

    Returns:
        A `Measured`, its rows in the order of the examples.
    """
    devices = group.devices or ("",)
    if batch is None:
        most = None
    step, whole = _compiled(
        model, produce, batch, key, group if group.devices else ALONE, apart=most is not None
    )
    # One trace for batches of any size and width, before the first one makes some.
    for device in devices:
        traced = step.get_concrete_function(*dataset.element_spec, device)
    found: Iterator[tuple[Rows, Any]]
    if most is None:
        found = ((Rows.of_tensors(kept), loss) for kept, loss in _computed(step, dataset, devices))
    else:
        _, (outputs, _) = traced.structured_outputs
        whole.get_concrete_function(*dataset.element_spec, outputs)
        found = _in_pieces(step, whole, dataset, devices, most)
    parts, losses, sizes = [], [], []
    for kept, loss in found:
        parts.append(kept)
        losses.append(float(loss))
        sizes.append(len(kept))
    if group.workers > 1:
        parts, order, losses, sizes = _of_all(group, parts, order, losses, sizes)
    rows = joined(parts, order)
    return Measured(rows, None if batch is None else float(np.average(losses, weights=sizes)))


def _computed(
    step: Callable[..., Any], batches: Iterable[Any], devices: Sequence[str]
) -> Iterator[Any]:
    """Yield what comes of each batch in turn; as many are at work as there are devices."""
    begun: deque[Any] = deque()
    for number, (inputs, targets) in enumerate(batches):
        begun.append(step(inputs, targets, devices[number % len(devices)]))
        if len(begun) == len(devices):
            yield begun.popleft()
    yield from begun


def _in_pieces(
    step: Callable[..., Any], whole: Callable[..., Any], dataset: tf.data.Dataset,
    devices: Sequence[str], most: int,
) -> Iterator[tuple[Rows, float]]:
    """Yield what is kept of each batch, which devices take piece by piece, and its loss."""
    import tensorflow as tf

    for batch in dataset:
        size = len(tf.nest.flatten(batch)[0])
        pieces = (_piece(batch, begin, most) for begin in range(0, size, most))
        parts, outputs, added = [], [], []
        for kept, (of_piece, more) in _computed(step, pieces, devices):
            parts.append(Rows.of_tensors(kept))
            outputs.append(of_piece)
            added.append(float(more))
        with _on(devices[0]):
            joint = tf.nest.map_structure(lambda *ones: tf.concat(ones, 0), *outputs)
        # What layers add to the loss counts as in training on several devices.
        more = np.average(added, weights=[len(part) for part in parts])
        yield joined(parts), float(whole(*batch, joint)) + float(more)


def _piece(batch: Any, begin: int, size: int) -> Any:
    import tensorflow as tf

    return tf.nest.map_structure(lambda one: one[begin : begin + size], batch)


def _on(device: str) -> AbstractContextManager[Any]:
    import tensorflow as tf

    return tf.device(device) if device else nullcontext()


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


def _compiled(
    model: keras.Model, produce: Produce, batch: Any, key: Any, group: Group, *, apart: bool
) -> tuple[Any, Any]:
    """Return functions of a batch and a device, those of before where nothing has changed.

    With `apart`, what is computed of a piece of a batch is not its loss but what that needs:
    outputs, and what layers have added to it. The second function then gives the loss of a batch.
    """
    import tensorflow as tf

    # Through another part of its graph, a model computes another function.
    key = (key, batch is None, apart, getattr(model, "_entry", None), group.devices)
    held = vars(model).get("_kerasft_measure", [])
    for known, *functions in held:
        if known == key:
            return functions[0], functions[1]

    def loss_of(inputs: Tensors, targets: Mapping[str, tf.Tensor], outputs: Tensors) -> Any:
        y, weights = batch(inputs, targets)
        return model.compute_loss(inputs, y, outputs, weights, training=False)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(
        inputs: Tensors, targets: Mapping[str, tf.Tensor], device: str
    ) -> tuple[dict[str, Any], Any]:
        with _on(device):
            # In the scope a device reads its own copy of the weights. A loss would be divided.
            with group.scope():
                outputs = model(inputs, training=False)
            if apart:
                found = outputs, _added(model)
            else:
                found = tf.zeros([]) if batch is None else loss_of(inputs, targets, outputs)
            return dict(produce(outputs, inputs, targets)), found

    @tf.function(autograph=False, reduce_retracing=True)
    def whole(inputs: Tensors, targets: Mapping[str, tf.Tensor], outputs: Tensors) -> Any:
        model._clear_losses()  # tensors of the graph of a piece
        with _on((group.devices or ("",))[0]):
            return loss_of(inputs, targets, outputs)

    # A model at rest gives figures and answers of each split in turn. One that trains is another
    # one afterwards: its layers compute otherwise, or in another precision.
    beside = [one for one in held if batch is None and one[0][1:] == key[1:]]
    # Out of sight of Keras' tracking.
    object.__setattr__(model, "_kerasft_measure", [*beside[-1:], (key, step, whole)])
    return step, whole


def _added(model: keras.Model) -> Any:
    """Return what the layers of a model have just added to its loss (`Layer.add_loss`)."""
    import tensorflow as tf

    found = [one for layer in model._flatten_layers() for one in layer._get_own_losses()]
    return tf.add_n([tf.reduce_sum(tf.cast(one, tf.float32)) for one in [tf.zeros([]), *found]])
