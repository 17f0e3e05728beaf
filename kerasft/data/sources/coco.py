"""COCO: pictures, and a JSON file with all of their boxes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kerasft.data.annotations.classes import some
from kerasft.data.current_read import begins
from kerasft.data.paths import find_path, read_label_names
from kerasft.data.pictures import archive
from kerasft.data.pictures.audit import MAX_PIXELS, check_policy
from kerasft.data.pictures.boxed import Boxed, boxed_splits, require_boxes
from kerasft.data.pictures.files import subfolders, walk_pictures
from kerasft.data.pictures.layout import enter
from kerasft.data.splits import split_name, used_as
from kerasft.errors import UserError
from kerasft.spec import Splits
from kerasft.system.console import listing

KEYS = ("images", "annotations", "categories")


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
    """Read pictures with boxes in the JSON files of COCO.

    Args:
        path: A folder with a JSON file in each of the folders train, valid and test (as Roboflow
            exports them); or one with `annotations/instances_train2017.json` and the like beside
            the folders of pictures; or one with one JSON file; or the file itself; or a zip.
        kind: `"boxes"`.
        seed: Another seed, another split.
        validation: The part of the training pictures to validate on, where the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest class of a picture, or `"hash"`.
        broken: `"skip"` leaves out pictures that cannot be decoded and says which, `"fail"`
            stops.
        max_pixels: The most pixels (width times height) that a picture may have.
        label_names: The classes in the order that the outputs shall have, as a list or as a file
            with one a line; sorted by name without.
        val_folder: What `val` is where the data has no `test`: `"validation"`, or `"test"`.
        orientation: What boxes of pictures with an EXIF orientation are drawn on: the picture as it
            is `"seen"`, as it is `"stored"`, or `"auto"` what the size in the JSON file tells.

    Returns:
        `Splits` of paths.

    Raises:
        UserError: If there is no such folder, no annotations, or if a file is damaged.

    Example:

    >>> coco("cells", kind="boxes", seed=0)  # doctest: +SKIP
    """
    require_boxes(kind, "coco")
    check_policy(broken, max_pixels)
    given = find_path(path, "data.path")
    notices: list[str] = []
    if given.is_file() and given.suffix.lower() == ".json":
        files, root = {given: "train"}, given.parent
    else:
        root = enter(archive.unpack(given) if given.is_file() else given)
        files = _files(root, val_folder)
    if not files:
        raise UserError(
            f"data.path: {given} holds no JSON file of COCO, with the keys {', '.join(KEYS)}. "
            "Expected one in each of train, valid and test, or in annotations/."
        )
    parts = [_read(file) for file in files]
    _require_same_categories(parts)
    found: list[Boxed] = []
    for part, split_of in zip(parts, files.values(), strict=True):
        found += _boxed(part, split_of, root, notices)
    _tell_bare(parts, found, notices)
    return boxed_splits(
        found, notices, kind=kind, seed=seed, validation=validation, test=test, split=split,
        broken=broken, max_pixels=max_pixels, orientation=orientation, key="data=coco",
        label_names=read_label_names(label_names, given.parent),
        source={"source": "coco", "path": str(given)},
    )  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """A JSON file of COCO.

    Args:
        file: Where it is.
        categories: The names of the classes, by their ids.
        images: The entries of pictures, by their ids.
        boxes: The entries of boxes, by the ids of the pictures.
    """

    file: Path
    categories: dict[Any, str]
    images: dict[Any, dict[str, Any]]
    boxes: dict[Any, list[dict[str, Any]]]


def _files(root: Path, val_folder: str) -> dict[Path, str]:
    """Return the JSON files of COCO in a folder, and the split that each is of."""
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


def _read(file: Path) -> _Part:
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
    boxes = defaultdict(list)
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
        boxes[one["image_id"]].append(one)
    if nowhere:
        raise UserError(
            f"{file}: {some(len(nowhere), 'annotation')} of pictures that images does not list: "
            f"{listing(nowhere)}. Take them out, or add the pictures."
        )
    names = {key: str(one.get("name", key)).strip() for key, one in categories.items()}
    return _Part(file, names, images, dict(boxes))


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


def _require_same_categories(parts: list[_Part]) -> None:
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


def _boxed(part: _Part, split: str, root: Path, notices: list[str]) -> Iterator[Boxed]:
    """Yield the pictures of a file."""
    missing: list[str] = []
    outside: list[str] = []
    unboxed: list[str] = []
    places = _Places(part.file, root)
    for key, entry in part.images.items():
        name = entry["file_name"]
        path = places.find(name)
        if path is None:
            (outside if places.leads_out(name) else missing).append(name)
            continue
        called = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        one = Boxed(path, called, split, size=_size(entry))
        for box in part.boxes.get(key, ()):
            corners = _corners(box, part.file)
            if corners is None:
                unboxed.append(str(box.get("id", "?")))
            else:
                one.add(corners, part.categories[box["category_id"]], bool(box.get("iscrowd")))
        yield one
    if outside:
        raise UserError(
            f"{part.file}: file_name must lie inside of {root}. Received: {listing(outside)}."
        )
    if missing:
        notices.append(
            f"{some(len(missing), 'picture')} of {part.file.name} that are not there, left out: "
            f"{listing(missing)}."
        )
    if unboxed:
        notices.append(
            f"{some(len(unboxed), 'annotation')} of {part.file.name} without a box, left out: "
            f"{listing(unboxed)}."
        )
    named = {PurePosixPath(entry["file_name"]).name for entry in part.images.values()}
    if part.file.parent != root:
        bare = [p.name for p in walk_pictures(part.file.parent) if p.name not in named]
        if bare:
            notices.append(
                f"{some(len(bare), 'picture')} that {part.file.name} does not name, left out: "
                f"{listing(bare)}."
            )


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Return rows and columns of a picture, where its entry says them."""
    rows, columns = entry.get("height"), entry.get("width")
    if isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0:
        return rows, columns
    return None


def _corners(box: dict[str, Any], file: Path) -> list[float] | None:
    """Return left, top, right and bottom of an annotation; `None` where it has no box."""
    sides = box.get("bbox")
    if sides is None or sides == []:
        return None
    good = isinstance(sides, list) and len(sides) == 4 and all(
        isinstance(side, int | float) and not isinstance(side, bool) for side in sides
    )
    if not good:
        raise UserError(
            f"{file}: bbox of annotation {box.get('id', '?')} must be four numbers (left, top, "
            f"width, height). Received: {str(sides)[:80]}."
        )
    left, top, width, height = map(float, sides)
    return [left, top, left + width, top + height]


class _Places:
    """Finds the pictures of a JSON file: beside it, or in the folder of its split."""

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


def _tell_bare(parts: list[_Part], found: list[Boxed], notices: list[str]) -> None:
    """Say which categories have no box."""
    used = {name for one in found for name in one.names}
    listed = dict.fromkeys(name for part in parts for name in part.categories.values())
    bare = [name for name in listed if name not in used]
    if bare:
        notices.append(
            f"{some(len(bare), 'category')} without a box, which are no classes here: "
            f"{listing(bare)}."
        )
