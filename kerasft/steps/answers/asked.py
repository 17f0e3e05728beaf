"""What `predict --data` is to answer: which tables or images, and which of their columns."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kerasft.config.building import plain
from kerasft.config.checks import check
from kerasft.data import unlabeled
from kerasft.data.annotations.truths import is_label
from kerasft.data.images.files import holds_images
from kerasft.data.paths import find_path
from kerasft.data.tables.folder import IMAGES, Tables, describes_images, find_unlabeled
from kerasft.data.tables.image_cells import is_pattern
from kerasft.data.tables.parts import parts_of
from kerasft.data.tables.reading import Layout
from kerasft.data.unlabeled import Questions
from kerasft.data.unlabeled_tables import Columns, Wanted, from_tables
from kerasft.errors import UserError, nearest
from kerasft.runs import run_folder
from kerasft.runs.inputs import labels_of, wants
from kerasft.spec import Labels
from kerasft.system.console import warn
from kerasft.system.files import at_home, read_json
from kerasft.system.folders import is_there, located
from kerasft.system.terminal import status

# What of a run's data says how a table is read, and what may be said otherwise for another one.
_COLUMNS = tuple(one.name for one in fields(Columns) if one.name != "id")
_LAYOUT = tuple(one.name for one in fields(Layout) if one.name != "several")
SETTINGS = (*_COLUMNS, "image_root", "label_delimiter", *_LAYOUT)
KEY = "--data"
_SOURCES = "kerasft.data.sources"
_TABLE = f"{_SOURCES}.table.table"
_MEMORY = f"{_SOURCES}.memory.memory"
_BOXES = f"{_SOURCES}.boxes_csv.boxes_csv"
_MASKS = f"{_SOURCES}.mask_folder.mask_folder"
_MASKS_TABLE = f"{_SOURCES}.masks_table.masks_table"
_TFDS = f"{_SOURCES}.tfds.tfds"
# The files of a data set that TensorFlow Datasets has prepared.
_PREPARED = ("dataset_info.json", "features.json")


def read(
    model: str, data: str, overrides: Sequence[str] = (), id_column: str | None = None,
    trusted: Sequence[str] = (),
) -> Questions:
    """Read what is to be answered, with the columns that a run has learned from.

    Nothing here imports TensorFlow: a mistake is told at once.

    Args:
        model: A run folder or an export.
        data: A table, a pattern or a folder of tables, or a folder or zip of images.
        overrides: `data.KEY=VALUE`, where this table is written otherwise than that of the run.
        id_column: The column with the name of each row.
        trusted: Import prefixes that the run's own parts may come from.

    Returns:
        What there is to be answered.

    Raises:
        UserError: If the data cannot be read, or has no column for the model.
    """
    with status.showing(f"reading {data} ..."):
        found = _read(model, data, overrides, id_column, trusted)
    for line in found.notices:
        warn(line)
    return found


def _read(
    model: str, data: str, overrides: Sequence[str], id_column: str | None, trusted: Sequence[str]
) -> Questions:
    modality, pair = wants(model)
    folder, own = _recorded(model, trusted)
    target = str(own.get("_target_", ""))
    labels = labels_of(model)
    told = _given(overrides)
    _refuse_records(data, own)
    said = f"--id {id_column}" if id_column is not None else next(iter(overrides), None)
    images = _images(data, target, told=said is not None) if modality == "images" else None
    if images is not None and said is not None:
        raise UserError(
            f"--id and data.KEY=VALUE are about a table. Received: {said}, and {data!r}, a folder "
            "or zip of images, whose paths are their ids."
        )
    if images is not None:
        masks = (own.get("masks") or "masks") if target == _MASKS else None
        named = None if target in (_BOXES, _MASKS, _MASKS_TABLE) else labels
        return unlabeled.from_folder(images, labels=named, masks=masks)
    tables = find_unlabeled(data, KEY)
    if tables is None or data.lower().endswith(".zip"):
        raise UserError(
            f"{KEY} must be a table for this model, which takes texts, or a pattern or a folder "
            f"of tables. Received: {data!r}, which may hold images."
        )
    settings = _of_source(own, folder) | told
    described = tables.metadata and modality == "images" and (
        "image" not in told or told["image"] == IMAGES
    )
    if described:
        settings["image"] = IMAGES
    if len(tables.files) > 1:
        warn(f"{data} holds {', '.join(tables.files)}, and all of them are answered; for one of "
             f"them: {_one_of(tables)}")  # fmt: skip
    first = next(iter(tables.files.values()))[0]
    layout = Layout(**{k: settings[k] for k in _LAYOUT if k in settings})
    return from_tables(
        [(name, parts_of(file, layout, KEY, _label_of(told, labels), told="format" in told))
         for _, name, file in tables.each()],
        Wanted(
            _columns(settings, modality, pair, id_column), labels,
            settings.get("label_delimiter", ","),
            _root(settings, own, overrides, first, folder) if modality == "images" else None,
            once=target == _BOXES, inside=described,
        ), tables.notices,
    )  # fmt: skip


def _one_of(tables: Tables) -> str:
    """Return how the last split of a folder is named: by its own folder, or by a pattern."""
    *others, (_, files) = tables.files.items()
    homes = {file.parent for _, more in others for file in more}
    if files[0].parent not in homes:
        return f"{KEY} {shlex.quote(str(files[0].parent))}"
    begin = files[0].stem.partition("-")[0]  # test-00000-of-00003
    return f"{KEY} {shlex.quote(f'{files[0].parent}/{begin}*{files[0].suffix}')}"


def _refuse_records(data: str, own: Mapping[str, Any]) -> None:
    """Refuse files of TFRecord, and names of data sets of TensorFlow Datasets."""
    place = at_home(data)
    prepared = all((place / name).is_file() for name in _PREPARED)
    named = own.get("_target_") == _TFDS and not is_there(located(data)) and (
        not glob.has_magic(data) and not place.suffix
    )
    if not (".tfrecord" in place.name.lower() or prepared or named):
        return
    what = "names no file or folder" if named else "holds examples as TFRecord"
    raise UserError(
        f"{KEY} reads tables, and folders or a zip of images; data sets of TensorFlow Datasets and "
        f"TFRecord files are read for training alone. Received: {data!r}, which {what}. Answers to "
        "the splits of a run's own data are in its predictions/. Write other examples into a "
        "Parquet file with a column `text` or `image`, or the images into a folder."
    )


def _images(data: str, target: str, *, told: bool) -> Path | None:
    """Return the folder or zip whose images are meant, and not a table in it."""
    if glob.has_magic(data) and not is_there(located(data)):
        return None
    given = find_path(data, KEY)
    if not given.is_dir():
        return given if given.suffix.lower() == ".zip" else None
    if told and find_unlabeled(data, KEY) is not None:
        return None
    if target in (_TABLE, _BOXES, _MASKS_TABLE, _MEMORY) and describes_images(given):
        return None
    # Where there is neither, it is told that there is no image.
    return given if holds_images(given) or find_unlabeled(data, KEY) is None else None


def _label_of(told: Mapping[str, Any], labels: Labels) -> Callable[[str], bool]:
    """Return whether the first word of a line is a label: as the user says, or as it looks."""
    if "label" in told:
        return lambda word: told["label"] is not None
    return lambda word: is_label(word, labels)


def _recorded(
    model: str, trusted: Sequence[str]
) -> tuple[run_folder.RunFolder | None, dict[str, Any]]:
    """Return the run folder at a path and what it says of its data; of an export nothing."""
    place = at_home(model)
    if not (place / "config.yaml").is_file() or (place / "saved_model.pb").is_file():
        return None, {}
    folder, cfg = run_folder.open_run(model)
    with folder.at_its_command():  # a run folder may come from anywhere
        check(cfg, trusted=trusted)
    return folder, plain(cfg.data)


def _of_source(
    own: Mapping[str, Any], folder: run_folder.RunFolder | None
) -> dict[str, Any]:
    """Return what a run's data says of how a table is read."""
    target = own.get("_target_")
    if target in (_TABLE, _MEMORY):
        found = {key: own[key] for key in SETTINGS if own.get(key) is not None}
        if folder is not None and not {"text", "image"} & set(found):  # found by itself
            found |= _found_columns(folder)
        return found
    if target in (_BOXES, _MASKS_TABLE):
        read = _of_manifest(folder).get("image")
        chosen = {"image": read if isinstance(read, str) else own.get("image", "filename"),
                  "image_root": own.get("images"), "delimiter": own.get("delimiter")}  # fmt: skip
        return {key: value for key, value in chosen.items() if value is not None}
    return {}


