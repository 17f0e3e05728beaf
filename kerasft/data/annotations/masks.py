"""Masks: the class of each pixel, from what readers find to the rows that a segmenter learns."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.data.annotations.drawn import nothing_drawn
from kerasft.errors import UserError, some
from kerasft.rows import Rows
from kerasft.spec import IGNORED, Labels
from kerasft.system.console import listing


@dataclass(frozen=True)
class Painted:
    """The mask of one image.

    Args:
        png: The number of each pixel's class as a grey PNG, `IGNORED` where nothing is learned and
            nothing is counted.
        size: Rows and columns of the image as it is seen.
        pixels: `int64[classes]`, how many pixels each class has.
        names: The classes, in the order of their numbers.
        digest: Of the classes of all pixels; encoders of PNG do not agree on bytes.
    """

    png: bytes
    size: tuple[int, int]
    pixels: np.ndarray
    names: tuple[str, ...]
    digest: int

    @classmethod
    def of(cls, classes: np.ndarray, names: Sequence[str]) -> Painted:
        """Return the mask of an array.

        Args:
            classes: `uint8[rows, columns]`.
            names: See `Painted`.

        Example:
            >>> Painted.of(np.array([[0, 1], [1, 255]], "uint8"), ["ground", "cell"]).pixels
            array([1, 2])
        """
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(classes).save(file, "PNG", compress_level=1)
        pixels = np.bincount(classes.ravel(), minlength=IGNORED + 1)[: len(names)]
        rows, columns = classes.shape
        content = hashlib.blake2b(classes.tobytes(), digest_size=8).digest()
        return cls(file.getvalue(), (rows, columns), pixels.astype("int64"), tuple(names),
                   int.from_bytes(content, "big"))  # fmt: skip


def encode(values: Sequence[Any], *, key: str) -> tuple[Labels, Rows, np.ndarray, list[str]]:
    """Turn the masks of images into `Labels` and rows.

    Args:
        values: A `Painted` an image, all with the same names.
        key: The config key behind the masks, for messages.

    Returns:
        The `Labels`; rows with the `mask` of each image (bytes of a PNG), its `size` (rows and
        columns), the `pixels` of each class and a `digest` of all; the same pixels,
        `int64[N, classes]`; and sentences for the user.

    Raises:
        UserError: If there are no masks, or if all of them are ignored.

    Example:
        >>> painted = Painted.of(np.zeros((2, 3), "uint8"), ["ground", "cell"])
        >>> encode([painted], key="data.path")[2].tolist()
        [[6, 0]]
    """
    if not all(isinstance(value, Painted) for value in values):
        raise nothing_drawn("masks")
    names = values[0].names
    pixels = np.array([value.pixels for value in values])
    if not pixels.any():
        raise UserError(f"{key}: every pixel of {some(len(values), 'mask')} is to be ignored.")
    masks = np.empty(len(values), object)
    masks[:] = [value.png for value in values]
    rows = Rows.of({
        "mask": masks, "size": np.array([value.size for value in values], "int32"),
        "pixels": pixels, "digest": np.array([value.digest for value in values], "uint64"),
    })  # fmt: skip
    notices = []
    if bare := [name for name, count in zip(names, pixels.sum(axis=0), strict=True) if not count]:
        notices.append(f"{some(len(bare), 'class')} without a pixel: {listing(bare)}.")
    return Labels("masks", names), rows, pixels, notices
