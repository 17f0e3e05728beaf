"""Images and their masks in the rows of tables: encoded, or as paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kerasft.data.images.held import HeldImages, Image, held_by
from kerasft.data.images.mask_values import Table, found_meaning, meaning
from kerasft.data.images.masked import Masked
from kerasft.data.tables.boxed_rows import BoxRows
from kerasft.data.tables.image_cells import image_cells, located, read_images, require_inside
from kerasft.errors import UserError, some
from kerasft.system.console import listing


def read_masks(
    parts: Iterable[BoxRows], image: str, masks: str, *, classes: Any, ignore: Any,
    max_pixels: int, notices: list[str],
) -> tuple[list[Masked], list[str]]:
    """Return the images of rows with their masks, and the names of the classes.

    Args:
        parts: The rows.
        image: The column of images.
        masks: The column of masks.
        classes: What the values of masks mean, see `mask_folder`; a list or a dict.
        ignore: The same.
        max_pixels: The most pixels that an image or a mask may have.
        notices: What is to be said to the user is added here.

    Raises:
        UserError: If a row has no image or no mask, or if values mean nothing.
    """
    means = meaning(classes, ignore)
    read: list[tuple[Image, str, str, Image, str | None, Mapping[str, Any]]] = []
    held, of_masks = HeldImages(), HeldImages()
    for part in parts:
        notices += part.rows.notices
        root = part.home or part.rows.home
        shown, _ = read_images(
            part.rows, image_cells(part.rows, image), root, part.ids, inside=part.part.inside,
            root_key="data.images",
        )
        # What is given in Python is in memory already.
        there = isinstance(part.rows.path, Path)
        images = [held_by(held if there else None, one) for one in shown]
        drawn = [held_by(of_masks if there else None, one) for one in _masks(part, masks, root)]
        groups: Sequence[str | None] = part.groups or [None] * len(drawn)
        slices = map(part.sliced, range(len(drawn)))
        read += zip(images, part.ids, part.splits, drawn, groups, slices, strict=True)
    if means is None:
        means, said = found_meaning(
            [(called, mask) for _, called, _, mask, *_ in read], ignore, max_pixels)
        notices.append(said)
    table = Table.of(means)
    found = [
        Masked(content, called, partial(table.read, mask, max_pixels), split, group, slices)
        for content, called, split, mask, group, slices in read
    ]  # fmt: skip
    return found, list(table.names)


def _masks(part: BoxRows, column: str, root: Path) -> list[Path | bytes]:
    """Return the masks of rows: files, or encoded bytes."""
    read = image_cells(part.rows, column, "data.masks")
    if bare := [name for name, one in zip(part.ids, read.values, strict=True) if one is None]:
        raise UserError(
            f"data.masks={column} must give each image a mask: an array, an encoded image or the "
            f"path of one. Received: none in {some(len(bare), 'row')}: {listing(bare)}."
        )
    require_inside(
        part.rows, read, part.ids, everywhere=part.part.inside, key="data.masks"
    )
    found = [located(one, root) for one in read.values if one is not None]
    masks = [one if isinstance(one, bytes) else Path(one) for one in found]
    missing = [f"{name} ({one})" for name, one in zip(part.ids, masks, strict=True)
               if isinstance(one, Path) and not one.is_file()]  # fmt: skip
    if missing:
        raise UserError(
            f"data.masks={column}: {some(len(missing), 'mask')} not there: {listing(missing)}."
        )
    return masks
