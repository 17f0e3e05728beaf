"""Pictures with boxes: the one way from what a reader found to `Splits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.annotations.boxes import Drawn, tidied
from kerasft.data.annotations.classes import some
from kerasft.data.collection import Collection, to_splits
from kerasft.data.pictures.audit import audit
from kerasft.data.pictures.files import spelled
from kerasft.data.pictures.shape import Shape, shape_of, upright
from kerasft.errors import UserError, nearest
from kerasft.spec import Splits
from kerasft.system.console import listing

# What boxes are drawn on: a picture as it is seen, as it is stored, or what its size tells.
ORIENTATIONS = ("auto", "seen", "stored")
# The most pictures whose size is another one than their annotations say: more are a mistake.
_MOST_ODD = 0.5


@dataclass
class Boxed:
    """A picture with its boxes, as a reader found it.

    Args:
        path: The file.
        name: Its name, unique in the data set.
        split: The split that it comes in; `"train"` where the data does not say.
        boxes: Left, top, right and bottom of each.
        names: The class of each.
        ignored: Whether each is ignored.
        size: Rows and columns that the annotations say, or `None`.
        relative: Whether the boxes are in parts of width and height.
    """

    path: Path
    name: str
    split: str = "train"
    boxes: list[list[float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)
    size: tuple[int, int] | None = None
    relative: bool = False

    def add(self, box: Sequence[float], name: str, ignored: bool = False) -> None:
        self.boxes.append([float(side) for side in box])
        self.names.append(name)
        self.ignored.append(ignored)


def require_boxes(kind: str, source: str) -> None:
    """Refuse a task that learns no boxes.

    Args:
        kind: The kind of the task.
        source: The name of the source, for the message.
    """
    if kind != "boxes":
        raise UserError(
            f"data={source} reads boxes around objects, which task=detection learns; this task "
            "learns something else. Set task=detection, or choose other data (data=image_folder "
            "for pictures in class folders, data=table for a table)."
        )


def boxed_splits(
    found: Sequence[Boxed], notices: Sequence[str], *, kind: str, seed: int, validation: float,
    test: float, split: str, broken: str, max_pixels: int, orientation: str, key: str,
    label_names: Sequence[str] | None, source: Mapping[str, Any],
) -> Splits:
    """Check pictures and boxes, and return them as splits.

    Args:
        found: What a reader found.
        notices: What it has to say.
        kind: `"boxes"`.
        seed: Another seed, another split.
        validation: The part of the pictures to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of a picture, or `"hash"`.
        broken: See `image_folder`, as `max_pixels`.
        orientation: One of `ORIENTATIONS`.
        key: The config key behind the form of the boxes, for messages.
        label_names: The class names, in order.
        source: Plain values for the manifest.

    Raises:
        UserError: If pictures, boxes or classes are wrong.
    """
    if orientation not in ORIENTATIONS:
        raise UserError(
            f"data.orientation must be one of {list(ORIENTATIONS)}. Received: {orientation!r}."
            + nearest(orientation, ORIENTATIONS)
        )
    _check_names(found)
    paths = [str(one.path) for one in found]
    names = [spelled(one.name) for one in found]
    kept, said = audit(paths, names, broken=broken, max_pixels=max_pixels)
    said = [*notices, *said]
    good, drawn = _drawn([found[i] for i in kept], [names[i] for i in kept], orientation, said)
    kept = [kept[i] for i in good]
    drawn, tidy = tidied(drawn, [names[i] for i in kept], key)
    collection = Collection(
        "images", [paths[i] for i in kept], list(drawn), [names[i] for i in kept],
        [found[i].split for i in kept], notices=[spelled(notice) for notice in (*said, *tidy)],
    )  # fmt: skip
    return to_splits(
        collection, kind=kind, seed=seed, validation=validation, test=test, split=split,
        label_names=label_names, label_key="the boxes", source=source,
    )  # fmt: skip


def _check_names(found: Sequence[Boxed]) -> None:
    seen: dict[str, Boxed] = {}
    twice = [one.name for one in found if seen.setdefault(one.name, one) is not one]
    if twice:
        raise UserError(
            f"{some(len(twice), 'picture')} named more than once by the annotations: "
            f"{listing(twice)}. Give each picture one entry, in one split."
        )


def _drawn(
    found: Sequence[Boxed], names: Sequence[str], orientation: str, notices: list[str]
) -> tuple[list[int], list[Drawn]]:
    """Return which pictures can be used, and their boxes in the pixels that are seen."""
    good, made = [], []
    odd: list[str] = []
    doubtful: list[str] = []
    turned = 0
    for i, one in enumerate(found):
        shape = shape_of(str(one.path))
        on = _drawn_on(one, shape, orientation)
        if on is None:
            odd.append(f"{names[i]} (it is {shape.columns} x {shape.rows}, its annotations say "
                       f"{one.size[1]} x {one.size[0]})" if one.size else names[i])  # fmt: skip
            continue
        if on == "either":
            doubtful.append(names[i])
            continue
        rows, columns = shape.stored if on == "stored" else (shape.rows, shape.columns)
        boxes = np.asarray(one.boxes, "float64").reshape(-1, 4)
        if one.relative:
            boxes = boxes * [columns, rows, columns, rows]
        if on == "stored":
            boxes, turned = upright(boxes, shape), turned + 1
        good.append(i)
        made.append(Drawn.of(boxes, one.names, (shape.rows, shape.columns), one.ignored))
    if doubtful:
        raise UserError(
            f"{some(len(doubtful), 'picture')} with an EXIF orientation, of which the annotations "
            f"do not say whether they are drawn on the picture as it is seen or as it is stored: "
            f"{listing(doubtful)}. Set data.orientation=seen (most tools in a browser) or "
            "data.orientation=stored (tools that do not know EXIF)."
        )
    if len(odd) > _MOST_ODD * len(found):
        raise UserError(
            f"{some(len(odd), 'picture')} of {len(found):,} have another size than their "
            f"annotations say: {listing(odd)}. The boxes were drawn on others."
        )
    if odd:
        notices.append(
            f"{some(len(odd), 'picture')} left out, of another size than their annotations say: "
            f"{listing(odd)}."
        )
    if turned:
        notices.append(f"{some(turned, 'picture')} turned upright together with their boxes.")
    return good, made


def _drawn_on(one: Boxed, shape: Shape, orientation: str) -> str | None:
    """Return what boxes are drawn on: `seen`, `stored`, `either`; `None` for another picture."""
    seen, stored = (shape.rows, shape.columns), shape.stored
    if one.size is not None and one.size not in (seen, stored):
        return None
    if shape.orientation == 1:
        return "seen"
    if orientation != "auto":
        return orientation
    if one.size is not None and seen != stored:
        return "seen" if one.size == seen else "stored"
    return "seen" if not one.boxes else "either"
