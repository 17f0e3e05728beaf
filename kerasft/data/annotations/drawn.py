"""What is drawn on images or marked in texts: the task that learns it, and others' settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
