"""What a source has found, and the one way from there to `Splits`."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kerasft.data.annotations.classes import encode, some
from kerasft.data.fingerprint import fingerprint
from kerasft.data.pictures.audit import find_copies
from kerasft.data.splits import check_ratios, describe_sizes, divide
from kerasft.errors import UserError
from kerasft.spec import SPLIT_NAMES, Examples, Labels, Modality, Splits
from kerasft.system.console import listing

_AT_ONCE = 4096
# Of hundreds of classes in a wrong split, the first say enough.
_MOST_PROBLEMS = 100


@dataclass
class Collection:
    """The examples of a source, column by column, as they were found.

    Args:
        modality: `"images"` or `"text"`.
        inputs: As in `Examples`. A sequence with a method `choose(indices)` stays lazy.
        values: One raw label an example.
        ids: One unique, stable name an example.
        brought: The split each example comes in; `"train"` where the data does not say.
        groups: One name an example, or `None`: a group never stands in two splits.
        notices: Sentences for the user, so far.
    """

    modality: Modality
    inputs: Sequence[Any]
    values: list[Any]
    ids: list[str]
    brought: list[str]
    groups: list[str] | None = None
    notices: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, indices: Sequence[int]) -> Collection:
        """Return the examples at `indices`, in that order."""
        return Collection(
            self.modality,
            choose(self.inputs, indices),
            [self.values[i] for i in indices],
            [self.ids[i] for i in indices],
            [self.brought[i] for i in indices],
            None if self.groups is None else [self.groups[i] for i in indices],
            self.notices,
        )


def choose(inputs: Sequence[Any], indices: Sequence[int] | np.ndarray) -> Sequence[Any]:
    """Return the inputs at `indices`, unread where they are read late."""
    lazily = getattr(inputs, "choose", None)
    return lazily(indices) if lazily else [inputs[int(i)] for i in indices]


def to_splits(
    found: Collection,
    *,
    kind: str,
    seed: int,
    validation: float = 0.15,
    test: float = 0.15,
    split: str = "stratified",
    label_names: Sequence[str] | None = None,
    label_delimiter: str | None = ",",
    label_key: str = "data.label",
    limit: int | None = None,
    source: Mapping[str, Any] | None = None,
) -> Splits:
    """Name the labels, carve out the splits that the data does not bring, and check the result.

    Args:
        found: The examples.
        kind: `"single"`, `"multi"` or `"number"`.
        seed: Another seed, another split.
        validation: The part of the training examples to validate on, if the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` or `"hash"`, see `splits.divide`.
        label_names: The class names, in order, or `None` for what the labels say.
        label_delimiter: What parts the labels of one example, for kind `"multi"`.
        label_key: The config key behind the labels, for messages.
        limit: Train on the first so many examples of a shuffle only.
        source: Plain values for the manifest.

    Returns:
        The `Splits`.

    Raises:
        UserError: If labels or ratios are wrong, or if a split or a class comes out empty.
    """
    if not len(found):
        raise UserError(" ".join(["The data holds no example that can be used.", *found.notices]))
    brought = sorted(set(found.brought), key=SPLIT_NAMES.index)
    if "train" not in brought:
        raise UserError(
            f"The data brings no split to train on. Received: {', '.join(brought)}. "
            "Add a train split, or leave the split out so that it is made by ratio."
        )
    check_ratios(validation, test, split, brought)
    try:
        labels, array, notices = encode(
            found.values, found.ids, kind=kind, names=label_names, delimiter=label_delimiter,
            key=label_key,
        )  # fmt: skip
    except UserError as error:
        if len(set(map(str, found.values))) > 1:
            raise
        # What was left out may be all of the other classes.
        raise UserError(" ".join([str(error), *found.notices])) from error
    notices = [*found.notices, *notices]
    codes = np.array([SPLIT_NAMES.index(name) for name in found.brought])
    missing = {"validation": validation, "test": test}
    missing = {name: 0.0 if name in brought else r for name, r in missing.items()}
    if any(missing.values()):
        pool = np.flatnonzero(codes == 0)
        codes[pool] = divide(
            _keys(found, pool),
            strata=_strata(labels, array)[pool],
            method=split,
            seed=seed,
            **missing,
        )
    wanted = [n for n in SPLIT_NAMES if n in brought or n == "validation" or missing.get(n)]
    members = {name: np.flatnonzero(codes == SPLIT_NAMES.index(name)) for name in wanted}
    sizes = {name: len(indices) for name, indices in members.items()}
    if empty := [name for name, size in sizes.items() if not size]:
        raise UserError(
            f"{len(found):,} examples leave none for: {', '.join(empty)} "
            f"({describe_sizes(sizes)}). Add examples (exact copies count as one, and groups "
            "stay together), or raise the ratio of that split."
        )
    notices += _check_cover(labels, array, members, found.ids, brought, label_names is not None)
    if limit is not None:
        whole, members["train"] = members["train"], _limit(
            members["train"], limit, seed, labels, array
        )
        notices += _check_limited(labels, array, whole, members["train"], limit)
    parts = {
        name: Examples(
            found.modality,
            choose(found.inputs, indices),
            array[indices],
            tuple(found.ids[i] for i in indices),
        )
        for name, indices in members.items()
    }
    notices += find_copies(parts, labels)
    said: dict[str, Any] = {"brought": list(brought), "seed": seed, "limit": limit}
    if any(missing.values()):
        said |= {"split": split, **{name: r for name, r in missing.items() if r}}
    return Splits(
        parts["train"],
        parts["validation"],
        parts.get("test"),
        labels,
        source={**(source or {}), **said},
        notices=tuple(notices),
    )


def _keys(found: Collection, pool: np.ndarray) -> list[str]:
    # Where no groups are named, what is exactly the same is one group: a copy of a training
    # example in the test would flatter the model.
    if found.groups is not None:
        return [found.groups[i] for i in pool]
    return [fingerprint(found.inputs[i], found.modality) for i in pool]


def _strata(labels: Labels, array: np.ndarray) -> np.ndarray:
    if labels.kind == "single":
        return array
    if labels.kind == "number":
        return np.zeros(len(array), dtype="int64")
    # Of several labels the rarest decides: the frequent ones spread by themselves.
    counts = array.sum(axis=0)
    rarity = np.where(array > 0, counts, np.inf)
    return np.where(array.sum(axis=1) > 0, rarity.argmin(axis=1), array.shape[1])


def _check_cover(
    labels: Labels,
    array: np.ndarray,
    members: Mapping[str, np.ndarray],
    ids: Sequence[str],
    brought: Sequence[str],
    named: bool,
) -> list[str]:
    """See that what is asked for later was there to be learned."""
    if labels.kind == "number":
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
                f"The label {labels.names[unit]!r} stands in {name} only, never in train: "
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


def _limit(
    train: np.ndarray, limit: object, seed: int, labels: Labels, array: np.ndarray
) -> np.ndarray:
    """Return the first so many of a shuffle, and one of each class as far as there is room."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise UserError(
            f"data.limit must be a whole number of examples, 1 or more. Received: {limit!r}."
        )
    order = np.random.default_rng(seed).permutation(train)
    if labels.kind == "number" or limit >= len(order):
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


def _check_limited(
    labels: Labels, array: np.ndarray, whole: np.ndarray, train: np.ndarray, limit: int
) -> list[str]:
    """Say what a limit has left nothing of."""
    if labels.kind == "number":
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
