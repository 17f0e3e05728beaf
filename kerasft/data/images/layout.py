"""What the folders of a set of images mean: splits, classes, or neither."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasft.data.annotations.classes import natural
from kerasft.data.images.annotated import (
    IMAGES,
    doubt_masks,
    refuse_annotated,
    refuse_annotated_class,
)
from kerasft.data.images.files import entries, holds_images, subfolders, walk_images
from kerasft.data.splits import split_name, split_words
from kerasft.errors import UserError, nearest, some
from kerasft.system.console import listing

FOLDERS = ("auto", "splits", "classes")
AS_CLASSES = "If these are the names of classes, set data.folders=classes."

_SPLITS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "val", "valid", "dev", "devel", "development", "validate"),
    "test": ("test", "testing", "tests", "tst", "holdout", "heldout"),
    # The test beside a validation split, and the validation split beside a test.
    "evaluation": ("evaluation", "eval"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
# Words that stick to these: `trainset`, `testdata`, `valimages`.
_JOINED = re.compile(
    rf"({'|'.join(sorted(_SPLIT_OF, key=len, reverse=True))})"
    r"(sets?|data|dataset|images?|imgs?|folder|split|masks?|labels?|annotations?|annots?|annot)"
)
# A folder between a split and its classes: `train/images/cats`, `train/Images_png/cats`.
_BETWEEN = IMAGES | {"data", "jpeg", "jpegs", "jpg", "jpgs", "png", "pngs"}
# What the parts of one set are called: `images_part_1`, `fold2`.
_PARTS = frozenset((
    "archive", "batch", "chunk", "fold", "part", "parts", "shard", "split", "volume", "vol",
))  # fmt: skip


@dataclass
class _Named:
    """A folder whose name may be that of a split.

    Args:
        folder: The folder.
        split: The split.
        exact: Whether the name is one of the plain words for it.
        rest: The other words of the name: `images` in `train_images`.
        inside: The folder that holds the class folders: in `seg_train/seg_train` the inner one.
        classes: The names of the folders in it.
    """

    folder: Path
    split: str
    exact: bool
    rest: tuple[str, ...]
    inside: Path
    classes: frozenset[str]


def words_of(name: str) -> list[str]:
    """Return the words that a folder's name is made of, in small letters and without numbers.

    Example:
        >>> words_of("JPEGImages_train2017")
        ['jpeg', 'images', 'train']
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = re.findall(r"[^\W\d_]+", apart.casefold())
    joined = " ".join(words)
    for two, one in (("hold out", "holdout"), ("held out", "heldout"),
                     ("ground truth", "groundtruth"), ("trainval", "train val")):  # fmt: skip
        joined = joined.replace(two, one)
    found: list[str] = []
    for word in joined.split():
        parts = _JOINED.fullmatch(word)
        found += parts.groups() if parts and word not in _SPLIT_OF else [word]
    return found


def enter(root: Path) -> Path:
    """Follow single folders down to the one that holds the classes or the splits."""
    while True:
        inner = subfolders(root)
        if len(inner) != 1 or split_name(inner[0].name) or not subfolders(inner[0]):
            return root
        root = inner[0]


def arrange(root: Path, folders: str, notices: list[str]) -> dict[str, Path]:
    """Return the folders of the splits that the data brings, or nothing where it brings none.

    Args:
        root: The folder that holds the folders of splits or of classes.
        folders: `"auto"` decides by the names and by what is inside, `"splits"` by the names
            alone; `"classes"` takes all as classes.
        notices: Sentences for the user are added here.

    Returns:
        For each split the folder that holds its class folders, in the order of the splits.

    Raises:
        UserError: If there are no folders, if splits have no class folders, or if the folders
            look like something else than classes.
    """
    inner = _some_folders(root)
    if folders == "classes":
        return {}
    named = [one for folder in inner if (one := _read(folder))]
    _settle_evaluation(named)
    sure = named if folders == "splits" else [one for one in named if _is_sure(one, named)]
    splits = _with_classes(root, sure)
    if "train" in splits:
        splits = _without_flat(splits)
        if folders == "auto":
            _refuse_doubtful(root, inner, sure)
            for one in splits.values():
                _refuse_other_sets(one.inside, subfolders(one.inside), notices)
        _tell(inner, splits, notices)
        order = ("train", "validation", "test")
        return {name: splits[name].inside for name in order if name in splits}
    if folders == "auto":
        _refuse_other_sets(root, inner, notices)
    filled = [folder for folder in inner if holds_images(folder)] or inner
    if folders == "splits" or {f.name for f in filled} <= {one.folder.name for one in sure}:
        raise UserError(
            f"data.path: {root} holds {listing([f.name + '/' for f in filled])}, but no train "
            "folder with one folder a class in it. Received: "
            + listing(f"{f.name}/ with {some(len(subfolders(f)), 'folder')}" for f in filled)
            + f". The folders of the splits are called: {split_words()}. {AS_CLASSES}"
        )
    _refuse_splits_in_classes(root, inner)
    _refuse_repeated(root, inner)
    _refuse_parts(root, filled, notices)
    return {}


