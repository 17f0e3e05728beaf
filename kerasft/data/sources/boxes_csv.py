"""A table with a row for each box, or for each picture without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasft.data.annotations.classes import some
from kerasft.data.paths import find_path, read_label_names
from kerasft.data.pictures.audit import MAX_PIXELS, check_policy
from kerasft.data.pictures.boxed import Boxed, boxed_splits, require_boxes
from kerasft.data.splits import check_ratios
from kerasft.data.tables import readers
from kerasft.data.tables.columns import find_column, read_splits
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
    box: Sequence[str] = ("xmin", "ymin", "xmax", "ymax"),
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
    """Read pictures with boxes in the rows of a table.

    Args:
        path: A file of the formats that `table` reads: CSV, TSV, JSON, Parquet.
        kind: `"boxes"`.
        seed: Another seed, another split.
        image: The column with the path of the picture, relative to the table or to `images`.
        label: The column with the class. A row without a class or without a box says that there is
            nothing in its picture.
        box: The four columns of a box.
        box_format: What they mean: `"xyxy"` (left, top, right, bottom), `"xywh"` (left, top, width,
            height) or `"center_xywh"` (the centre, width, height).
        relative: Whether they are parts of the picture's width and height.
        images: The folder of the pictures.
        split_column: The column that says the split of a row; pictures of a split are in it whole.
        size: The columns with height and width of the picture, to be compared with the file.
        validation: The part of the training pictures to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of a picture, or `"hash"`.
        broken: `"skip"` leaves out pictures that cannot be decoded and says which, `"fail"`
            stops.
        max_pixels: The most pixels (width times height) that a picture may have.
        label_names: The classes in the order that the outputs shall have, as a list or as a file
            with one a line; sorted by name without.
        delimiter: What parts the cells, where that is not to be told from the file.
        orientation: What boxes of pictures with an EXIF orientation are drawn on: the picture as it
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
    file = find_path(path, "data.path")
    home = file.parent if images is None else find_path(images, "data.images", beside=file.parent)
    rows = readers.read(file, Layout(delimiter=delimiter))
    ids = [f"{file.name}:{place}" for place in rows.places]
    splits = None
    if split_column is not None:
        splits = read_splits(find_column(rows, split_column, "data.split_column"), ids)
        check_ratios(validation, test, split, sorted(set(splits)))
    found, notices = _boxed(
        rows, ids, home, splits, image=image, label=label, box=box, form=FORMATS[box_format],
        relative=relative, size=size,
    )  # fmt: skip
    return boxed_splits(
        found, [*rows.notices, *notices], kind=kind, seed=seed, validation=validation, test=test,
        split=split, broken=broken, max_pixels=max_pixels, orientation=orientation,
        key="data.box_format", label_names=read_label_names(label_names, file.parent),
        source={"source": "boxes_csv", "path": str(file), "box": list(box),
                "box_format": box_format, "relative": relative},
    )  # fmt: skip


def _check_choices(box: Sequence[str], box_format: str, size: Sequence[str] | None) -> None:
    problems = []
    if isinstance(box, str) or len(box) != 4:
        problems.append(f"data.box must list the four columns of a box. Received: {box!r}.")
    if box_format not in FORMATS:
        problems.append(
            f"data.box_format must be one of {list(FORMATS)}. Received: {box_format!r}."
            + nearest(box_format, list(FORMATS))
        )
    if size is not None and (isinstance(size, str) or len(size) != 2):
        problems.append(f"data.size must list the columns of height and width. Received: {size!r}.")
    if problems:
        raise UserError(problems=problems)


def _boxed(
    rows: Rows, ids: Sequence[str], home: Path, splits: Sequence[str] | None, *, image: str,
    label: str, box: Sequence[str], form: Callable[..., list[float]], relative: bool,
    size: Sequence[str] | None,
) -> tuple[list[Boxed], list[str]]:  # fmt: skip
    """Return the pictures of a table, each with the boxes of its rows."""
    names = find_column(rows, image, "data.image")
    classes = find_column(rows, label, "data.label")
    sides = [find_column(rows, column, f"data.box.{i}") for i, column in enumerate(box)]
    sizes = [find_column(rows, column, "data.size") for column in size or ()]
    found: dict[str, Boxed] = {}
    missing: dict[str, str] = {}
    for i, place in enumerate(ids):
        name = str(names[i] or "").strip()
        if not name:
            raise UserError(f"{place}: data.image={image} names no picture.")
        if name in missing:
            continue
        if name not in found:
            picture = home / name
            if not picture.is_file():
                missing[name] = place
                continue
            found[name] = Boxed(picture, name, "train" if splits is None else splits[i],
                                relative=relative)  # fmt: skip
            if sizes:
                height, width = (_number(column[i], place, "data.size") for column in sizes)
                found[name].size = (int(height), int(width))
        one = found[name]
        if splits is not None and splits[i] != one.split:
            raise UserError(
                f"{place}: {name} is of the split {splits[i]} here, and of {one.split} before. "
                "Each picture belongs to one split."
            )
        cells = [column[i] for column in sides]
        if all(_is_empty(cell) for cell in (*cells, classes[i])):
            continue  # a picture without objects
        if any(_is_empty(cell) for cell in (*cells, classes[i])):
            raise UserError(
                f"{place}: a box needs a class and four numbers; a picture without objects has "
                f"none of them. Received: {[classes[i], *cells]}."
            )
        one.add(form(*(_number(cell, place, "data.box") for cell in cells)), str(classes[i]))
    notices = []
    if missing:
        notices.append(
            f"{some(len(missing), 'picture')} that are not there, left out: "
            f"{listing(f'{name} ({place})' for name, place in missing.items())}."
        )
    return list(found.values()), notices


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell


def _number(cell: Any, place: str, key: str) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise UserError(f"{place}: {key} must be numbers. Received: {cell!r}.") from None
