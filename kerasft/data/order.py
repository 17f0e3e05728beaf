"""The order of the examples: a pure function of (seed, epoch), computed where it is needed."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from kerasft.data.fingerprint import each_spelled, ranked
from kerasft.rows import padded

# Batches whose texts are sorted by length together. More saves padding, fewer mixes better.
POOL = 50


class Order:
    """Which examples stand in which batch.

    Each epoch holds every example once. An example's place follows from the seed, the epoch and
    its own key, and from nothing else: there is no state, each step can be computed at once and by
    anybody, and two examples stand in the same order whatever is added, taken out or listed
    elsewhere. What one more example must change: all behind it move on by one place, so that
    batches are cut elsewhere, and so are the pools in which `lengths` sorts. With `positions` the
    shapes of the batches follow from all lengths together.

    Args:
        count: Number of examples.
        batch_size: Examples in a batch; the last one of an epoch may be shorter.
        seed: Decides the order, together with the epoch.
        lengths: The length of each example; if given, batches hold examples of similar length.
        positions: With `lengths`: a batch holds as many examples as it has room for so many
            positions, padding counted, instead of `batch_size`, and at least one. Each epoch has
            batches of the same shapes, with other examples.
        longest: With `positions`: the most positions that an example is padded to.
        keys: `uint64[count]`, what `keys` makes of the examples; without, their numbers serve, and
            an example that comes in between gives others its key.
        rates: `float64[count]`, how often an example comes in an epoch on average, adding up to
            `count`; without, each comes once. Epochs are as long either way: see `drawn`. With
            `positions`, batches are cut anew in each epoch, and as many are taken as an epoch of
            all examples has.

    Raises:
        ValueError: If there are not as many keys or lengths as examples.

    Example:
        >>> [len(batch) for batch in Order(10, 4, seed=0).epoch(0)]
        [4, 4, 2]
        >>> order = Order(4, 1, seed=0, lengths=np.array([8, 8, 8, 16]), positions=16)
        >>> sorted(len(batch) for batch in order.epoch(0))
        [1, 1, 2]
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, lengths: np.ndarray | None = None,
        positions: int | None = None, longest: int = sys.maxsize, keys: np.ndarray | None = None,
        rates: np.ndarray | None = None,
    ):
        for name, values in (("lengths", lengths), ("keys", keys), ("rates", rates)):
            if values is not None and len(values) != count:
                raise ValueError(
                    f"`{name}` must hold one value an example. Received: {len(values)} for {count}."
                )
        self.count, self.batch_size, self.seed, self.lengths = count, batch_size, seed, lengths
        self.keys = np.arange(count, dtype="uint64") if keys is None else keys
        self.rates, self.positions = rates, positions
        self.ends: np.ndarray | None = None
        if positions is not None and lengths is not None:
            self.widths = padded(lengths, longest)
            self.ends = _ends(np.sort(self.widths), positions)
        self.steps = -(-count // batch_size) if self.ends is None else len(self.ends)
        self.numbers = lru_cache(maxsize=2)(self._numbers)
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the indices of each batch of an epoch, counted from 0."""
        return [batch % self.count for batch in self.numbers(epoch)]

    def _numbers(self, epoch: int) -> list[np.ndarray]:
        """Return the numbers of each batch of an epoch, see `draws`."""
        wanted = self.count
        while True:
            batches = self._cut(self._shuffled(epoch, wanted), epoch)
            if len(batches) >= self.steps:
                return batches[: self.steps]
            # Of a budget of positions short texts leave some unused.
            wanted += (self.steps - len(batches)) * -(-self.count // self.steps)

    def _shuffled(self, epoch: int, wanted: int) -> np.ndarray:
        if self.rates is None:
            return shuffle(self.keys, self.seed, epoch)
        numbers = drawn(self.rates, self.keys, self.seed, epoch, wanted)
        copies, indices = np.divmod(numbers, self.count)
        keys = self.keys[indices] + copies.astype("uint64") * np.uint64(0xD6E8FEB86659FD93)
        return numbers[shuffle(keys, self.seed, epoch)]

    def _cut(self, shuffled: np.ndarray, epoch: int) -> list[np.ndarray]:
        if self.lengths is None:
            return _cut(shuffled, self.batch_size)
        if self.ends is not None:
            # Examples that take the same room are in any order, so that batches mix them anew.
            widths = self.widths[shuffled % self.count]
            rising = np.argsort(widths, kind="stable")
            ends = self.ends
            if self.rates is not None:
                assert self.positions is not None
                ends = _ends(widths[rising], self.positions)
            batches = np.split(shuffled[rising], ends[:-1])
        else:
            batches = []
            for pool in _cut(shuffled, self.batch_size * POOL):
                rising = pool[np.argsort(self.lengths[pool % self.count], kind="stable")]
                batches += _cut(rising, self.batch_size)
        return [batches[i] for i in shuffle(len(batches), self.seed, epoch, "batches")]

    def batch(self, step: int) -> tuple[int, np.ndarray]:
        """Return the epoch and the indices of the batch at `step`, counted over all epochs."""
        epoch, place = divmod(int(step), self.steps)
        return epoch, self.epoch(epoch)[place]

    def draws(self, step: int) -> tuple[int, np.ndarray]:
        """Return the epoch and the numbers of the batch at `step`, counted over all epochs.

        Args:
            step: The step.

        Returns:
            The epoch, and `int64[batch]`: the index of an example, and where it comes for the
            second time in the epoch, that plus `count`, and so on. What is random about an example
            follows from its number, so that it does not come twice as the same.

        Example:
            >>> order = Order(2, 4, seed=0, rates=np.array([1.5, 0.5]))
            >>> sorted(int(n) for step in (0, 1) for n in order.draws(step)[1])
            [0, 0, 1, 2]
        """
        epoch, place = divmod(int(step), self.steps)
        return epoch, self.numbers(epoch)[place]

    def shard(self, step: int, number: int, of: int) -> tuple[int, np.ndarray]:
        """Return the epoch and what worker `number` of `of` takes of the batch at `step`.

        The shards of a batch hold each of its examples once, for any `of`, and differ in size by
        one at most, the first ones being larger. A batch smaller than `of` leaves the last workers
        without an example: they get an empty shard, and are there for the step all the same. No
        worker needs to know what another one does.

        Args:
            step: The step, counted over all epochs.
            number: The worker, from 0.
            of: How many there are.

        Returns:
            The epoch, and the indices, `int64[batch / of]` up to one.

        Raises:
            ValueError: If there is no such worker.

        Example:
            >>> order = Order(10, 4, seed=0)
            >>> [len(order.shard(0, number, 3)[1]) for number in range(3)]
            [2, 1, 1]
        """
        if not 0 <= number < of:
            raise ValueError(
                f"A worker's number must be from 0 to below their count. Received: {number} of "
                f"{of}."
            )
        epoch, indices = self.batch(step)
        # In turn, not in pieces: where a batch is sorted by length, shards are of equal length.
        return epoch, indices[number::of]


def keys(names: Iterable[str] | np.ndarray) -> np.ndarray:
    """Return a key for each example, from what tells it from others.

    Args:
        names: One text an example: the fingerprint of its content, or its id; or fingerprints
            as numbers, see `fingerprints`. Where several are the same, the second one gets another
            key than the first, so that copies do not stand side by side.

    Returns:
        `uint64[N]`, the same for the same names on any machine.

    Example:
        >>> keys(["a", "b", "a"])[:2] == keys(["a", "b"])
        array([ True,  True])
    """
    made = bytearray()
    if isinstance(names, np.ndarray):
        # As below, but with a look at the copies alone: there are few.
        order, first = ranked(names)
        copies: dict[int, int] = {}
        if not first.all():
            begun = np.flatnonzero(first)
            nth = np.arange(len(order)) - begun[np.cumsum(first) - 1]
            again = nth > 0
            copies = dict(zip(order[again].tolist(), nth[again].tolist(), strict=True))
        del order, first
        blake2b = hashlib.blake2b
        for text in each_spelled(names):
            made += blake2b(text, digest_size=8).digest()
        for place, copy in copies.items():  # the first has no salt, which is one of zeros
            text = names[place].tobytes().hex().encode()
            salt = copy.to_bytes(8, "big")
            made[8 * place : 8 * place + 8] = blake2b(text, digest_size=8, salt=salt).digest()
        return np.frombuffer(made, ">u8").astype("uint64")
    seen: Counter[str] = Counter()
    for name in names:
        text = name.encode("utf-8", "surrogatepass")
        made += hashlib.blake2b(text, digest_size=8, salt=seen[name].to_bytes(8, "big")).digest()
        seen[name] += 1
    return np.frombuffer(bytes(made), ">u8").astype("uint64")


def shuffle(keys: np.ndarray | int, seed: int, epoch: int, purpose: str = "") -> np.ndarray:
    """Return the indices of keys in an order that (seed, epoch) decides.

    Whether one key comes before another depends on the two, not on what else there is. Equal keys
    keep their order.

    Args:
        keys: `uint64[N]`; or a count, for the numbers below it.
        seed: Any whole number.
        epoch: Any whole number.
        purpose: Another one, another order.

    Returns:
        `int64[N]`.

    Example:
        >>> both, one = shuffle(5, 0, 1), shuffle(4, 0, 1)
        >>> [i for i in both if i != 4] == list(one)
        True
    """
    each = keys if isinstance(keys, np.ndarray) else np.arange(keys, dtype="uint64")
    first, second = _salt(seed, epoch, purpose)
    # The mixing maps no two keys to one place.
    return np.argsort(_mix(_mix(each ^ first) ^ second), kind="stable")


def drawn(
    rates: np.ndarray, keys: np.ndarray, seed: int, epoch: int, count: int
) -> np.ndarray:
    """Return which examples an epoch has, where some come more often than others.

    A pure function of its arguments. Examples of one rate come in turn: each epoch goes on in
    their row where the one before ended, and each time round the row is another.

    Args:
        rates: How often each example comes in an epoch on average, `float64[N]`, adding up to N.
        keys: `uint64[N]`, see `Order`.
        seed: The run's seed.
        epoch: The epoch, from 0.
        count: How many are drawn.

    Returns:
        Their numbers, `int64[count]`, see `Order.draws`.

    Example:
        >>> found = drawn(np.array([0.5, 0.5, 2.0]), np.arange(3, dtype="uint64"), 0, 0, 3)
        >>> sorted(int(number) for number in found)[1:]
        [5, 8]
    """
    size = len(rates)
    kinds, kind_of, members = np.unique(rates, return_inverse=True, return_counts=True)
    upto = np.cumsum(kinds * members)
    upto[-1] = size

    def before(epoch: int, count: int) -> np.ndarray:
        """Return how many of each kind come before an epoch, where each has `count` examples."""
        # Rounded where the kinds are added up, so that all of them together are whole epochs. In
        # whole numbers, since products with late epochs have more digits than a float.
        ends = [epoch * count * round(end / size * 2**40) >> 40 for end in upto.tolist()]
        return np.diff(np.array(ends, "int64"), prepend=0)

    taken = before(epoch + 1, count) - before(epoch, count)
    # A kind that does not come once an epoch may be due to come back instead.
    taken[np.argmax(taken)] += taken[taken < 0].sum()
    taken = np.maximum(taken, 0)
    rows = np.split(np.argsort(kind_of, kind="stable"), np.cumsum(members)[:-1])
    starts = before(epoch, size).tolist()
    chosen = [
        _in_turn(row, keys[row], max(start, 0), how_many, seed)
        for row, start, how_many in zip(rows, starts, taken.tolist(), strict=True)
    ]
    found = np.sort(np.concatenate(chosen))
    # Which copy of its example each one is: its place behind the first.
    copies = np.arange(len(found)) - np.searchsorted(found, found)
    return found + copies * size


def _in_turn(
    row: np.ndarray, keys: np.ndarray, start: int, count: int, seed: int
) -> np.ndarray:
    """Return `count` examples of a row that is gone through time and again, shuffled each time."""
    if count <= 0:
        return row[:0]
    first, last = start // len(row), (start + count - 1) // len(row)
    parts = [np.tile(row, max(last - first - 1, 0))]
    for time in {first, last}:
        begin, end = (max(min(place - time * len(row), len(row)), 0)
                      for place in (start, start + count))
        parts.append(row[shuffle(keys, seed, time, "in turn")[begin:end]])
    return np.concatenate(parts)


def _salt(seed: int, epoch: int, purpose: str) -> np.ndarray:
    """Return two numbers of 64 bits that the arguments decide, `uint64[2]`."""
    salts = hashlib.blake2b(f"{seed}:{epoch}:{purpose}".encode(), digest_size=16).digest()
    return np.frombuffer(salts, ">u8").astype("uint64")


def _mix(values: np.ndarray) -> np.ndarray:
    """Return 64 bits in which each bit of the values has its part: a round of SplitMix64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)  # wraps around, as do the products
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def once(count: int, batch_size: int, lengths: np.ndarray | None = None) -> list[np.ndarray]:
    """Return batches that hold every example once, those of similar length together."""
    order = np.arange(count) if lengths is None else np.argsort(-lengths, kind="stable")
    return _cut(order, batch_size)


def _ends(widths: np.ndarray, positions: int) -> np.ndarray:
    """Return where batches end that take at most so many positions, of rising widths."""
    ends, first = [], 0
    while first < len(widths):
        # Of the next examples as many as fit at the width of the last one among them.
        reach = widths[first : first + max(positions // int(widths[first]), 1)]
        fits = np.flatnonzero(reach * np.arange(1, len(reach) + 1) <= positions)
        first += int(fits[-1]) + 1 if len(fits) else 1
        ends.append(first)
    return np.array(ends)


def _cut(indices: np.ndarray, size: int) -> list[np.ndarray]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]
