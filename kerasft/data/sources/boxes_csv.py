"""A table with a row for each box, or with a row for each image and lists of its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kerasft.data.annotations.drawn import require_drawn
from kerasft.data.drawn_looks import look_at_boxes as look  # noqa: F401  (for `kerasft check`)
from kerasft.data.images.audit import MAX_PIXELS, check_policy
from kerasft.data.images.box_forms import check_format
from kerasft.data.images.boxed import boxed_splits
from kerasft.data.images.files import beside
from kerasft.data.paths import read_label_names
from kerasft.data.splits import check_ratios
from kerasft.data.tables import drawn_columns
from kerasft.data.tables.boxed_rows import Columns, Found, read_boxes
from kerasft.data.tables.drawn_columns import CORNERS
from kerasft.data.tables.image_rows import described
from kerasft.data.tables.reading import Rows
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing

# What columns are called where the user does not say it.
IMAGE, LABEL = "filename", "class"


def boxes_csv(
    path: str,
    *,
    kind: str,
    seed: int,
    image: str = IMAGE,
    label: str = LABEL,
    box: Sequence[str] | str = CORNERS,
    box_format: str | None = None,
    relative: bool = False,
    images: str | None = None,
    split_column: str | None = None,
    slices: Sequence[str | int] = (),
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
            one image and holds a list of boxes; `label` then is one of lists, too. In the layout
            of the Hub (`image` and `objects`) all three are found where none is named.
        box_format: What they mean: `"xyxy"` (left, top, right, bottom), `"yxyx"`, `"xywh"` (left,
            top, width, height) or `"center_xywh"` (the centre, width, height). By default four
            columns are `"xyxy"`, and boxes in one are in the form that alone fits the images.
        relative: Whether they are parts of the image's width and height.
        images: The folder of the images.
        split_column: The column that says the split of a row; images of a split are in it whole.
        slices: Columns by whose values figures are told apart; the run hands them in.
            Of an image with several rows its first row counts.
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
    require_drawn("boxes", kind, "boxes_csv")
    check_policy(broken, max_pixels)
    _check_choices(box, box_format, relative, size)
    check = partial(check_ratios, validation, test, split)
    tables, read = described(
        path, images=images, delimiter=delimiter, split_column=split_column, check=check,
        slices=slices,
    )
    names = read_label_names(label_names, tables.files["train"][0].parent)
    found = Found(notices=list(tables.notices))
    of_file: dict[tuple[str, str], Columns] = {}
    # Whether numbers are names themselves shows in all rows together.
    for part in read(not any(name.isdigit() for name in names or ())):
        found.notices += part.rows.notices
        file = part.part.split, part.part.name
        if file not in of_file:
            of_file[file] = _columns(part.rows, image, label, box, size, box_format, relative)
        columns = of_file[file]
        # Images of one name in the folders of several splits are several images.
        prefix = f"{part.part.split}/" * (len(tables.files) > 1)
        read_boxes(replace(part, prefix=prefix), columns, names, found)
    brought = {one.split for one in found.images.values()}
    if split_column is not None:
        check(sorted(brought))
    named = [one.image for one in found.images.values() if isinstance(one.image, Path)]
    bare = [] if tables.metadata else beside(named)
    if bare:
        found.notices.append(
            f"{some(len(bare), 'image')} beside others that no row names, left out: "
            f"{listing(bare)}."
        )
    in_order = found.names(names)
    return boxed_splits(
        list(found.images.values()), found.said(), kind=kind, seed=seed, validation=validation,
        test=test, split=split, broken=broken, max_pixels=max_pixels, orientation=orientation,
        key="data.box_format", label_names=in_order,
        source={"source": "boxes_csv", "path": str(path), "image": columns.image,
                "box": columns.box if columns.lists else list(columns.box),
                "box_format": columns.form, "relative": relative},
    )  # fmt: skip


def _check_choices(
    box: Sequence[str] | str, form: str | None, relative: bool, size: Sequence[str] | None
) -> None:
    problems = check_format(form, relative)
    if not isinstance(box, str) and len(box) != 4:
        problems.append(
            "data.box must list the four columns of a box, or name the one column of lists of "
            f"boxes. Received: {box!r}."
        )
    if size is not None and (isinstance(size, str) or len(size) != 2):
        problems.append(f"data.size must list the columns of height and width. Received: {size!r}.")
    if problems:
        raise UserError(problems=problems)


def _columns(
    rows: Rows, image: str, label: str, box: Sequence[str] | str, size: Sequence[str] | None,
    form: str | None, relative: bool,
) -> Columns:
    """Return the columns that are named, or those of the Hub's layout where none is."""
    layout = list(box) == list(CORNERS) and not set(CORNERS) & set(rows.names)
    if layout and any(isinstance(one, (dict, list)) for cells in rows.cells.values()
                      for one in cells[:1]):  # fmt: skip
        box = drawn_columns.box_columns(rows)
    if isinstance(box, str):
        if image == IMAGE and IMAGE not in rows.names:
            image = drawn_columns.usual(rows.names, drawn_columns.IMAGES) or IMAGE
        label = drawn_columns.class_column(rows, box, label, LABEL)
    else:
        form = form or "xyxy"
    return Columns(image, label, box, size, form, relative)
