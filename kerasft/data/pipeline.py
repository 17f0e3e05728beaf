"""The tf.data order, written once: which example, gathered, augmented, ahead of the step."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from kerasft.data.order import Order, once
from kerasft.data.store import Store
from kerasft.rows import padded_width
from kerasft.threads import AHEAD, cores, untuned


class Batches:
    """Training batches, each a function of its number.

    Args:
        store: Preprocessed examples.
        targets: `float32[N, units]`, what the loss compares with.
        weights: `float32[N]` or `None`.
        order: Which example stands where: an `Order`, or what has its `steps` and `batch`.
        augment: What `augmenter` returns.
    """

    def __init__(self, store: Store, targets: np.ndarray, *, order: Any,
                 weights: np.ndarray | None = None, augment: Callable | None = None):
        self.store, self.targets, self.weights = store, targets, weights
        self.order, self.augment = order, augment
        self.steps = order.steps
        self.reading: int | None = None  # the batch that is being read right now

    def padding(self) -> dict[str, float]:
        """Return the share of positions that hold padding, in the first epoch.

        Returns:
            `used` for the batches as they are, `ungrouped` for batches at random, `full` for rows
            of the full length; empty where examples have no length.
        """
        lengths = self.store.lengths
        if lengths is None:
            return {}
        plain = Order(len(lengths), self.order.batch_size, seed=self.order.seed)

        def positions(order: Order) -> int:
            return sum(
                len(batch) * padded_width(lengths[batch], self.store.longest)
                for batch in order.epoch(0)
            )

        taken = {
            "used": positions(self.order), "ungrouped": positions(plain),
            "full": len(lengths) * self.store.longest,
        }
        return {name: 1.0 - float(lengths.sum()) / count for name, count in taken.items()}

    def widths(self) -> int:
        """Return how many widths the batches of the first epoch have."""
        lengths = self.store.lengths
        if lengths is None:
            return 1
        return len({padded_width(lengths[b], self.store.longest) for b in self.order.epoch(0)})

    def pace(self, first: int = 0, count: int = 20, limit: float = 1.0) -> tuple[float, float]:
        """Measure how fast batches come when nobody else is at work.

        Args:
            first: The step to begin with.
            count: The most batches.
            limit: Seconds after which it ends, after the first few.

        Returns:
            Seconds a batch for gathering it, and for all that is done with it.
        """
        began = time.perf_counter()
        for step in range(first, first + 3):
            epoch, indices = self.order.batch(step)
            self.store.gather(indices, view=epoch)
        gathering = (time.perf_counter() - began) / 3
        batches = iter(self.from_step(first))
        # The first ones wait for threads and graphs, and those made meanwhile cost nothing.
        for _ in range(3):
            next(batches)
        began, made = time.perf_counter(), 0
        while made < count and time.perf_counter() < began + limit:
            next(batches)
            made += 1
        return gathering, (time.perf_counter() - began) / max(made, 1)

    def of(self, store: Store) -> Batches:
        """Return the same batches of what was made of the examples, as they are there."""
        return Batches(store, self.targets, order=self.order, weights=self.weights)

    def from_step(self, first: int = 0, without: Collection[int] = ()) -> Any:
        """Return an endless `tf.data.Dataset` of `(inputs, targets, weights)`.

        Args:
            first: The batch to begin with, counted over all epochs.
            without: Batches that are left out.
        """
        import tensorflow as tf

        specs = self.store.specs()
        names = list(specs)
        kinds = [tf.as_dtype(dtype) for dtype, _ in specs.values()]
        shapes = [shape for _, shape in specs.values()]

        def take(step: np.ndarray) -> list[np.ndarray]:
            self.reading = int(step)
            epoch, indices = self.order.batch(int(step))
            weights = np.ones(len(indices)) if self.weights is None else self.weights[indices]
            taken = [
                *self.store.gather(indices, view=epoch).values(), self.targets[indices],
                weights.astype("float32"), np.int64(epoch), indices.astype("int64"),
            ]
            self.reading = None
            return taken

        def gather(step: Any) -> tuple[Any, ...]:
            *values, targets, weights, epoch, indices = tf.numpy_function(
                take, [step], [*kinds, tf.float32, tf.float32, tf.int64, tf.int64]
            )
            for value, shape in zip(values, shapes, strict=True):
                value.set_shape(shape)
            targets.set_shape([None, *self.targets.shape[1:]])
            weights.set_shape([None])
            epoch.set_shape([])
            indices.set_shape([None])
            return tuple(values), targets, weights, epoch, indices

        def change(values: Any, targets: Any, weights: Any, epoch: Any, indices: Any) -> Any:
            if self.augment is not None:
                images, targets = self.augment(values[0], targets, epoch, indices)
                images.set_shape(shapes[0])
                targets.set_shape([None, *self.targets.shape[1:]])
                values = (images,)
            inputs = values[0] if names == ["images"] else dict(zip(names, values, strict=True))
            return inputs, targets, weights

        numbers = tf.data.Dataset.range(first, np.iinfo("int64").max)
        if without:
            left_out = tf.constant(sorted(without), tf.int64)
            numbers = numbers.filter(lambda number: tf.reduce_all(number != left_out))
        return untuned(
            # A map of its own: with Python inside, TensorFlow makes it sequential for determinism,
            # and it is only a copy.
            numbers.map(gather)
            # Several batches are augmented at once, but handed on in order.
            .map(change, num_parallel_calls=cores(), deterministic=True)
            .prefetch(AHEAD)
        )


def in_one_pass(
    store: Store, batch_size: int, *, augment: Callable | None = None, epoch: int = 0
) -> tuple[Any, np.ndarray]:
    """Return a dataset that holds every example once, and the order in which it holds them.

    Args:
        store: Preprocessed examples.
        batch_size: Examples in a batch.
        augment: What `augmenter` returns, where pictures shall be changed as in training.
        epoch: The epoch whose changes these are.

    Returns:
        A `tf.data.Dataset` of inputs, and the index of each example in turn, `int64[N]`.
    """
    import tensorflow as tf

    batches = once(len(store), batch_size, store.lengths)
    specs = store.specs()
    spec = {name: tf.TensorSpec(shape, dtype) for name, (dtype, shape) in specs.items()}

    def rows() -> Any:
        for batch in batches:
            yield store.gather(batch), batch.astype("int64")

    def as_taken(values: Any, indices: Any) -> Any:
        if set(specs) != {"images"}:
            return values
        if augment is None:
            return values["images"]
        images, _ = augment(values["images"], tf.zeros([]), tf.constant(epoch, tf.int64), indices)
        return tf.ensure_shape(images, specs["images"][1])

    data = tf.data.Dataset.from_generator(
        rows, output_signature=(spec, tf.TensorSpec([None], tf.int64))
    )
    data = data.apply(tf.data.experimental.assert_cardinality(len(batches)))
    data = data.map(as_taken, num_parallel_calls=cores(), deterministic=True)
    return untuned(data.prefetch(2)), np.concatenate(batches)
