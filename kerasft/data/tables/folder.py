"""Folders of tables: shards as on the Hub, saved data sets, images with metadata."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasft.data.annotations.classes import natural
from kerasft.data.images.files import leads_up, subfolders
from kerasft.data.paths import find_files, find_path
from kerasft.data.splits import split_name
from kerasft.data.tables.readers import FORMATS, SUFFIXES
from kerasft.errors import UserError
from kerasft.spec import SPLIT_NAMES
from kerasft.system.console import listing
from kerasft.system.files import read_json

# The column of the paths in such a file.
IMAGES = "file_name"
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_STATE, _SPLITS = "state.json", "dataset_dict.json"
# What describes a data set, and is none.
_ABOUT = ("dataset_info.json", "dataset_infos.json", _STATE, _SPLITS)
# `train-00000-of-00003`, with a digest behind it in older ones.
_SHARD = re.compile(r"(.+?)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?")
# Whole folders of these are read; of others a file must be named.
_SHARDED = ("parquet", "arrow", "jsonl", "csv", "tsv", "json")
_DEEPEST = 3
_MOST_BYTES = 16_000_000


@dataclass
class Tables:
    """The files of a folder.

    Args:
        files: The files of each split; all are of `train` where the folder has no splits. Of
            tables to be answered, splits are what the data calls them.
        notices: Sentences for the user.
        metadata: Whether they describe the images beside them.
        named: The splits whose files the user has named.
    """

    files: dict[str, list[Path]]
    notices: list[str] = field(default_factory=list)
    metadata: bool = False
    named: list[str] = field(default_factory=list)

    def each(self) -> Iterator[tuple[str, str, Path]]:
        """Yield for each file its split, what names of its examples begin with, and its path."""
        for split, paths in self.files.items():
            alike = len({file.name for file in paths}) < len(paths)
            for file in paths:
                # Files of one name in several folders still give their rows names of their own.
                name = f"{file.parent.name}/{file.name}" if alike else file.name
                yield split, f"{split}/{name}" if len(self.files) > 1 else name, file

    def require_one_word(self, split_column: str | None, path: str) -> None:
        """Refuse a column that says the splits, where the files do.

        Args:
            split_column: The column, or `None`.
            path: What the user named.

        Raises:
            UserError: If both say it.
        """
        if split_column is not None and len(self.files) > 1:
            raise UserError(
                f"data.split_column says the split of each row, and the files of {path} say it, "
                f"too. Received: data.split_column={split_column}. Leave it out."
            )

    def take(self, name: str, value: Any, home: Path) -> None:
        """Take the files that a user names for a split in place of those of the folder.

        Args:
            name: The split.
            value: What `data.NAME` says; a number names no files.
            home: The folder beside which they may be.

        Raises:
            UserError: If nothing is there, or files of several splits.
        """
        if not isinstance(value, str):
            return
        more = _named(value, f"data.{name}", home)
        if len(more.files) > 1:
            raise UserError(
                f"data.{name}: {value} brings several splits: {', '.join(more.files)}. Name "
                "files, such as by a pattern in quotes."
            )
        self.files[name] = more.files["train"]
        self.notices += more.notices
        self.named.append(name)


def find_tables(path: Any, others: Mapping[str, Any]) -> Tables:
    """Return the tables that a user names: a file, a pattern, or a folder of them.

    Args:
        path: What `data.path` says.
        others: What `data.validation` and `data.test` say; numbers name no files.

    Raises:
        UserError: If nothing is there, or a folder holds no tables, or several data sets.
    """
    found = _named(path, "data.path", None)
    home = found.files["train"][0].parent
    for name, value in others.items():
        found.take(name, value, home)
    return found


def find_unlabeled(path: Any, key: str) -> Tables | None:
    """Return the tables that a user names to be answered: of a folder all of its splits.

    Args:
        path: A file, a pattern, or a folder.
        key: Where it was named, for messages.

    Returns:
        The tables; `None` where the path is a folder without any.

    Raises:
        UserError: If nothing is there, or a folder holds several data sets.
    """
    given = None if glob.has_magic(str(path)) else find_path(path, key)
    if given is not None and given.is_dir():
        return tables_in(given, key, every=True)
    return _named(path, key, None)


def describes_images(folder: Path) -> bool:
    """Whether a folder, or one of a split in it, has a table of its images."""
    places = [folder, *(one for one in subfolders(folder) if split_name(one.name))]
    return any((place / name).is_file() for place in places for name in METADATA)


def _named(path: Any, key: str, beside: Path | None) -> Tables:
    if files := find_files(path, key, beside=beside):
        return Tables({"train": files}, _missing(files))
    given = find_path(path, key, beside=beside)
    if not given.is_dir():
        return Tables({"train": [given]})
    if found := tables_in(given, key):
        return found
    raise UserError(
        f"{key} must be a file of one of the formats {list(FORMATS)}, a pattern of such files, or "
        "a folder of Parquet or Arrow files, of files that are called after splits, or of images "
        f"with a {METADATA[0]}. Received: {given}, a folder without them. For images in folders "
        "of classes choose data=image_folder."
    )


def tables_in(folder: Path, key: str, *, every: bool = False) -> Tables | None:
    """Return the tables that make up a data set.

    Args:
        folder: The folder.
        key: The config key behind it, for messages.
        every: Whether splits of any name are wanted, and none need be one to train on.

    Returns:
        The tables; `None` where there are none.

    Raises:
        UserError: If the folder holds several data sets, or names files outside of it.
    """
    if (folder / _SPLITS).is_file():
        return _saved_splits(folder, key, every)
    if (folder / _STATE).is_file():
        return Tables({"train": _saved(folder, key)})
    return _metadata(folder, key, every) or _shards(folder, key, every)


def advice(folder: Path) -> str:
    """Return a sentence on how a folder is read that is one of tables; empty where it is none."""
    try:
        found = tables_in(folder, "data.path")
    except UserError:  # whoever reads it as tables is told
        found = Tables({})
    if found is None:
        return ""
    columns = "data.label=COLUMN" if found.metadata else (
        "data.label=COLUMN and data.image=COLUMN or data.text=COLUMN")  # fmt: skip
    return f" It looks like a data set in tables: set data=table data.path={folder} {columns}."


def _saved_splits(folder: Path, key: str, every: bool) -> Tables:
    """Return the files of what `DatasetDict.save_to_disk` wrote."""
    names = read_json(folder / _SPLITS, most=_MOST_BYTES).get("splits")
    if not isinstance(names, list) or not all(map(_is_plain, names)):
        raise UserError(
            f"{key}: {folder / _SPLITS} must list the folders of the splits beside it. Received: "
            f"splits={str(names)[:80]}."
        )
    found = _by_split([(name, [folder / name]) for name in names], folder, key, every)
    found.files = {
        split: [file for place in places for file in _saved(place, key)]
        for split, places in found.files.items()
    }
    return found


def _saved(folder: Path, key: str) -> list[Path]:
    """Return the files of what `Dataset.save_to_disk` wrote."""
    if not (folder / _STATE).is_file():
        raise UserError(f"{key}: {folder} lacks {_STATE}, which names the files of a saved split.")
    state = read_json(folder / _STATE, most=_MOST_BYTES)
    listed = state.get("_data_files")
    entries: list[Any] = listed if isinstance(listed, list) else []
    names = [one.get("filename") if isinstance(one, dict) else None for one in entries]
    if not names or not all(map(_is_plain, names)):
        raise UserError(
            f"{key}: {folder / _STATE} must name the files beside it. Received: "
            f"_data_files={str(listed)[:80]}."
        )
    if state.get("_indices_data_files"):
        raise UserError(
            f"{key}: {folder} was saved with a list of chosen rows, as old versions of the library "
            "`datasets` did. Load it there, and save it again after flatten_indices()."
        )
    missing = [str(name) for name in names if not (folder / str(name)).is_file()]
    if missing:
        raise UserError(
            f"{key}: {folder / _STATE} names files that are not there: {listing(missing)}. Copy "
            "the whole folder."
        )
    return [folder / str(name) for name in names]


def _is_plain(name: object) -> bool:
    """Whether a name leads to something in the folder itself."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _metadata(folder: Path, key: str, every: bool) -> Tables | None:
    """Return the tables that describe the images of a folder, or of its splits."""
    if here := _only([folder / name for name in METADATA if (folder / name).is_file()], key):
        return Tables({"train": [here]}, metadata=True)
    inner = [
        (one.name, [file])
        for one in subfolders(folder)
        if (file := _only([one / name for name in METADATA if (one / name).is_file()], key))
    ]
    if not any(split_name(name) for name, _ in inner):
        return None
    found = _by_split(inner, folder, key, every)
    found.metadata = True
    return found


