"""The JSON files of COCO: read, checked, and brought together with their images."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kerasft.data.annotations.classes import natural
from kerasft.data.current_read import begins
from kerasft.data.images.coco_entries import named
from kerasft.data.images.files import beside, subfolders, walk_images
from kerasft.data.splits import split_name, used_as
from kerasft.errors import UserError, some
from kerasft.system.console import listing

KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Part:
    """A JSON file of COCO.

    Args:
        file: Where it is.
        categories: The names of the classes, by their ids.
        images: The entries of images, by their ids.
        objects: The entries of objects, by the ids of the images.
    """

    file: Path
    categories: dict[Any, str]
    images: dict[Any, dict[str, Any]]
    objects: dict[Any, list[dict[str, Any]]]


def find_files(root: Path, val_folder: str) -> dict[Path, str]:
    """Return the JSON files of COCO in a folder, and the split that each is of.

    Args:
        root: The folder.
        val_folder: What `val` is where there is no `test`, see `used_as`.

    Raises:
        UserError: If a split has several.
    """
    found: dict[Path, str] = {}
    for file in sorted((*root.glob("*.json"), *root.glob("*/*.json"))):
        if _is_coco(file):
            found[file] = _named(file) or "train"
    used = used_as(set(found.values()), val_folder)
    found = {file: used[split] for file, split in found.items()}
    splits = Counter(found.values())
    if several := [name for name, count in splits.items() if count > 1]:
        same = [f.relative_to(root).as_posix() for f, s in found.items() if s == several[0]]
        raise UserError(
            f"data.path: {root} holds several JSON files of COCO for {several[0]}: "
            f"{listing(same)}. Set data.path to one of them, or take the others out."
        )
    return found


def _named(file: Path) -> str | None:
    """Return the split that the name of a file, or of its folder, says."""
    words = file.stem.replace("-", "_").split("_")
    named = [split_name(word.rstrip("0123456789")) for word in words]
    return split_name(file.parent.name) or next((one for one in named if one), None)


def _is_coco(file: Path) -> bool:
    """Whether a file begins as one, or is too damaged to tell: it is then named when it is read."""
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            head = opened.read(65_536)
    except OSError:
        return True
    return any(f'"{key}"' in head for key in KEYS)


def read(file: Path, notices: list[str]) -> Part:
    """Return what a JSON file holds.

    Args:
        file: The file.
        notices: Sentences for the user are added here.

    Raises:
        UserError: If it is damaged, or of another form.
    """
    begins(str(file))
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(
            f"{file} is no JSON that can be read ({str(error)[:120]}). It may be cut off: copy it "
            "again."
        ) from error
    wrong = [key for key in KEYS if not (isinstance(content, dict)
             and isinstance(content.get(key), list)
             and all(isinstance(one, dict) for one in content[key]))]  # fmt: skip
    if wrong:
        raise UserError(f"{file} is no file of COCO: {', '.join(wrong)} must be lists of objects.")
    images = _by_id(content["images"], "id", file, "images")
    for i, one in enumerate(content["images"], 1):
        if not isinstance(one.get("file_name"), str) or not one["file_name"]:
            raise UserError(f"{file}: entry {i} of images has no file_name.")
    categories = _by_id(content["categories"], "id", file, "categories")
    objects = defaultdict(list)
    nowhere = []
    for i, one in enumerate(content["annotations"], 1):
        if _hashed(one.get("image_id")) not in images:
            nowhere.append(f"annotation {one.get('id', i)} (image_id {one.get('image_id')})")
            continue
        if _hashed(one.get("category_id")) not in categories:
            raise UserError(
                f"{file}: annotation {one.get('id', i)} is of the category "
                f"{one.get('category_id')!r}, which categories does not list."
            )
        objects[one["image_id"]].append(one)
    if nowhere:
        raise UserError(
            f"{file}: {some(len(nowhere), 'annotation')} of images that images does not list: "
            f"{listing(nowhere)}. Take them out, or add the images."
        )
    numbers = Counter(_hashed(one.get("id")) for one in content["annotations"])
    if again := [name for name, n in numbers.items() if n > 1 and name is not None]:
        notices.append(
            f"{some(len(again), 'id')} of {file.name} that several annotations have: "
            f"{listing(again)}. Each annotation counts as an object of its own."
        )
    names = {key: named(one, file, i) for i, (key, one) in enumerate(categories.items(), 1)}
    return Part(file, names, images, dict(objects))


def _hashed(value: Any) -> Any:
    return value if isinstance(value, int | str) else None


def _by_id(entries: list[dict[str, Any]], key: str, file: Path, what: str) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for i, one in enumerate(entries, 1):
        name = one.get(key)
        if not isinstance(name, int | str):
            raise UserError(f"{file}: entry {i} of {what} has no {key}. Received: {name!r}.")
        if name in made:
            raise UserError(
                f"{file}: {what} has two entries with the {key} {name!r}. Give each its own."
            )
        made[name] = one
    return made


def images_of(
    part: Part, root: Path, notices: list[str]
) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Yield the images of a file, what they are called, and their entries.

    Args:
        part: The file.
        root: The folder that images must lie in.
        notices: Sentences for the user are added here.

    Raises:
        UserError: If names lead out of the folder.
    """
    missing: list[str] = []
    outside: list[str] = []
    places = _Places(part.file, root)
    for entry in part.images.values():
        name = entry["file_name"]
        path = places.find(name)
        if path is None:
            (outside if places.leads_out(name) else missing).append(name)
            continue
        called = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        yield path, called, entry
    if outside:
        raise UserError(
            f"{part.file}: file_name must lie inside of {root}. Received: {listing(outside)}."
        )
    if missing:
        notices.append(
            f"{some(len(missing), 'image')} of {part.file.name} that are not there, left out: "
            f"{listing(missing)}."
        )


def tell_unnamed(
    files: Iterable[Path], images: Iterable[Path], root: Path, notices: list[str]
) -> None:
    """Say which images stand beside others, and no file names them.

    Args:
        files: The JSON files.
        images: The images that they name.
        root: The folder of the set.
        notices: Sentences for the user are added here.
    """
    taken = set(images)
    # What else may lie around one file that was named is none of its business.
    whole = {file.parent for file in files} - {root}
    inside = {p for folder in whole for p in walk_images(folder)} - taken
    bare = sorted({*beside(taken), *inside}, key=lambda path: natural(path.as_posix()))
    if bare:
        shown = (path.relative_to(root).as_posix() for path in bare)
        notices.append(
            f"{some(len(bare), 'image')} that no file of COCO names, left out: {listing(shown)}."
        )


class _Places:
    """Finds the images of a JSON file: beside it, or in the folder of its split."""

    def __init__(self, file: Path, root: Path):
        home = file.parent
        around = [home, root, *subfolders(root)]
        around += [inner for folder in subfolders(root) for inner in subfolders(folder)]
        self.split, self.folders = _named(file), list(dict.fromkeys(around))

    def leads_out(self, name: str) -> bool:
        path = PurePosixPath(name.replace("\\", "/"))
        return path.is_absolute() or ".." in path.parts

    def find(self, name: str) -> Path | None:
        if self.leads_out(name):
            return None
        plain = name.replace("\\", "/")
        last = PurePosixPath(plain).name
        # A folder that is named like the split comes before one that is not.
        folders = sorted(
            self.folders[1:],
            key=lambda f: split_name(f.name.rstrip("0123456789")) != self.split,
        )  # fmt: skip
        for folder in (self.folders[0], *folders):
            for place in (folder / plain, folder / last):
                if place.is_file():
                    return place
        return None
