"""Train, validation and test split, decided by hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from kerasft.data.fingerprint import each_spelled, firsts, hexed
from kerasft.errors import UserError, nearest
from kerasft.spec import SPLIT_NAMES

METHODS: tuple[str, ...] = ("stratified", "hash")
TRAIN, VALIDATION, TEST = range(3)

_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}


def split_name(word: str) -> str | None:
    """Return which split a folder or a cell names (`"val"` is `"validation"`), or `None`."""
    plain = word.strip().casefold()
    return next((name for name, words in _WORDS.items() if plain in words), None)


def used_as(brought: Collection[str], val_folder: str) -> dict[str, str]:
    """Return what each split that data brings is used as.

    Args:
        brought: The names of the splits.
        val_folder: What `validation` is where there is no `test`: `"validation"`, or `"test"`.

    Raises:
        UserError: If `val_folder` is neither.

    Example:
        >>> used_as(("train", "validation"), "test")
        {'train': 'train', 'validation': 'test'}
    """
    if val_folder not in ("validation", "test"):
        raise UserError(
            f"data.val_folder must be 'validation' or 'test'. Received: {val_folder!r}."
        )
    instead = val_folder if "test" not in brought else "validation"
    return {name: instead if name == "validation" else name for name in brought}


def split_words() -> str:
    """Return the words that name a split, for an error message."""
    return "; ".join(f"{name}: {', '.join(words)}" for name, words in _WORDS.items())


def ratios_of(validation: Any, test: Any) -> dict[str, Any]:
    """Return the parts that `validation` and `test` take, of those that name no file.

    Example:
        >>> ratios_of(0.2, "test.csv")
        {'validation': 0.2}
    """
    given = {"validation": validation, "test": test}
    return {name: part for name, part in given.items() if not isinstance(part, str)}


def part_problem(name: str, ratio: object) -> str | None:
    """Return what is wrong with the part of the examples that `data.NAME` sets aside, if anything.

    Example:
        >>> part_problem("test", 1.5)[:61]
        'data.test must be a part of the examples, from 0 to below 1 ('
        >>> part_problem("test", 0.2)
    """
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        return (
            f"data.{name} must be a part of the examples, from 0 to below 1 (0.15 takes 15 of "
            f"100). Received: data.{name}={ratio!r}."
        )
    return None


def check_ratios(
    validation: object, test: object, method: str, brought: Sequence[str] = ()
) -> None:
    """Check the parts that `validation` and `test` take, and `method`, all at once.

    Args:
        validation: The part of the examples to set aside for validation, above 0 and below 1.
        test: The same for the test, where 0 means that there is none.
        method: `"stratified"` or `"hash"`.
        brought: The splits that the data brings, for which no ratio is needed.

    Raises:
        UserError: If a ratio is out of range, or if the two leave nothing to train on.
    """
    problems = []
    taken = 0.0
    for name, ratio in (("validation", validation), ("test", test)):
        if name in brought:
            continue
        if said := part_problem(name, ratio):
            problems.append(said)
            continue
        taken += cast("float", ratio)
        if name == "validation" and ratio == 0:
            problems.append(
                "data.validation must be above 0: training chooses its best epoch by validation "
                f"examples. Received: data.validation={ratio!r}. Set for example "
                "data.validation=0.15."
            )
    if taken >= 1:
        problems.append(
            "data.validation and data.test together must stay below 1, so that examples are left "
            f"to train on. Received: data.validation={validation!r}, data.test={test!r}."
        )
    if method not in METHODS:
        problems.append(
            f"data.split must be one of {list(METHODS)}. Received: data.split={method!r}."
            + nearest(method, METHODS)
        )
    if problems:
        raise UserError(problems=problems)


def position(key: str, seed: int) -> float:
    """Return where one key is in `[0, 1)`, see `positions`."""
    return float(positions([key], seed)[0])


def positions(keys: Iterable[str | bytes], seed: int) -> np.ndarray:
    """Return where each key is in `[0, 1)`: a pure function of it and the seed, evenly spread."""
    before, made, sha256 = f"{seed}:".encode(), bytearray(), hashlib.sha256
    for key in keys:
        text = key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")
        made += sha256(before + text).digest()[:8]
    # 53 bits are what a float holds exactly, so the result never rounds up to 1.
    return (np.frombuffer(made, ">u8").astype("uint64") >> np.uint64(11)) / 2.0**53


def divide(
    keys: Sequence[str] | np.ndarray,
    *,
    strata: Sequence[int] | np.ndarray | None = None,
    validation: float,
    test: float,
    method: str = "stratified",
    seed: int = 0,
) -> np.ndarray:
    """Say for each example which split it belongs to.

    Examples with the same key always share a split, so that no group, and no exact copy, stands
    on two sides.

    Args:
        keys: One key an example: the name of its group, or the fingerprint of its content, see
            `fingerprints`.
        strata: One whole number an example: its class. Without, all are one class.
        validation: The part for validation, `[0, 1)`.
        test: The part for the test, `[0, 1)`.
        method: `"stratified"` fills a quota of each class, in the order of the hashes.
            `"hash"` looks at the hash of the key alone, so that what is added later moves
            nothing; the parts are then met only on average.
        seed: Another seed, another split.

    Returns:
        `int8[N]` of 0 (train), 1 (validation) and 2 (test).

    Example:

    >>> divide([str(i) for i in range(8)], validation=0.25, test=0.25).tolist().count(0)
    4
    """
    # Of very many examples each array counts: none has larger numbers than it needs.
    index = "int32" if len(keys) < 2**31 else "int64"
    if isinstance(keys, np.ndarray):
        first_of, names = firsts(keys).astype(index), None
        first = first_of == np.arange(len(keys), dtype=index)
        of_key = np.flatnonzero(first).astype(index)
        group = of_key if first.all() else (np.cumsum(first, dtype=index) - 1)[first_of]
        del first_of, first
        digests = keys if group is of_key else keys[of_key]
        places = positions(each_spelled(digests), seed)
    else:
        numbers: dict[str, int] = {}
        group = np.array([numbers.setdefault(key, len(numbers)) for key in keys], index)
        names, of_key = list(numbers), np.unique(group, return_index=True)[1]
        places = positions(names, seed)
    if method == "hash":
        codes = np.where(places < test, TEST, np.where(places < test + validation, VALIDATION, 0))
        return codes.astype("int8")[group]
    strata = np.zeros(len(group), "int8") if strata is None else np.asarray(strata)
    # Where no group has several members, each is its own group.
    alone = group is of_key
    sizes = np.ones(len(group), "int8") if alone else np.bincount(group).astype(index)
    in_line = group if alone else np.argsort(group, kind="stable")
    ends = np.cumsum(sizes, dtype=index)

    def members(one: int) -> np.ndarray:
        return in_line[ends[one] - sizes[one] : ends[one]]

    of_stratum = strata if alone else strata[of_key]
    # A group counts for the class that it holds most of.
    for one in np.flatnonzero(sizes > 1).tolist():
        values, counts = np.unique(strata[members(one)], return_counts=True)
        of_stratum[one] = values[np.argmax(counts)]
    result = np.zeros(len(group), "int8")
    for stratum in np.unique(of_stratum):
        ordered = np.flatnonzero(of_stratum == stratum).astype(index)
        ordered = ordered[np.argsort(places[ordered], kind="stable")]
        if (np.diff(places[ordered]) == 0).any():
            spelled = hexed(digests) if names is None else names
            in_turn = sorted(ordered.tolist(), key=lambda one: (places[one], spelled[one]))
            ordered = np.array(in_turn)
        codes = _filled(sizes[ordered], validation, test)
        result[in_line[ends[ordered] - sizes[ordered]]] = codes
        for place in np.flatnonzero((sizes[ordered] > 1) & (codes > 0)).tolist():
            result[members(ordered[place])] = codes[place]
    return result


def _filled(sizes: np.ndarray, validation: float, test: float) -> np.ndarray:
    """Return the split of each group of a class: quotas first, the rest trains.

    Args:
        sizes: How many examples each group has, in the order in which they are dealt out.
        validation: The part for validation.
        test: The part for the test.
    """
    codes, count, total = np.zeros(len(sizes), "int8"), len(sizes), int(sizes.sum())
    # Even a small class is seen in every split, as long as one group stays in train. Where there
    # are two only, the second validates: training needs it, the test can wait.
    missing, free = {VALIDATION: 0, TEST: 0}, count - 1
    for part, ratio in ((VALIDATION, validation), (TEST, test)):
        if ratio > 0 and free > 0:
            missing[part] = max(1, round(total * ratio))
            free -= 1
    kept, place = count, 0
    larger = [*np.flatnonzero(sizes > 1).tolist(), count]
    for end in larger:
        # Groups of one go where there is room, as many at once as there are in a row.
        for part in (TEST, VALIDATION):
            some = max(min(missing[part], end - place, kept - 1), 0)
            codes[place : place + some] = part
            missing[part] -= some
            kept -= some
            place += some
        if end == count or max(missing.values()) <= 0:
            break
        size, place = int(sizes[end]), end + 1
        for part in (TEST, VALIDATION):
            # A group goes where it brings the count nearer to the quota; the last one in train
            # stays there.
            if kept > 1 and missing[part] > 0 and size <= 2 * missing[part]:
                codes[end] = part
                missing[part] -= size
                kept -= 1
                break
    return codes


def describe_sizes(sizes: Mapping[str, int]) -> str:
    """Return `train 70, validation 15, test 15` for a message."""
    return ", ".join(f"{name} {sizes[name]:,}" for name in SPLIT_NAMES if name in sizes)