def check_folders(folders: str) -> None:
    """Check the setting that says what the folders are."""
    if folders not in FOLDERS:
        raise UserError(
            f"data.folders must be one of {list(FOLDERS)}. Received: data.folders={folders!r}."
            + nearest(folders, FOLDERS)
        )


def _some_folders(root: Path) -> list[Path]:
    inner = subfolders(root)
    if not inner:
        direct = sum(1 for _ in walk_images(root))
        raise UserError(
            f"data.path: {root} holds no class folders. Received: "
            + (f"{some(direct, 'image')} without a folder. " if direct else "an empty folder. ")
            + "Put the images of each class into a folder named after it; for a table that "
            "says which image is what, choose data=table."
        )
    return inner


def _read(folder: Path) -> _Named | None:
    words = words_of(folder.name)
    found = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    plain = split_name(folder.name)
    if not plain and not found:
        return None
    if plain or len(found) == 1:
        split = plain or found.pop()
    elif found == {"train", "validation"}:  # `trainval`: what both were joined to
        split = "train"
    elif "test" in found and "train" not in found:  # `test-dev`
        split = "test"
    else:
        return None
    inside = _inside(folder)
    rest = tuple(word for word in words if word not in _SPLIT_OF)
    classes = frozenset(one.name for one in subfolders(inside))
    return _Named(folder, split, bool(plain), rest, inside, classes)


def _inside(folder: Path) -> Path:
    """Follow a folder that repeats the name of its split, or says that it holds images."""
    inner = subfolders(folder)
    if len(inner) != 1 or not subfolders(inner[0]):
        return folder
    name = inner[0].name.casefold()
    again = name == folder.name.casefold() or split_name(name) is not None
    return _inside(inner[0]) if again or _is_between(inner[0]) else folder


def _is_between(folder: Path) -> bool:
    words = words_of(folder.name)
    return bool(words) and _BETWEEN.issuperset(words)


def _settle_evaluation(named: Sequence[_Named]) -> None:
    others = {one.split for one in named}
    for one in named:
        if one.split == "evaluation":
            one.split = "test" if "validation" in others else "validation"


def _is_sure(one: _Named, named: Sequence[_Named]) -> bool:
    """Whether a folder is a split: `train_images` beside `test_images`, no `train_station`."""
    return one.exact or any(
        other.split != one.split and (other.rest == one.rest or other.classes & one.classes)
        for other in named
    )


def _with_classes(root: Path, sure: Sequence[_Named]) -> dict[str, _Named]:
    # Images straight in `train` make it a class: trains, say, beside cars.
    found: dict[str, _Named] = {}
    for one in sure:
        if one.classes and (first := found.setdefault(one.split, one)) is not one:
            raise UserError(
                f"data.path: {root} holds several folders for one split: "
                f"{first.folder.name}/, {one.folder.name}/. Keep one of them, or join them. "
                f"{AS_CLASSES}"
            )
    return found


def _without_flat(splits: dict[str, _Named]) -> dict[str, _Named]:
    """Leave out `val/images` where train has classes: its images are in no class folders."""
    classes = splits["train"].classes
    return {
        name: one for name, one in splits.items()
        if one.classes & classes or len(one.classes) > 1
        or not all(_is_between(folder) for folder in subfolders(one.inside))
    }  # fmt: skip


def _refuse_doubtful(root: Path, inner: Sequence[Path], sure: Sequence[_Named]) -> None:
    """Ask where `train` holds folders and stands beside several that name no split."""
    named = {one.folder for one in sure}
    beside = [folder for folder in inner if folder not in named and holds_images(folder)]
    if {one.split for one in sure} == {"train"} and len(beside) > 1:
        raise UserError(
            f"data.path: {root} holds train/ with folders in it, as a split has, beside folders "
            f"of images that name no split: {listing(f.name + '/' for f in beside)}. Set "
            "data.folders=classes if all of them are classes, or data.folders=splits to train on "
            "what is in train/ and leave the others out."
        )


