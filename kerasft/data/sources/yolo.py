"""YOLO: images, and a text file of boxes beside each, in parts of width and height."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

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

# How a line with a box begins: the number of a class, and coordinates.
_LINE = re.compile(r"\s*\d+(\.0*)?(\s+[-+.\deE]+){4}")
# What `kerasft check` calls.
look = partial(look_at_images, kinds=("boxes",))


def yolo(
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
    """Read images with boxes in the text files of YOLO.

    Each line of `labels/NAME.txt` is `class x y width height`: the number of a class, and the
    centre and the sides of a box in parts of the image's width and height.

    Args:
        path: A folder with `images` and `labels` (in each of them, or around both, the folders
            train, valid and test), and `data.yaml` or `classes.txt` with the names of the classes;
            or a zip of it.
        kind: `"boxes"`.
        seed: Another seed, another split.
        validation: The part of the training images to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of an image, or `"hash"`.
        broken: `"skip"` leaves out images that cannot be decoded and says which, `"fail"`
            stops.
        max_pixels: The most pixels (width times height) that an image may have.
        label_names: The names of the classes, by their numbers, as a list or as a file with one a
            line; by default what `data.yaml` or `classes.txt` says.
        val_folder: What `val` is where the data has no `test`: `"validation"`, or `"test"`.
        orientation: What boxes of images with an EXIF orientation are drawn on: the image as it
            is `"seen"` or as it is `"stored"`; `"auto"` refuses such images.

    Returns:
        `Splits` of paths.

    Raises:
        UserError: If there is no such folder, no names of classes, or if a file is damaged.

    Example:

    >>> yolo("cells", kind="boxes", seed=0)  # doctest: +SKIP
    """
    require_drawn("boxes", kind, "yolo")
    check_policy(broken, max_pixels)
    given = find_path(path, "data.path")
    root = enter(archive.unpack(given) if given.is_file() else given)
    names = read_label_names(label_names, given.parent) or _names(root)
    notices: list[str] = []
    found = list(_boxed(root, names, val_folder, notices))
    if not found:
        raise UserError(
            f"data.path: {given} holds no images with text files of boxes. Expected the folders "
            "images and labels, with files of the same names."
        )
    used = {name for one in found for name in one.names}
    if bare := [name for name in names if name not in used]:
        notices.append(f"{some(len(bare), 'class')} without a box: {listing(bare)}.")
    return boxed_splits(
        found, notices, kind=kind, seed=seed, validation=validation, test=test, split=split,
        broken=broken, max_pixels=max_pixels, orientation=orientation, key="data=yolo",
        label_names=[name for name in names if name in used],
        source={"source": "yolo", "path": str(given)},
    )  # fmt: skip


def _names(root: Path) -> list[str]:
    """Return the names of the classes, by their numbers."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        file = root / name
        if file.is_file():
            return _listed(file)
    file = root / "classes.txt"
    if file.is_file():
        try:
            lines = file.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{file} must be a UTF-8 file with the name of a class on each line ({error}). "
                "Save it as UTF-8, or set data.label_names=[...]."
            ) from error
        return [line.strip() for line in lines if line.strip()]
    raise UserError(
        f"data.path: {root} says no names of classes. Add a data.yaml with `names: [...]` or a "
        "classes.txt with one a line, or set data.label_names=[...]."
    )


def _listed(file: Path) -> list[str]:
    try:
        found: Any = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is no YAML that can be read ({str(error)[:120]}).") from error
    names = found.get("names") if isinstance(found, dict) else None
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(
            f"{file}: names must list the classes, or give each number from 0 on a name. "
            f"Received: {str(names)[:80]}."
        )
    return [str(name) for name in names]


def _boxed(
    root: Path, names: list[str], val_folder: str, notices: list[str]
) -> Iterator[Boxed]:
    """Yield the images with their boxes."""
    images = list(_images(root))
    used = used_as({split for _, split in images if split}, val_folder)
    bare: list[str] = []
    taken: set[Path] = set()
    for image, named in images:
        split = used[named] if named else "train"
        labels = _labels_of(image, root)
        if labels is None:
            bare.append(image.relative_to(root).as_posix())
            continue
        taken.add(labels)
        one = Boxed(image, image.relative_to(root).as_posix(), split, relative=True)
        yield _read(labels, one, names)
    if bare:
        notices.append(
            f"{some(len(bare), 'image')} without a text file, left out: {listing(bare)}. An "
            "empty file says that there is nothing in an image."
        )
    if lonely := [file.relative_to(root).as_posix() for file in _texts(root, taken)]:
        notices.append(
            f"{some(len(lonely), 'text file')} of boxes without an image, left out: "
            f"{listing(lonely)}."
        )


def _texts(root: Path, taken: set[Path]) -> list[Path]:
    """Return the text files that belong to no image: those in `labels`, or beside images."""
    folders = {file.parent for file in taken}
    folders |= {one for one in root.rglob("labels") if one.is_dir()}
    found = {file for folder in folders for file in folder.glob("*.txt")} - taken
    # Lists of classes or of images stand there, too.
    return sorted(
        file for file in found
        if not file.name.startswith(".") and _LINE.match(_first_line(file))
    )  # fmt: skip


def _first_line(file: Path) -> str:
    with open(file, encoding="utf-8", errors="replace") as lines:
        return lines.readline()


def _images(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the images of a set, each with the split that a folder names."""
    tops = [folder for folder in subfolders(root) if folder.name.casefold() != "labels"]
    for folder in tops or [root]:
        for image in walk_images(folder):
            parts = image.relative_to(root).parts[:-1]
            if "labels" not in parts:
                yield image, next((s for part in parts if (s := split_name(part))), None)


def _labels_of(image: Path, root: Path) -> Path | None:
    """Return the text file of an image: in `labels` instead of `images`, or beside it."""
    parts = list(image.relative_to(root).parts)
    swapped = ["labels" if part == "images" else part for part in parts]
    for place in (root.joinpath(*swapped), image):
        if (file := place.with_suffix(".txt")).is_file():
            return file
    return None


def _read(file: Path, one: Boxed, names: list[str]) -> Boxed:
    begins(str(file))
    for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        try:
            unit, values = int(float(cells[0])), [float(cell) for cell in cells[1:]]
        except (ValueError, OverflowError):  # a class may be `nan`, or `inf`
            raise UserError(
                f"{file}:{number} must be numbers: class x y width height. Received: {line[:80]!r}."
            ) from None
        if not 0 <= unit < len(names) or unit != float(cells[0]):
            raise UserError(
                f"{file}:{number} is of the class {cells[0]}, and there are names for 0 to "
                f"{len(names) - 1} ({listing(names)})."
            )
        one.add(_corners(values, file, number), names[unit])
    return one


def _corners(values: list[float], file: Path, number: int) -> list[float]:
    """Return left, top, right and bottom of a line: of a box, or around an outline."""
    if len(values) == 4:
        x, y, width, height = values
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    if len(values) >= 6 and len(values) % 2 == 0:
        return [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
    raise UserError(
        f"{file}:{number} must have a class and four numbers (x, y, width, height), or the points "
        f"of an outline. Received: {len(values)} numbers."
    )
