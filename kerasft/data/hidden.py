"""Splits that hide their labels, as the tests of competitions do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from kerasft.data.annotations import kinds
from kerasft.data.annotations.alike import seen
from kerasft.data.late_columns import Coded
from kerasft.errors import UserError


def shown_splits(brought: Sequence[str], values: Sequence[Any], kind: str) -> set[str]:
    """Return the splits whose labels are there.

    Args:
        brought: The split of each example.
        values: The raw label of each. -1, or nothing at all, in all of a split hides them; unless
            the training examples have that label, too.
        kind: What the task learns; for `"multi"` an example without any label is one, too.

    Example:
        >>> shown_splits(["train", "train", "test"], [0, 1, -1], "single")
        {'train'}
    """
    pairs: Any = _Pairs(brought, values)
    if not kinds.are_numbers(kind):
        with suppress(TypeError):  # some are lists
            pairs = set(pairs)  # labels are few and come often
    may_be_none = kinds.are_several_classes(kind)
    labelled = {
        name for name, value in pairs
        if not _is_minus_one(value) and (may_be_none or not _is_nothing(value))
    }  # fmt: skip
    if "train" in labelled and any(n == "train" and _is_minus_one(value) for n, value in pairs):
        return set(brought)  # a number or class like any other
    return labelled


class _Pairs:
    """What `zip` returns, as often as it is asked for."""

    def __init__(self, *columns: Sequence[Any]) -> None:
        self.columns = columns

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return zip(*self.columns, strict=True)


def _is_minus_one(value: object) -> bool:
    if isinstance(value, (str, bytes)):
        return value.strip() in ("-1", b"-1")
    return isinstance(value, (int, float)) and value == -1


def _is_nothing(value: object) -> bool:
    if isinstance(value, (str, bytes)):
        return not value.strip()
    return value is None or (isinstance(value, float) and value != value)


def without_label(values: Sequence[Any]) -> np.ndarray:
    """Return which examples have no label, or lack one of several numbers, `int64[N]`.

    Args:
        values: The raw label of each. An empty list is one: none of several classes.

    Example:
        >>> without_label(["good", None, " ", float("nan"), [], (1.5, None)]).tolist()
        [1, 2, 3, 5]
    """
    if isinstance(values, Coded):
        gone = without_label(values.distinct)
        return np.flatnonzero(np.isin(values.numbers(), gone))
    return np.array([i for i, one in enumerate(values) if _lacks(one)], "int64")


def _lacks(value: object) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_nothing, value))
    return _is_nothing(value) or (isinstance(value, str) and not seen(value))


def substituted(
    brought: Sequence[str], shown: Collection[str], wanted: Collection[str],
    asked: Mapping[str, Any], what: str, named: Collection[str] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Return the parts of the training examples that take the place of missing splits.

    Args:
        brought: The split of each example.
        shown: The splits that have labels; the others hide them, as tests do.
        wanted: The splits that the data brings.
        asked: What `data.validation` and `data.test` say.
        what: What each example of the others lacks, for messages.
        named: The splits that the user has named himself.

    Returns:
        What `validation` and `test` are for `to_splits`, and sentences for the user.

    Raises:
        UserError: If a split that the user names hides its labels.
    """
    ratios = {name: 0.0 if name in wanted else one for name, one in asked.items()}
    notices = []
    for name in sorted(set(brought) - set(shown)):
        said = f"none of the {brought.count(name):,} examples of {name} has {what}"
        if name == "train" or name in named:
            more = "" if name == "train" else f", or set data.{name} to a part such as 0.15"
            raise UserError(f"data.{name}: {said}. Name another split{more}.")
        ratios[name] = asked[name]
        instead = f"data.{name}={asked[name]} of the training examples takes its place"
        notices.append(f"{said}, so it is left out; {instead if asked[name] else 'none is made'}.")
    return ratios, notices
