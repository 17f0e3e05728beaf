"""Images and masks: a folder of images, and one of the same names with the class of each pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kerasft.data.annotations.drawn import require_drawn
from kerasft.data.images import archive
from kerasft.data.images.annotated import DRAWN, IMAGES, plain_stems
from kerasft.data.images.audit import MAX_PIXELS, check_policy
from kerasft.data.images.files import walk_images
from kerasft.data.images.layout import enter, words_of
from kerasft.data.images.mask_values import Table, found_meaning, meaning
from kerasft.data.images.masked import Masked, masked_splits
from kerasft.data.looks import look_at_images
from kerasft.data.paths import find_path, read_label_names
from kerasft.data.splits import split_name, used_as
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing

# Where several folders might hold masks, the first of these is taken.
USUAL = ("masks", "mask", "segmentationclass", "labels", "annotations")

# What `kerasft check` calls.
look = partial(look_at_images, kinds=("masks",))


def mask_folder(
    path: str,
    *,
    kind: str,
    seed: int,
    classes: list[str] | dict[Any, str] | str | None = None,
    ignore: int | str | list[Any] | None = None,
    images: str | None = None,
    masks: str | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    split: str = "stratified",
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
    val_folder: str = "validation",
    orientation: str = "auto",
) -> Splits:
    """Read images, and masks of the same names.

    Args:
        path: A folder with `images` and `masks`, maybe in the folders train, val and test or with
            these inside; or with each mask beside its image (`cat.jpg`, `cat_mask.png`); or a zip
            of it. A mask is a grey image, one with a palette, or one in colours.
        kind: `"masks"`.
        seed: Another seed, another split.
        classes: What the values of masks mean: a list of names for 0, 1, 2, ...; a file with one a
            line; or a name for each value (`{0: background, 255: cell}`) or colour
            (`{0xff0000: roof}`, in YAML `"#ff0000"`). By default each value is a class.
        ignore: A value or colour, or several, that is neither learned nor counted.
        images: The name of the folder of images, where that is no usual one.
        masks: The same for masks, where there are several such folders.
        validation: The part of the training images to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of an image, or `"hash"`.
        broken: `"skip"` leaves out images and masks that cannot be decoded and says which,
            `"fail"` stops.
        max_pixels: The most pixels (width times height) that an image may have.
        val_folder: What `val` is where the data has no `test`: `"validation"`, or `"test"`.
        orientation: What masks of images with an EXIF orientation are drawn on: the image as it
            is `"seen"`, as it is `"stored"`, or `"auto"` what the size of the mask tells.

    Returns:
        `Splits` of paths.

    Raises:
        UserError: If there are no images with masks, or if values mean nothing.

    Example:

    >>> mask_folder("nuclei", kind="masks", seed=0)  # doctest: +SKIP
    """
    require_drawn("masks", kind, "mask_folder")
    check_policy(broken, max_pixels)
    given = find_path(path, "data.path")
    root = enter(archive.unpack(given) if given.is_file() else given)
    if isinstance(classes, str):
        classes = read_label_names(classes, given.parent, "data.classes")
    notices: list[str] = []
    pairs = list(_pairs(root, images, masks, val_folder, notices))
    if not pairs:
        raise UserError(
            f"data.path: {given} holds no images with masks. Expected the folders images and "
            "masks, with files of the same names, or each mask beside its image (cat.jpg, "
            "cat_mask.png). data.images and data.masks name folders that are called otherwise."
        )
    means = meaning(classes, ignore)
    if means is None:
        drawn = [(mask.name, mask) for _, mask, _ in pairs]
        means, said = found_meaning(drawn, ignore, max_pixels)
        notices.append(said)
    table = Table.of(means)
    found = [
        Masked(image, image.relative_to(root).as_posix(),
               partial(table.read, mask, max_pixels), used)
        for image, mask, used in pairs
    ]  # fmt: skip
    return masked_splits(
        found, notices, kind=kind, names=table.names, seed=seed, validation=validation, test=test,
        split=split, broken=broken, max_pixels=max_pixels, orientation=orientation,
        source={"source": "mask_folder", "path": str(given)},
    )  # fmt: skip


def _pairs(
    root: Path, images: str | None, masks: str | None, val_folder: str, notices: list[str]
) -> Iterator[tuple[Path, Path, str]]:
    """Yield the images with their masks, and the split of each."""
    every = [(path, path.relative_to(root).parts) for path in walk_images(root)]
    drawn = _drawn_folder(root, {part for _, parts in every for part in parts[:-1]}, masks, notices)
    apart: dict[tuple[str, ...], Path] = {}
    found: list[tuple[Path, tuple[str, ...]]] = []
    for path, parts in every:
        folders = parts[:-1]
        if drawn is None or drawn not in folders:
            if (images in folders) if images else not any(map(_is_drawn, folders)):
                found.append((path, parts))
            continue
        place = tuple(part for part in folders if part != drawn)
        for stem in (path.stem, *plain_stems(path.stem.casefold())):
            apart.setdefault((*place, stem.casefold()), path)
    if drawn is None:
        found, apart = _side_by_side(found)
    used = used_as({name for _, parts in found if (name := _split(parts))}, val_folder)
    bare, taken = [], set()
    for path, parts in found:
        place = tuple(p for p in parts[:-1] if not _holds_images(p, images))
        mask = apart.get((*place, path.stem.casefold()))
        if mask is None:
            bare.append("/".join(parts))
            continue
        taken.add(mask)
        named = _split(parts)
        yield path, mask, used[named] if named else "train"
    lonely = sorted({mask.relative_to(root).as_posix() for mask in apart.values()} - {
        mask.relative_to(root).as_posix() for mask in taken
    })  # fmt: skip
    if bare:
        notices.append(f"{some(len(bare), 'image')} without a mask, left out: {listing(bare)}.")
    if lonely:
        notices.append(
            f"{some(len(lonely), 'mask')} without an image, left out: {listing(lonely)}."
        )


def _drawn_folder(
    root: Path, folders: set[str], wanted: str | None, notices: list[str]
) -> str | None:
    """Return the name of the folders that hold masks; `None` where masks are beside images."""
    if wanted is not None:
        if wanted not in folders:
            raise UserError(
                f"data.masks: there is no folder of that name in {root} with images in it. "
                f"Received: {wanted!r}. There are: {listing(sorted(folders)) or 'none'}."
            )
        return wanted
    found = sorted(name for name in folders if _is_drawn(name))
    usual = sorted((n for n in found if n.casefold() in USUAL),
                   key=lambda n: USUAL.index(n.casefold()))  # fmt: skip
    if len(found) > 1 and not usual:
        raise UserError(
            f"data.path: {root} has several folders that may hold masks: {listing(found)}. Say "
            f"which: data.masks={found[0]}."
        )
    if not found:
        return None
    chosen = (usual or found)[0]
    if others := [name for name in found if name != chosen]:
        notices.append(
            f"Masks are read from {chosen}/, and not from {listing(f'{n}/' for n in others)} "
            "(data.masks)."
        )
    return chosen


def _is_drawn(folder: str) -> bool:
    return bool(DRAWN.intersection(words_of(folder)))


def _holds_images(folder: str, images: str | None) -> bool:
    return folder == images if images else bool(IMAGES.intersection(words_of(folder)))


def _split(parts: Sequence[str]) -> str | None:
    return next((name for part in parts[:-1] if (name := split_name(part))), None)


def _side_by_side(
    files: list[tuple[Path, tuple[str, ...]]]
) -> tuple[list[tuple[Path, tuple[str, ...]]], dict[tuple[str, ...], Path]]:
    """Tell images from the masks beside them, by their names."""
    stems = {(*parts[:-1], path.stem.casefold()) for path, parts in files}
    apart: dict[tuple[str, ...], Path] = {}
    images = []
    for path, parts in files:
        keys = [(*parts[:-1], stem) for stem in plain_stems(path.stem.casefold())]
        key = next((one for one in keys if one in stems), None)
        if key is None:
            images.append((path, parts))
        else:
            apart[tuple(p for p in key[:-1] if not _holds_images(p, None)) + key[-1:]] = path
    return images, apart
