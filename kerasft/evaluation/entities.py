"""Entities that were found against those that are there: precision, recall and F1 by entity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft.rows import Rows

# An entity: its type, its first character, and the one behind its last.
Entity = tuple[int, int, int]
# The columns of what is counted of each type.
RIGHT, FOUND, THERE = range(3)


def of_tags(tags: np.ndarray, start: np.ndarray, end: np.ndarray) -> list[Entity]:
    """Return the entities that the tags of a text's words make, as `model.text.tags.entities` does.

    Args:
        tags: `int[words]`: 0 outside, `1 + 2k` where one of type `k` begins, `2 + 2k` further in.
        start: The first character of each word.
        end: The one behind its last.

    Example:
        >>> of_tags(np.array([1, 2, 0]), np.array([0, 5, 9]), np.array([4, 8, 11]))
        [(0, 0, 8)]
    """
    kinds, begins = (tags + 1) // 2 - 1, tags % 2 == 1
    made = []
    first = 0
    for i in range(len(tags)):
        if kinds[i] < 0:
            continue
        if begins[i] or i == 0 or kinds[i - 1] != kinds[i]:
            first = i
        if i + 1 == len(tags) or kinds[i + 1] != kinds[i] or begins[i + 1]:
            made.append((int(kinds[i]), int(start[first]), int(end[i])))
    return made


def of_rows(tags: np.ndarray, start: np.ndarray, end: np.ndarray) -> set[tuple[int, ...]]:
    """Return the entities of many texts at once, each with the number of its text before it.

    Args:
        tags: `int[texts, words]`, see `of_tags`; 0 behind the last word of a text.
        start: `int[texts, words]`, the first character of each word.
        end: The one behind its last.

    Example:
        >>> one = np.array([[1, 2, 0], [0, 3, 0]])
        >>> sorted(of_rows(one, np.array([[0, 5, 9]] * 2), np.array([[4, 8, 11]] * 2)))
        [(0, 0, 0, 8), (1, 1, 5, 8)]
    """
    kinds = np.pad((tags + 1) // 2 - 1, [(0, 0), (1, 1)], constant_values=-1)
    begins = np.pad(tags % 2 == 1, [(0, 0), (1, 1)])
    here, inside = kinds[:, 1:-1], kinds[:, 1:-1] >= 0
    opens = inside & (begins[:, 1:-1] | (kinds[:, :-2] != here))
    closes = inside & (begins[:, 2:] | (kinds[:, 2:] != here))
    columns = np.nonzero(opens)[0], here[opens], start[opens], end[closes]
    return set(zip(*(column.tolist() for column in columns), strict=True))


def marked(annotations: Rows, rows: range) -> list[tuple[int, ...]]:
    """Return the entities that some texts have, each with the place of its text among these.

    Args:
        annotations: Rows with `labels`, `span_starts` and `span_ends`.
        rows: Which of them.
    """
    made: list[tuple[int, ...]] = []
    for place, row in enumerate(map(annotations.row, rows)):
        columns = (row[name].tolist() for name in ("labels", "span_starts", "span_ends"))
        made += [(place, *one) for one in zip(*columns, strict=True)]
    return made


def counted(found: Sequence[Entity], there: Sequence[Entity], types: int) -> np.ndarray:
    """Count for each type the entities that were found as they are there, found, and there.

    Args:
        found: Those that were found in a text.
        there: Those that are there.
        types: How many types there are.

    Returns:
        `int64[types, 3]`.

    Example:
        >>> counted([(0, 0, 4), (1, 5, 9)], [(0, 0, 4), (1, 5, 8)], 2).tolist()
        [[1, 1, 1], [0, 1, 1]]
    """
    made = np.zeros((types, 3), "int64")
    for column, some in ((RIGHT, set(found) & set(there)), (FOUND, found), (THERE, there)):
        for kind, _, _ in some:
            made[kind, column] += 1
    return made


def overlapping(found: Sequence[Entity], there: Sequence[Entity], types: int) -> np.ndarray:
    """Count for each type the entities that share a character with one of the type, each once.

    Args:
        found: Those that were found in a text.
        there: Those that are there.
        types: How many types there are.

    Returns:
        `int64[types]`; those that agree are paired first, then from left to right.

    Example:
        >>> overlapping([(0, 0, 4), (0, 5, 9)], [(0, 2, 7)], 1).tolist()
        [1]
    """
    made = np.zeros(types, "int64")
    left = sorted(set(found) - set(there))
    open_ = sorted(set(there) - set(found))
    for kind, _, _ in set(found) & set(there):
        made[kind] += 1
    for kind, start, end in left:
        other = next((o for o in open_ if o[0] == kind and o[1] < end and start < o[2]), None)
        if other is not None:
            open_.remove(other)
            made[kind] += 1
    return made


def shares(right: float, found: float, there: float) -> dict[str, float]:
    """Return precision, recall and F1; 0 where there is nothing to divide by.

    Example:
        >>> shares(1, 2, 4)
        {'precision': 0.5, 'recall': 0.25, 'f1': 0.3333333333333333}
    """
    return {
        "precision": float(right / found) if found else 0.0,
        "recall": float(right / there) if there else 0.0,
        "f1": float(2 * right / (found + there)) if found + there else 0.0,
    }


def summary(
    counts: np.ndarray, overlaps: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of all entities together, and of each type.

    Args:
        counts: What `counted` counted, added up.
        overlaps: What `overlapping` counted, added up.
        names: The types.

    Returns:
        `precision`, `recall` and `f1` of entities with the right type and both ends right, over all
        types; `partial_precision` and so on of those with the right type that overlap; `macro_f1`,
        the mean of the types that are there or were found, as seqeval takes it; and `per_class`.
    """
    right, found, there = counts.sum(axis=0)
    partial = shares(overlaps.sum(), found, there)
    by_type = {
        name: {**shares(*one), "partial_f1": shares(some, *one[1:])["f1"],
               "found": int(one[FOUND]), "entities": int(one[THERE])}
        for name, one, some in zip(names, counts, overlaps, strict=True)
    }  # fmt: skip
    f1 = [one["f1"] for one in by_type.values() if one["entities"] or one["found"]]
    return {
        **shares(right, found, there),
        **{f"partial_{name}": value for name, value in partial.items()},
        "macro_f1": float(np.mean(f1)) if f1 else 0.0,
        "entities": int(there),
        "per_class": by_type,
    }


def of_sums(metric: str, sums: np.ndarray) -> float:
    """Return a figure of what was counted of all types.

    Args:
        metric: `"precision"`, `"recall"`, `"f1"`, or one of these behind `partial_`.
        sums: The entities that were right (or overlap), found and there, each of all types.
    """
    return shares(*sums)[metric.removeprefix("partial_")]