def _only(files: Sequence[Path], key: str) -> Path | None:
    if len(files) > 1:
        raise UserError(
            f"{key}: {files[0].parent} holds several tables of its images: "
            f"{listing(file.name for file in files)}. Name one of them."
        )
    return files[0] if files else None


def _shards(folder: Path, key: str, every: bool) -> Tables | None:
    """Return the files of a data set as the Hub keeps them, `data/train-00000-of-00003.parquet`."""
    by_form: dict[str, list[Path]] = {}
    for file in _walk(folder, _DEEPEST):
        form = SUFFIXES.get(file.suffix.lower())
        if form in _SHARDED and file.name not in _ABOUT:
            by_form.setdefault(form, []).append(file)
    form = next((form for form in _SHARDED if form in by_form), None)
    if form is None:
        return None
    files, notices = by_form.pop(form), []
    if others := [file for rest in by_form.values() for file in rest]:
        notices.append(
            f"Of {folder} the {form} files are read; others were left out: "
            f"{listing(str(file.relative_to(folder)) for file in others)}."
        )
    named: dict[str, list[Path]] = {}
    for file in files:
        named.setdefault(_split_of(file, folder), []).append(file)
    homes = {_set_of(file, folder) for split, found in named.items() if split for file in found}
    if len(homes) > 1:
        raise UserError(
            f"{key}: {folder} holds several data sets: "
            f"{listing(sorted((str(home.relative_to(folder)) for home in homes), key=natural))}. "
            f"Name one of them: {key}=FOLDER, or files by a pattern such as "
            f"'{key}=FOLDER/train-*.{form}'."
        )
    if not any(map(split_name, named)):
        if form not in _SHARDED[:2]:
            return None  # tables of anything: which one is meant must be said
        found = Tables({"train": [file for part in named.values() for file in part]})
    else:
        found = _by_split(list(named.items()), folder, key, every)
    for part in found.files.values():
        notices += _missing(part)
    found.notices += notices
    return found


