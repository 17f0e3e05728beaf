"""Exact copies: the same input in two splits, or under two labels."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kerasft.data.annotations.plain import shown
from kerasft.data.fingerprint import fingerprints, firsts
from kerasft.errors import some
from kerasft.spec import Copy, Examples, Labels
from kerasft.system.console import listing
from kerasft.system.files import written_whole

# How many are named in a warning; a run folder has all.
NAMED = 5


def find_copies(parts: Mapping[str, Examples], labels: Labels | None = None) -> list[Copy]:
    """Find exact copies that stand in two splits, or under two labels.

    Args:
        parts: The splits by name, in order.
        labels: What their labels mean, to be named.

    Returns:
        One a copy, in the order of the examples, each with the first of its kind.
    """
    names, ends = list(parts), np.cumsum([len(part) for part in parts.values()])
    same = firsts(*[fingerprints(part) for part in parts.values()])
    found = []

    def placed(place: int) -> tuple[str, int]:
        which = int(np.searchsorted(ends, place, "right"))
        return names[which], place - (int(ends[which - 1]) if which else 0)

    for place in np.flatnonzero(same != np.arange(len(same))).tolist():
        (name, index), (other, earlier) = placed(place), placed(int(same[place]))
        part, first = parts[name], parts[other]
        differs = first.annotations.digest(earlier) != part.annotations.digest(index)
        if other != name or differs:
            found.append(Copy(
                name, part.ids[index], _label(part, index, labels),
                other, first.ids[earlier], _label(first, earlier, labels), differs,
            ))  # fmt: skip
    return found


def notices(copies: Sequence[Copy], noun: str) -> list[str]:
    """Say which copies there are, in a sentence for each two splits and one for the labels.

    Args:
        copies: What `find_copies` found.
        noun: What is copied: `"text"` or `"image"`.

    Returns:
        Sentences for the user, with the names of the first few.
    """
    said = []
    leaked: dict[tuple[str, str], list[Copy]] = {}
    for one in copies:
        if one.split != one.of_split:
            leaked.setdefault((one.split, one.of_split), []).append(one)
    for (split, other), pairs in leaked.items():
        are = "is an exact copy" if len(pairs) == 1 else "are exact copies"
        named = listing((f"{one.example} (= {one.of_example})" for one in pairs), NAMED)
        said.append(
            f"{some(len(pairs), noun)} of {split} {are} of examples of {other}, which makes the "
            f"metrics of {split} optimistic; kept, since the data brings these splits: {named}."
        )
    # One that is there five times is one input under several labels.
    differing: dict[tuple[str, str], Copy] = {}
    for one in copies:
        if one.differs:
            differing.setdefault((one.of_split, one.of_example), one)
    if differing:
        named = listing(
            (f"{one.of_example}{_in_brackets(one.of_label)} and {one.example}"
             f"{_in_brackets(one.label)}" for one in differing.values()), NAMED
        )  # fmt: skip
        said.append(
            f"{some(len(differing), noun)} {'occurs' if len(differing) == 1 else 'occur'} more "
            f"than once under different labels: {named}."
        )
    return said


def write_copies(copies: Sequence[Copy], path: Path) -> None:
    """Write all copies to a CSV file, a row each; an older file goes where there are none."""
    if not copies:
        path.unlink(missing_ok=True)
        return
    with written_whole(path) as part, open(part, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow([
            "split", "example", "label", "copy_of_split", "copy_of", "copy_of_label", "labels",
        ])  # fmt: skip
        writer.writerows(
            [c.split, c.example, c.label or "", c.of_split, c.of_example, c.of_label or "",
             "different" if c.differs else "same"] for c in copies
        )  # fmt: skip


def _in_brackets(label: str | None) -> str:
    return "" if label is None else f" ({label or 'no label'})"


def _label(part: Examples, index: int, labels: Labels | None) -> str | None:
    """Return the label of an example in words, where it has one."""
    if labels is None or "label" not in part.annotations:
        return None
    return shown(part.labels[index], labels)
