"""The tf.data pipeline: pick examples, gather rows, augment, make targets, prefetch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.data.order import Order, once
from kerasft.data.store import Store
from kerasft.rows import Rows, padded_width
from kerasft.spec import Tensors
from kerasft.system.late_errors import noted
from kerasft.system.tf_data import AHEAD, cores, mapped, untuned

if TYPE_CHECKING:
    import tensorflow as tf


class Batches:
    """Training batches, each a function of its number.

    Args:
        store: Preprocessed examples.
        targets: What is learned of each example, a row for each as the split has them.
        order: Which example stands where: an `Order`, or what has its `steps` and `batch`.
        batch: Makes what the loss compares with, and weights or `None`, of a batch of inputs and
            targets, in TensorFlow ops.
        augment: What `augmenter` returns, or for texts a `TextAugmenter`.
    """

    def __init__(self, store: Store, targets: Rows, *, order: Any,
                 batch: Callable[[Any, Mapping[str, Any]], tuple[Any, Any]],
                 augment: Any = None):
        self.store, self.targets = store, targets
        self.order, self.batch, self.augment = order, batch, augment
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
        plain = Order(
            len(lengths), self.order.batch_size, seed=self.order.seed, rates=self.order.rates
        )

        def padded(order: Order) -> float:
            batches = order.epoch(0)
            positions = sum(
                len(batch) * padded_width(lengths[batch], self.store.longest) for batch in batches
            )
            return 1.0 - float(sum(lengths[batch].sum() for batch in batches)) / positions

        full = 1.0 - float(lengths.sum()) / (len(lengths) * self.store.longest)
        return {"used": padded(self.order), "ungrouped": padded(plain), "full": full}

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

    @property
    def ends(self) -> dict[str, int]:
        """From which epoch on each step of augmentation is left out, of those that end."""
        return getattr(self.augment, "ends", {})

    def planned(self, epochs: int) -> Batches:
        """Return the same batches of a run that ends before an epoch, see `ending`."""
        if self.augment is None:
            return self
        made = copy.copy(self)
        made.augment = self.augment.planned(epochs)
        return made

    def of(self, store: Store) -> Batches:
        """Return the same batches of what was made of the examples, as they are there."""
        return Batches(store, self.targets, order=self.order, batch=self.batch)

    def from_step(self, first: int = 0, without: Collection[int] = ()) -> Any:
        """Return an endless `tf.data.Dataset` of inputs, targets, and weights where there are any.

        Args:
            first: The batch to begin with, counted over all epochs.
            without: Batches that are left out.
        """
        import tensorflow as tf

        def learned(
            inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], indices: tf.Tensor
        ) -> tuple[Any, ...]:
            inputs = inputs["images"] if list(inputs) == ["images"] else inputs
            y, weights = self.batch(inputs, targets)
            return (inputs, y) if weights is None else (inputs, y, weights)

        numbers = tf.data.Dataset.range(first, np.iinfo("int64").max)
        if without:
            left_out = tf.constant(sorted(without), tf.int64)
            numbers = numbers.filter(lambda number: tf.reduce_all(number != left_out))
        return self._made(numbers, learned)

    def examples(self, steps: Sequence[int]) -> Any:
        """Return a `tf.data.Dataset` of some batches before `batch`, with labels that can be read.

        Args:
            steps: The batches, counted over all epochs.

        Returns:
            Inputs by name and targets by name, both as augmentation left them, and the number of
            each example, `int64[batch]`, see `Order.draws`.
        """
        import tensorflow as tf

        numbers = tf.data.Dataset.from_tensor_slices(np.asarray(steps, "int64"))
        return self._made(numbers, lambda *taken: taken)

    def _made(self, numbers: Any, finish: Callable) -> Any:
        """Return a dataset of the batches at `numbers`: what `finish` makes of the augmented ones.

        Args:
            numbers: A `tf.data.Dataset` of steps.
            finish: A function of inputs, targets and indices, in TensorFlow ops.
        """
        import tensorflow as tf

        # Texts are changed before they are tokenized, what is kept of images after it was decoded.
        raw = getattr(self.augment, "raw", None)
        given = self.store.specs() if raw is None else self.augment.specs
        specs = (_tensor_specs(given), _tensor_specs(self.targets.specs()))
        counted = (tf.TensorSpec([], tf.int64), tf.TensorSpec([None], tf.int64))

        @noted()
        def take(step: np.ndarray) -> list[np.ndarray]:
            self.reading = int(step)
            epoch, numbers = self.order.draws(int(step))
            copies, indices = np.divmod(numbers, len(self.store))
            if raw is None:
                inputs = self.store.gather(indices, view=epoch + copies)
            else:
                inputs = {"raw": raw(epoch, numbers)}
            taken = [*inputs.values(), *self.targets.gather(indices).values()]
            self.reading = None
            return [*taken, np.int64(epoch), numbers.astype("int64")]

        def gather(step: tf.Tensor) -> tuple[Any, ...]:
            flat = [*specs[0].values(), *specs[1].values(), *counted]
            values = tf.numpy_function(take, [step], [spec.dtype for spec in flat])
            for value, spec in zip(values, flat, strict=True):
                value.set_shape(spec.shape)
            named = iter(values)
            inputs, targets = ({name: next(named) for name in part} for part in specs)
            return inputs, targets, *named

        def change(
            inputs: Tensors, targets: Mapping[str, tf.Tensor], epoch: tf.Tensor, indices: tf.Tensor
        ) -> tuple[Any, ...]:
            if self.augment is not None:
                inputs, targets = self.augment(inputs, targets, epoch, indices)
            return finish(inputs, targets, indices)

        # A map of its own: with Python inside, TensorFlow makes it sequential for determinism,
        # and it is only a copy.
        gathered = mapped(numbers, gather)
        # Several batches are augmented at once, but handed on in order.
        made = mapped(gathered, change, num_parallel_calls=cores(), deterministic=True)
        return untuned(made.prefetch(AHEAD))


def in_one_pass(
    store: Store, batch_size: int, *, targets: Rows | None = None,
    augment: Callable | None = None, epoch: int = 0, lengths: np.ndarray | None = None,
    share: tuple[int, int] = (0, 1),
) -> tuple[Any, np.ndarray]:
    """Return a dataset that holds every example once, and the order in which it holds them.

    Args:
        store: Preprocessed examples.
        batch_size: Examples in a batch.
        targets: What is learned of each example, where that is wanted too.
        augment: What `augmenter` returns, where images shall be changed as in training.
        epoch: The epoch whose changes these are.
        lengths: By which examples are put together; by default their own.
        share: `(number, of)`: of `of` shares, which hold each batch once together, the one with
            this number, from 0.

    Returns:
        A `tf.data.Dataset` of inputs, or of inputs and targets by name as they are stored; and the
        index of each example in turn, `int64[N]`.
    """
    import tensorflow as tf

    batches = once(len(store), batch_size, store.lengths if lengths is None else lengths)
    batches = batches[share[0] :: share[1]]
    spec = _tensor_specs(store.specs())
    learned = {} if targets is None else _tensor_specs(targets.specs())
    flat = [*spec.values(), *learned.values(), tf.TensorSpec([None], tf.int64)]

    @noted()
    def take(number: np.ndarray) -> list[np.ndarray]:
        batch = batches[int(number)]
        inputs = store.gather(batch)
        found = {} if targets is None else targets.gather(batch)
        values = [*(inputs[name] for name in spec), *(found[name] for name in learned), batch]
        return [
            np.asarray(value, one.dtype.as_numpy_dtype)
            for value, one in zip(values, flat, strict=True)
        ]

    def gather(number: tf.Tensor) -> tuple[Any, ...]:
        values = tf.numpy_function(take, [number], [one.dtype for one in flat])
        for value, one in zip(values, flat, strict=True):
            value.set_shape(one.shape)
        named = iter(values)
        inputs, found = ({name: next(named) for name in part} for part in (spec, learned))
        return inputs, found, *named

    def as_taken(values: Any, found: Any, indices: tf.Tensor) -> Any:
        if augment is not None:
            values, _ = augment(values, {}, tf.constant(epoch, tf.int64), indices)
        inputs = values["images"] if list(spec) == ["images"] else values
        return inputs if targets is None else (inputs, found)

    numbers = tf.data.Dataset.range(len(batches))
    if augment is None:  # each map is traced, which may take longer than a small data set
        data = mapped(numbers, lambda number: as_taken(*gather(number)))
    else:
        data = mapped(numbers, gather)
        data = mapped(data, as_taken, num_parallel_calls=cores(), deterministic=True)
    return untuned(data.prefetch(2)), np.concatenate([*batches, np.zeros(0, "int64")])


def _tensor_specs(specs: Mapping[str, tuple[np.dtype, list[int | None]]]) -> dict[str, Any]:
    import tensorflow as tf

    return {
        name: tf.TensorSpec(shape, tf.string if dtype.hasobject else dtype)
        for name, (dtype, shape) in specs.items()
    }
