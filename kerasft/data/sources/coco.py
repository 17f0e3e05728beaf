"""COCO: images, and a JSON file with the boxes or outlines of all of their objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.annotations import kinds
from kerasft.data.annotations.classes import natural
from kerasft.data.annotations.drawn import require_drawn
from kerasft.data.images import archive
from kerasft.data.images.audit import MAX_PIXELS, check_policy
from kerasft.data.images.boxed import Boxed, boxed_splits
from kerasft.data.images.coco_entries import corners_of, crowd, size_of
from kerasft.data.images.coco_files import (
    KEYS,
    Part,
    find_files,
    images_of,
    read,
    tell_unnamed,
)
from kerasft.data.images.layout import enter
from kerasft.data.images.mask_values import Odd
from kerasft.data.images.masked import Masked, masked_splits
from kerasft.data.images.outlines import filled, outlined
from kerasft.data.images.shape import shape_of
from kerasft.data.looks import look_at_images
from kerasft.data.paths import find_path, read_label_names
from kerasft.errors import UserError, some
from kerasft.spec import IGNORED, Splits
from kerasft.system.console import listing

# The class of pixels that belong to no object.
BACKGROUND = "background"

# What `kerasft check` calls.
look = partial(look_at_images, kinds=("boxes", "masks"))


def coco(
    path: str,
    *,
    kind: str,
    seed: int,
    validation: float = 0.15,
    test: float = 0.15,
    split: str = "stratified",
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
    label_names: list[str] | str | None = None,
    val_folder: str = "validation",
    orientation: str = "auto",
) -> Splits:
    """Read images with boxes, or with outlines as masks, in the JSON files of COCO.

    For masks each object is painted in the colour of its class, smaller ones over larger ones; what
    is left is the class `background`. Crowds, and objects with a box alone, are ignored.

    Args:
        path: A folder with a JSON file in each of the folders train, valid and test (as Roboflow
            exports them); or one with `annotations/instances_train2017.json` and the like beside
            the folders of images; or one with one JSON file; or the file itself; or a zip.
        kind: `"boxes"`, or `"masks"`.
        seed: Another seed, another split.
        validation: The part of the training images to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of an image, or `"hash"`.
        broken: `"skip"` leaves out images that cannot be decoded and says which, `"fail"`
            stops.
        max_pixels: The most pixels (width times height) that an image may have.
        label_names: The classes in the order that the outputs shall have, as a list or as a file
            with one a line; sorted by name without.
        val_folder: What `val` is where the data has no `test`: `"validation"`, or `"test"`.
        orientation: What boxes of images with an EXIF orientation are drawn on: the image as it
            is `"seen"`, as it is `"stored"`, or `"auto"` what the size in the JSON file tells.

    Returns:
        `Splits` of paths.

    Raises:
        UserError: If there is no such folder, no annotations, or if a file is damaged.

    Example:

    >>> coco("cells", kind="boxes", seed=0)  # doctest: +SKIP
    """
    if not kinds.are_masks(kind):
        require_drawn("boxes", kind, "coco")
    check_policy(broken, max_pixels)
    given = find_path(path, "data.path")
    notices: list[str] = []
    if given.is_file() and given.suffix.lower() == ".json":
        files, root = {given: "train"}, given.parent
    else:
        root = enter(archive.unpack(given) if given.is_file() else given)
        files = find_files(root, val_folder)
    if not files:
        raise UserError(
            f"data.path: {given} holds no JSON file of COCO, with the keys {', '.join(KEYS)}. "
            "Expected one in each of train, valid and test, or in annotations/."
        )
    parts = [read(file, notices) for file in files]
    _require_same_categories(parts)
    names = read_label_names(label_names, given.parent)
    source = {"source": "coco", "path": str(given)}
    if kinds.are_masks(kind):
        classes = _mask_names(parts, names)
        masked: list[Masked] = []
        for part, split_of in zip(parts, files.values(), strict=True):
            masked += _masked(part, split_of, root, classes, max_pixels, notices)
        tell_unnamed(files, [Path(str(one.image)) for one in masked], root, notices)
        return masked_splits(
            masked, notices, kind=kind, names=classes, seed=seed, validation=validation, test=test,
            split=split, broken=broken, max_pixels=max_pixels, orientation=orientation,
            source=source,
        )  # fmt: skip
    found: list[Boxed] = []
    for part, split_of in zip(parts, files.values(), strict=True):
        found += _boxed(part, split_of, root, notices)
    tell_unnamed(files, [Path(str(one.image)) for one in found], root, notices)
    _tell_bare(parts, found, notices)
    return boxed_splits(
        found, notices, kind=kind, seed=seed, validation=validation, test=test, split=split,
        broken=broken, max_pixels=max_pixels, orientation=orientation, key="data=coco",
        label_names=names, source=source,
    )  # fmt: skip


def _require_same_categories(parts: list[Part]) -> None:
    """See that an id means the same in all files, or that names alone can be gone by."""
    twice = [
        (part.file, name) for part in parts
        for name, count in Counter(part.categories.values()).items() if count > 1
    ]  # fmt: skip
    if twice:
        file, name = twice[0]
        raise UserError(
            f"{file}: two categories are called {name!r}. Give each class a name of its own, or "
            "one id."
        )


def _boxed(part: Part, split: str, root: Path, notices: list[str]) -> Iterator[Boxed]:
    """Yield the images of a file with their boxes."""
    unboxed: list[str] = []
    for path, called, entry in images_of(part, root, notices):
        one = Boxed(path, called, split, size=size_of(entry, part.file))
        for box in part.objects.get(entry["id"], ()):
            corners = corners_of(box, part.file)
            if corners is None:
                unboxed.append(str(box.get("id", "?")))
            else:
                one.add(corners, part.categories[box["category_id"]], crowd(box, part.file))
        yield one
    if unboxed:
        notices.append(
            f"{some(len(unboxed), 'annotation')} of {part.file.name} without a box, left out: "
            f"{listing(unboxed)}."
        )


def _mask_names(parts: list[Part], listed: list[str] | None) -> tuple[str, ...]:
    """Return the classes of pixels: what is no object comes first.

    Args:
        parts: The files.
        listed: The classes of objects in the order that they shall have, or `None`.

    Raises:
        UserError: If objects are of classes that are not listed.
    """
    used = {part.categories[one["category_id"]] for part in parts
            for objects in part.objects.values() for one in objects}  # fmt: skip
    if listed is not None and (strange := sorted(used - set(listed))):
        raise UserError(
            f"data.label_names lists {listing(listed)}, and objects are of other classes. "
            f"Received: {listing(strange)}."
        )
    each = [one for part in parts for objects in part.objects.values() for one in objects]
    if not any(one.get("segmentation") for one in each):
        raise UserError(
            f"{parts[0].file}: no object has an outline (`segmentation`), so that there are no "
            "masks to learn. Set task=detection, which learns boxes, or export the annotations "
            "with outlines."
        )
    names = sorted(used, key=natural) if listed is None else listed
    return (BACKGROUND, *(name for name in names if name != BACKGROUND))


def _masked(
    part: Part, split: str, root: Path, names: Sequence[str], max_pixels: int,
    notices: list[str],
) -> Iterator[Masked]:
    """Yield the images of a file with their masks."""
    bare: list[str] = []
    for path, called, entry in images_of(part, root, notices):
        objects = part.objects.get(entry["id"], ())
        bare += [str(one.get("id", "?")) for one in objects if not one.get("segmentation")]
        yield Masked(path, called, partial(_painted, part, entry, path, names, max_pixels), split)
    if bare:
        notices.append(
            f"{some(len(bare), 'annotation')} of {part.file.name} without an outline, whose boxes "
            f"are ignored: {listing(bare)}."
        )


def _painted(
    part: Part, entry: dict[str, Any], path: Path, names: Sequence[str], max_pixels: int
) -> np.ndarray:
    """Return the mask of an image."""
    size = size_of(entry, part.file) or shape_of(str(path)).stored
    if size[0] * size[1] > max_pixels:
        raise Odd(f"{part.file.name} says that it has {size[1]} x {size[0]} pixels, more than "
                  f"data.max_pixels={max_pixels}")  # fmt: skip
    number = {name: i for i, name in enumerate(names)}
    painted = []
    for one in part.objects.get(entry["id"], ()):
        try:
            pixels = outlined(one.get("segmentation"), size)
        except ValueError as error:
            raise UserError(
                f"{part.file}: the segmentation of annotation {one.get('id', '?')} cannot be read: "
                f"{error}."
            ) from error
        is_crowd = crowd(one, part.file)
        skipped = is_crowd or pixels is None
        if pixels is None and (corners := corners_of(one, part.file)) is not None:
            pixels = filled(np.asarray(corners)[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2), size)
        if pixels is not None:
            unit = IGNORED if skipped else number[part.categories[one["category_id"]]]
            painted.append((is_crowd, int(pixels.sum()), unit, pixels))
    mask = np.zeros(size, "uint8")
    # What stands out of a crowd has an outline of its own.
    for _, _, unit, pixels in sorted(painted, key=lambda one: (not one[0], -one[1])):
        mask[pixels] = unit
    return mask


def _tell_bare(parts: list[Part], found: list[Boxed], notices: list[str]) -> None:
    """Say which categories have no box."""
    used = {name for one in found for name in one.names}
    listed = dict.fromkeys(name for part in parts for name in part.categories.values())
    bare = [name for name in listed if name not in used]
    if bare:
        notices.append(
            f"{some(len(bare), 'category')} without a box, which are no classes here: "
            f"{listing(bare)}."
        )
