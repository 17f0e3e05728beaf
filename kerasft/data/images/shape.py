"""How large images are as they are seen, and what is drawn on them when they are turned."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.data.images.audit import orientation_of, sniff
from kerasft.errors import UserError, nearest, some
from kerasft.system.console import listing

# What annotations are drawn on: an image as it is seen, as it is stored, or what its size tells.
ORIENTATIONS = ("auto", "seen", "stored")
# The most images whose size is another one than their annotations say: more are a mistake.
_MOST_ODD = 0.5


@dataclass(frozen=True)
class Shape:
    """The size of an image.

    Args:
        rows: As it is seen.
        columns: The same.
        orientation: How it is stored, as EXIF numbers it: 1 is upright.
    """

    rows: int
    columns: int
    orientation: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        """Rows and columns of the file."""
        if self.orientation in (5, 6, 7, 8):
            return self.columns, self.rows
        return self.rows, self.columns


def shape_of(image: str | bytes) -> Shape:
    """Return the shape of an image that the audit let pass.

    Args:
        image: A path, or encoded bytes.
    """
    from PIL import Image

    if isinstance(image, str):
        with open(image, "rb") as file:
            content = file.read()
    else:
        content = image
    with Image.open(io.BytesIO(content)) as opened:
        columns, rows = opened.size
        turned = orientation_of(content, sniff(content[:32]) or "", opened)
    if turned in (5, 6, 7, 8):
        return Shape(columns, rows, turned)
    return Shape(rows, columns, turned)


def upright(boxes: np.ndarray, shape: Shape) -> np.ndarray:
    """Return boxes that were drawn on an image as it is stored, where they are when it is seen.

    Args:
        boxes: `float64[boxes, 4]`, left, top, right and bottom.
        shape: The image.

    Example:
        >>> upright(np.array([[0.0, 0, 2, 1]]), Shape(4, 3, 6)).tolist()
        [[2.0, 0.0, 3.0, 2.0]]
    """
    rows, columns = shape.stored
    x, y = boxes[:, 0::2], boxes[:, 1::2]
    across: dict[int, tuple[Any, Any]] = {
        1: (x, y), 2: (columns - x, y), 3: (columns - x, rows - y), 4: (x, rows - y),
        5: (y, x), 6: (rows - y, x), 7: (rows - y, columns - x), 8: (y, columns - x),
    }  # fmt: skip
    x, y = across[shape.orientation]
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1) if len(boxes) else boxes


def upright_mask(mask: np.ndarray, shape: Shape) -> np.ndarray:
    """Return a mask that was drawn on an image as it is stored, as it lies when that is seen.

    Args:
        mask: `[rows, columns]`.
        shape: The image.

    Example:
        >>> upright_mask(np.array([[1, 2], [3, 4]]), Shape(2, 2, 6)).tolist()
        [[3, 1], [4, 2]]
    """
    turned = {
        1: mask, 2: mask[:, ::-1], 3: mask[::-1, ::-1], 4: mask[::-1], 5: mask.T,
        6: mask[::-1].T, 7: mask[::-1, ::-1].T, 8: mask[:, ::-1].T,
    }  # fmt: skip
    return np.ascontiguousarray(turned[shape.orientation])


def check_orientation(orientation: str) -> None:
    """Refuse what says nothing of what annotations are drawn on."""
    if orientation not in ORIENTATIONS:
        raise UserError(
            f"data.orientation must be one of {list(ORIENTATIONS)}. Received: {orientation!r}."
            + nearest(orientation, ORIENTATIONS)
        )


def check_names(named: Sequence[tuple[str, Any]]) -> None:
    """Refuse images that annotations name more than once."""
    seen: dict[str, Any] = {}
    twice = [name for name, one in named if seen.setdefault(name, one) is not one]
    if twice:
        raise UserError(
            f"{some(len(twice), 'image')} named more than once by the annotations: "
            f"{listing(twice)}. Give each image one entry, in one split."
        )


def drawn_on(
    shape: Shape, size: tuple[int, int] | None, orientation: str, *, bare: bool
) -> str | None:
    """Return what annotations are drawn on: `seen`, `stored`, `either`; `None` for another image.

    Args:
        shape: The image.
        size: Rows and columns that the annotations say, or `None`.
        orientation: One of `ORIENTATIONS`.
        bare: Whether nothing is drawn.
    """
    seen, stored = (shape.rows, shape.columns), shape.stored
    if size is not None and size not in (seen, stored):
        return None
    if shape.orientation == 1:
        return "seen"
    if orientation != "auto":
        return orientation
    if size is not None and seen != stored:
        return "seen" if size == seen else "stored"
    return "seen" if bare else "either"


def require_known_orientation(doubtful: Sequence[str]) -> None:
    """Refuse images of which nobody knows how their annotations lie."""
    if doubtful:
        raise UserError(
            f"{some(len(doubtful), 'image')} with an EXIF orientation, of which the annotations "
            f"do not say whether they are drawn on the image as it is seen or as it is stored: "
            f"{listing(doubtful)}. Set data.orientation=seen (most tools in a browser) or "
            "data.orientation=stored (tools that do not know EXIF)."
        )


def odd_sizes(odd: Sequence[str], count: int) -> list[str]:
    """Tell the images that are left out since their annotations are of another size.

    Args:
        odd: What they are called, and their sizes.
        count: How many images there are.

    Raises:
        UserError: If they are most of them.
    """
    if len(odd) > _MOST_ODD * count:
        raise UserError(
            f"{some(len(odd), 'image')} of {count:,} have another size than their annotations "
            f"say: {listing(odd)}. These were drawn on others."
        )
    if not odd:
        return []
    return [
        f"{some(len(odd), 'image')} left out, of another size than their annotations say: "
        f"{listing(odd)}."
    ]
