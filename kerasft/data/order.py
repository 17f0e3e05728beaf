"""The order of the examples: a pure function of (seed, epoch), computed where it is needed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Batches whose texts are sorted by length together. More saves padding, fewer mixes better.
POOL = 50


class Order:
    """Which examples stand in which batch.

    Args:
        count: Number of examples.
        batch_size: Examples in a batch; the last one of an epoch may be shorter.
        seed: Decides the order, together with the epoch.
        lengths: The length of each example; if given, batches hold examples of similar length.

    Example:
        >>> [len(batch) for batch in Order(10, 4, seed=0).epoch(0)]
        [4, 4, 2]
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, lengths: np.ndarray | None = None
    ):
        self.count, self.batch_size, self.seed, self.lengths = count, batch_size, seed, lengths
        self.steps = -(-count // batch_size)
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the indices of each batch of an epoch, counted from 0."""
        random = np.random.default_rng((self.seed, epoch))
        shuffled = random.permutation(self.count)
        if self.lengths is None:
            return _cut(shuffled, self.batch_size)
        batches: list[np.ndarray] = []
        for pool in _cut(shuffled, self.batch_size * POOL):
            batches += _cut(pool[np.argsort(self.lengths[pool], kind="stable")], self.batch_size)
        return [batches[i] for i in random.permutation(len(batches))]

    def batch(self, step: int) -> tuple[int, np.ndarray]:
        """Return the epoch and the indices of the batch at `step`, counted over all epochs."""
        epoch, place = divmod(int(step), self.steps)
        return epoch, self.epoch(epoch)[place]


def once(count: int, batch_size: int, lengths: np.ndarray | None = None) -> list[np.ndarray]:
    """Return batches that hold every example once, those of similar length together."""
    order = np.arange(count) if lengths is None else np.argsort(-lengths, kind="stable")
    return _cut(order, batch_size)


def _cut(indices: np.ndarray, size: int) -> list[np.ndarray]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]
