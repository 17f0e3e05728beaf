"""Which columns of a table hold images, their boxes and their masks, where nobody says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerasft.data.tables.nested import names_within
from kerasft.data.tables.reading import Rows
from kerasft.errors import UserError
from kerasft.system.console import listing

# What columns are called, in Hub layouts, by Keras and by the file readers; the first goes first.
IMAGES = ("image", "images", "img", "imgs", "pixel_values", "file_name", "filename", "path")
MASKS = ("mask", "masks", "segmentation_mask", "segmentation_masks", "annotation", "label",
         "labels", "segmentation", "label_mask", "semantic_mask")  # fmt: skip
BOXES = ("bbox", "bboxes", "boxes", "box", "bounding_boxes", "bounding_box")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
CLASSES = ("category", "categories", "class", "classes", "label", "labels", "name", "names",
           "category_id", "class_id", "type")  # fmt: skip


def usual(names: Sequence[str], words: Sequence[str]) -> str | None:
    """Return the name that is one of some words, the first of these first.

    Example:
        >>> usual(["id", "Images", "path"], IMAGES)
        'Images'
    """
    known = {name.casefold(): name for name in reversed(names)}
    return next((known[word] for word in words if word in known), None)


def require(found: str | None, key: str, what: str, names: Sequence[str]) -> str:
    """Return a column that was found; refuse to go on without.

    Args:
        found: Its name, or `None`.
        key: The config key that would name it.
        what: What it holds.
        names: The columns that there are.
    """
    if found is None:
        raise UserError(
            f"data.{key} must name the column of {what}. The columns: "
            f"{listing(map(repr, names), 30)}."
        )
    return found


def box_columns(rows: Rows) -> Sequence[str] | str:
    """Return the column of boxes, or the four of their corners.

    Args:
        rows: The rows.

    Raises:
        UserError: If none fits, or several.
    """
    names = names_within(rows)
    fitting = [name for name in names if name.rpartition(".")[2].casefold() in BOXES]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and set(CORNERS) <= set(names):
        return CORNERS
    raise UserError(
        "data.box must name the column with the boxes of each image, or the four columns of a box; "
        + (f"several fit: {listing(map(repr, fitting), 20)}." if fitting else "none fits.")
        + f" The columns: {listing(map(repr, names), 30)}."
    )


def class_column(rows: Rows, box: Sequence[str] | str, chosen: Any, usual_label: str) -> str:
    """Return the column with the classes of boxes.

    Args:
        rows: The rows.
        box: The column of boxes, or four.
        chosen: What `data.label` says: a column, or a name beside the boxes.
        usual_label: What it says by default.

    Raises:
        UserError: If none is chosen and none fits.
    """
    names = names_within(rows)
    outer = box.rpartition(".")[0] if isinstance(box, str) else ""
    near = [name for name in names if name.rpartition(".")[0] == outer and name not in box]
    inner = {name.rpartition(".")[2]: name for name in near}
    if chosen != usual_label:
        return str(inner.get(str(chosen), chosen))
    described = [name for name in near if name in rows.classes]
    if len(described) == 1:
        return described[0]
    found = usual(list(inner), CLASSES)
    return require(found and inner[found], "label", "the classes of boxes", names)
