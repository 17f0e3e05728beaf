"""Recognises data sets with masks or boxes, which no classifier should be trained on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

from kerasft.data.images.files import holds_images, subfolders, walk_images
from kerasft.data.splits import split_name
from kerasft.errors import UserError
from kerasft.system.console import listing

if TYPE_CHECKING:
    from PIL import Image

# Folders of images, and folders of what is drawn on images.
IMAGES = frozenset((
    "image", "images", "img", "imgs", "ims", "photo", "photos", "picture", "pictures", "frame",
    "frames", "input", "inputs", "rgb",
))  # fmt: skip
# Names of what is drawn that hardly are those of classes.
_SURELY_DRAWN = frozenset((
    "annotation", "annotations", "annot", "annots", "anno", "gt", "gts", "groundtruth",
    "labels", "masks", "segmentation", "segmentations", "segmap", "segmaps", "trimap", "trimaps",
    "bbox", "bboxes", "mattes", "msk", "msks", "depth", "depths", "disparity", "saliency",
))  # fmt: skip
DRAWN = frozenset((
    "mask", "masks", "label", "labels", "annotation", "annotations", "annot", "annots", "anno",
    "gt", "gts", "groundtruth", "segmentation", "segmentations", "segmap", "segmaps", "target",
    "targets", "trimap", "trimaps", "bbox", "bboxes", "boxes", "polygons", "matte", "mattes",
    "xml", "xmls", "output", "outputs", "lbl", "lbls", "msk", "msks", "seg", "segs", "segmented",
    "depth", "depths", "disparity", "saliency",
))  # fmt: skip
# What the name of a mask adds to that of its image, before it or behind it.
_WORDS = (
    "mask|masks|gt|label|labels|labelids|seg|segmentation|annotation|trimap|matte|groundtruth"
    "|manual|map|msk"
)
_BEFORE = re.compile(rf"(?:{_WORDS})[\W_]+")
_BEHIND = re.compile(rf"(?:[_\-. ](?:{_WORDS}|l|m)|mask|segmentation)[_\-. ]?\d*$")
_LOOKED_AT = 5
_FEW = 4


def refuse_annotated(
    root: Path, folders: Sequence[Path], words_of: Callable[[str], list[str]]
) -> None:
    """Refuse folders of images beside folders of their masks, boxes or labels.

    Args:
        root: The folder that holds them, for the message.
        folders: What would be the classes.
        words_of: Takes a name apart.

    Raises:
        UserError: If they are such.
    """
    found = _annotated(folders, words_of)
    if found is None:
        return
    images, drawn = found
    inner = [one for one in subfolders(images[0]) if not split_name(one.name)]
    advice = (
        f"To classify the images alone set data.path={images[0]}. " if len(inner) > 1 else ""
    )
    raise UserError(
        f"data.path: {root} looks like a set for segmentation or detection, not like one folder "
        f"a class: {listing(f.name + '/' for f in (*images, *drawn))} are images and what is "
        "drawn on them (masks, boxes, labels). Learned as classes they would only be told apart "
        "from each other. data=image_folder is for whole images; boxes are read by data=voc, "
        "data=coco, data=boxes_csv and data=yolo for task=detection, masks by data=mask_folder and "
        f"data=masks_table for task=segmentation. {advice}For a table that "
        "says which image is what choose data=table. If these are the names of classes, set "
        "data.folders=classes."
    )


def refuse_annotated_class(
    root: Path, folder: Path, words_of: Callable[[str], list[str]]
) -> None:
    """Refuse a class that holds its images in one folder and their masks in another.

    Args:
        root: The folder that the class belongs to, for the message.
        folder: The folder of the class.
        words_of: Takes a name apart.

    Raises:
        UserError: If the masks would count as images of the class.
    """
    found = _annotated(subfolders(folder), words_of)
    # Boxes and labels in files that are no images do no harm.
    drawn = [one for one in found[1] if holds_images(one)] if found else []
    if found and drawn:
        inside = listing(f"{folder.name}/{one.name}/" for one in (*found[0], *drawn))
        raise UserError(
            f"data.path: {root} holds masks beside the images of a class: {inside}. The masks in "
            f"{listing(f'{one.name}/' for one in drawn)} would be learned as images of "
            f"{folder.name}. Move the masks out of the class folders, or set data.folders=classes "
            "if all of them are images to classify."
        )


def doubt_masks(folders: Sequence[Path]) -> str | None:
    """Say so where one of a few classes looks like the masks of another, whatever its name.

    Args:
        folders: The folders of the classes.

    Returns:
        A sentence for the user, or `None`.
    """
    if len(folders) > _FEW:  # a set with masks has few folders
        return None
    held = {folder: list(walk_images(folder)) for folder in folders}
    for images, drawn in permutations(folders, 2):
        pairs = _pairs(held[images], held[drawn])
        if len(pairs) < len(held[drawn]):
            pairs = _pairs_by_number(held[images], held[drawn])
        pairs = pairs[:_LOOKED_AT]
        if pairs and all(_is_mask_of(*pair) for pair in pairs):
            return (
                f"The images in {drawn.name}/ look like masks of those in {images.name}/: the "
                "same numbers and sizes, and a few plain colours. kerasft classifies whole images"
                f", and takes {drawn.name} and {images.name} as two classes."
            )
    return None


def masks_among(images: Sequence[Path]) -> list[Path]:
    """Return the images of a class whose names make them masks of others beside them.

    Example:
        >>> masks_among([Path("cats/1.png"), Path("cats/1_mask.png")])
        [PosixPath('cats/1_mask.png')]
    """
    stems = {(path.parent, path.stem.casefold()) for path in images}
    found = []
    for path in images:
        if any((path.parent, plain) in stems for plain in plain_stems(path.stem.casefold())):
            found.append(path)
    return found


def plain_stems(stem: str) -> list[str]:
    """Return what the image may be called whose mask has a name."""
    found = []
    if before := _BEFORE.match(stem):
        found.append(stem[before.end() :])
    if behind := _BEHIND.search(stem):
        left = stem[: behind.start()]
        # `scan__mask` belongs to `scan`, or to `scan_`.
        found += [left, left.rstrip("_-. "), stem[: behind.start() + 1]]
    return [one for one in dict.fromkeys(found) if one and one != stem]


def _annotated(
    folders: Sequence[Path], words_of: Callable[[str], list[str]]
) -> tuple[list[Path], list[Path]] | None:
    """Return the folders of images and those of what is drawn on them, where there are both."""
    kinds = {folder: _kind(words_of(folder.name)) for folder in folders}
    drawn = [folder for folder, kind in kinds.items() if kind == "drawn"]
    if not drawn:
        return None
    images = [folder for folder, kind in kinds.items() if kind == "images"]
    images = [folder for folder in images if holds_images(folder)]
    others = [folder for folder in folders if folder not in (*images, *drawn)]
    others = [folder for folder in others if holds_images(folder)]
    plain = [folder for folder in drawn if not holds_images(folder)]
    surely = plain or any(_SURELY_DRAWN.intersection(words_of(folder.name)) for folder in drawn)
    if images and not others and surely:
        return images, drawn
    # The names say too little: `masks` may be a class beside `gloves`.
    pairs = ((p, d) for d in drawn for p in (*images, *others))
    return next((([p], [d]) for p, d in pairs if _belong_together(p, d)), None)


def _kind(words: Sequence[str]) -> str | None:
    if DRAWN.intersection(words):
        return "drawn"
    return "images" if IMAGES.intersection(words) else None


def _belong_together(images: Path, drawn: Path) -> bool:
    """Whether the one folder holds the masks of the other, by their names and looks."""
    masks = list(walk_images(drawn))
    pairs = _pairs(walk_images(images), masks)
    if len(pairs) < max(1, 0.5 * len(masks)):
        return False
    looked = [_is_mask_of(*pair) for pair in pairs[:_LOOKED_AT]]
    return sum(looked) > len(looked) / 2


def _pairs(images: Iterable[Path], masks: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return the images and masks that belong together by their names."""
    named = {path.stem.casefold(): path for path in images}
    pairs = []
    for mask in masks:
        stem = mask.stem.casefold()
        names = (stem, *plain_stems(stem))
        if partner := next((named[name] for name in names if name in named), None):
            pairs.append((partner, mask))
    return pairs


