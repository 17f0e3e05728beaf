"""Images with masks: the one way from what a reader found to `Splits`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kerasft.data.annotations.masks import Painted
from kerasft.data.images.drawings import drawing_splits
from kerasft.data.images.held import Image, as_input
from kerasft.data.images.mask_values import Odd, Unnamed
from kerasft.data.images.shape import (
    Shape,
    drawn_on,
    odd_sizes,
    require_known_orientation,
    shape_of,
    upright_mask,
)
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing


@dataclass(frozen=True)
class Masked:
    """An image with its mask, as a reader found it.

    Args:
        image: The file, its encoded bytes, or where they are held.
        name: Its name, unique in the data set.
        paint: Returns the mask, `uint8[rows, columns]` of class numbers; raises `Odd` where there
            is none to be had.
        split: The split that it comes in; `"train"` where the data does not say.
        group: What the image belongs to, or `None`: a group never stands in two splits.
        slices: The cells by which figures are told apart, by column.
    """

    image: Image
    name: str
    paint: Callable[[], np.ndarray]
    split: str = "train"
    group: str | None = None
    slices: Mapping[str, Any] = field(default_factory=dict)


def masked_splits(
    found: Sequence[Masked], notices: Sequence[str], *, kind: str, names: Sequence[str], seed: int,
    validation: float, test: float, split: str, broken: str, max_pixels: int, orientation: str,
    source: Mapping[str, Any], limit: int | None = None, strict: bool = False,
) -> Splits:
    """Check images and masks, and return them as splits.

    Args:
        found: What a reader found.
        notices: What it has to say.
        kind: `"masks"`.
        names: The classes, in the order of their numbers.
        seed: Another seed, another split.
        validation: The part of the images to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of an image, or `"hash"`.
        broken: See `image_folder`, as `max_pixels`; broken masks are treated like images.
        orientation: One of `shape.ORIENTATIONS`.
        source: Plain values for the manifest.
        limit: Train on so many images only, for a quick try.
        strict: Whether a mask of another size than its image is an error.

    Raises:
        UserError: If images or masks are wrong.
    """
    return drawing_splits(
        found, notices,
        lambda sound, called, said: _painted(
            sound, names, called, orientation, broken, said, strict
        ),
        broken=broken, max_pixels=max_pixels, orientation=orientation, kind=kind, seed=seed,
        validation=validation, test=test, split=split, label_key="the masks", source=source,
        limit=limit,
    )  # fmt: skip


def _painted(
    found: Sequence[Masked], names: Sequence[str], called: Sequence[str], orientation: str,
    broken: str, notices: list[str], strict: bool,
) -> list[Painted | None]:
    """Return the mask of each image as it is seen; `None` where it cannot be used."""

    def one(masked: Masked) -> tuple[Shape, np.ndarray | Odd]:
        shape = shape_of(as_input(masked.image))
        try:
            return shape, masked.paint()
        except Odd as error:
            return shape, error

    odd: list[str] = []
    doubtful: list[str] = []
    bad: list[str] = []
    turned, unnamed = 0, False
    made: list[Painted | None] = []
    # Images are decoded without Python's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for name, (shape, mask) in zip(called, pool.map(one, found), strict=True):
            made.append(None)
            if isinstance(mask, Odd):
                bad.append(f"{name}: {mask}")
                unnamed |= isinstance(mask, Unnamed)
                continue
            size = (mask.shape[0], mask.shape[1])
            on = drawn_on(shape, size, orientation, bare=False)
            if on is None:
                odd.append(f"{name} (it is {shape.columns} x {shape.rows}, its mask "
                           f"{size[1]} x {size[0]})")  # fmt: skip
            elif on == "either":
                doubtful.append(name)
            else:
                if on == "stored":
                    mask, turned = upright_mask(mask, shape), turned + 1
                made[-1] = Painted.of(mask, names)
    if bad and (broken == "fail" or len(bad) == len(found) or unnamed):
        raise UserError(
            f"{some(len(bad), 'mask')} cannot be used: {listing(bad, 20)}. Name each value in "
            "data.classes or in data.ignore, and repair or remove what is damaged."
        )
    if bad:
        notices.append(f"{some(len(bad), 'image')} left out, whose masks cannot be used: "
                       f"{listing(bad)}.")  # fmt: skip
    require_known_orientation(doubtful)
    if odd and strict:
        raise UserError(
            f"Masks must have the height and width of their images. Received: another size in "
            f"{some(len(odd), 'row')}: {listing(odd)}."
        )
    notices += odd_sizes(odd, len(found))
    if turned:
        notices.append(f"{some(turned, 'mask')} turned upright together with their images.")
    return made
