"""A table with an image and its mask in each row, as the Hugging Face Hub has them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

from kerasft.data.annotations.drawn import require_drawn
from kerasft.data.drawn_looks import look_at_masks as look  # noqa: F401  (for `kerasft check`)
from kerasft.data.images.audit import MAX_PIXELS, check_policy
from kerasft.data.images.masked import masked_splits
from kerasft.data.paths import read_label_names
from kerasft.data.splits import check_ratios
from kerasft.data.tables import drawn_columns
from kerasft.data.tables.asked import Asked
from kerasft.data.tables.image_rows import described
from kerasft.data.tables.masked_rows import read_masks
from kerasft.spec import Splits


def masks_table(
    path: str,
    *,
    kind: str,
    seed: int,
    image: str | None = None,
    masks: str | None = None,
    classes: list[str] | dict[Any, str] | str | None = None,
    ignore: int | str | list[Any] | None = None,
    images: str | None = None,
    split_column: str | None = None,
    slices: Sequence[str | int] = (),
    validation: float = 0.15,
    test: float = 0.15,
    split: str = "stratified",
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
    delimiter: str | None = None,
    orientation: str = "auto",
) -> Splits:
    """Read images with masks in the rows of a table.

    Args:
        path: A file of the formats that `table` reads: Parquet, Arrow, CSV, TSV, JSON; or a
            pattern or a folder of them, as there.
        kind: `"masks"`.
        seed: Another seed, another split.
        image: The column with the image: encoded, or as a path relative to the table or to
            `images`; or a pattern with columns in braces, such as `"{id}.jpg"`. By default the one
            that is called like it.
        masks: The same for the mask.
        classes: What the values of masks mean: a list of names for 0, 1, 2, ...; a file with one a
            line; or a name for each value or colour. By default each value is a class.
        ignore: A value or colour, or several, that is neither learned nor counted.
        images: The folder that paths start from.
        split_column: The column that says the split of a row.
        slices: Columns by whose values figures are told apart; the run hands them in.
        validation: The part of the training images to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of an image, or `"hash"`.
        broken: `"skip"` leaves out images and masks that cannot be decoded and says which,
            `"fail"` stops.
        max_pixels: The most pixels (width times height) that an image may have.
        delimiter: What parts the cells, where that is not to be told from the file.
        orientation: What masks of images with an EXIF orientation are drawn on: the image as it
            is `"seen"`, as it is `"stored"`, or `"auto"` what the size of the mask tells.

    Returns:
        `Splits` of images and masks.

    Raises:
        UserError: If there is no such file or column, or if rows are wrong.

    Example:

    >>> masks_table("nuclei.parquet", kind="masks", seed=0)  # doctest: +SKIP
    """
    require_drawn("masks", kind, "masks_table")
    check_policy(broken, max_pixels)
    check = partial(check_ratios, validation, test, split)
    tables, read = described(
        path, images=images, delimiter=delimiter, split_column=split_column, check=check,
        slices=slices,
    )
    if isinstance(classes, str):
        classes = read_label_names(classes, tables.files["train"][0].parent)
    parts = read(True)
    first = next(parts)
    rows = first.rows
    asked = Asked("masks", image, masks)
    shown = drawn_columns.require(
        image or asked.image_of(rows.names, lambda name: next(iter(rows.cells[name]), None)),
        "image", "images", rows.names,
    )  # fmt: skip
    painted = drawn_columns.require(
        masks or asked.masks_of(rows.names, shown), "masks", "masks", rows.names
    )
    notices = list(tables.notices)
    found, names = read_masks(
        chain([first], parts), shown, painted, classes=classes, ignore=ignore,
        max_pixels=max_pixels, notices=notices,
    )  # fmt: skip
    if split_column is not None:
        check(sorted({one.split for one in found}))
    return masked_splits(
        found, notices, kind=kind, names=names, seed=seed, validation=validation, test=test,
        split=split, broken=broken, max_pixels=max_pixels, orientation=orientation,
        source={"source": "masks_table", "path": str(path), "image": shown, "masks": painted},
    )  # fmt: skip
