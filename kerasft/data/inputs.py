"""Raw input that Python hands over to be answered: lists, arrays, columns of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.images.arrays import encoded, float_scale, is_image
from kerasft.data.tables.objects import cells_of
from kerasft.errors import UserError

# What one image has last, as an array; a batch of grey ones has its width there.
_COLOURS = (3, 4)


def read_inputs(values: object, modality: str) -> list[Any]:
    """Return inputs as a list of texts, pairs of texts, paths, or encoded images.

    Args:
        values: A list, an array or a column of a frame with an entry for each input. Images may
            also be arrays of pixels (8 bits, or floats from 0 to 1 or 255), `[N, height, width]` or
            `[N, height, width, channels]`, or images of Pillow.
        modality: `"text"` or `"images"`.

    Raises:
        UserError: If it is one input and no list of them, is empty, or an array is no image.

    Example:
        >>> read_inputs(("fine", "dull"), "text")
        ['fine', 'dull']
    """
    if _is_one(values, modality):
        shown = repr(values)[:40] if isinstance(values, (str, bytes)) else _shape(values)
        raise UserError(
            f"Inputs come as a list, also where there is one. Received: {shown}. Put it in square "
            "brackets: [...]."
        )
    cells = (
        list(values) if isinstance(values, (list, tuple)) else cells_of(values, "The inputs")
    )
    if not cells:
        raise UserError("There is nothing to predict: the list of inputs is empty.")
    if modality != "images":
        return cells
    cells = [one.numpy() if hasattr(one, "numpy") else one for one in cells]
    drawn = [i for i, one in enumerate(cells) if is_image(one)]
    if drawn:
        images = [cells[i] for i in drawn]
        made = encoded(images, "inputs", float_scale(images, "inputs"))
        for i, content in zip(drawn, made, strict=True):
            cells[i] = content
    return [str(one) if isinstance(one, Path) else one for one in cells]


def _is_one(values: object, modality: str) -> bool:
    """Whether that is one input, which would be taken apart."""
    if isinstance(values, (str, bytes, Path, Mapping)):
        return True
    if modality != "images":
        return False
    if is_image(values) and not isinstance(values, np.ndarray):
        return True  # of Pillow
    shape: Sequence[int] = getattr(values, "shape", ())
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] in _COLOURS)


def _shape(values: object) -> str:
    shape = getattr(values, "shape", None)
    one = "" if shape is None else f" of the shape {[int(size) for size in shape]}"
    return f"one {type(values).__name__}{one}"
