"""Images with boxes: the one way from what a reader found to `Splits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kerasft.data.annotations.boxes import Drawn, tidied
from kerasft.data.images import box_forms
from kerasft.data.images.drawings import drawing_splits
from kerasft.data.images.held import Image, as_input
from kerasft.data.images.shape import (
    Shape,
    drawn_on,
    odd_sizes,
    require_known_orientation,
    shape_of,
    upright,
)
from kerasft.errors import some
from kerasft.spec import Splits


@dataclass
class Boxed:
    """An image with its boxes, as a reader found it.

    Args:
        image: The file, its encoded bytes, or where they are held.
        name: Its name, unique in the data set.
        split: The split that it comes in; `"train"` where the data does not say.
        boxes: Four numbers of each: left, top, right and bottom, or what `form` says.
        names: The class of each.
        ignored: Whether each is ignored.
        size: Rows and columns that the annotations say, or `None`.
        relative: Whether the boxes are in parts of width and height; `None` where nobody says.
        form: What the numbers are, one of `box_forms.FORMATS`; `None` where nobody says.
        group: What the image belongs to, or `None`: a group never stands in two splits.
        slices: The cells by which figures are told apart, by column.
    """

    image: Image
    name: str
    split: str = "train"
    boxes: list[list[float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)
    size: tuple[int, int] | None = None
    relative: bool | None = False
    form: str | None = "xyxy"
    group: str | None = None
    slices: Mapping[str, Any] = field(default_factory=dict)

    def add(self, box: Sequence[float], name: str, ignored: bool = False) -> None:
        self.boxes.append([float(side) for side in box])
        self.names.append(name)
        self.ignored.append(ignored)


def boxed_splits(
    found: Sequence[Boxed], notices: Sequence[str], *, kind: str, seed: int, validation: float,
    test: float, split: str, broken: str, max_pixels: int, orientation: str, key: str,
    label_names: Sequence[str] | None, source: Mapping[str, Any], limit: int | None = None,
    unusual: bool = False,
) -> Splits:
    """Check images and boxes, and return them as splits.

    Args:
        found: What a reader found.
        notices: What it has to say.
        kind: `"boxes"`.
        seed: Another seed, another split.
        validation: The part of the images to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of an image, or `"hash"`.
        broken: See `image_folder`, as `max_pixels`.
        orientation: One of `shape.ORIENTATIONS`.
        key: The config key behind the form of the boxes, for messages.
        label_names: The class names, in order.
        source: Plain values for the manifest.
        limit: Train on so many images only, for a quick try.
        unusual: Whether boxes whose form nobody says may be `yxyx`.

    Raises:
        UserError: If images, boxes or classes are wrong.
    """
    def read(sound: list[Boxed], names: list[str], said: list[str]) -> list[Drawn | None]:
        shapes = [shape_of(as_input(one.image)) for one in sound]
        # Only who may choose the form of boxes is told which one they fit.
        advice = _settle(sound, shapes, said, unusual) if key == "data.box_format" else ""
        good, drawn = _drawn(sound, shapes, names, orientation, said)
        tidy_ones, tidy = tidied(drawn, [names[i] for i in good], key, advice)
        said += tidy
        made: list[Drawn | None] = [None] * len(sound)
        for i, one in zip(good, tidy_ones, strict=True):
            made[i] = one
        return made

    return drawing_splits(
        found, notices, read, broken=broken, max_pixels=max_pixels, orientation=orientation,
        kind=kind, seed=seed, validation=validation, test=test, split=split,
        label_names=label_names, label_key="the boxes", source=source, limit=limit,
    )  # fmt: skip


def _settle(
    found: Sequence[Boxed], shapes: Sequence[Shape], notices: list[str], unusual: bool
) -> str:
    """Settle the form of all boxes; return a sentence on another one that fits better, or none."""
    if not found:
        return ""
    form, relative, said, advice = box_forms.settled(
        [_numbers(one) for one in found], [(shape.rows, shape.columns) for shape in shapes],
        found[0].form, found[0].relative, unusual=unusual,
    )  # fmt: skip
    for one in found:
        one.form, one.relative = form, relative
    notices += said
    return advice


def _numbers(one: Boxed) -> np.ndarray:
    return np.asarray(one.boxes, "float64").reshape(-1, 4)


def _drawn(
    found: Sequence[Boxed], shapes: Sequence[Shape], names: Sequence[str], orientation: str,
    notices: list[str],
) -> tuple[list[int], list[Drawn]]:
    """Return which images can be used, and their boxes in the pixels that are seen."""
    good, made = [], []
    odd: list[str] = []
    doubtful: list[str] = []
    turned = 0
    for i, (one, shape) in enumerate(zip(found, shapes, strict=True)):
        on = drawn_on(shape, one.size, orientation, bare=not one.boxes)
        if on is None:
            odd.append(f"{names[i]} (it is {shape.columns} x {shape.rows}, its annotations say "
                       f"{one.size[1]} x {one.size[0]})" if one.size else names[i])  # fmt: skip
            continue
        if on == "either":
            doubtful.append(names[i])
            continue
        size = shape.stored if on == "stored" else (shape.rows, shape.columns)
        boxes = box_forms.corners(_numbers(one), one.form or "xyxy", bool(one.relative), size)
        if on == "stored":
            boxes, turned = upright(boxes, shape), turned + 1
        good.append(i)
        made.append(Drawn.of(boxes, one.names, (shape.rows, shape.columns), one.ignored))
    require_known_orientation(doubtful)
    notices += odd_sizes(odd, len(found))
    if turned:
        notices.append(f"{some(turned, 'image')} turned upright together with their boxes.")
    return good, made
