"""What is drawn on images or marked in texts: the task that learns it, and others' settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasft.data.annotations import language
from kerasft.data.annotations.kinds import PLAIN
from kerasft.errors import UserError

_TASKS = {"boxes": "detection", "masks": "segmentation", "spans": "tagging"}
_READS = {
    "boxes": "boxes around objects", "masks": "masks of images", "spans": "entities in texts",
}  # fmt: skip
_OTHERS = {
    "boxes": "data=image_folder for images in class folders, data=table for a table",
    "masks": "data=image_folder for images in class folders, data=voc, data=coco, data=boxes_csv "
             "or data=yolo for boxes",
    "spans": "data=table for texts with a label each",
}  # fmt: skip
# What is said of data that has nothing of what a task learns.
_MISSING = {
    "boxes": "task=detection learns boxes, and this data has none: each example has one label. "
             "Choose a source of boxes (data=voc, data=coco, data=boxes_csv, data=yolo or "
             "data=tfds), or another task.",
    "masks": "task=segmentation learns the class of each pixel, and this data has no masks. Choose "
             "a source of masks (data=mask_folder, data=masks_table, data=tfds, or data=coco with "
             "outlines), or another task.",
    "spans": "task=tagging learns entities in texts, and this data has none: each example has one "
             "label. Choose a source of entities (data=conll or data=spans), or another task.",
    language.KIND: language.MISSING,
}  # fmt: skip


def nothing_drawn(kind: str) -> UserError:
    """Return the error of data that has nothing of what a task learns.

    Args:
        kind: What the task learns: `"boxes"`, `"masks"`, `"spans"` or `"language"`.
    """
    return UserError(_MISSING[kind])


def require_kind(kind: str, kinds: Sequence[str], source: str) -> None:
    """Refuse a task that does not learn what a source gives, before anything is read.

    Args:
        kind: What the task learns; of one's own kinds nothing is known.
        kinds: What the source gives.
        source: The name of the source, for the message.

    Raises:
        UserError: If it learns something else, as reading would say.

    Example:
        >>> require_kind("boxes", ("boxes", "masks"), "coco")
    """
    if kind in kinds or kind not in (*PLAIN, *_MISSING):
        return
    if language.KIND in kinds:
        language.require_task(kind, source)
    if kinds[0] in _TASKS:
        require_drawn(kinds[0], kind, source)
    raise nothing_drawn(kind)


def require_drawn(drawn: str, kind: str, source: str) -> None:
    """Refuse a task that does not learn what a source reads.

    Args:
        drawn: `"boxes"`, `"masks"` or `"spans"`.
        kind: What the task learns.
        source: The name of the source, for the message.

    Raises:
        UserError: If it learns something else.
    """
    if kind != drawn:
        task = _TASKS[drawn]
        raise UserError(
            f"data={source} reads {_READS[drawn]}, which task={task} learns; this task learns "
            f"something else. Set task={task}, or choose other data ({_OTHERS[drawn]})."
        )


def foreign_settings(kind: str, **settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be said of settings that belong to another task.

    Args:
        kind: What the task learns.
        settings: The settings of `boxes` and of `masks` that differ from their defaults.
    """
    for drawn, given in settings.items():
        task = _TASKS[drawn]
        for key, value in given.items():
            if drawn != kind and value is not None:
                yield (
                    f"data.{key} belongs to task={task}, and this task learns something else. "
                    f"Received: data.{key}={value}. Set task={task}, or leave it out."
                )