def _walk(folder: Path, depth: int) -> list[Path]:
    try:
        found = sorted(
            (one for one in folder.iterdir() if one.is_file() and not one.name.startswith(".")),
            key=lambda file: natural(file.name),
        )
    except OSError as error:
        raise UserError(f"data.path: {folder} cannot be read ({error.strerror}).") from error
    inner = [one for one in subfolders(folder) if not leads_up(one)] if depth else []
    return found + [file for one in inner for file in _walk(one, depth - 1)]


def _split_of(file: Path, folder: Path) -> str:
    """Return the split that a file says it belongs to, as it is written; empty where it does not.

    Its name says it (`train-00000-of-00003`, `test`, `dev_1`), or the folder that it is in.
    """
    shard = _SHARD.fullmatch(file.stem)
    if shard and shard[1] not in ("data", "part"):
        return shard[1]
    words = [word for word in re.split(r"[\W\d_]+", file.stem) if word]
    named = next((word for word in words if split_name(word)), "")
    inside = file.parent.name if file.parent != folder else ""
    return named or (inside if split_name(inside) else "")


def _set_of(file: Path, folder: Path) -> Path:
    """Return the folder of the data set that a file belongs to."""
    return file.parent.parent if file.parent != folder and split_name(file.parent.name) else (
        file.parent)  # fmt: skip


def _by_split(
    named: Sequence[tuple[str, list[Path]]], folder: Path, key: str, every: bool
) -> Tables:
    """Return files by the splits that their names are; others are left out and named.

    Args:
        named: Names, each with its files.
        folder: The folder of all of them.
        key: The config key behind it, for messages.
        every: Whether splits of any name are taken.
    """
    found: dict[str, list[Path]] = {}
    if every:
        for name, files in named:
            found.setdefault(split_name(name) or name or "others", []).extend(files)
        first = {split: found[split] for split in SPLIT_NAMES if split in found}
        return Tables(first | found)
    left = []
    for name, files in named:
        if split := split_name(name):
            found.setdefault(split, []).extend(files)
        else:
            left.append(name or str(files[0].relative_to(folder)))
    if "train" not in found:
        raise UserError(
            f"{key}: {folder} brings no split to train on. Received: "
            f"{listing([*found, *left], 10)}. Name the files to train on, such as {key}=FILE or a "
            "pattern in quotes."
        )
    found = {name: found[name] for name in SPLIT_NAMES if name in found}
    notices = []
    if left:
        notices.append(
            f"What {folder} brings beside {', '.join(found)} was left out: {listing(left, 10)}. "
            "data.validation and data.test take the path of other files."
        )
    return Tables(found, notices)


def _missing(files: Sequence[Path]) -> list[str]:
    """Say which shards of a split are not there."""
    there = [shard for file in files if (shard := _SHARD.fullmatch(file.stem))]
    wanted = {(shard[1], n, shard[3]) for shard in there for n in range(min(int(shard[3]), 10_000))}
    gone = sorted(wanted - {(shard[1], int(shard[2]), shard[3]) for shard in there})
    if not gone:
        return []
    said = listing(f"{name}-{n:05d}-of-{total}" for name, n, total in gone)
    return [f"{len(gone):,} of {len(wanted):,} files are missing, and the rest is read: {said}."]
