"""What can be said of tables of boxes and masks before they are read; see `looks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kerasft.data.images.box_forms import check_format
from kerasft.data.looks import Look, look_at_heads, missing_columns
from kerasft.data.paths import find_path
from kerasft.data.tables import drawn_columns
from kerasft.data.tables.drawn_columns import BOXES, CORNERS, IMAGES, MASKS
from kerasft.data.tables.folder import find_tables
from kerasft.data.tables.readers import format_of
from kerasft.data.tables.reading import Layout, Rows, shown
from kerasft.data.tables.slice_cells import KEY
from kerasft.errors import UserError

# The forms of files whose cells may hold further columns: which, only rows tell.
NESTED = ("parquet", "jsonl")


def look_at_boxes(settings: Mapping[str, Any]) -> Look:
    """Look whether the files of a table of boxes are there, and have the columns that are named.

    Raises:
        UserError: If they are not, or have not.
    """
    problems = check_format(settings.get("box_format"), settings.get("relative", False))
    return _look(settings, _of_boxes, "boxes", problems)


def look_at_masks(settings: Mapping[str, Any]) -> Look:
    """Look whether the files of a table of masks are there, and have the columns that are named.

    Raises:
        UserError: If they are not, or have not.
    """
    return _look(settings, _of_masks, "masks", [])


def _look(
    settings: Mapping[str, Any],
    columns: Callable[[Rows, Mapping[str, Any]], tuple[list[str], list[str]]],
    kind: str,
    problems: list[str],
) -> Look:
    tables = find_tables(settings["path"], {})
    if (root := settings.get("images")) is not None:
        try:
            find_path(root, "data.images", beside=tables.files["train"][0].parent)
        except UserError as error:
            problems += error.problems
    checked, unchecked, wrong = look_at_heads(
        tables, Layout(delimiter=settings.get("delimiter")), lambda head: columns(head, settings)
    )
    if problems := [*problems, *wrong]:
        raise UserError(problems=list(dict.fromkeys(problems)))
    return Look("images", tuple(checked), (f"the images and their {kind}", *unchecked), (kind,))


def _of_boxes(head: Rows, settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    box = settings.get("box", CORNERS)
    chosen = {key: settings.get(key) for key in ("split_column", "size", KEY)}
    file = Path(head.path)
    unsure = f"which columns of {file.name} hold images, boxes and their classes"
    if isinstance(box, str):
        outer = box if box in head.names else box.partition(".")[0]
        return missing_columns(head, {**chosen, "box": outer}), [unsure]
    if list(box) == list(CORNERS) and not {*CORNERS} & {*head.names}:
        # Then a row may hold a list of boxes, in a column that reading finds.
        nested = format_of(file, "auto", "data.path") in NESTED
        if nested or drawn_columns.usual(head.names, BOXES):
            return missing_columns(head, chosen), [unsure]
    chosen |= {"image": settings.get("image", "filename"), "label": settings.get("label", "class")}
    return missing_columns(head, {**chosen, "box": list(box)}), []


def _of_masks(head: Rows, settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    image, masks = settings.get("image"), settings.get("masks")
    missing = missing_columns(head, {
        "image": image, "masks": masks, "split_column": settings.get("split_column"),
        KEY: settings.get(KEY),
    })  # fmt: skip
    unsure = []
    if image is None and (image := drawn_columns.usual(head.names, IMAGES)) is None:
        unsure.append(f"which of the columns {shown(head.names)} holds images")
    others = [name for name in head.names if name != image]
    if masks is None and drawn_columns.usual(others, MASKS) is None:
        try:
            drawn_columns.require(None, "masks", "masks", head.names)
        except UserError as error:
            missing += error.problems
    return missing, unsure
