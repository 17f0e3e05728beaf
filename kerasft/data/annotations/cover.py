"""Whether the labels that are asked for were there to be learned, and splits that see to it."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.errors import UserError, some
from kerasft.spec import Labels
from kerasft.system.console import listing

_AT_ONCE = 4096
# The kinds of labels that are classes, and all that name classes.
CLASSES = ("single", "multi")
NAMED = (*CLASSES, "boxes", "masks", "spans")
# Of hundreds of classes in a wrong split, the first say enough.
_MOST_PROBLEMS = 100


def strata(labels: Labels, array: np.ndarray) -> np.ndarray:
    """Return what each example is split by, `int64[N]`: its class, the rarest of its classes.

    Args:
        labels: What the labels mean.
        array: See `Encoded`.
    """
    if labels.kind == "single":
        return array
    if labels.kind not in NAMED:
        return np.zeros(len(array), dtype="int64")
    # Of several labels the rarest decides: the frequent ones spread by themselves.
    counts = (array > 0).sum(axis=0)
    rarity = np.where(array > 0, counts, np.inf)
    return np.where(array.sum(axis=1) > 0, rarity.argmin(axis=1), array.shape[1])


def check_cover(
    labels: Labels,
    array: np.ndarray,
    members: Mapping[str, np.ndarray],
    ids: Sequence[str],
    brought: Sequence[str],
    named: bool,
) -> list[str]:
    """See that what is asked for later was there to be learned."""
    if labels.kind not in NAMED:
        return []
    classes = range(len(labels.names))
    counts = {name: class_counts(labels, array, rows) for name, rows in members.items()}
    learned = counts["train"] > 0
    problems, notices = [], []
    for name in [n for n in members if n != "train"]:
        alone = np.flatnonzero(~learned & (counts[name] > 0)).tolist()
        for unit in alone[:_MOST_PROBLEMS]:
            part = members[name]
            rows = part[array[part] == unit if array.ndim == 1 else array[part, unit] > 0]
            problems.append(
                f"The label {labels.names[unit]!r} is in {name} only, never in train: "
                f"{listing([ids[i] for i in rows])}. "
                + (
                    "Correct it, or add examples of it to train."
                    if name in brought
                    else "Add examples of it, or set data.split=stratified."
                )
            )
        if len(alone) > _MOST_PROBLEMS:
            problems.append(f"{len(alone) - _MOST_PROBLEMS:,} more labels are in {name} only.")
    if problems and not named:
        raise UserError(problems=problems)
    if problems or not learned.all():
        bare = [labels.names[c] for c in classes if not learned[c]]
        notices.append(f"No training example carries the label: {listing(bare, 10)}.")
    for name in [n for n in members if n != "train"]:
        there = counts[name] > 0
        bare = [labels.names[c] for c in classes if learned[c] and not there[c]]
        if bare:
            notices.append(
                f"{name} has no example of {some(len(bare), 'label')}, so nothing is measured "
                f"there: {listing(bare, 10)}."
            )
    return notices


def limited(
    train: np.ndarray, limit: object, seed: int, labels: Labels, array: np.ndarray
) -> np.ndarray:
    """Return the first so many of a shuffle, and one of each class as far as there is room."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise UserError(
            f"data.limit must be a whole number of examples, 1 or more. Received: {limit!r}."
        )
    order = np.random.default_rng(seed).permutation(train)
    if labels.kind not in NAMED or limit >= len(order):
        return order[:limit]
    chosen, counts = list(order[:limit]), class_counts(labels, array, order[:limit])
    missing = (counts == 0) & (class_counts(labels, array, order) > 0)
    first = _first_of(labels, array, order[limit:], missing)
    room = _Room([_classes(array[i]) for i in chosen], counts)
    for unit in np.flatnonzero(missing).tolist():
        if counts[unit]:  # an example of several classes has come in for another one
            continue
        if (place := room.take()) is not None:
            chosen[place] = first[unit]
            room.fill(place, _classes(array[first[unit]]))
    return np.array(chosen, dtype=order.dtype)


