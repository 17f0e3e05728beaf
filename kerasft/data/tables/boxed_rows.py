"""Boxes in the rows of tables: a row for each box, or one for each image with lists of its boxes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.annotations.boxes import IGNORED_IF
from kerasft.data.images.boxed import Boxed
from kerasft.data.images.held import HeldImages, Image, held_by
from kerasft.data.tables.class_numbers import with_names
from kerasft.data.tables.columns import find_column
from kerasft.data.tables.gathering import Part, notices_of_folder
from kerasft.data.tables.image_cells import (
    image_cells,
    located,
    read_images,
    require_inside,
)
from kerasft.data.tables.nested import find_nested, names_within
from kerasft.data.tables.reading import Rows
from kerasft.errors import UserError, some
from kerasft.system.console import listing


@dataclass(frozen=True)
class Columns:
    """What the columns are called, and what the numbers of a box mean; see `boxes_csv` for each."""

    image: str
    label: str
    box: Sequence[str] | str
    size: Sequence[str] | None = None
    form: str | None = None
    relative: bool | None = None

    @property
    def lists(self) -> bool:
        """Whether each row has all boxes of an image."""
        return isinstance(self.box, str)


@dataclass(frozen=True)
class BoxRows:
    """The rows of a file: their names, their splits, and where their images are.

    Args:
        part: The rows.
        ids: The name of each.
        splits: The split of each.
        home: The folder that relative paths start from; `None` for that of the file.
        prefix: What names of images begin with.
        groups: The group of each, or `None`.
        slices: The cells by which figures are told apart, by column.
    """

    part: Part
    ids: Sequence[str]
    splits: Sequence[str]
    home: Path | None = None
    prefix: str = ""
    groups: Sequence[str] | None = None
    slices: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> Rows:
        return self.part.rows

    def boxed(self, i: int, image: Image, name: str, columns: Columns, size: Any) -> Boxed:
        """Return the image of a row, without its boxes."""
        group = None if self.groups is None else self.groups[i]
        return Boxed(image, name, self.splits[i], size=size, relative=columns.relative,
                     form=columns.form, group=group, slices=self.sliced(i))  # fmt: skip

    def sliced(self, i: int) -> dict[str, Any]:
        """Return the cells of a row by which figures are told apart."""
        return {name: cells[i] for name, cells in self.slices.items()}


@dataclass
class Found:
    """What was read so far.

    Args:
        images: The images with their boxes, by name.
        missing: Images that are not there, by name, each with the row that names it.
        unnamed: Boxes that are of no class.
        notices: Sentences for the user.
        described: The names of classes in the order that a schema says, with the rows it is of.
        held: What lies encoded within the files that were read.
    """

    images: dict[str, Boxed] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    unnamed: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    described: tuple[str, Sequence[str]] | None = None
    held: HeldImages = field(default_factory=HeldImages)

    def names(self, listed: Sequence[str] | None) -> Sequence[str] | None:
        """Return the classes in their order, where somebody says it: those that have a box.

        Args:
            listed: Those that the user lists, whether they have a box or not.
        """
        if listed is not None or self.described is None:
            return listed
        used = {name for one in self.images.values() for name in one.names}
        if bare := [name for name in self.described[1] if name not in used]:
            self.notices.append(f"{some(len(bare), 'class')} without a box: {listing(bare)}.")
        return [name for name in self.described[1] if name in used]

    def describe(self, rows: Rows, label: str) -> Sequence[str] | None:
        """Note and return the names of classes that a schema says for a column."""
        names = rows.classes.get(label)
        if names is None:
            return None
        where, known = self.described or (str(rows.path), names)
        if list(known) != list(names):
            raise UserError(
                f"data.label: {where} and {rows.path} name other classes: {listing(known, 10)}, "
                f"and {listing(names, 10)}. Say which ones hold with data.label_names."
            )
        self.described = where, names
        return names

    def said(self) -> list[str]:
        """Return all that is to be said to the user."""
        said = list(self.notices)
        if self.missing:
            said.append(
                f"{some(len(self.missing), 'image')} that are not there, left out: "
                f"{listing(self.missing.values())}."
            )
        if self.unnamed:
            said.append(
                f"{some(len(self.unnamed), 'box')} without a class left out (-1): "
                f"{listing(self.unnamed)}."
            )
        return said


def read_boxes(
    given: BoxRows, columns: Columns, classes: Sequence[str] | None, found: Found
) -> None:
    """Add the images of some rows and their boxes to what was found.

    Args:
        given: The rows.
        columns: What their columns are called.
        classes: The names of classes by their numbers, where the user says them.
        found: What was read so far.

    Raises:
        UserError: If a row is wrong; it is named.
    """
    classes = classes or found.describe(given.rows, columns.label)
    if columns.lists:
        _listed(given, columns, classes, found)
    else:
        _single(given, columns, classes, found)


def _sizes(given: BoxRows, columns: Columns) -> list[tuple[int, int] | None]:
    """Return the height and width that each row says of its image."""
    cells = [find_column(given.rows, column, "data.size") for column in columns.size or ()]
    if not cells:
        return [None] * len(given.ids)
    return [
        (_pixels(height, place), _pixels(width, place))
        for place, height, width in zip(given.ids, *cells, strict=True)
    ]


def _listed(
    given: BoxRows, columns: Columns, classes: Sequence[str] | None, found: Found
) -> None:
    """Add the images of a table with a row for each."""
    rows, box = given.rows, str(columns.box)
    cells = image_cells(rows, columns.image)
    images, _ = read_images(
        rows, cells, given.home or rows.home, given.ids, inside=given.part.inside,
        root_key="data.images",
    )
    boxes = find_nested(rows, box, "data.box")
    names = _named(
        [_sequence(cell) for cell in find_nested(rows, columns.label, "data.label")],
        given.ids, classes,
    )  # fmt: skip
    flags = {name: find_nested(rows, name, "data.box") for name in _flags(rows, box)}
    sizes = _sizes(given, columns)
    for i, place in enumerate(given.ids):
        of = names[i]
        numbers = _matrix(boxes[i], place, of)
        if len(numbers) != len(of):
            raise UserError(
                f"{place}: data.box={box} and data.label={columns.label} must hold lists that are "
                f"equally long. Received: {some(len(numbers), 'box')} and {some(len(of), 'class')}."
            )
        in_memory = not isinstance(rows.path, Path)  # rows have names that lead back to them
        name = place if in_memory or isinstance(images[i], bytes) else (
            f"{given.prefix}{cells.values[i]!s}")  # fmt: skip
        if name in found.images:
            raise UserError(
                f"{place}: {name} has a row before. With data.box={box} each row is of "
                "an image of its own; for a row each box list the four columns in data.box."
            )
        image = held_by(None if in_memory else found.held, images[i])
        one = given.boxed(i, image, name, columns, sizes[i])
        skipped = np.zeros(len(of), bool)
        for flag, marks in flags.items():
            skipped |= _marks(marks[i], len(of), f"{place}: {flag}")
        for n, (four, called) in enumerate(zip(numbers, of, strict=True)):
            if called == "":
                raise UserError(
                    f"{place}: each box must be four numbers, with a class. Received: "
                    f"{four.tolist()}, without one."
                )
            if called is not None:
                one.add(four, called, bool(skipped[n]))
            elif not set(four.tolist()) <= {-1.0, 0.0}:  # what batches are filled up with
                found.unnamed.append(f"{place}: box {n + 1}")
        found.images[name] = one
    if given.part.inside:
        found.notices += notices_of_folder(rows, images)


def _single(
    given: BoxRows, columns: Columns, classes: Sequence[str] | None, found: Found
) -> None:
    """Add the images of a table with a row for each box."""
    rows, ids = given.rows, given.ids
    cells_of_images = image_cells(rows, columns.image)
    require_inside(rows, cells_of_images, ids, everywhere=given.part.inside)
    names = cells_of_images.values
    labels = _named([[one] for one in find_column(rows, columns.label, "data.label")], ids, classes)
    sides = [find_column(rows, name, f"data.box.{i}") for i, name in enumerate(columns.box)]
    flags = [find_column(rows, name, "data.box") for name in IGNORED_IF if name in rows.cells]
    sizes = _sizes(given, columns)
    for i, place in enumerate(ids):
        cell = names[i]
        name = cell.strip() if isinstance(cell, str) else ""
        if not name:
            held = " that is a path; with a row for each box images are known by it"
            raise UserError(
                f"{place}: data.image={columns.image} names no image"
                f"{held * isinstance(cell, bytes)}."
            )
        called = given.prefix + name
        if called in found.missing:
            continue
        if called not in found.images:
            image = Path(str(located(name, given.home or rows.home)))
            if not image.is_file():
                found.missing[called] = f"{image} ({place})"
                continue
            found.images[called] = given.boxed(i, image, called, columns, sizes[i])
        one = found.images[called]
        if given.splits[i] != one.split:
            raise UserError(
                f"{place}: {name} is of the split {given.splits[i]} here, and of {one.split} "
                "before. Each image belongs to one split."
            )
        cells, (label,) = [column[i] for column in sides], labels[i]
        if label is not None and all(_is_empty(cell) for cell in (*cells, label)):
            continue  # an image without objects
        if label is None:
            found.unnamed.append(place)
            continue
        if any(_is_empty(cell) for cell in (*cells, label)):
            raise UserError(
                f"{place}: a box needs a class and four numbers; an image without objects has "
                f"none of them. Received: {[label, *cells]}."
            )
        numbers = [_number(cell, place, "data.box") for cell in cells]
        ignored = any(str(flag[i]).strip().casefold() in ("1", "1.0", "true") for flag in flags)
        one.add(numbers, str(label), ignored)


def _flags(rows: Rows, box: str) -> list[str]:
    """Return what says of the boxes in a column whether each is ignored."""
    outer, dot, _ = box.rpartition(".")
    known = names_within(rows)
    return [name for one in IGNORED_IF if (name := f"{outer}{dot}{one}") in known]


def _named(
    values: list[list[Any]], ids: Sequence[str], classes: Sequence[str] | None
) -> list[list[str | None]]:
    """Return the names of classes: `None` for the number -1, nothing where none is said."""
    plain = [[_plain(one) for one in row] for row in values]
    numbers = {str(one) for row in plain for one in row if isinstance(one, int)} - {"-1"}
    # What is listed as a name is one, also where it is a number.
    if classes and not numbers <= set(classes):
        with_names(plain, ids, classes)  # refuses numbers of no class
        return [[classes[one] if isinstance(one, int) and one >= 0 else _word(one) for one in row]
                for row in plain]  # fmt: skip
    return [[_word(one) for one in row] for row in plain]


def _word(label: Any) -> str | None:
    return None if label == -1 else "" if label is None else str(label)


def _plain(label: Any) -> Any:
    """Return a label as a name, a number, or nothing."""
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, float):
        if label != label:
            return None
        return int(label) if label.is_integer() else label
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else label


def _sequence(cell: Any) -> list[Any]:
    """Return what a cell holds for each box, also where it has one alone, or none."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return []
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)):
        return [one[0] if isinstance(one, list) and len(one) == 1 else one for one in cell]
    return [cell]


