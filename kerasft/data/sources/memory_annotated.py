"""Images with boxes or masks that Python hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasft.data.annotations import kinds
from kerasft.data.annotations.drawn import foreign_settings
from kerasft.data.images.box_forms import check_format
from kerasft.data.images.boxed import boxed_splits
from kerasft.data.images.masked import masked_splits
from kerasft.data.paths import read_label_names
from kerasft.data.splits import check_ratios
from kerasft.data.tables import drawn_columns
from kerasft.data.tables.asked import LABEL, Asked
from kerasft.data.tables.boxed_rows import BoxRows, Columns, Found, read_boxes
from kerasft.data.tables.columns import column_name, find_column, splits_of
from kerasft.data.tables.gathering import Part
from kerasft.data.tables.masked_rows import read_masks
from kerasft.data.tables.reading import Rows
from kerasft.data.tables.slice_cells import slice_cells
from kerasft.data.tables.streamed import is_stream
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing
from kerasft.system.files import current


@dataclass(frozen=True)
class Tables:
    """What was given, and the columns that say where a row belongs.

    Args:
        rows: The rows of each split.
        asked: Which columns are images and masks.
        split_column: The column that says the split of a row, or `None`.
        group: The column that names the group of a row, or `None`.
        ratios: What `data.validation` and `data.test` say.
        notices: Sentences for the user.
        settings: For `boxed_splits` and `masked_splits`.
        slices: The columns by which figures are told apart.
    """

    rows: Mapping[str, Rows]
    asked: Asked
    split_column: str | int | None
    group: str | int | None
    ratios: Mapping[str, Any]
    notices: list[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    slices: Sequence[str | int] = ()

    def parts(self) -> list[BoxRows]:
        """Return the rows with the name, split and group of each."""
        found = []
        for split, rows in self.rows.items():
            name = split if len(self.rows) > 1 else "data"
            ids = [f"{name}:{place}" for place in rows.places]
            splits = splits_of(rows, self.split_column, ids, split)
            groups = None if self.group is None else _groups(rows, self.group, ids)
            found.append(BoxRows(Part(split, name, rows), ids, splits, groups=groups,
                                 slices=slice_cells(rows, self.slices)))  # fmt: skip
        return found

    def image(self, rows: Rows) -> str:
        """Return the column of images."""
        found = self.asked.image_of(rows.names, lambda name: next(iter(rows.cells[name]), None))
        return drawn_columns.require(found, "image", "images", rows.names)

    def source(self, **columns: Any) -> dict[str, Any]:
        """Return where the data is from, as plain values for the manifest."""
        return {"source": "memory", "columns": columns, "given": {
            name: {"rows": len(rows), "columns": list(rows.names)}
            for name, rows in self.rows.items()
        }}  # fmt: skip

    def check_splits(self, brought: Sequence[str]) -> None:
        """Refuse parts of nothing, where a column says the splits."""
        if self.split_column is not None:
            check_ratios(**self.ratios, method=self.settings["split"], brought=sorted(set(brought)))


def check_settings(
    kind: str, boxes: Mapping[str, Any], masks: Mapping[str, Any], others: Mapping[str, Any]
) -> None:
    """Refuse settings that say nothing for a task: those of boxes, of masks, and of others.

    Args:
        kind: What the task learns.
        boxes: The settings of boxes that differ from their defaults.
        masks: Those of masks.
        others: Those that neither knows.

    Raises:
        UserError: If there are such.
    """
    problems = list(foreign_settings(kind, boxes=boxes, masks=masks))
    if kinds.are_drawn(kind):
        problems += [
            f"data.{key} says nothing of images with {kind}. Received: data.{key}={value}. Leave "
            f"it out{'; data.classes names the classes' * kinds.are_masks(kind)}."
            for key, value in others.items() if value is not None
        ]  # fmt: skip
    if kinds.are_boxes(kind):
        problems += check_format(boxes["box_format"], boxes["relative"])
        if (box := boxes["box"]) is not None and not isinstance(box, str) and len(box) != 4:
            problems.append(
                "data.box must name the column of boxes, or list the four columns of a box. "
                f"Received: {box!r}."
            )
    if problems:
        raise UserError(problems=problems)


def boxed(
    given: Tables, *, box: Sequence[str] | str | None, box_format: str | None,
    relative: bool | None, label: Any, label_names: Sequence[str] | None, is_streamed: bool,
) -> Splits:  # fmt: skip
    """Return images with boxes.

    Args:
        given: The rows.
        box: The column of boxes, four columns, or `None`.
        box_format: One of `box_forms.FORMATS`, or `None`.
        relative: Whether boxes are in parts of width and height, or `None`.
        label: The column of classes; its default finds it.
        label_names: The names of the classes.
        is_streamed: Whether the data is of `tf.data`, where boxes may be `yxyx`.

    Raises:
        UserError: If columns are missing, or images or boxes are wrong.
    """
    found = Found(notices=list(given.notices))
    for rows in given.rows.values():
        found.notices += rows.notices
    first = next(iter(given.rows.values()))
    # What splits have in common is looked up once: a split may have no objects.
    box = drawn_columns.box_columns(first) if box is None else box
    if not isinstance(box, str) and tuple(box) == drawn_columns.CORNERS:
        box_format = box_format or "xyxy"
    columns = Columns(
        given.image(first), drawn_columns.class_column(first, box, label, LABEL), box,
        form=box_format, relative=relative,
    )  # fmt: skip
    for part in given.parts():
        read_boxes(part, columns, label_names, found)
    images = list(found.images.values())
    given.check_splits([one.split for one in images])
    names = found.names(label_names)
    return boxed_splits(
        images, found.said(), key="data.box_format", label_names=names, unusual=is_streamed,
        source=given.source(image=columns.image, label=columns.label,
                            box=box if isinstance(box, str) else list(box)),
        **given.ratios, **given.settings,
    )  # fmt: skip


def masked(given: Tables, *, classes: Any, ignore: Any, max_pixels: int) -> Splits:
    """Return images with masks.

    Args:
        given: The rows.
        classes: See `mask_folder`.
        ignore: The same.
        max_pixels: The most pixels that an image or a mask may have.

    Raises:
        UserError: If columns are missing, or images or masks are wrong.
    """
    if isinstance(classes, str):
        classes = read_label_names(classes, current() or Path(), "data.classes")
    notices = list(given.notices)
    first = next(iter(given.rows.values()))
    image = given.image(first)
    column = drawn_columns.require(
        given.asked.masks_of(first.names, image), "masks", "masks", first.names
    )
    parts = given.parts()
    found, names = read_masks(
        parts, image, column, classes=classes, ignore=ignore, max_pixels=max_pixels,
        notices=notices,
    )  # fmt: skip
    given.check_splits([split for part in parts for split in part.splits])
    return masked_splits(
        found, notices, names=names, max_pixels=max_pixels, strict=True,
        source=given.source(image=image, masks=column), **given.ratios, **given.settings,
    )


def _groups(rows: Rows, group: str | int, ids: Sequence[str]) -> list[str]:
    """Return the group of each row."""
    cells = find_column(rows, group, "data.group")
    bare = [name for name, cell in zip(ids, cells, strict=True) if cell is None or cell == ""]
    if bare:
        raise UserError(
            f"data.group={column_name(rows, group, 'data.group')}: {some(len(bare), 'row')} "
            f"without a group: {listing(bare)}. Give each row a group, or take those rows out."
        )
    return [str(cell) for cell in cells]


def is_streamed(data: Any) -> bool:
    """Whether data, or a split of it, is of `tf.data`."""
    return is_stream(data) or (isinstance(data, Mapping) and any(map(is_stream, data.values())))
