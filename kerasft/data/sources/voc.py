"""Pascal VOC: an image, and an XML file of its boxes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from kerasft.data.annotations.drawn import require_drawn
from kerasft.data.current_read import begins
from kerasft.data.images import archive
from kerasft.data.images.audit import MAX_PIXELS, check_policy
from kerasft.data.images.boxed import Boxed, boxed_splits
from kerasft.data.images.files import subfolders, walk_images
from kerasft.data.images.layout import enter
from kerasft.data.looks import look_at_images
from kerasft.data.paths import find_path, read_label_names
from kerasft.data.splits import split_name, used_as
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing

SIDES = ("xmin", "ymin", "xmax", "ymax")
DIFFICULT = ("ignore", "learn")

# What `kerasft check` calls.
look = partial(look_at_images, kinds=("boxes",))


def voc(
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
    difficult: str = "ignore",
    orientation: str = "auto",
) -> Splits:
    """Read images with boxes in the XML files of Pascal VOC.

    Args:
        path: A folder with `Annotations` and `JPEGImages`, and the lists of the splits in
            `ImageSets/Main`, where there are any; or one with images and XML files side by side,
            maybe in the folders train, valid and test; or a zip of either.
        kind: `"boxes"`.
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
        difficult: What objects marked as difficult are: `"ignore"` neither learns nor counts them,
            as VOC's own evaluation does; `"learn"` takes them like all others.
        orientation: What boxes of images with an EXIF orientation are drawn on: the image as it
            is `"seen"`, as it is `"stored"`, or `"auto"` what the size in the XML file tells.

    Returns:
        `Splits` of paths.

    Raises:
        UserError: If there is no such folder, no annotations, or if a file is damaged.

    Example:

    >>> voc("bccd", kind="boxes", seed=0)  # doctest: +SKIP
    """
    require_drawn("boxes", kind, "voc")
    check_policy(broken, max_pixels)
    if difficult not in DIFFICULT:
        raise UserError(f"data.difficult must be one of {list(DIFFICULT)}. "
                        f"Received: {difficult!r}.")  # fmt: skip
    given = find_path(path, "data.path")
    root = enter(archive.unpack(given) if given.is_file() else given)
    notices: list[str] = []
    annotations = next((f for f in subfolders(root) if f.name.casefold() == "annotations"), None)
    if annotations is not None:
        found = list(_classical(root, annotations, val_folder, difficult == "ignore", notices))
    else:
        found = list(_beside(root, val_folder, difficult == "ignore", notices))
    if not found:
        raise UserError(
            f"data.path: {given} holds no images with XML files of boxes. Expected the folders "
            "Annotations and JPEGImages, or images and XML files side by side."
        )
    return boxed_splits(
        found, notices, kind=kind, seed=seed, validation=validation, test=test, split=split,
        broken=broken, max_pixels=max_pixels, orientation=orientation, key="data=voc",
        label_names=read_label_names(label_names, given.parent),
        source={"source": "voc", "path": str(given), "difficult": difficult},
    )  # fmt: skip


def _classical(
    root: Path, annotations: Path, val_folder: str, skip_difficult: bool, notices: list[str]
) -> Iterator[Boxed]:
    """Yield what `Annotations`, `JPEGImages` and `ImageSets/Main` hold."""
    files = {file.stem: file for file in sorted(annotations.glob("*.xml"))}
    images: dict[str, Path] = {}
    for folder in subfolders(root):
        if folder != annotations and not folder.name.startswith("Segmentation"):
            images |= {path.stem: path for path in walk_images(folder)}
    lists = _lists(root, val_folder)
    splits = {name: split for split, names in lists.items() for name in names}
    twice = sum(map(len, lists.values())) - len(splits)
    if twice:
        raise UserError(
            f"data.path: {some(twice, 'name')} in more than one list of {root}/ImageSets/Main "
            f"({listing(lists)}). Each image belongs to one split."
        )
    _tell("named by ImageSets/Main without an XML file", splits.keys() - files.keys(), notices)
    if lists:
        _tell("with boxes in no list of ImageSets/Main", files.keys() - splits.keys(), notices)
    wanted = [name for name in files if not lists or name in splits]
    _tell("whose image is missing", {n for n in wanted if n not in images}, notices, "XML file")
    _tell("that no XML file names", images.keys() - files.keys(), notices)
    for name in wanted:
        if name in images:
            one = Boxed(images[name], f"{images[name].parent.name}/{images[name].name}",
                        splits.get(name, "train"))  # fmt: skip
            yield read_file(files[name], one, skip_difficult)


def _lists(root: Path, val_folder: str) -> dict[str, list[str]]:
    """Return the names of the images of each split that `ImageSets/Main` lists."""
    folder = root / "ImageSets" / "Main"
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.txt")) if folder.is_dir() else ():
        split = split_name(file.stem)  # `cat_train.txt` is about one class, `trainval` is both
        if split is not None:
            words = (line.split() for line in file.read_text("utf-8", "replace").splitlines())
            found[split] = [Path(line[0]).stem for line in words if line]
    both = folder / "trainval.txt"
    if "train" not in found and both.is_file():
        found["train"] = both.read_text("utf-8", "replace").split()
    used = used_as(found, val_folder)
    return {used[split]: names for split, names in found.items() if names}


def _beside(
    root: Path, val_folder: str, skip_difficult: bool, notices: list[str]
) -> Iterator[Boxed]:
    """Yield images and the XML files beside them, in folders of splits or in one."""
    folders = {f: split for f in subfolders(root) if (split := split_name(f.name))}
    used = used_as(set(folders.values()), val_folder)
    folders = {folder: used[split] for folder, split in folders.items()}
    lonely, bare = set(), set()
    for folder, split in (folders or {root: "train"}).items():
        images = {path.with_suffix("").as_posix(): path for path in walk_images(folder)}
        files = {file.with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.xml"))}
        lonely |= {files[n].relative_to(root).as_posix() for n in files.keys() - images.keys()}
        bare |= {images[n].relative_to(root).as_posix() for n in images.keys() - files.keys()}
        for name, file in files.items():
            if name in images:
                path = images[name]
                one = Boxed(path, path.relative_to(root).as_posix(), split)
                yield read_file(file, one, skip_difficult)
    _tell("whose image is missing", lonely, notices, "XML file")
    _tell("that no XML file names", bare, notices)


def _tell(what: str, names: set[str], notices: list[str], noun: str = "image") -> None:
    if names:
        notices.append(f"{some(len(names), noun)} {what}, left out: {listing(sorted(names))}.")


def read_file(file: Path, one: Boxed, skip_difficult: bool) -> Boxed:
    """Read the boxes of an XML file of Pascal VOC.

    Args:
        file: The file.
        one: The image, which gets the boxes.
        skip_difficult: Whether objects marked as difficult are ignored.

    Returns:
        The image.

    Raises:
        UserError: If the file is damaged, or another kind of XML.
    """
    begins(str(file))
    content = file.read_bytes()
    # Entities can make gigabytes of a few lines, and no file of boxes has any.
    if re.search(rb"<!(DOCTYPE|ENTITY)", content):
        raise UserError(f"{file}: a file of boxes declares no DOCTYPE or entities. It is not read.")
    try:
        tree = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # of unknown encodings, too
        raise UserError(
            f"{file} is no XML that can be read ({error}). Repair or remove it."
        ) from error
    if tree.tag != "annotation":
        raise UserError(
            f"{file} is no file of Pascal VOC: its root must be <annotation>. Received: "
            f"<{tree.tag[:40]}>."
        )
    sides = [_number(tree.findtext(f"size/{name}"), file, f"size/{name}", 0.0)
             for name in ("height", "width")]  # fmt: skip
    if not all(map(math.isfinite, sides)):
        raise UserError(
            f"{file}: size/height and size/width must be numbers of pixels. Received: "
            f"{sides[0]:g} and {sides[1]:g}."
        )
    if all(side > 0 for side in sides):  # some tools write 0 where they don't know
        one.size = (int(sides[0]), int(sides[1]))
    for place, item in enumerate(tree.iter("object"), 1):
        name = (item.findtext("name") or "").strip()
        if not name:
            raise UserError(f"{file}: object {place} has no <name>. Name its class.")
        box = [_number(item.findtext(f"bndbox/{side}"), file, f"object {place}: <{side}>")
               for side in SIDES]  # fmt: skip
        difficult = (item.findtext("difficult") or "0").strip() == "1"
        one.add(box, name, skip_difficult and difficult)
    return one


def _number(text: str | None, file: Path, what: str, default: float | None = None) -> float:
    if (text is None or not text.strip()) and default is not None:
        return default
    try:
        return float(text or "")
    except ValueError:
        raise UserError(
            f"{file}: {what} must be a number. Received: {'nothing' if not text else repr(text)}."
        ) from None
