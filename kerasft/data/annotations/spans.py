"""Entities in texts: from what readers find to the rows that a tagger learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasft.data.annotations.classes import classes_of
from kerasft.data.annotations.drawn import nothing_drawn
from kerasft.errors import UserError, some
from kerasft.rows import Column, Rows
from kerasft.spec import Labels
from kerasft.system.console import listing

# The first character of an entity, the one behind its last, and its type.
Span = tuple[int, int, str]


@dataclass(frozen=True)
class Marked:
    """A text with its entities.

    Args:
        text: The text.
        spans: Its entities, see `Span`; offsets are characters of the text.
    """

    text: str
    spans: tuple[Span, ...]


def tidied(
    marked: Sequence[Marked], ids: Sequence[str], key: str
) -> tuple[list[Marked], list[str]]:
    """Leave out entities that are none, and those that others overlap.

    Args:
        marked: Texts with their entities.
        ids: What each text is called.
        key: The config key behind them, for messages.

    Returns:
        The texts, their entities from left to right; and a sentence for each kind of change with
        how many there were.

    Raises:
        UserError: If most entities do not lie in their texts: offsets are counted otherwise.
    """
    found: dict[str, list[str]] = {
        "without a character, or with an end before the start, left out": [],
        "beyond the end of the text left out": [],
        "cut off at the end of the text": [],
        "with blanks at the ends, which were taken off": [],
        "marked twice, counted once": [],
        "overlapping a longer one, left out": [],
        "beginning or ending inside a word, which no tagger of words can find": [],
    }
    empty, beyond, cut, blank, twice, overlap, inside = found.values()
    made, total, odd = [], 0, 0
    for name, one in zip(ids, marked, strict=True):
        kept: list[Span] = []
        for number, (start, end, kind) in enumerate(one.spans, 1):
            where = f"{name}: entity {number}"
            total += 1
            if (start >= len(one.text) > 0 and end > start) or start < 0:
                beyond.append(where)
                odd += 1
                continue
            if end > len(one.text):
                cut.append(where)
                odd += 1
                end = len(one.text)
            if end <= start or not one.text[start:end].strip():
                empty.append(where)
                continue
            bare = one.text[start:end]
            if bare != bare.strip():
                blank.append(where)
                start += len(bare) - len(bare.lstrip())
                end = start + len(bare.strip())
            if (start, end, kind) in kept:
                twice.append(where)
                continue
            if _within(one.text, start) or _within(one.text, end):
                inside.append(where)
            kept.append((start, end, kind))
        apart = _apart(kept)
        overlap += [f"{name}: {one.text[a:b]!r} ({kind})" for a, b, kind in kept
                    if (a, b, kind) not in apart]  # fmt: skip
        made.append(replace(one, spans=tuple(apart)))
    if total and odd > total / 2:
        raise UserError(
            f"{odd:,} of {total:,} entities do not lie in their texts (such as "
            f"{(beyond + cut)[0]}): their offsets are counted in another way. {key} says how."
        )
    said = [f"{some(len(part), 'entity')} {words}: {listing(part)}."
            for words, part in found.items() if part]  # fmt: skip
    return made, said


def _within(text: str, place: int) -> bool:
    """Whether a place in a text has a letter or digit on both sides."""
    return 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum()


def _apart(spans: Sequence[Span]) -> list[Span]:
    """Return the spans without those that overlap a longer one, or an earlier one as long."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda one: (one[0] - one[1], one[0])):
        if all(span[1] <= start or end <= span[0] for start, end, _ in kept):
            kept.append(span)
    return sorted(kept)


def encode(
    values: Sequence[Any], ids: Sequence[str], *, names: Sequence[str] | None, key: str
) -> tuple[Labels, Rows, np.ndarray, list[str]]:
    """Turn the entities of texts into `Labels` and rows.

    Args:
        values: A `Marked` a text.
        ids: What each text is called.
        names: The types, in order; by default those that entities have, sorted.
        key: The config key behind the types, for messages.

    Returns:
        The `Labels`; rows with the `text` (UTF-8) and `labels`, `span_starts` and `span_ends` of
        its entities; how many of each type a text has, `int64[N, types]`; and sentences for the
        user.

    Raises:
        UserError: If there are no entities, or types that are not listed.

    Example:
        >>> marked = [Marked("in Rome", ((3, 7, "place"),)), Marked("no", ())]
        >>> encode(marked, ["1", "2"], names=None, key="data.path")[2].tolist()
        [[1], [0]]
    """
    if not all(isinstance(value, Marked) for value in values):
        raise nothing_drawn("spans")
    words = Counter(kind for value in values for _, _, kind in value.spans)
    if not words:
        raise UserError(
            f"{key}: none of {some(len(values), 'text')} has an entity: all words are outside. "
            "See that the column of tags (data.tag), or the entities of each text, are the ones "
            "that are meant."
        )
    chosen, notices = classes_of(words, names, key, others="entities are of other types")
    number = {name: n for n, name in enumerate(chosen)}
    labels = [[number[kind] for _, _, kind in value.spans] for value in values]
    counts = np.zeros((len(values), len(chosen)), "int64")
    for row, units in zip(counts, labels, strict=True):
        np.add.at(row, units, 1)
    texts = np.empty(len(values), object)
    texts[:] = [value.text.encode() for value in values]

    def offsets(side: int) -> Column:
        rows = [[span[side] for span in value.spans] for value in values]
        return Column.ragged(rows, dtype="int32", group="spans")

    rows = Rows.of({
        "text": texts, "span_starts": offsets(0), "span_ends": offsets(1),
        "labels": Column.ragged(labels, dtype="int32", fill=-1, group="spans"),
    })  # fmt: skip
    bare = sum(not value.spans for value in values)
    if bare:
        notices.append(f"{some(bare, 'text')} of {len(values):,} without any entity, learned from "
                       "as such.")  # fmt: skip
    return Labels("spans", chosen), rows, counts, notices
