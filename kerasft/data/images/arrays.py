"""Images that are arrays of pixels, made into PNG so that they are read as any others."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from kerasft.errors import UserError

# Levels of grey, colours, and colours with transparency.
_CHANNELS = (1, 3, 4)


def is_image(cell: Any) -> bool:
    """Whether a value is an array of pixels, or an image of Pillow."""
    if isinstance(cell, np.ndarray):
        return cell.ndim >= 2 and cell.dtype.kind in "buif"
    return hasattr(cell, "getbands") and hasattr(cell, "save")


def scale_of(low: float, high: float, called: str) -> int:
    """Return what pixels of floats are multiplied by to be from 0 to 255.

    Args:
        low: The least value of all pixels.
        high: The largest.
        called: What the images are called in messages.

    Returns:
        255 where all are from 0 to 1, else 1.

    Raises:
        UserError: If they are in no such range.

    Example:
        >>> scale_of(0.0, 0.9, "data"), scale_of(0.0, 200.0, "data")
        (255, 1)
    """
    _require_range(low, high, called)
    return 255 if high <= 1 else 1


def _require_range(low: float, high: float, called: str) -> None:
    if not (low >= 0 and high <= 255):  # NaN, too, is in no range
        raise UserError(
            f"{called}: pixels must be from 0 to 255, or floats from 0 to 1. Received: values from "
            f"{low:g} to {high:g}. Give pixels as they were before any preprocessing, which "
            "belongs to the backbone."
        )


def encoded(images: Sequence[Any], called: str, scale: int) -> list[bytes]:
    """Return images as PNG.

    Args:
        images: Arrays `[height, width]` or `[height, width, channels]`, or images of Pillow.
        called: What they are called in messages.
        scale: What floats are multiplied by, see `float_scale`.

    Raises:
        UserError: If a value is no image, or its pixels are out of range.
    """
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(
            lambda i: _png(images[i], f"{called}, number {i:,}", scale), range(len(images))
        ))  # fmt: skip


def float_scale(images: Sequence[Any], called: str) -> int:
    """Return what those images are multiplied by that are floats; 1 where none is.

    Args:
        images: See `encoded`.
        called: The same.

    Raises:
        UserError: If pixels are out of range.
    """
    floats = [
        one for one in images
        if isinstance(one, np.ndarray) and one.dtype.kind == "f" and one.size
    ]  # fmt: skip
    if not floats:
        return 1
    # Of NumPy, not of Python: one NaN makes the result NaN.
    low, high = np.min([one.min() for one in floats]), np.max([one.max() for one in floats])
    return scale_of(float(low), float(high), called)


def _png(value: Any, called: str, scale: int) -> bytes:
    from PIL import Image

    if isinstance(value, np.ndarray):
        image = Image.fromarray(_pixels(value, called, scale))
    elif is_image(value):
        plain = value.mode in ("L", "LA", "RGB", "RGBA")
        image = value if plain else value.convert("RGB")
    else:
        raise UserError(
            f"{called} must be an image as the others are. Received: {str(value)[:40]!r}."
        )
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # it is held in memory, and read in this process
    return file.getvalue()


def _pixels(array: np.ndarray, called: str, scale: int) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in _CHANNELS or 0 in array.shape:
        first = array.ndim == 3 and array.shape[0] in _CHANNELS
        raise UserError(
            f"{called} must be [height, width] or [height, width, channels] with 1, 3 or 4 "
            f"channels. Received: an array of the shape {list(array.shape)}"
            + (", whose channels come first: numpy.moveaxis(x, -3, -1)." if first else ".")
        )
    if array.dtype.kind == "b":
        array = array.astype("uint8") * 255
    elif array.dtype.kind in "iu" and array.dtype != np.uint8:
        _require_range(int(array.min()), int(array.max()), called)
    elif array.dtype.kind == "f":
        array = np.round(array.astype("float64") * scale)
    array = array.astype("uint8")
    return array[..., 0] if array.shape[-1] == 1 else array