def _tell(inner: Sequence[Path], splits: dict[str, _Named], notices: list[str]) -> None:
    guessed = [one for one in splits.values() if not one.exact]
    if guessed:
        said = listing(f"{one.folder.name}/ as {one.split}" for one in guessed)
        notices.append(f"Folders taken as splits by their names: {said}. {AS_CLASSES}")
    taken = [one.folder for one in splits.values()]
    left = [folder.name + "/" for folder in inner if folder not in taken]
    if left:
        notices.append(
            f"Beside the splits {listing(folder.name + '/' for folder in taken)} these folders "
            f"were left out, as they name no split or hold no class folders: {listing(left)}."
        )


def _refuse_other_sets(root: Path, folders: Sequence[Path], notices: list[str]) -> None:
    """Refuse what is no classification: masks as a class, or masks inside of a class."""
    refuse_annotated(root, folders, words_of)
    for folder in folders:
        refuse_annotated_class(root, folder, words_of)
    if notice := doubt_masks(folders):
        notices.append(notice)


def _refuse_repeated(root: Path, inner: Sequence[Path]) -> None:
    """Refuse `cats`, `dogs` and `test/cats`, `test/dogs`: the third is no class."""
    names = {folder.name for folder in inner}
    for folder in inner:
        again = [one for one in subfolders(folder) if one.name in names - {folder.name}]
        if again and len(again) == len(subfolders(folder)) and any(map(holds_images, again)):
            raise UserError(
                f"data.path: {root} holds {folder.name}/ beside the folders whose names it repeats "
                f"inside: {listing(f'{folder.name}/{one.name}/' for one in again)}. As a class it "
                "would hold images of the others. If it is a split, move the other folders into "
                "train/ beside it; else move it away, or set data.folders=classes to take it as a "
                "class."
            )


def _refuse_splits_in_classes(root: Path, inner: Sequence[Path]) -> None:
    """Refuse `cats/train`, `cats/test`: the test images would be trained on."""
    for folder in inner:
        named = [one for inside in subfolders(folder) if (one := _read(inside))]
        _settle_evaluation(named)
        sure = [one for one in named if _is_sure(one, named)]
        splits = [one.folder for one in sure]
        if len({one.split for one in sure}) > 1 and any(one.split == "train" for one in sure):
            raise UserError(
                f"data.path: {root} holds folders of splits inside of its folders: "
                f"{listing(f'{folder.name}/{one.name}/' for one in splits)}. Taken as a class, "
                f"{folder.name}/ would be trained on its test images. Name one of these folders "
                "with data.path if each is a set of its own; else turn them around "
                f"({splits[0].name}/{folder.name}/), or set data.folders=classes to join them "
                "and split again."
            )


def _refuse_parts(root: Path, folders: Sequence[Path], notices: list[str]) -> None:
    """Refuse `fold1/cats`, `fold1/dogs`, `fold2/cats`, `fold2/dogs`: the inner ones are classes."""
    inside = [{one.name for one in subfolders(_inside(folder))} for folder in folders]
    shared = set.intersection(*inside) if len(inside) > 1 else set()
    # A rare class may be missing in some of them.
    if len(shared) > 1 and len(shared) >= 0.8 * len(set.union(*inside)):
        raise UserError(
            f"data.path: each of the folders {listing(f.name + '/' for f in folders)} in {root} "
            f"holds folders of the same names ({listing(sorted(shared, key=natural))}), as the "
            "parts, folds or versions of one set do. Name one of them with data.path, or join "
            "them; folders of splits are called train, validation and test. If the outer folders "
            "are the classes, set data.folders=classes."
        )
    stems = {re.sub(r"\d+$", "", folder.name) for folder in folders}
    words = words_of(stems.pop()) if len(folders) > 1 and len(stems) == 1 else []
    if words and words[-1] in _PARTS and all(folder.name[-1].isdigit() for folder in folders):
        notices.append(
            f"The folders {listing(f.name + '/' for f in folders)} are taken as classes, and their "
            "names differ by a number alone, as those of parts of one set do. For a table that "
            "says which image is what choose data=table."
        )


def merged_folders(folder: Path, images: Sequence[Path]) -> list[str]:
    """Return the folders of a class whose images are joined in it; none where it has but one.

    Args:
        folder: The folder of the class.
        images: Its images.
    """
    places = dict.fromkeys(path.parent for path in images)
    if len(places) < 2:
        return []
    inner = dict.fromkeys(place.relative_to(folder).parts[0] for place in places if place != folder)
    if len(inner) == 1 and folder not in places:  # `cats/images/1`, `cats/images/2`: further down
        return merged_folders(folder / next(iter(inner)), images)
    return list(inner)


def loose_images(folder: Path, suffixes: Sequence[str]) -> int:
    """Return how many images lie beside the class folders instead of in them."""
    return sum(1 for entry in entries(folder) if entry.suffix.lower() in suffixes)
