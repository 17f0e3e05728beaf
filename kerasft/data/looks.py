"""What can be said of data before it is read: whether it is there, and what it consists of.

A module of a source may have a function `look`, which `kerasft check` calls with the source's
settings. It opens no more than the beginning of a file.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasft.data.paths import find_path
from kerasft.data.slices import LENGTH
from kerasft.data.tables.columns import column_name
from kerasft.data.tables.delimited import lines_of, names_of, told_delimiter
from kerasft.data.tables.folder import IMAGES, Tables, find_tables
from kerasft.data.tables.image_cells import fields, is_pattern
from kerasft.data.tables.labelled_lines import LABEL, TEXT
from kerasft.data.tables.readers import format_of, require_file
from kerasft.data.tables.reading import Layout, Rows, shown
from kerasft.data.tables.slice_cells import KEY
from kerasft.errors import UserError
from kerasft.spec import Modality

# So much of a file is read to find its columns: bytes, and lines of JSON.
HEAD, LINES = 1 << 18, 100
# The settings of a table that choose columns.
COLUMNS = ("text", "text_pair", "image", "label", "split_column", "group", KEY)
# What sources of classes or numbers give.
LABELS = ("single", "multi", "number", "numbers")


@dataclass(frozen=True)
class Look:
    """What a look at data found.

    Args:
        modality: What the examples are; `None` where only reading tells.
        checked: What was looked at and is right, a phrase each.
        unchecked: What was not looked at, a phrase each.
        kinds: The kinds of labels that the source gives, see `Labels`; empty where only reading
            tells.
        conversations: Of texts that a language model learns, whether they are conversations.
    """

    modality: Modality | None = None
    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    conversations: bool | None = None


def look_at_images(settings: Mapping[str, Any], *, kinds: tuple[str, ...]) -> Look:
    """Look whether a file or folder of images is there.

    Args:
        settings: The settings of the source.
        kinds: What it gives, see `Look`.

    Raises:
        UserError: If it is not.
    """
    found = find_path(settings["path"], "data.path")
    return Look(
        "images", (f"data.path: {found} is there",), ("the images and their labels",), kinds
    )


def look_at_table(settings: Mapping[str, Any]) -> Look:
    """Look whether the files of a table are there, and have the columns that are named.

    Raises:
        UserError: If they are not, or have not.
    """
    layout = Layout(**{
        name: settings[name] for name in ("format", "header", "columns", "encoding", "delimiter",
                                          "quoting") if name in settings
    })  # fmt: skip
    problems: list[str] = []
    tables = find_tables(settings["path"], {})
    beside = tables.files["train"][0].parent
    for name in ("validation", "test"):
        try:
            tables.take(name, settings.get(name), beside)
        except UserError as error:
            problems += error.problems
    chosen_columns = {column: settings.get(column) for column in COLUMNS}
    if tables.metadata and chosen_columns["text"] is None and chosen_columns["image"] is None:
        chosen_columns["image"] = IMAGES
    heads, unsure, wrong = look_at_heads(
        tables, layout, lambda head: (missing_columns(head, chosen_columns), [])
    )
    checked, unchecked = list(heads), list(unsure)
    problems += wrong
    if (root := settings.get("image_root")) is not None:
        try:
            found = find_path(root, "data.image_root", beside=beside)
        except UserError as error:
            problems += error.problems
        else:
            checked.append(f"data.image_root: {found} is there")
    if problems:
        raise UserError(problems=list(dict.fromkeys(problems)))
    modality: Modality = "images" if chosen_columns["image"] is not None else "text"
    return Look(
        modality, tuple(checked), ("the rows of the table and their labels", *unchecked), LABELS
    )


def look_at_heads(
    tables: Tables, layout: Layout, of_columns: Callable[[Rows], tuple[list[str], list[str]]]
) -> tuple[list[str], list[str], list[str]]:
    """Look whether the first file of each split has the columns that are meant.

    Args:
        tables: The files.
        layout: How they are written.
        of_columns: Returns what is wrong with the columns of a file, and what only its rows tell.

    Returns:
        What was looked at and is right, what was not looked at, and what is wrong.
    """
    checked, unchecked, problems = list[str](), list[str](), list[str]()
    for name, files in tables.files.items():
        key = f"data.{name}" if name in tables.named else "data.path"
        file = files[0]  # the shards of a split are alike
        there = f"{key}: {file} is there" if len(files) == 1 else (
            f"{key}: {len(files)} files of {name} are there"
        )
        head = head_of(file, layout, key)
        if head is None:
            unchecked.append(f"the columns of {file.name}")
            checked.append(there)
            continue
        missing, unsure = of_columns(head)
        unchecked += unsure
        if missing and head.unit == "object":  # a later line may have it
            unchecked.append(f"columns that the first {LINES} lines of {file.name} lack: "
                             f"{' '.join(missing)}")
        else:
            problems += missing
            checked.append(f"{there}, with the columns {shown(head.names)}")
    return checked, unchecked, problems


def missing_columns(head: Rows, chosen: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the columns that are chosen, of those that a table has.

    Args:
        head: The names of its columns, see `head_of`.
        chosen: By setting a column, several, or `None`; `image` and `masks` may be patterns, and
            `slices` name what is in the objects of a column.
    """
    missing: list[str] = []
    for key, columns in chosen.items():
        for one in columns if isinstance(columns, list | tuple) else [columns]:
            if one is None or (key == KEY and one == LENGTH):
                continue
            if key == KEY and isinstance(one, str) and one not in head.names:
                one = one.partition(".")[0]
            try:
                pattern = key in ("image", "masks") and is_pattern(one) and one not in head.names
                for name in fields(one) if pattern else [one]:
                    column_name(head, name, key if key == KEY else f"data.{key}")
            except UserError as error:
                missing += error.problems
    return missing


