"""Texts that are nearly those of another split: a few words changed, or a line more.

Candidates are found by MinHash (Broder, "On the resemblance and containment of documents", 1997,
https://doi.org/10.1109/SEQUEN.1997.666900) and compared by the pieces that they share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kerasft.data.copies import NAMED
from kerasft.errors import some
from kerasft.spec import Examples, Splits
from kerasft.system.console import listing

# Bytes of a piece: about two words, in any language.
PIECE = 12
# From which share of common pieces on (Jaccard) two texts count as nearly the same.
ALIKE = 0.7
# Hashes of a text, in bands. Of 5,000 pairs that are as `ALIKE`, one has no band in common.
BANDS, ROWS = 20, 3
# What is looked at: so many characters of each text and of all together, and so many texts.
MOST_EACH, MOST, MOST_TEXTS = 2**13, 2**24, 50_000
# Texts with the same band that one is compared with.
COMPARED = 16


@dataclass(frozen=True)
class Near:
    """A text that is nearly one of an earlier split.

    Args:
        split: Its split.
        example: Its id.
        of_split: The split of the other one.
        of_example: The id of the other one.
        share: The share of pieces that both have, of all that either has.
    """

    split: str
    example: str
    of_split: str
    of_example: str
    share: float


def told(splits: Splits) -> Splits:
    """Return splits whose notices say which texts are nearly those of another split.

    Args:
        splits: Splits of texts.
    """
    found, looked_at = find(splits.parts)
    pairs: dict[tuple[str, str], list[Near]] = {}
    for one in found:
        pairs.setdefault((one.split, one.of_split), []).append(one)
    said = []
    for (split, other), near in pairs.items():
        are = "is nearly one" if len(near) == 1 else "are nearly some"
        named = listing((f"{one.example} (~ {one.of_example}, {one.share:.0%})" for one in near),
                        NAMED)  # fmt: skip
        said.append(
            f"{some(len(near), 'text')} of {split} {are} of {other}, which makes the metrics of "
            f"{split} optimistic; kept: {named}."
        )
    count = sum(map(len, splits.parts.values()))
    if looked_at < count:
        said.append(
            f"Texts that are nearly the same were looked for in {looked_at:,} of {count:,} texts, "
            "spread evenly: the others would take too long."
        )
    return replace(splits, notices=(*splits.notices, *said))


def find(parts: Mapping[str, Examples]) -> tuple[list[Near], int]:
    """Find texts that are nearly those of an earlier split.

    Exact copies are left to `copies`. What is found follows from the texts alone.

    Args:
        parts: The splits by name, in order.

    Returns:
        One for each such text, with the likest of those that it was compared with; and how many
        texts were looked at.
    """
    every = [(name, part.ids[i], part.inputs[i]) for name, part in parts.items()
             for i in range(len(part))]  # fmt: skip
    chosen = _chosen([min(len(text), MOST_EACH) for _, _, text in every])
    buckets: dict[tuple[int, bytes], list[int]] = {}
    found = []
    for place in chosen:
        name, own, text = every[place]
        mine = pieces(text)
        others: dict[int, None] = {}
        for band in _bands(mine):
            bucket = buckets.setdefault(band, [])
            others |= dict.fromkeys(one for one in bucket if every[one][0] != name)
            if len(bucket) < COMPARED:
                bucket.append(place)
        best, share = None, ALIKE
        for other in sorted(others)[:COMPARED]:
            if every[other][2] == text:
                continue
            alike = jaccard(mine, pieces(every[other][2]))
            if alike >= share and (best is None or alike > share):
                best, share = other, alike
        if best is not None:
            found.append(Near(name, own, every[best][0], every[best][1], share))
    return found, len(chosen)


def _chosen(sizes: Sequence[int]) -> Sequence[int]:
    """Return the places of as many texts as may be looked at, spread evenly."""
    count = min(len(sizes), MOST_TEXTS, int(len(sizes) * MOST / max(sum(sizes), 1)))
    if count == len(sizes):
        return range(count)
    return sorted({*np.linspace(0, len(sizes) - 1, count).astype(int).tolist()})


def pieces(text: str) -> np.ndarray:
    """Return the hashes of all pieces of a text, each once, `uint64`.

    Case, and how much blank is between words, count for nothing; nor does what the system says in a
    conversation, which many begin with.

    Example:
        >>> len(pieces("to be or not to be")), len(pieces("To  be"))
        (7, 1)
    """
    text = re.sub("\x1esystem\x1f[^\x1e]*", "", text[:MOST_EACH])
    data = np.frombuffer(" ".join(text.lower().split()).encode("utf-8", "replace"), "uint8")
    width = min(PIECE, max(len(data), 1))
    count = max(len(data) - width + 1, 1)
    rolled = np.zeros(count, "uint64")
    for i in range(min(width, len(data))):
        rolled = rolled * np.uint64(0x100000001B3) + data[i : i + count] + np.uint64(1)
    return np.unique(_mixed(rolled))


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return numbers whose every bit hangs on every bit of those given (SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_SEEDS = _mixed(np.arange(1, BANDS * ROWS + 1, dtype="uint64") * np.uint64(0x9E3779B97F4A7C15))


def _bands(found: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Yield the bands of a text: texts with one in common are compared."""
    least = _mixed(found[None] ^ _SEEDS[:, None]).min(axis=1)
    for band in range(BANDS):
        yield band, least[band * ROWS : (band + 1) * ROWS].tobytes()


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of pieces that two texts have in common, of all that either has.

    Example:
        >>> jaccard(np.array([1, 2, 3]), np.array([2, 3, 4]))
        0.5
    """
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)
