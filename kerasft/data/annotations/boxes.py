"""Boxes around objects: from what readers find to the rows that a detector learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasft.data.annotations.alike import is_number
from kerasft.data.annotations.classes import classes_of
from kerasft.data.annotations.drawn import nothing_drawn
from kerasft.errors import UserError, some
from kerasft.rows import Column, Rows
from kerasft.spec import Labels
from kerasft.system.console import listing

# What rounding of coordinates may put a box outside of its image.
ROUNDED = 1.0
# From how many boxes on, and how many times as many as half of the images have at most, an image is
# told to be unlike the others.
MANY, TIMES = 100, 20
# What four numbers mean to the sources that have one form alone.
FORMS = {
    "data=coco": "A bbox of COCO is left, top, width and height in pixels. A table may have boxes "
    "of another form: data=boxes_csv.",
    "data=voc": "A bndbox of Pascal VOC is xmin, ymin, xmax and ymax in pixels.",
    "data=yolo": "A line of YOLO is a class, center x, center y, width and height, these in parts "
    "of the image's sides.",
}
# What says of an object that it is a region in which nothing is learned: COCO's crowds, what VOC
# marks as difficult, groups in Open Images, faces that WIDER FACE marks as invalid.
WHAT_IS = "COCO's iscrowd, VOC's difficult, groups of other sources"
IGNORED_IF = ("is_crowd", "iscrowd", "is_difficult", "difficult", "is_group_of", "invalid")


@dataclass(frozen=True)
class Drawn:
    """The boxes of one image.

    Args:
        boxes: `float64[boxes, 4]`, left, top, right and bottom in pixels of the image.
        names: The class of each.
        ignored: bool `[boxes]`, which of them are regions that nothing is learned in and nothing
            is counted: crowds, objects that are marked as difficult.
        size: Rows and columns of the image as it is seen.
    """

    boxes: np.ndarray
    names: tuple[str, ...]
    ignored: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of(
        cls, boxes: Sequence[Sequence[float]] | np.ndarray, names: Sequence[str],
        size: tuple[int, int], ignored: Sequence[bool] | None = None,
    ) -> Drawn:
        """Return boxes that are given as lists.

        Example:
            >>> Drawn.of([[0, 0, 5, 5]], ["cat"], (10, 10)).names
            ('cat',)
        """
        array = np.asarray(boxes, "float64").reshape(-1, 4)
        skipped = np.zeros(len(array), bool) if ignored is None else np.asarray(ignored, bool)
        return cls(array, tuple(names), skipped, size)

    def keep(self, which: np.ndarray) -> Drawn:
        """Return some of the boxes, by a mask."""
        names = tuple(n for n, kept in zip(self.names, which, strict=True) if kept)
        return replace(self, boxes=self.boxes[which], names=names, ignored=self.ignored[which])


def tidied(
    drawn: Sequence[Drawn], ids: Sequence[str], key: str, advice: str = ""
) -> tuple[list[Drawn | None], list[str]]:
    """Leave out boxes that are none, and cut off what lies outside of the image.

    An image of which no box is left was not empty for who annotated it, and is left out too.

    Args:
        drawn: The boxes of each image.
        ids: What each image is called.
        key: The config key behind the form of the boxes, for messages.
        advice: A sentence on the form that they seem to be written in; empty where none fits.

    Returns:
        The boxes, `None` for an image that is left out; and a sentence for each kind of change
        with how many there were.

    Raises:
        UserError: If most boxes are none, or leave their images: they are written in another
            form than they are read in.
    """
    found: dict[str, list[str]] = {
        "without width or height, or with no number in it, left out": [],
        "outside of the image left out": [],
        "cut off at the edge of the image": [],
        "drawn twice, counted once": [],
    }
    made: list[Drawn | None] = []
    bare: list[str] = []
    odd = 0
    for name, one in zip(ids, drawn, strict=True):
        rows, columns = one.size
        boxes = one.boxes
        finite = np.isfinite(boxes).all(axis=1)
        sized = finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        cut = np.clip(boxes, 0, [columns, rows, columns, rows])
        inside = (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
        moved = sized & (np.abs(cut - boxes) > ROUNDED).any(axis=1)
        odd += int((~sized | moved).sum())
        again = _repeated(one, sized & inside)
        for words, which in zip(found, (~sized, sized & ~inside, moved & inside, again),
                                strict=True):  # fmt: skip
            found[words] += [f"{name}: box {i + 1}" for i in np.flatnonzero(which)]
        left = sized & inside & ~again
        made.append(replace(one, boxes=cut).keep(left))
        if len(left) and not left.any():
            made[-1] = None
            bare.append(name)
    count = sum(len(one.boxes) for one in drawn)
    if count and odd > count / 2:
        first = next(n for part in found.values() for n in part)
        whole = all(np.isfinite(one.boxes).all() for one in drawn)
        empty = "" if whole else ", or hold no number"
        raise UserError(
            f"{odd:,} of {count:,} boxes have no size, or leave their images{empty} (such as "
            f"{first}): they are written in another form than they are read in. "
            f"{FORMS.get(key, f'{key} says what four numbers mean.')}{advice}"
        )
    said = [f"{some(len(part), 'box')} {words}: {listing(part)}."
            for words, part in found.items() if part]  # fmt: skip
    if bare:
        said.append(
            f"{some(len(bare), 'image')} of which all boxes are left out, left out too, as they "
            f"are not without objects: {listing(bare)}."
        )
    return made, said


def _repeated(one: Drawn, which: np.ndarray) -> np.ndarray:
    """Tell the boxes that stand before, of the same class."""
    seen, again = set(), np.zeros(len(which), bool)
    for i in np.flatnonzero(which):
        mark = (*one.boxes[i].tolist(), one.names[i])
        again[i] = mark in seen
        seen.add(mark)
    return again


def encode(
    values: Sequence[Any], ids: Sequence[str], *, names: Sequence[str] | None, key: str
) -> tuple[Labels, Rows, np.ndarray, list[str]]:
    """Turn the boxes of images into `Labels` and rows.

    Args:
        values: A `Drawn` an image.
        ids: What each image is called.
        names: The class names, in order; by default those that boxes have, sorted.
        key: The config key behind the classes, for messages.

    Returns:
        The `Labels`; rows with `boxes` (float32, left, top, right, bottom in the image's
        pixels), `labels` and `ignored` of each object and `size` (rows and columns) of each
        image; how many boxes of each class an image has, `int64[N, classes]`; and sentences
        for the user.

    Raises:
        UserError: If there are no boxes, or none that is learned, or classes that are not listed.

    Example:
        >>> drawn = [Drawn.of([[0, 0, 5, 5]], ["cat"], (9, 9)), Drawn.of([], [], (9, 9))]
        >>> encode(drawn, ["1", "2"], names=None, key="data.path")[2].tolist()
        [[1], [0]]
    """
    if not all(isinstance(value, Drawn) for value in values):
        raise nothing_drawn("boxes")
    words = Counter(name for value in values for name in value.names)
    if not words:
        raise UserError(f"{key}: none of {some(len(values), 'image')} has a box.")
    chosen, notices = classes_of(words, names, key, others="boxes are of other classes")
    if names is None:
        notices += _mixed(chosen)
    number = {name: n for n, name in enumerate(chosen)}
    labels = [[number[name] for name in value.names] for value in values]
    counts = np.zeros((len(values), len(chosen)), "int64")
    for i, value in enumerate(values):
        units = np.asarray(labels[i], "int64")[~value.ignored]
        np.add.at(counts[i], units, 1)
    if not counts.any():
        raise UserError(
            f"{key}: none of {some(len(values), 'image')} has an object to learn, as all "
            f"{sum(words.values()):,} are regions that are ignored ({WHAT_IS}). "
            "Take the marks off those that are to be found, or read VOC's with "
            "data.difficult=learn."
        )
    if unseen := [name for name, n in zip(chosen, counts.sum(axis=0), strict=True)
                  if not n and words[name]]:
        notices.append(f"{some(len(unseen), 'class')} of which all objects are ignored, so that "
                       f"none is learned: {listing(unseen)}.")  # fmt: skip
    rows = Rows.of({
        "boxes": Column.ragged(
            [v.boxes for v in values], dtype="float32", shape=(4,), group="objects"
        ),
        "labels": Column.ragged(labels, dtype="int32", fill=-1, group="objects"),
        "ignored": Column.ragged([v.ignored for v in values], dtype="bool", group="objects"),
        "size": np.array([value.size for value in values], "int32"),
    })  # fmt: skip
    bare = sum(not len(value.names) for value in values)
    if bare:
        notices.append(f"{some(bare, 'image')} without any object, learned from as such.")
    notices += _crowded([len(value.names) for value in values], ids)
    return Labels("boxes", chosen), rows, counts, notices


def _crowded(counts: Sequence[int], ids: Sequence[str]) -> list[str]:
    """Name the images that have far more boxes than the others: each batch is padded to them."""
    usual = max(int(np.median([count for count in counts if count])), 1)
    many = [i for i, count in enumerate(counts) if count > max(MANY, TIMES * usual)]
    if not many:
        return []
    many.sort(key=lambda i: -counts[i])
    return [
        f"{some(len(many), 'image')} with far more boxes than the others, of which half have at "
        f"most {usual:,}: {listing(f'{ids[i]} ({counts[i]:,})' for i in many)}. Look at them: "
        "their boxes may belong to other images, or be drawn many times with small differences. A "
        "batch with such an image takes longer; cut it into smaller ones where all of its boxes "
        "are real."
    ]


def _mixed(names: Sequence[str]) -> list[str]:
    """Say so where some classes are numbers and others words."""
    numbers = [name for name in names if is_number(name)]
    if not numbers or len(numbers) == len(names):
        return []
    return [
        f"Some classes are numbers ({listing(numbers)}) and others words "
        f"({listing(n for n in names if n not in numbers)}): each is a class of its own. Write "
        "each in one way if they mean the same."
    ]
