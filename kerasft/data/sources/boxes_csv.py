"""A table with a row for each box, or with a row for each image and lists of its boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasft.data.annotations.classes import some
from kerasft.data.images.audit import MAX_PIXELS, check_policy
from kerasft.data.images.boxed import Boxed, boxed_splits, require_boxes
from kerasft.data.looks import look_at_images as look  # noqa: F401  (for `kerasft check`)
from kerasft.data.paths import find_path, read_label_names
from kerasft.data.splits import check_ratios
from kerasft.data.tables.class_numbers import with_names
from kerasft.data.tables.columns import find_column, read_splits
from kerasft.data.tables.folder import find_tables
from kerasft.data.tables.gathering import Part, notices_of_folder, parts_of
from kerasft.data.tables.image_cells import (
    image_cells,
    located,
    read_images,
    require_inside,
)
from kerasft.data.tables.nested import find_nested
from kerasft.data.tables.reading import Layout, Rows
from kerasft.errors import UserError, nearest
from kerasft.spec import Splits
from kerasft.system.console import listing

# What four numbers mean, and the corners that follow.
FORMATS: Mapping[str, Callable[..., list[float]]] = {
    "xyxy": lambda left, top, right, bottom: [left, top, right, bottom],
    "xywh": lambda left, top, width, height: [left, top, left + width, top + height],
    "center_xywh": lambda x, y, width, height: [
        x - width / 2, y - height / 2, x + width / 2, y + height / 2
    ],
}  # fmt: skip


def boxes_csv(
    path: str,
    *,
    kind: str,
    seed: int,
    image: str = "filename",
    label: str = "class",
    box: Sequence[str] | str = ("xmin", "ymin", "xmax", "ymax"),
    box_format: str = "xyxy",
    relative: bool = False,
    images: str | None = None,
    split_column: str | None = None,
    size: Sequence[str] | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    split: str = "stratified",
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
    label_names: list[str] | str | None = None,
    delimiter: str | None = None,
    orientation: str = "auto",
) -> Splits:
    """Read images with boxes in the rows of a table.

    Args:
        path: A file of the formats that `table` reads: CSV, TSV, JSON, Parquet; or a pattern or a
            folder of them, as there.
        kind: `"boxes"`.
        seed: Another seed, another split.
        image: The column with the path of the image, relative to the table or to `images`, or a
            pattern with columns in braces, such as `"{id}.jpg"`; or with encoded images, where a
            row holds all boxes of one.
        label: The column with the class. A row without a class or without a box says that there is
            nothing in its image.
        box: The four columns of a box. One column, such as `"objects.bbox"`, where each row is of
            one image and holds a list of boxes; `label` then is one of lists, too.
        box_format: What they mean: `"xyxy"` (left, top, right, bottom), `"xywh"` (left, top, width,
            height) or `"center_xywh"` (the centre, width, height).
        relative: Whether they are parts of the image's width and height.
        images: The folder of the images.
        split_column: The column that says the split of a row; images of a split are in it whole.
        size: The columns with height and width of the image, to be compared with the file.
        validation: The part of the training images to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of an image, or `"hash"`.
        broken: `"skip"` leaves out images that cannot be decoded and says which, `"fail"`
            stops.
        max_pixels: The most pixels (width times height) that an image may have.
        label_names: The classes in the order that the outputs shall have, as a list or as a file
            with one a line; sorted by name without.
        delimiter: What parts the cells, where that is not to be told from the file.
        orientation: What boxes of images with an EXIF orientation are drawn on: the image as it
            is `"seen"`, as it is `"stored"`, or `"auto"` what `size` tells.

    Returns:
        `Splits` of paths.

    Raises:
        UserError: If there is no such file or column, or if rows are wrong.

    Example:

    >>> boxes_csv("boxes.csv", kind="boxes", seed=0)  # doctest: +SKIP
    """
    require_boxes(kind, "boxes_csv")
    check_policy(broken, max_pixels)
    _check_choices(box, box_format, size)
    tables = find_tables(path, {})
    file = tables.files["train"][0]
    home = None if images is None else find_path(images, "data.images", beside=file.parent)
    if split_column is not None:
        if len(tables.files) > 1:
            raise UserError(
                f"data.split_column says the split of each row, and the files of {path} say it, "
                f"too. Received: data.split_column={split_column}. Leave it out."
            )
    else:
        check_ratios(validation, test, split, list(tables.files))
    names = read_label_names(label_names, file.parent)
    found: dict[str, Boxed] = {}
    missing: dict[str, str] = {}
    notices = list(tables.notices)
    columns = _Columns(image, label, box, size, FORMATS[box_format], relative)
    for part in parts_of(tables, Layout(delimiter=delimiter)):
        splits = [part.split] * len(part.rows)
        ids = [f"{part.name}:{place}" for place in part.rows.places]
        if split_column is not None:
            splits = read_splits(find_column(part.rows, split_column, "data.split_column"), ids)
        notices += part.rows.notices
        # Images of one name in the folders of several splits are several images.
        rows = _Rows(part, ids, splits, home, f"{part.split}/" * (len(tables.files) > 1))
        if columns.lists:
            classes = part.rows.classes.get(label)
            names = list(classes) if classes and names is None else names
            notices += _listed(rows, columns, classes, found)
        else:
            _boxed(rows, columns, found, missing)
    if missing:
        notices.append(
            f"{some(len(missing), 'image')} that are not there, left out: "
            f"{listing(missing.values())}."
        )
    brought = {one.split for one in found.values()}
    if split_column is not None:
        check_ratios(validation, test, split, sorted(brought))
    return boxed_splits(
        list(found.values()), notices, kind=kind, seed=seed, validation=validation, test=test,
        split=split, broken=broken, max_pixels=max_pixels, orientation=orientation,
        key="data.box_format", label_names=names,
        source={"source": "boxes_csv", "path": str(path), "box": box if isinstance(box, str) else
                list(box), "box_format": box_format, "relative": relative},
    )  # fmt: skip


def _check_choices(box: Sequence[str], box_format: str, size: Sequence[str] | None) -> None:
    problems = []
    if not isinstance(box, str) and len(box) != 4:
        problems.append(
            "data.box must list the four columns of a box, or name the one column of lists of "
            f"boxes. Received: {box!r}."
        )
    if box_format not in FORMATS:
        problems.append(
            f"data.box_format must be one of {list(FORMATS)}. Received: {box_format!r}."
            + nearest(box_format, list(FORMATS))
        )
    if size is not None and (isinstance(size, str) or len(size) != 2):
        problems.append(f"data.size must list the columns of height and width. Received: {size!r}.")
    if problems:
        raise UserError(problems=problems)


@dataclass(frozen=True)
class _Columns:
    """What the columns are called, and what the numbers mean."""

    image: str
    label: str
    box: Sequence[str] | str
    size: Sequence[str] | None
    form: Callable[..., list[float]]
    relative: bool

    @property
    def lists(self) -> bool:
        """Whether each row has all boxes of an image."""
        return isinstance(self.box, str)


@dataclass(frozen=True)
class _Rows:
    """The rows of a file: their names, their splits, and where their images are."""

    part: Part
    ids: Sequence[str]
    splits: Sequence[str]
    home: Path | None
    prefix: str

    @property
    def rows(self) -> Rows:
        return self.part.rows


def _sizes(given: _Rows, columns: _Columns) -> list[tuple[int, int] | None]:
    """Return the height and width that each row says of its image."""
    cells = [find_column(given.rows, column, "data.size") for column in columns.size or ()]
    if not cells:
        return [None] * len(given.ids)
    return [
        (int(_number(height, place, "data.size")), int(_number(width, place, "data.size")))
        for place, height, width in zip(given.ids, *cells, strict=True)
    ]


def _listed(
    given: _Rows, columns: _Columns, classes: Sequence[str] | None, found: dict[str, Boxed]
) -> list[str]:
    """Add the images of a table with a row for each; return what is to be said of its folder."""
    rows = given.rows
    cells = image_cells(rows, columns.image)
    images, _ = read_images(
        rows, cells, given.home or rows.home, given.ids, inside=given.part.inside
    )
    names = find_nested(rows, columns.label, "data.label")
    if classes:
        names = with_names(names, given.ids, classes)
    boxes = find_nested(rows, str(columns.box), "data.box")
    sizes = _sizes(given, columns)
    for i, place in enumerate(given.ids):
        image, cell = images[i], cells.values[i]
        inner, of = boxes[i] or [], [] if names[i] is None else names[i]
        if not isinstance(inner, list) or not isinstance(of, list) or len(inner) != len(of):
            raise UserError(
                f"{place}: data.box={columns.box} and data.label={columns.label} must hold lists "
                f"that are equally long. Received: {str(inner)[:60]} and {str(of)[:60]}."
            )
        name = place if isinstance(image, bytes) else f"{given.prefix}{cell!s}"
        if name in found:
            raise UserError(
                f"{place}: {name} has a row before. With data.box={columns.box} each row is of "
                "an image of its own; for a row each box list the four columns in data.box."
            )
        one = Boxed(
            image if isinstance(image, bytes) else Path(image), name, given.splits[i],
            size=sizes[i], relative=columns.relative,
        )  # fmt: skip
        for box, label in zip(inner, of, strict=True):
            if not isinstance(box, list) or len(box) != 4 or label is None:
                raise UserError(
                    f"{place}: each box must be four numbers, with a class. Received: "
                    f"{str(box)[:60]}, {label!r}."
                )
            sides = [_number(side, place, "data.box") for side in box]
            one.add(columns.form(*sides), str(label))
        found[name] = one
    return notices_of_folder(rows, images) if given.part.inside else []


def _boxed(
    given: _Rows, columns: _Columns, found: dict[str, Boxed], missing: dict[str, str]
) -> None:
    """Add the images of a table with a row for each box."""
    rows, ids = given.rows, given.ids
    cells_of_images = image_cells(rows, columns.image)
    require_inside(rows, cells_of_images, ids, everywhere=given.part.inside)
    names = cells_of_images.values
    classes = find_column(rows, columns.label, "data.label")
    sides = [find_column(rows, name, f"data.box.{i}") for i, name in enumerate(columns.box)]
    sizes = _sizes(given, columns)
    for i, place in enumerate(ids):
        cell = names[i]
        name = cell.strip() if isinstance(cell, str) else ""
        if not name:
            raise UserError(f"{place}: data.image={columns.image} names no image.")
        called = given.prefix + name
        if called in missing:
            continue
        if called not in found:
            image = Path(str(located(name, given.home or rows.home)))
            if not image.is_file():
                missing[called] = f"{image} ({place})"
                continue
            found[called] = Boxed(
                image, called, given.splits[i], size=sizes[i], relative=columns.relative,
            )  # fmt: skip
        one = found[called]
        if given.splits[i] != one.split:
            raise UserError(
                f"{place}: {name} is of the split {given.splits[i]} here, and of {one.split} "
                "before. Each image belongs to one split."
            )
        cells = [column[i] for column in sides]
        if all(_is_empty(cell) for cell in (*cells, classes[i])):
            continue  # an image without objects
        if any(_is_empty(cell) for cell in (*cells, classes[i])):
            raise UserError(
                f"{place}: a box needs a class and four numbers; an image without objects has "
                f"none of them. Received: {[classes[i], *cells]}."
            )
        numbers = [_number(cell, place, "data.box") for cell in cells]
        one.add(columns.form(*numbers), str(classes[i]))


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell


def _number(cell: Any, place: str, key: str) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise UserError(f"{place}: {key} must be numbers. Received: {cell!r}.") from None
