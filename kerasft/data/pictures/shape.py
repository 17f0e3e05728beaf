"""How large pictures are as they are seen, and where their corners go when they are turned."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.data.pictures.audit import orientation_of, sniff


@dataclass(frozen=True)
class Shape:
    """The size of a picture.

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


def shape_of(picture: str | bytes) -> Shape:
    """Return the shape of a picture that the audit let pass.

    Args:
        picture: A path, or encoded bytes.
    """
    from PIL import Image

    if isinstance(picture, str):
        with open(picture, "rb") as file:
            content = file.read()
    else:
        content = picture
    with Image.open(io.BytesIO(content)) as image:
        columns, rows = image.size
        turned = orientation_of(content, sniff(content[:32]) or "", image)
    if turned in (5, 6, 7, 8):
        return Shape(columns, rows, turned)
    return Shape(rows, columns, turned)


def upright(boxes: np.ndarray, shape: Shape) -> np.ndarray:
    """Return boxes that were drawn on a picture as it is stored, where they are when it is seen.

    Args:
        boxes: `float64[boxes, 4]`, left, top, right and bottom.
        shape: The picture.

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