def _found_columns(folder: run_folder.RunFolder) -> dict[str, Any]:
    """Return the columns that a run has learned from, of its manifest."""
    columns = _of_manifest(folder).get("columns")
    found = columns if isinstance(columns, dict) else {}
    return {key: found[key] for key in _COLUMNS if isinstance(found.get(key), str | int)}


def _of_manifest(folder: run_folder.RunFolder | None) -> dict[str, Any]:
    """Return what a run's manifest says of where its data is from."""
    if folder is None or not folder.manifest.is_file():
        return {}
    source = read_json(folder.manifest).get("source")
    return source if isinstance(source, dict) else {}


def _given(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the settings of the command line."""
    found: dict[str, Any] = {}
    problems = []
    for override in overrides:
        key, mark, value = override.lstrip("+").partition("=")
        name = key.removeprefix("data.")
        if not mark or name == key:
            problems.append(
                "With --data, all that follows must read data.KEY=VALUE, and says how the table is "
                f"read. Received: {override!r}. Inputs are given without --data."
            )
        elif name not in SETTINGS:
            problems.append(
                f"{key} says nothing of how a table is read that is to be answered. Allowed: "
                f"{', '.join(f'data.{one}' for one in SETTINGS)}. Received: {override!r}."
                + nearest(key, [f"data.{one}" for one in SETTINGS])
            )
        elif name == "image" and is_pattern(value):
            found[name] = value.strip("'\"")
        else:
            try:
                found[name] = plain(OmegaConf.create(f"value: {value}"))["value"]
            except (OmegaConfBaseException, YAMLError, ValueError) as error:
                problems.append(f"{key} cannot be set: {str(error).splitlines()[0]}.")
    if problems:
        raise UserError(problems=problems)
    return found


def _columns(
    settings: Mapping[str, Any], modality: str, pair: bool, id_column: str | None
) -> Columns:
    label = settings.get("label")
    if modality == "images":
        return Columns(image=settings.get("image", "image"), label=label, id=id_column)
    second = settings.get("text_pair", "text_pair") if pair else None
    return Columns(settings.get("text", "text"), second, label=label, id=id_column)


def _root(
    settings: Mapping[str, Any], own: Mapping[str, Any], overrides: Sequence[str], file: Path,
    folder: run_folder.RunFolder | None,
) -> Path | None:
    """Return the folder of the images, where the table's own is not meant."""
    root = settings.get("image_root")
    if root is None:
        return None
    if any(one.startswith("data.image_root=") for one in overrides) or folder is None:
        return find_path(root, "data.image_root", beside=file.parent)
    # That of the run: beside this table, or where the run found it.
    if (beside := file.parent / at_home(root)).is_dir():
        return beside
    with folder.at_its_command():
        return find_path(root, "data.image_root", beside=located(str(own["path"])).parent)
