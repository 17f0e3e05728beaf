"""Documents cut into parts that a network can read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

# Where a text is cut, the better places first.
PLACES = ("\n", " ")
# A part that is planned to be so full rarely comes out too long.
FULL = 0.94
# A place to cut is looked for within this share of a part before where it would be best.
WITHIN = 0.25


def cut(
    texts: Sequence[str], count: Callable[[Sequence[str]], np.ndarray], most: int
) -> list[list[str]]:
    """Cut texts that are too long, at the end of a line or word where there is one.

    Args:
        texts: The texts.
        count: How many tokens each of some texts has.
        most: The most tokens of a part.

    Returns:
        The parts of each text; joined they are the text.

    Example:
        >>> cut(["one two three four"], lambda texts: np.array([len(t) for t in texts]), 10)
        [['one two ', 'three four']]
    """
    made: list[list[str]] = [[text] for text in texts]
    open_: list[tuple[int, int]] = [(i, 0) for i in range(len(texts))]
    while open_:
        lengths = count([made[i][j] for i, j in open_])
        long: dict[int, list[tuple[int, int]]] = {}
        for (i, j), length in zip(open_, lengths.tolist(), strict=True):
            if length > most and len(made[i][j]) > 1:
                long.setdefault(i, []).append((j, length))
        open_ = []
        for i, parts in long.items():
            wanted = dict(parts)
            after: list[str] = []
            for j, part in enumerate(made[i]):
                if j not in wanted:
                    after.append(part)
                    continue
                pieces = _cut(part, max(2, math.ceil(wanted[j] / (FULL * most))))
                open_ += [(i, len(after) + k) for k in range(len(pieces))]
                after += pieces
            made[i] = after
    return made


def _cut(text: str, parts: int) -> list[str]:
    """Cut a text into so many parts of about one length, or fewer."""
    made: list[str] = []
    start = 0
    while start < len(text):
        size = math.ceil((len(text) - start) / max(parts - len(made), 1))
        stop = start + size
        if stop < len(text):
            stop = _place(text, max(start + 1, stop - int(size * WITHIN)), stop)
        made.append(text[start:stop])
        start = stop
    return made


def _place(text: str, first: int, last: int) -> int:
    """Return where a text is best cut: behind the last line or word that ends in a range."""
    for sign in PLACES:
        found = text.rfind(sign, first - 1, last)
        if found >= 0:
            return found + 1
    return last