class _Room:
    """Knows which examples may make room for others: those that are not the only one of a class.

    Args:
        classes: The classes of each example, by its place.
        counts: How many of the examples each class has; kept up to date.
    """

    def __init__(self, classes: list[np.ndarray], counts: np.ndarray):
        self.classes, self.counts = classes, counts
        self.holders: dict[int, set[int]] = {}
        # How many classes each example is the only one of.
        self.alone = [int((counts[own] == 1).sum()) for own in classes]
        for place, own in enumerate(classes):
            for unit in own.tolist():
                self.holders.setdefault(unit, set()).add(place)
        # The last one goes first.
        self.spare = [-place for place in range(len(classes)) if not self.alone[place]]
        heapq.heapify(self.spare)

    def take(self) -> int | None:
        """Take the last example out that can be spared; return its place."""
        while self.spare and self.alone[-self.spare[0]]:
            heapq.heappop(self.spare)  # it has become the only one of a class since
        if not self.spare:
            return None
        place = -heapq.heappop(self.spare)
        for unit in self.classes[place].tolist():
            self.holders[unit].discard(place)
            self.counts[unit] -= 1
            if self.counts[unit] == 1:
                self.alone[next(iter(self.holders[unit]))] += 1
        return place

    def fill(self, place: int, own: np.ndarray) -> None:
        """Put another example at a place."""
        self.classes[place], self.alone[place] = own, 0
        for unit in own.tolist():
            others = self.holders.setdefault(unit, set())
            self.counts[unit] += 1
            if not others:
                self.alone[place] += 1
            elif len(others) == 1:
                other = next(iter(others))
                self.alone[other] -= 1
                if not self.alone[other]:
                    heapq.heappush(self.spare, -other)
            others.add(place)
        if not self.alone[place]:
            heapq.heappush(self.spare, -place)


def _classes(label: Any) -> np.ndarray:
    """Return the numbers of the classes that an example has."""
    return np.flatnonzero(label) if np.ndim(label) else np.array([label])


def _first_of(
    labels: Labels, array: np.ndarray, order: np.ndarray, wanted: np.ndarray
) -> dict[int, int]:
    """Return the first example in an order of each class that is wanted."""
    first: dict[int, int] = {}
    for start in range(0, len(order), _AT_ONCE):
        part = order[start : start + _AT_ONCE]
        if array.ndim == 1:
            units, places = np.unique(array[part], return_index=True)
        else:
            there = array[part] > 0
            units = np.flatnonzero(there.any(axis=0))
            places = there[:, units].argmax(axis=0)
        for unit, place in zip(units.tolist(), places.tolist(), strict=True):
            if wanted[unit]:
                first.setdefault(unit, part[place])
    return first


def check_limited(
    labels: Labels, array: np.ndarray, whole: np.ndarray, train: np.ndarray, limit: int
) -> list[str]:
    """Say what a limit has left nothing of."""
    if labels.kind not in NAMED:
        alike = len(train) > 1 and bool(np.ptp(array[train]) == 0)
        return [f"data.limit={limit} leaves training labels that are all alike."] * alike
    held = class_counts(labels, array, whole) > 0
    lost = held & (class_counts(labels, array, train) == 0)
    bare = [name for name, gone in zip(labels.names, lost, strict=True) if gone]
    return [
        f"No training example carries the label: {listing(bare, 10)} (data.limit={limit})."
    ] * bool(bare)


def class_counts(labels: Labels, array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return how many of some examples each class has, `int64[classes]`."""
    if array.ndim == 1:
        return np.bincount(array[rows], minlength=len(labels.names))
    counts = np.zeros(len(labels.names), "int64")
    for start in range(0, len(rows), _AT_ONCE):  # a copy of all may not fit into memory
        counts += (array[rows[start : start + _AT_ONCE]] > 0).sum(axis=0)
    return counts
