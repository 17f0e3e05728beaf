"""A word that gives the label away."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_WORD = re.compile(r"[^\W_]+(?:['_-][^\W_]+)*")
# A class or word in fewer texts than this tells nothing.
LEAST = 5


class Telling(NamedTuple):
    """A word that tells a class from all others.

    Args:
        word: The word.
        label: The class.
        found: The share of the texts of this class that have it.
        elsewhere: The share of all other texts that have it.
    """

    word: str
    label: str
    found: float
    elsewhere: float

    @property
    def balanced(self) -> float:
        """How often the word alone is right, the class and all others counted alike."""
        return (self.found + 1 - self.elsewhere) / 2


def telling_word(records: Sequence[Mapping[str, Any]]) -> Telling | None:
    """Return the word that alone tells a class best.

    Args:
        records: Examples with `input`, a text or a pair of texts, and `true`, a class.

    Returns:
        The word; `None` where these are no texts with classes.

    Example:
        >>> words = ("good", "bad")
        >>> rows = [{"input": f"{w} film {i}", "true": w} for i in range(5) for w in words]
        >>> telling_word(rows)
        Telling(word='bad', label='bad', found=1.0, elsewhere=0.0)
    """
    texts = [
        (" ".join([given] if isinstance(given, str) else given), row["true"]) for row in records
        if isinstance(given := row.get("input"), str | list) and isinstance(row.get("true"), str)
    ]
    classes = Counter(label for _, label in texts)
    if len(texts) < len(records) or len(classes) < 2:
        return None
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in texts:
        for word in set(_WORD.findall(text.lower())):
            counts[word][label] += 1
    best: Telling | None = None
    for word in sorted(counts):
        seen, whole = counts[word], sum(counts[word].values())
        if whole < LEAST:
            continue
        for label in sorted(seen):
            if classes[label] < LEAST or len(texts) - classes[label] < LEAST:
                continue
            found = seen[label] / classes[label]
            elsewhere = (whole - seen[label]) / (len(texts) - classes[label])
            one = Telling(word, label, found, elsewhere)
            if best is None or one.balanced > best.balanced:
                best = one
    return best


def share_with(records: Sequence[Mapping[str, Any]], telling: Telling) -> float:
    """Return how often a word alone is right on other examples, see `Telling.balanced`."""
    has = np.array([telling.word in _WORD.findall(str(row.get("input")).lower())
                    for row in records])  # fmt: skip
    of = np.array([row.get("true") == telling.label for row in records])
    if not len(records) or not of.any() or of.all():
        return float("nan")
    return float((has[of].mean() + 1 - has[~of].mean()) / 2)
