"""Answers for all rows of a table, or all images of a folder, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kerasft.config.building import plain
from kerasft.config.checks import check
from kerasft.data import unlabeled
from kerasft.data.annotations.truths import truths
from kerasft.data.paths import find_path
from kerasft.data.tables.image_cells import is_pattern
from kerasft.data.tables.readers import SUFFIXES
from kerasft.data.tables.reading import Layout
from kerasft.data.unlabeled import Columns, Unlabeled
from kerasft.errors import Unreadable, UserError, nearest
from kerasft.runs import run_folder
from kerasft.runs.answer_files import ERROR
from kerasft.runs.inputs import wants
from kerasft.runs.records import about, records
from kerasft.spec import Labels
from kerasft.steps.answering import answer_each, takes_images
from kerasft.system.console import warn
from kerasft.system.files import at_home
from kerasft.system.folders import located

# What of a run's data says how a table is read, and what may be said otherwise for another one.
_COLUMNS = tuple(one.name for one in fields(Columns) if one.name != "id")
_LAYOUT = tuple(one.name for one in fields(Layout))
SETTINGS = (*_COLUMNS, "image_root", "label_delimiter", *_LAYOUT)
_TABLE = "kerasft.data.sources.table.table"
_BOXES = "kerasft.data.sources.boxes_csv.boxes_csv"
_MASKS = "kerasft.data.sources.mask_folder.mask_folder"
# So many are held at a time. An export is sent whole images.
TEXTS, IMAGES, SENT_IMAGES = 2048, 128, 32


@dataclass(frozen=True)
class Asked:
    """What is to be answered.

    Args:
        found: The examples.
        delimiter: What parts the labels of one example.
    """

    found: Unlabeled
    delimiter: str | None = ","


@dataclass(frozen=True)
class Answering:
    """The answers to all rows of a table or images of a folder, made while they are iterated.

    Iterating gives a dict for each, in order: `id`, `input`, where it is known `true` and
    `true_probability`, the task's answers, and `error`, the reason for what is not answered.

    Args:
        answer: What `open_predictor` returned.
        asked: What is to be answered.
    """

    answer: Any
    asked: Asked

    def __len__(self) -> int:
        return len(self.asked.found)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for rows, _ in self.batches():
            yield from rows

    @property
    def items(self) -> list[str]:
        """What is known of each object of an image."""
        return [rule.item for rule in self.answer.rules.values() if rule.item]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""
        return tuple(self.answer.names)

    def place(self, index: int) -> str:
        """Return how a message names an example."""
        return self.asked.found.places[index]

    @cached_property
    def true(self) -> list[Any]:
        """What is true of each example, as plain values."""
        found = self.asked.found
        task = getattr(self.answer, "task", None)
        kind = task.kind if task is not None else self.answer.signature.get("kind", "")
        made, said = truths(
            found.values, found.places, Labels(kind, self.labels), delimiter=self.asked.delimiter
        )
        for line in said:
            warn(line)
        return made

    def batches(self) -> Iterator[tuple[list[dict[str, Any]], list[Any]]]:
        """Yield the rows of a few examples at a time, and their inputs.

        Raises:
            UserError: At the end, if none could be answered.
        """
        found, true, failed = self.asked.found, self.true, []
        known = any(one is not None for one in true)
        size = _at_once(self.answer)
        for start in range(0, len(found), size):
            places = range(start, min(start + size, len(found)))
            problems = {i: found.problems[i] for i in places if i in found.problems}
            asked = [i for i in places if i not in problems]
            outputs, answered, broken = answer_each(self.answer, [found.inputs[i] for i in asked])
            problems |= {asked[i]: str(why) for i, why in broken.items()}
            made: Mapping[int, Mapping[str, Any]] = dict(zip(
                (asked[i] for i in answered),
                records(outputs, self.answer.names, self.answer.rules), strict=True,
            ))  # fmt: skip
            yield [
                {"id": found.ids[i], **about(found.inputs[i], true[i], made.get(i, {}), known),
                 **made.get(i, {}), ERROR: problems.get(i)}
                for i in places
            ], [found.inputs[i] for i in places]  # fmt: skip
            failed += [f"{found.places[i]}: {why}" for i, why in problems.items()]
        if len(failed) == len(found):
            more = [f"{len(failed) - 20:,} more of the kind."] if len(failed) > 20 else []
            raise Unreadable(problems=[*failed[:20], *more])


def _at_once(answer: Any) -> int:
    """Return how many examples are answered at a time, whole batches of the model."""
    own = getattr(answer, "batch_size", None)
    most = IMAGES if own is not None else SENT_IMAGES
    if not takes_images(answer):
        most = TEXTS
    return max(most // (own or most), 1) * (own or most)


def read(
    model: str, data: str, overrides: Sequence[str] = (), id_column: str | None = None,
    trusted: Sequence[str] = (),
) -> Asked:
    """Read what is to be answered, with the columns that a run has learned from.

    Nothing here imports TensorFlow: a mistake is told at once.

    Args:
        model: A run folder or an export.
        data: A table, or a folder or zip of images.
        overrides: `data.KEY=VALUE`, where this table is written otherwise than that of the run.
        id_column: The column with the name of each row.
        trusted: Import prefixes that the run's own parts may come from.

    Returns:
        What there is to be answered.

    Raises:
        UserError: If the data cannot be read, or has no column for the model.
    """
    modality, pair = wants(model)
    folder, own = _recorded(model, trusted)
    target = str(own.get("_target_", ""))
    settings = _of_source(target, own) | _given(overrides)
    given = find_path(data, "--data")
    if given.is_dir() or given.suffix.lower() == ".zip":
        if modality != "images":
            raise UserError(
                f"--data must be a table for this model, which takes texts. Received: {data!r}, "
                "which may hold images."
            )
        if id_column is not None or overrides:
            said = f"--id {id_column}" if id_column is not None else overrides[0]
            raise UserError(
                f"--id and data.KEY=VALUE are about a table. Received: {said}, and {data!r}, a "
                "folder or zip of images, whose paths are their ids."
            )
        names = () if target in (_BOXES, _MASKS) else _classes(folder)
        masks = (own.get("masks") or "masks") if target == _MASKS else None
        found = unlabeled.from_folder(given, names=names, masks=masks)
    else:
        columns = _columns(settings, modality, pair, id_column)
        if given.suffix.lower() in SUFFIXES and not any(o.startswith("data.format=")
                                                        for o in overrides):  # fmt: skip
            settings["format"] = "auto"
        found = unlabeled.from_table(
            given, columns, Layout(**{k: settings[k] for k in _LAYOUT if k in settings}),
            root=_root(settings, own, overrides, given, folder) if modality == "images" else None,
            numbers=isinstance(columns.label, list) and _kind(folder) == "numbers",
            once=target == _BOXES,
        )
    for line in found.notices:
        warn(line)
    return Asked(found, settings.get("label_delimiter", ","))


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


def _of_source(target: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run's data says of how a table is read."""
    if target == _TABLE:
        return {key: own[key] for key in SETTINGS if own.get(key) is not None}
    if target == _BOXES:
        chosen = {"image": own.get("image", "filename"), "image_root": own.get("images"),
                  "delimiter": own.get("delimiter")}  # fmt: skip
        return {key: value for key, value in chosen.items() if value is not None}
    return {}


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


def _classes(folder: run_folder.RunFolder | None) -> tuple[str, ...]:
    from kerasft.system.recorded import read_labels

    return () if folder is None else tuple(read_labels(folder.labels).names)


def _kind(folder: run_folder.RunFolder | None) -> str:
    from kerasft.system.recorded import read_labels

    return "" if folder is None else str(read_labels(folder.labels).to_dict()["kind"])
