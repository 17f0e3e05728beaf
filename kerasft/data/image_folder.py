"""Pictures in class folders: `cats/1.jpg`, or `train/cats/1.jpg`, or a zip of either."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kerasft.console import listing
from kerasft.data import archive
from kerasft.data.audit import (
    FORMATS,
    MAX_PIXELS,
    OTHER_SUFFIXES,
    SUFFIXES,
    audit,
    check_policy,
    sniff,
)
from kerasft.data.collection import Collection, to_splits
from kerasft.data.labels import natural, some
from kerasft.data.place import find_path, read_label_names
from kerasft.data.reading import begins
from kerasft.data.splits import check_ratios, split_name, split_words
from kerasft.errors import UserError
from kerasft.spec import Splits

_HIDDEN = (".", "__MACOSX", "Thumbs.db", "desktop.ini")


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
) -> Splits:
    """Read pictures whose folder names their class.

    Args:
        path: A folder that holds one folder a class, or the folders train, validation (or val,
            valid, dev) and test with one folder a class in each; or a zip of either. One folder
            that holds everything is entered.
        kind: `"single"`, `"multi"` or `"number"`.
        seed: Another seed, another split.
        validation: The part of the training pictures to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` (the same part of each class) or `"hash"` (each picture by itself,
            so that pictures added later move nothing).
        broken: `"skip"` leaves out pictures that cannot be decoded and says which, `"fail"`
            stops.
        max_pixels: The most pixels (width times height) that a picture may have.
        group: A regular expression, searched in the path below the class folder's parent; what
            its first group holds names the group of a picture (a patient, a video), and no group
            stands in two splits.
        label_names: The classes in the order that the outputs shall have, as a list or as a file
            with one a line; sorted by name without.
        val_folder: What a folder `val` is where the data has no `test`: `"validation"`, or
            `"test"` for sets whose `val` is what others report on; the validation split then
            comes out of train.

    Returns:
        `Splits` of paths.

    Raises:
        UserError: If there is no such folder, if it holds no class folders or no pictures, or
            one class only.

    Example:

    >>> image_folder("flowers", kind="single", seed=0)  # doctest: +SKIP
    """
    check_policy(broken, max_pixels)
    given = find_path(path, "data.path")
    root = given
    if given.is_file():
        if given.suffix.lower() != ".zip":
            raise UserError(
                "data.path must be a folder of pictures, or a .zip of one. Received: "
                f"data.path={path}, a file. For a table of texts or paths choose data=table."
            )
        root = archive.unpack(given)
    root = _enter(root)
    notices: list[str] = []
    folders = _split_folders(root, notices)
    if val_folder not in ("validation", "test"):
        raise UserError(
            f"data.val_folder must be 'validation' or 'test'. Received: {val_folder!r}."
        )
    if val_folder == "test" and "validation" in folders and "test" not in folders:
        folders["test"] = folders.pop("validation")
    check_ratios(validation, test, split, list(folders))
    found = Collection("images", [], [], [], [], notices=notices)
    for name, folder in (folders or {"train": root}).items():
        _collect(folder, root, name, found)
    if not len(found):
        raise UserError(
            f"data.path: {given} holds no pictures ({', '.join(FORMATS)}) in class folders."
        )
    kept, said = audit(found.inputs, found.ids, broken=broken, max_pixels=max_pixels)
    lost = set(found.values) - {found.values[i] for i in kept}
    found = found.keep(kept)
    found.notices += said
    if lost:
        names = listing(sorted(map(repr, lost), key=natural))
        raise UserError(
            f"No picture of the class {names} can be used. Repair them, or remove the folder. "
            + " ".join(said)
        )
    if group is not None:
        found.groups = [_group(group, name) for name in found.ids]
    source = {"source": "image_folder", "path": str(given), "group": group}
    return to_splits(
        found, kind=kind, seed=seed, validation=validation, test=test, split=split,
        label_names=read_label_names(label_names, given.parent), label_delimiter=None,
        label_key="the class folders", source=source,
    )  # fmt: skip


def _entries(folder: Path) -> list[Path]:
    try:
        found = [entry for entry in folder.iterdir() if not entry.name.startswith(_HIDDEN)]
    except OSError as error:
        raise UserError(f"data.path: {folder} cannot be read ({error.strerror}).") from error
    return sorted(found, key=lambda entry: natural(entry.name))


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _enter(root: Path) -> Path:
    """Follow single folders down to the one that holds the classes or the splits."""
    while True:
        inner = _folders(root)
        if len(inner) != 1 or split_name(inner[0].name) or not _folders(inner[0]):
            return root
        root = inner[0]


def _split_folders(root: Path, notices: list[str]) -> dict[str, Path]:
    """Return the folders of the splits that the data brings, or nothing where it brings none."""
    inner = _folders(root)
    if not inner:
        direct = sum(1 for _ in _pictures(root))
        raise UserError(
            f"data.path: {root} holds no class folders. Received: "
            + (f"{some(direct, 'picture')} without a folder. " if direct else "an empty folder. ")
            + "Put the pictures of each class into a folder named after it; for a table that "
            "says which picture is what, choose data=table."
        )
    named: dict[str, list[Path]] = {}
    for folder in inner:
        if name := split_name(folder.name):
            named.setdefault(name, []).append(folder)
    # Pictures straight in `train` make it a class: trains, say, beside cars.
    with_classes = {
        name: [folder for folder in folders if _folders(folder)] for name, folders in named.items()
    }
    if not with_classes.get("train"):
        if len(named.get("train", [])) == len(inner) or (
            set(named) and all(split_name(folder.name) for folder in inner)
        ):
            raise UserError(
                f"data.path: {root} holds {listing([f.name + '/' for f in inner])}, but no train "
                "folder with one folder a class in it. Received: "
                + ", ".join(f"{f.name}/ with {len(_folders(f))} folders" for f in inner)
                + f". The folders of the splits are called: {split_words()}."
            )
        return {}
    twice = [folders for folders in with_classes.values() if len(folders) > 1]
    if twice:
        raise UserError(
            f"data.path: {root} holds several folders for one split: "
            f"{listing(folder.name + '/' for folder in twice[0])}. Keep one of them."
        )
    result = {name: folders[0] for name, folders in with_classes.items() if folders}
    left = [folder.name + "/" for folder in inner if folder not in result.values()]
    if left:
        notices.append(
            f"Beside the splits {listing(f.name + '/' for f in result.values())} these folders "
            f"were left out, as they name no split or hold no class folders: {listing(left)}."
        )
    return {name: result[name] for name in ("train", "validation", "test") if name in result}


def _collect(folder: Path, root: Path, split: str, found: Collection) -> None:
    """Add the pictures of one split, class by class."""
    loose = sum(1 for entry in _entries(folder) if entry.suffix.lower() in SUFFIXES)
    if loose:
        found.notices.append(
            f"{some(loose, 'picture')} in {folder.name}/ left out: in no class folder."
        )
    others: Counter[str] = Counter()
    for class_folder in _folders(folder):
        before = len(found)
        for path in _pictures(class_folder, others):
            found.inputs.append(str(path))  # type: ignore[attr-defined]
            found.values.append(class_folder.name)
            found.ids.append(path.relative_to(root).as_posix())
            found.brought.append(split)
        if len(found) == before:
            found.notices.append(
                f"The folder {class_folder.relative_to(root).as_posix()}/ holds no pictures and "
                "was left out."
            )
    if others:
        said = listing(f"{count} {suffix}" for suffix, count in others.most_common())
        found.notices.append(f"Files in {folder.name}/ that are no pictures left out: {said}.")


def _pictures(folder: Path, others: Counter[str] | None = None) -> Iterator[Path]:
    """Walk the files of a folder, in a stable order, that are pictures or claim to be."""
    seen = set()
    for place, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back up
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted((n for n in inner if not n.startswith(_HIDDEN)), key=natural)
        for name in sorted((n for n in files if not n.startswith(_HIDDEN)), key=natural):
            path = Path(place) / name
            suffix = path.suffix.lower()
            if suffix in SUFFIXES or suffix in OTHER_SUFFIXES or _looks(path):
                yield path
            elif others is not None:
                others[suffix or "without a suffix"] += 1


def _looks(path: Path) -> bool:
    begins(path)
    try:
        with open(path, "rb") as file:
            return sniff(file.read(32)) in FORMATS
    except OSError:
        return False


def _group(pattern: str, name: str) -> str:
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise UserError(
            f"data.group must be a regular expression ({error}). Received: data.group={pattern!r}."
        ) from error
    if match is None or not match.groups() or match.group(1) is None:
        raise UserError(
            "data.group must match the path of each picture and hold a pair of parentheses "
            f"around what names the group. Received: data.group={pattern!r}, which finds no "
            f"group in {name!r}."
        )
    return match.group(1)
