"""Images with boxes or masks in a data set of TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.images.boxed import Boxed, boxed_splits
from kerasft.data.images.held import HeldImages
from kerasft.data.images.mask_values import Table, found_meaning, listed_meaning, meaning
from kerasft.data.images.masked import Masked, masked_splits
from kerasft.data.paths import read_label_names
from kerasft.data.sources.tfds_features import (
    Leaf,
    boxes_of,
    image_of,
    label_of,
    mask_of,
    regions,
)
from kerasft.data.sources.tfds_prepared import Prepared
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing
from kerasft.system.files import current

# Whether boxes are in parts of the image, by how TFDS calls their form. Sets that were prepared
# before it named forms have the first. Of other forms the order of the stored numbers depends on
# how they were written.
_RELATIVE = {None: True, "REL_YXYX": True, "YXYX": False}


def boxed(
    prepared: Prepared, *, input: str | None, boxes: str | None, label: str, usual: str,
    label_names: Sequence[str] | None, **settings: Any,
) -> Splits:  # fmt: skip
    """Read images with boxes.

    Args:
        prepared: The data set.
        input: The feature with the image, or `None`.
        boxes: The feature with the boxes, or `None`.
        label: The feature with the class of a box.
        usual: The default of `label`.
        label_names: The names of the classes, by their numbers.
        settings: For `boxed_splits`.

    Raises:
        UserError: If there are no boxes, or if several features fit.
    """
    module, known, where = prepared.module, prepared.leaves, prepared.name
    around = boxes_of(module, known, boxes, where)
    image = image_of(module, known, input, where)
    classes = label_of(module, known, around, label, where, usual=usual)
    names = _names(module, classes, label_names, around)
    unnamed: list[str] = []
    found = list(_boxes(prepared, image, around, classes, names, unnamed))
    shown = {one.split for one in found if one.boxes}
    ratios, notices = prepared.ratios([one.split for one in found], shown, "a box")
    found = [one for one in found if one.split in shown]
    if unnamed:
        notices.append(f"{some(len(unnamed), 'box')} without a class left out: {listing(unnamed)}.")
    if classes is not None and classes.repeated < around.repeated:
        notices.append(
            f"The class of a box is that of its image (data.label={classes.name}): there is none "
            "for each box."
        )
    if names is not None:
        used = {name for one in found for name in one.names}
        if bare := [name for name in names if name not in used]:
            notices.append(f"{some(len(bare), 'class')} without a box: {listing(bare)}.")
        label_names = [name for name in names if name in used]
    return boxed_splits(
        found, notices, key=f"data.boxes={around.name}", label_names=label_names,
        source={**_source(prepared, image), "boxes": around.name,
                "label": classes.name if classes else None},
        **ratios, **settings,
    )  # fmt: skip


def masked(
    prepared: Prepared, *, input: str | None, masks: str | None, classes: Any, ignore: Any,
    max_pixels: int, **settings: Any,
) -> Splits:  # fmt: skip
    """Read images with masks.

    Args:
        prepared: The data set.
        input: The feature with the image, or `None`.
        masks: The feature with the masks, or `None`.
        classes: See `mask_folder`.
        ignore: The same.
        max_pixels: The most pixels that an image or a mask may have.
        settings: For `masked_splits`.

    Raises:
        UserError: If there are no masks, or if several features fit.
    """
    module, known, where = prepared.module, prepared.leaves, prepared.name
    painted = mask_of(module, {n: leaf for n, leaf in known.items() if n != input}, masks, where)
    image = image_of(module, {n: leaf for n, leaf in known.items() if leaf is not painted},
                         input, where)  # fmt: skip
    if isinstance(classes, str):
        classes = read_label_names(classes, current() or Path(), "data.classes")
    means = meaning(classes, ignore)
    if means is None and getattr(painted.feature, "num_classes", None) is not None:
        means = listed_meaning(painted.feature.names, ignore)
    held, of_masks = HeldImages(), HeldImages()
    read = [(split, prepared.name_of(split, place), held.keep(content), of_masks.keep(mask))
            for split, place, (content, mask) in prepared.read([image, painted], [image, painted])]
    ratios, notices = prepared.ratios([split for split, *_ in read], prepared.wanted, "a mask")
    if means is None:
        drawn = [(called, mask) for _, called, _, mask in read]
        means, said = found_meaning(drawn, ignore, max_pixels)
        notices.append(said)
    table = Table.of(means)
    found = [Masked(content, called, partial(table.read, mask, max_pixels), split)
             for split, called, content, mask in read]  # fmt: skip
    return masked_splits(
        found, notices, names=table.names, max_pixels=max_pixels,
        source={**_source(prepared, image), "masks": painted.name}, **ratios, **settings,
    )  # fmt: skip


def _source(prepared: Prepared, image: Leaf) -> dict[str, Any]:
    return {"source": "tfds", "name": prepared.name, "splits": dict(prepared.wanted),
            "input": image.name}  # fmt: skip


def _names(
    module: Any, classes: Leaf | None, listed: Sequence[str] | None, boxes: Leaf
) -> Sequence[str] | None:
    """Return the names of classes by their numbers; `None` where boxes say their own."""
    if classes is None:
        if listed is None or len(listed) != 1:
            raise UserError(
                f"data.label must name the class of a box; none is beside {boxes.name}. If all "
                "boxes are of one class, say its name: data.label_names=[face]."
            )
        return listed
    if isinstance(classes.feature, module.features.Text):
        return None
    if listed is None and getattr(classes.feature, "num_classes", None) is not None:
        return list(classes.feature.names)
    return listed


def _boxes(
    prepared: Prepared, image: Leaf, boxes: Leaf, classes: Leaf | None,
    names: Sequence[str] | None, unnamed: list[str],
) -> Iterator[Boxed]:  # fmt: skip
    """Yield the images of a data set with their boxes."""
    relative = _is_relative(boxes)
    flags = regions(prepared.leaves, boxes)
    columns = [image, boxes, *flags, *([classes] if classes else [])]
    held = HeldImages()
    for split, place, values in prepared.read(columns, [image]):
        called = prepared.name_of(split, place)
        one = Boxed(held.keep(values[0]), called, split, relative=relative)
        # Top, left, bottom and right.
        corners = np.asarray(values[1], "float64").reshape(-1, 4)[:, [1, 0, 3, 2]]
        marks, units = values[2 : 2 + len(flags)], values[2 + len(flags) :] or [0]
        skipped = np.any([_of_each(mark, corners, called) > 0 for mark in marks], axis=0)
        skipped = np.broadcast_to(skipped, len(corners))
        for i, unit in enumerate(_of_each(units[0], corners, called)):
            name = _name(unit, names, f"{called}: box {i + 1}")
            if name is None:
                unnamed.append(f"{called}: box {i + 1}")
            else:
                one.add(corners[i].tolist(), name, bool(skipped[i]))
        yield one


def _is_relative(boxes: Leaf) -> bool:
    form = getattr(boxes.feature, "bbox_format", None)
    form = getattr(form, "value", form)
    if form not in _RELATIVE:
        raise UserError(
            f"data.boxes: the boxes of {boxes.name} are written as {form}, and can be read as "
            f"{' or '.join(filter(None, _RELATIVE))}. Prepare the data set with one of these."
        )
    return _RELATIVE[form]


def _of_each(values: Any, corners: np.ndarray, called: str) -> np.ndarray:
    """Return a value for each box, where each has one, or all have the same."""
    values = np.asarray(values)
    if values.shape not in ((), (len(corners),)):
        raise UserError(
            f"{called} has {some(len(corners), 'box')} and {some(len(values), 'class')} (data.label"
            "). Name the feature that has a class for each box."
        )
    return np.broadcast_to(values, len(corners))


def _name(unit: Any, names: Sequence[str] | None, called: str) -> str | None:
    """Return the name of a class; `None` for the number that says that there is none."""
    if isinstance(unit, bytes):
        return unit.decode("utf-8")
    if unit < 0:
        return None
    if names is not None and unit >= len(names):
        raise UserError(
            f"{called} is of the class {unit}, and there are names for 0 to {len(names) - 1} "
            f"({listing(names)}). List a name for each class in data.label_names."
        )
    return str(unit) if names is None else names[unit]
