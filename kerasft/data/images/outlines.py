"""Masks out of outlines: polygons, and the run lengths of COCO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# No point of an outline lies that far, in pixels: numbers beyond it cannot be reckoned with.
FARTHEST = 1e9


def filled(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels whose centres lie inside of a polygon, by the even-odd rule.

    Args:
        points: `float64[points, 2]`, x and y in pixels.
        size: Rows and columns.

    Returns:
        bool `[rows, columns]`.

    Example:
        >>> filled(np.array([[1.0, 0], [3, 0], [3, 2], [1, 2]]), (2, 4)).astype(int).tolist()
        [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    rows, columns = size
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    low = int(np.clip(np.floor(points[:, 1].min()), 0, rows))
    high = int(np.clip(np.ceil(points[:, 1].max()), 0, rows))
    made = np.zeros(size, bool)
    if low >= high:
        return made
    centres = np.arange(low, high)[:, None] + 0.5
    # Which edges cross the line through the centres of a row, and where.
    crosses = (y0 <= centres) != (y1 <= centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = x0 + (centres - y0) * (x1 - x0) / (y1 - y0)
    row, edge = np.nonzero(crosses)
    first = np.ceil(x[row, edge] - 0.5).clip(0, columns).astype("int64")
    crossed = np.zeros((high - low, columns + 1), "int64")
    np.add.at(crossed, (row, first), 1)
    made[low:high] = crossed[:, :columns].cumsum(axis=1) % 2 == 1
    return made


def run_lengths(text: str) -> list[int]:
    """Return the numbers that COCO packs into a text: 5 bits a letter, differences from the third.

    Raises:
        ValueError: If the text ends within a number, or has other letters.

    Example:
        >>> run_lengths("52203"), run_lengths("02L0")
        ([5, 2, 2, 2, 5], [0, 2, -4, 2])
    """
    counts: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            if place >= len(text):
                raise ValueError("it is cut off")
            bits = ord(text[place]) - 48
            if not 0 <= bits < 64:
                raise ValueError(f"{text[place]!r} stands for no number")
            value |= (bits & 31) << shift
            more, shift, place = bool(bits & 32), shift + 5, place + 1
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def unrolled(counts: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of run lengths, which alternate between outside and inside, column by column.

    Raises:
        ValueError: If they do not fill the image.

    Example:
        >>> unrolled([1, 2, 1], (2, 2)).astype(int).tolist()
        [[0, 1], [1, 0]]
    """
    rows, columns = size
    # Whole numbers of Python do not run over.
    if any(one < 0 for one in counts) or sum(counts) != rows * columns:
        raise ValueError(f"its run lengths do not fill {columns} x {rows} pixels")
    lengths = np.asarray(counts, "int64")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(columns, rows).T


def outlined(segmentation: Any, size: tuple[int, int]) -> np.ndarray | None:
    """Return the pixels of an annotation of COCO.

    Args:
        segmentation: A list of polygons, each a list of x and y in turn; or a dict of `counts` and
            `size`.
        size: Rows and columns of the image.

    Returns:
        bool `[rows, columns]`; `None` where there is no outline.

    Raises:
        ValueError: If it is none of these.
    """
    if segmentation in (None, [], {}, ""):
        return None
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        own = segmentation.get("size")
        if own not in (None, [], list(size), tuple(size)):
            raise ValueError(f"its size is {own}, and that of the image {list(size)}")
        if isinstance(counts, str):
            counts = run_lengths(counts)
        if not isinstance(counts, list) or not all(type(one) is int for one in counts):
            raise ValueError("its counts must be whole numbers, or a text of them")
        return unrolled(counts, size)
    if not isinstance(segmentation, list):
        raise ValueError("it must be a list of polygons, or run lengths")
    made = np.zeros(size, bool)
    for polygon in segmentation:
        good = isinstance(polygon, list) and all(
            isinstance(one, int | float) and not isinstance(one, bool) for one in polygon
        )
        if not good or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("each polygon must be a list of x and y of three points or more")
        if not all(abs(one) < FARTHEST for one in polygon):  # nan is not either
            raise ValueError("a point of a polygon is no number, or far out of any image")
        made |= filled(np.asarray(polygon, "float64").reshape(-1, 2), size)
    return made