def _pairs_by_number(images: Sequence[Path], masks: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return images and masks of as many, by the first number in their names, or by order."""
    if len(images) != len(masks):
        return []
    numbered = [{_first_number(path): path for path in paths} for paths in (images, masks)]
    if all(None not in part and len(part) == len(images) for part in numbered) and (
        numbered[0].keys() == numbered[1].keys()
    ):
        return [(path, numbered[1][number]) for number, path in numbered[0].items()]
    return list(zip(images, masks, strict=True))


def _first_number(path: Path) -> str | None:
    found = re.search(r"\d+", path.stem)
    return (found[0].lstrip("0") or "0") if found else None


def _is_mask_of(image: Path, mask: Path) -> bool:
    """Whether an image is as large as another and, unlike it, made of a few plain colours."""
    from PIL import Image

    try:
        with Image.open(image) as one, Image.open(mask) as other:
            return one.size == other.size and _is_flat(other) and not _is_flat(one)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _is_flat(image: Image.Image) -> bool:
    from PIL import Image

    small = image.convert("RGB").resize((64, 64), Image.Resampling.NEAREST)
    colours = small.getcolors(64 * 64)
    assert colours is not None  # there are no more than pixels
    counts = sorted((count for count, _ in colours), reverse=True)
    # What JPEG does to a mask leaves most of it plain.
    return len(counts) <= 64 or sum(counts[:2]) > 0.6 * 64 * 64