def _matrix(cell: Any, place: str, names: Sequence[Any]) -> np.ndarray:
    """Return the boxes of a cell, `float64[boxes, 4]`."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return np.zeros((0, 4))
    if isinstance(cell, np.ndarray) and cell.dtype == object:  # of arrays, as frames hold them
        cell = list(cell)
    try:
        numbers = np.asarray(
            [list(map(float, one)) for one in cell] if isinstance(cell, (list, tuple)) and cell
            and hasattr(cell[0], "__len__") else cell, "float64")  # fmt: skip
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
        if _first_wrong(cell):
            raise UserError(
                f"{place}: data.box must be numbers. Received: {_first_wrong(cell)!r}."
            ) from None
    if numbers.shape == (4,):
        numbers = numbers[None]  # an object alone
    if numbers.shape[1:] != (4,) and not (numbers.size == 0 and np.shape(cell)[:1] == (0,)):
        raise UserError(
            f"{place}: each box must be four numbers, with a class. Received: {str(cell)[:60]}, "
            f"{listing(map(str, names), 3)}."
        )
    return numbers.reshape(-1, 4)


def _first_wrong(cell: Any) -> Any:
    """Return the first of the sides of boxes that is no number, or nothing."""
    for box in cell if isinstance(cell, (list, tuple)) else []:
        for side in box if isinstance(box, (list, tuple)) else []:
            try:
                float(side)
            except (TypeError, ValueError, OverflowError):
                return side
    return None


def _marks(cell: Any, count: int, said: str) -> np.ndarray:
    """Return whether each box is marked, where a cell says it."""
    marks = [0 if one is None else one for one in _sequence(cell)] or [0] * count
    if len(marks) != count or not all(isinstance(one, (bool, int, float)) for one in marks):
        raise UserError(
            f"{said} must say of each of {some(count, 'box')} whether it is ignored, by 0 or 1. "
            f"Received: {str(cell)[:60]}."
        )
    return np.asarray(marks, "float64") > 0


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell


def _number(cell: Any, place: str, key: str) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):  # a whole number of hundreds of digits
        raise UserError(f"{place}: {key} must be numbers. Received: {cell!r}.") from None


def _pixels(cell: Any, place: str) -> int:
    number = _number(cell, place, "data.size")
    if not math.isfinite(number):
        raise UserError(f"{place}: data.size must be numbers of pixels. Received: {cell!r}.")
    return int(number)
