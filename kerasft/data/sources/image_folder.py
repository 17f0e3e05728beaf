"""Images in class folders: `cats/1.jpg`, or `train/cats/1.jpg`, or a zip of either."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kerasft.data.annotations.classes import natural
from kerasft.data.collection import Collection, to_splits
from kerasft.data.images import archive
from kerasft.data.images.annotated import masks_among
from kerasft.data.images.audit import FORMATS, MAX_PIXELS, SUFFIXES, audit, check_policy
from kerasft.data.images.files import outside, spelled, subfolders, walk_images
from kerasft.data.images.layout import (
    arrange,
    check_folders,
    enter,
    loose_images,
    merged_folders,
)
from kerasft.data.looks import LABELS, look_at_images
from kerasft.data.paths import find_path, read_label_names
from kerasft.data.splits import check_ratios, used_as
from kerasft.data.tables.folder import advice
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing

# What `kerasft check` calls.
look = partial(look_at_images, kinds=LABELS)


def image_folder(
    path: str,
    *,
    kind: str,
    seed: int,
    validation: float = 0.15,
    test: float = 0.15,
    split: str = "stratified",
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
    group: str | None = None,
    label_names: list[str] | str | None = None,
    val_folder: str = "validation",
    folders: str = "auto",
) -> Splits:
    """Read images whose folder names their class.

    Args:
        path: A folder that holds one folder a class, or the folders train, validation (or val,
            valid, dev) and test with one folder a class in each; or a zip of either. Names made
            with these words (`training_set`, `seg_train`, `val2017`) are known too. One folder
            that holds everything is entered.
        kind: `"single"`, `"multi"`, `"number"` or `"numbers"`.
        seed: Another seed, another split.
        validation: The part of the training images to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` (the same part of each class) or `"hash"` (each image by itself,
            so that images added later move nothing).
        broken: `"skip"` leaves out images that cannot be decoded and says which, `"fail"`
            stops.
        max_pixels: The most pixels (width times height) that an image may have.
        group: A regular expression, searched in the path below the class folder's parent; what
            its first group holds names the group of an image (a patient, a video), and no group
            stands in two splits.
        label_names: The classes in the order that the outputs shall have, as a list or as a file
            with one a line; sorted by name without.
        val_folder: What a folder `val` is where the data has no `test`: `"validation"`, or
            `"test"` for sets whose `val` is what others report on; the validation split then
            comes out of train.
        folders: What the folders in `path` are: `"splits"`, `"classes"`, or `"auto"` to tell by
            their names and by what they hold.

    Returns:
        `Splits` of paths.

    Raises:
        UserError: If there is no such folder, if it holds no class folders or no images, one
            class only, or images with masks or boxes.

    Example:

    >>> image_folder("flowers", kind="single", seed=0)  # doctest: +SKIP
    """
    check_policy(broken, max_pixels)
    check_folders(folders)
    given = find_path(path, "data.path")
    root = given
    if given.is_file():
        if given.suffix.lower() != ".zip":
            raise UserError(
                "data.path must be a folder of images, or a .zip of one. Received: "
                f"data.path={path}, a file. For a table of texts or paths choose data=table."
            )
        root = archive.unpack(given)
    root = enter(root)
    notices: list[str] = []
    try:
        splits = arrange(root, folders, notices)
    except UserError as error:
        raise UserError(f"{error}{advice(root)}") from error
    used = used_as(splits, val_folder)
    splits = {used[name]: folder for name, folder in splits.items()}
    check_ratios(validation, test, split, list(splits))
    found = Collection("images", [], [], [], [], notices=notices)
    merged: dict[str, list[str]] = {}
    for name, folder in (splits or {"train": root}).items():
        merged |= _collect(folder, root, name, found)
    _tell_merged(merged, found.notices)
    _tell_links(root, found)
    if not len(found):
        raise UserError(
            f"data.path: {given} holds no images ({', '.join(FORMATS)}) in class folders."
            f"{advice(root)}"
        )
    kept, said = audit(found.inputs, found.ids, broken=broken, max_pixels=max_pixels)
    lost = set(found.values) - {found.values[i] for i in kept}
    found = found.keep(kept)
    found.notices += said
    if lost:
        names = listing(sorted(map(repr, lost), key=natural))
        raise UserError(
            f"No image of the class {names} can be used. Repair them, or remove the folder. "
            + " ".join(said)
        )
    found.notices = [spelled(notice) for notice in found.notices]
    if group is not None:
        found.groups = [_group(group, name) for name in found.ids]
    source = {"source": "image_folder", "path": str(given), "group": group}
    return to_splits(
        found, kind=kind, seed=seed, validation=validation, test=test, split=split,
        label_names=read_label_names(label_names, given.parent), label_delimiter=None,
        label_key="the class folders", source=source,
    )  # fmt: skip


def _collect(folder: Path, root: Path, split: str, found: Collection) -> dict[str, list[str]]:
    """Add the images of one split, class by class; return which folders became one class."""
    if loose := loose_images(folder, SUFFIXES):
        found.notices.append(
            f"{some(loose, 'image')} in {folder.name}/ left out: in no class folder."
        )
    others: Counter[str] = Counter()
    merged, masks = {}, []
    _check_names(folder)
    for class_folder in subfolders(folder):
        paths = list(walk_images(class_folder, others))
        for path in paths:
            found.inputs.append(str(path))  # type: ignore[attr-defined]
            found.values.append(class_folder.name)
            found.ids.append(spelled(path.relative_to(root).as_posix()))
            found.brought.append(split)
        if not paths:
            found.notices.append(
                f"The folder {class_folder.relative_to(root).as_posix()}/ holds no images and "
                "was left out."
            )
        if inner := merged_folders(class_folder, paths):
            merged[class_folder.name] = inner
        masks += masks_among(paths)
    if others:
        said = listing(f"{count} {suffix}" for suffix, count in others.most_common())
        found.notices.append(f"Files in {folder.name}/ that are no images left out: {said}.")
    if masks:
        found.notices.append(
            f"{some(len(masks), 'image')} in {folder.name}/ named like a mask of another one "
            f"count as images of their class: {listing(_ids(masks, root), 3)}. Take out what is "
            "no image to classify."
        )
    return merged


def _check_names(folder: Path) -> None:
    """Refuse folders whose names cannot be those of classes."""
    odd = [one.name for one in subfolders(folder)
           if spelled(one.name) != one.name or len(f"{one.name}.".splitlines()) > 1]  # fmt: skip
    if odd:
        raise UserError(
            f"data.path: {folder} holds folders whose names have a line break, or bytes that are "
            f"no UTF-8: {listing(repr(spelled(name)) for name in odd)}. Rename them, since the "
            "folders' names are those of the classes."
        )


def _tell_links(root: Path, found: Collection) -> None:
    links = outside(root, map(Path, found.inputs))
    if links:
        said = listing(f"{link.relative_to(root).as_posix()} -> {real}" for link, real in links)
        found.notices.append(
            f"{some(len(links), 'link')} out of data.path, whose images are learned: {said}. "
            "Take out the links to images that do not belong to the data."
        )


def _ids(paths: Sequence[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def _tell_merged(merged: dict[str, list[str]], notices: list[str]) -> None:
    if merged:
        said = listing(f"{name} ({listing(inner)})" for name, inner in merged.items())
        notices.append(
            "The classes are the outer folders; what lies in folders inside of them counts to "
            f"them: {said}. If the inner folders are the classes, move them up by one level."
        )


def _group(pattern: str, name: str) -> str:
    try:
        match = re.search(pattern, name)
    except (re.error, TypeError) as error:
        raise UserError(
            f"data.group must be a regular expression ({error}). Received: data.group={pattern!r}."
        ) from error
    if match is None or not match.groups() or match.group(1) is None:
        raise UserError(
            "data.group must match the path of each image and hold a pair of parentheses "
            f"around what names the group. Received: data.group={pattern!r}, which finds no "
            f"group in {name!r}."
        )
    return match.group(1)
