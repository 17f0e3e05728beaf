"""Train, validation and test split, decided by hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

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
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
            problems.append(
                f"data.{name} must be a part of the examples, from 0 to below 1 (0.15 takes 15 "
                f"of 100). Received: data.{name}={ratio!r}."
            )
            continue
        taken += ratio
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
    """Return where `key` stands in `[0, 1)`: a pure function of the two, evenly spread."""
    first = hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogatepass")).digest()[:8]
    # 53 bits are what a float holds exactly, so the result never rounds up to 1.
    return (int.from_bytes(first, "big") >> 11) / 2**53


def divide(
    keys: Sequence[str],
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
        keys: One key an example: the name of its group, or the fingerprint of its content.
        strata: One whole number an example: its class. Without, all are one class.
        validation: The part for validation, `[0, 1)`.
        test: The part for the test, `[0, 1)`.
        method: `"stratified"` fills a quota of each class, in the order of the hashes.
            `"hash"` looks at the hash of the key alone, so that what is added later moves
            nothing; the parts are then met only on average.
        seed: Another seed, another split.

    Returns:
        `int64[N]` of 0 (train), 1 (validation) and 2 (test).

    Example:

    >>> divide([str(i) for i in range(8)], validation=0.25, test=0.25).tolist().count(0)
    4
    """
    places = np.array([position(key, seed) for key in keys], dtype="float64")
    if method == "hash":
        return np.where(places < test, TEST, np.where(places < test + validation, VALIDATION, 0))
    members: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        members.setdefault(key, []).append(index)
    strata = np.zeros(len(keys), dtype="int64") if strata is None else np.asarray(strata)
    of_stratum: dict[int, list[str]] = {}
    for key, indices in members.items():
        stratum = int(strata[indices[0]])
        if len(indices) > 1:  # a group counts for the class that it holds most of
            values, counts = np.unique(strata[indices], return_counts=True)
            stratum = int(values[np.argmax(counts)])
        of_stratum.setdefault(stratum, []).append(key)
    result = np.zeros(len(keys), dtype="int64")
    for stratum in sorted(of_stratum):
        ordered = sorted(of_stratum[stratum], key=lambda key: (places[members[key][0]], key))
        _fill(result, [members[key] for key in ordered], validation, test)
    return result


def _fill(
    result: np.ndarray, groups: Sequence[Sequence[int]], validation: float, test: float
) -> None:
    """Fill the quotas of one class: test and validation first, the rest trains."""
    total = sum(len(group) for group in groups)
    # Even a small class is seen in every split, as long as one group stays in train. Where there
    # are two only, the second validates: training needs it, the test can wait.
    quotas, free = {VALIDATION: 0, TEST: 0}, len(groups) - 1
    for part, ratio in ((VALIDATION, validation), (TEST, test)):
        if ratio > 0 and free > 0:
            quotas[part] = max(1, round(total * ratio))
            free -= 1
    kept = len(groups)
    taken = {VALIDATION: 0, TEST: 0}
    for group in groups:
        for part in (TEST, VALIDATION):
            missing = quotas[part] - taken[part]
            # A group goes where it brings the count nearer to the quota; the last one in train
            # stays there.
            if kept > 1 and missing > 0 and len(group) <= 2 * missing:
                result[list(group)] = part
                taken[part] += len(group)
                kept -= 1
                break


def describe_sizes(sizes: Mapping[str, int]) -> str:
    """Return `train 70, validation 15, test 15` for a message."""
    return ", ".join(f"{name} {sizes[name]:,}" for name in SPLIT_NAMES if name in sizes)
