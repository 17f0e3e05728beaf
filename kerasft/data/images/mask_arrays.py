"""Masks that are arrays, made into PNG with the same values, so that they are read as files are."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasft.data.images.arrays import is_image
from kerasft.errors import UserError


def mask_png(value: Any, called: str) -> Any:
    """Return a mask as a PNG with its values.

    Args:
        value: An array or nested lists `[height, width]` of whole numbers, `[height, width, 3]` of
            colours, or an image of Pillow; encoded bytes, paths and nothing are left as they are.
        called: What it is called in messages.

    Raises:
        UserError: If its shape or its values are those of no mask.
    """
    if value is None or isinstance(value, (bytes, str, Mapping)):
        return value
    file = io.BytesIO()
    if is_image(value) and not isinstance(value, np.ndarray):
        if value.mode in ("1", "L", "P", "RGB"):  # the numbers and colours of a palette both stay
            value.save(file, "PNG", compress_level=1)
            return file.getvalue()
        value = np.asarray(value.convert("RGB") if value.mode == "RGBA" else value)
    from PIL import Image

    array = _whole(value, called)
    Image.fromarray(array).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _whole(value: Any, called: str) -> np.ndarray:
    """Return the values of a mask as `uint8` or `uint16`."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of several lengths
        array = np.zeros(())
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    colours = array.ndim == 3 and array.shape[-1] == 3
    if array.dtype.kind not in "buif" or 0 in array.shape or not (array.ndim == 2 or colours):
        way = ""
        if array.ndim == 3 and array.shape[0] == 1:
            way = " Leave the first axis out: mask[0]."
        elif array.ndim == 3 and not colours:
            way = " Of a channel for each class make numbers: numpy.argmax(mask, axis=-1)."
        raise UserError(
            f"{called} must be a mask [height, width] of the number of each pixel's class, or "
            f"[height, width, 3] of colours. Received: a value of the shape {list(array.shape)}."
            + way
        )
    if array.dtype.kind == "f" and not (array == np.round(array)).all():
        raise UserError(
            f"{called}: the values of a mask must be whole numbers. Received: "
            f"{array[array != np.round(array)][0]:g}. Round probabilities to classes first."
        )
    low, high, most = array.min(), array.max(), 255 if colours else 2**16 - 1
    if low < 0 or high > most:
        raise UserError(
            f"{called}: the values of a mask must be from 0 to {most}. Received: {low:g} to "
            f"{high:g}. Write what is to be ignored as another value, such as 255, and set "
            "data.ignore=255."
        )
    return array.astype("uint8" if high < 256 else "uint16")
