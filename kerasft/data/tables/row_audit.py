"""Rows that are of no use, or doubtful: without a label, with an empty text, absurdly long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft.data.collection import Collection, choose
from kerasft.data.hidden import without_label
from kerasft.data.late_texts import LateTexts
from kerasft.data.policies import without_empty
from kerasft.data.spool import is_blank
from kerasft.errors import some
from kerasft.system.console import listing

# Beyond this a text is more likely a slip of a quote than a text.
LONG_TEXT = 100_000


def labeled(found: Collection, key: str) -> Collection:
    """Leave out examples without a label."""
    bare = without_label(found.values)
    if not len(bare):
        return found
    found.notices.append(
        f"{some(len(bare), 'row')} left out, without a label ({key}): "
        f"{listing(choose(found.ids, bare))}."
    )
    kept = np.ones(len(found), bool)
    kept[bare] = False
    return found.keep(np.flatnonzero(kept))


def audit_texts(found: Collection, empty: str) -> Collection:
    """Leave out or refuse empty texts, and point at absurdly long ones."""
    bare = _bare(found)
    found.notices += without_empty(choose(found.ids, bare), empty, which="those rows")
    long, sizes = _long(found.inputs)
    if long:
        found.notices.append(
            f"{some(len(long), 'text')} of more than {LONG_TEXT:,} characters (the longest has "
            f"{max(sizes):,}): {listing(found.ids[i] for i in long)}. The network reads their "
            "beginning only; a quote that is never closed makes such texts, too "
            "(data.quoting=false)."
        )
    if not len(bare):
        return found
    kept = np.ones(len(found), bool)
    kept[bare] = False
    return found.keep(np.flatnonzero(kept))


def _bare(found: Collection) -> np.ndarray:
    """Return which texts are empty."""
    if found.blank is not None:
        return np.flatnonzero(found.blank)
    return np.array([i for i, one in enumerate(found.inputs) if is_blank(one)], "int64")


def _long(inputs: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Return which texts are absurdly long, and how many characters each of these has."""
    places: Any = range(len(inputs))
    if isinstance(inputs, LateTexts):  # no text has more characters than bytes
        places = np.flatnonzero(inputs.sizes() > LONG_TEXT).tolist()
        each: Any = (inputs[i] for i in places)
    else:
        each = iter(inputs)
    sized = (
        (i, len(one) if isinstance(one, str) else max(map(len, one)))
        for i, one in zip(places, each, strict=True)
    )
    found = [(i, size) for i, size in sized if size > LONG_TEXT]
    return [i for i, _ in found], [size for _, size in found]