def head_of(path: Path, layout: Layout, key: str) -> Rows | None:
    """Return the names of a table's columns as `Rows` without rows; `None` if only reading tells.

    Args:
        path: The file.
        layout: How it is written.
        key: The config key behind the path.
    """
    require_file(path, key)
    form = format_of(path, layout.format, key)
    if form in ("json", "arrow"):
        return None
    if form == "lines":
        return _rows(path, (LABEL, TEXT))
    if form == "parquet":
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:  # reading says so
            return None
        try:
            return _rows(path, tuple(pyarrow.parquet.read_schema(path).names))
        except (pyarrow.ArrowException, OSError):  # reading says what is wrong
            return None
    with open(path, "rb") as file:
        begin = file.read(HEAD)
    try:
        # A character may be cut at the end of it.
        text = begin.decode(layout.encoding, "ignore").removeprefix("\ufeff")
    except LookupError:  # no such encoding, which reading says
        return None
    lines = lines_of(text)
    if form == "jsonl":
        return _of_objects(path, lines[:-1] if len(begin) == HEAD else lines)
    text, told = told_delimiter(text)
    delimiter = layout.delimiter or told or ("\t" if form == "tsv" else ",")
    delimiter = "\t" if delimiter == "\\t" else delimiter
    rows = [line for line in lines_of(text) if line]
    if layout.quoting:
        try:
            first = next((r for r in csv.reader(rows, delimiter=delimiter) if r), None)
        except (csv.Error, TypeError):  # reading says what is wrong
            return None
    else:
        first = rows[0].split(delimiter) if rows else None
    if first is None:
        raise UserError(f"{key}: {path} holds no rows.")
    header = layout.header and layout.columns is None
    return _rows(path, names_of(path, first, layout, delimiter, key), header=header)


def _of_objects(path: Path, lines: list[str]) -> Rows | None:
    names: dict[str, None] = {}
    for line in itertools.islice((one for one in lines if one.strip()), LINES):
        try:
            names |= dict.fromkeys(json.loads(line))
        except (ValueError, TypeError, RecursionError):  # reading says what is wrong
            return None
    return _rows(path, tuple(names), unit="object")


def _rows(path: Path, names: tuple[str, ...], *, header: bool = False, unit: str = "line") -> Rows:
    return Rows(path, names, dict.fromkeys(names, ()), (), unit, header)
