"""A run folder read as the rules of a diagnosis see it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from kerasft.errors import UserError
from kerasft.evaluation.diagnosis.case import HEAD, Case, Lagging
from kerasft.evaluation.diagnosis.chance import chance
from kerasft.evaluation.metrics import direction
from kerasft.evaluation.slices import WORSE
from kerasft.runs import logs
from kerasft.runs.run_folder import RunFolder
from kerasft.steps.measuring.slicing import KEY
from kerasft.steps.measuring.training_sample import SAMPLE
from kerasft.system.files import read_json
from kerasft.system.recorded import fits, is_number


class NothingTrained(UserError):
    """A run without an epoch of training, whose head was computed."""


def is_sampled(folder: RunFolder) -> bool:
    """Whether the run has a training sample."""
    return (folder.path / "logs" / f"{SAMPLE}.json").is_file()


def read_case(folder: RunFolder, cfg: DictConfig) -> Case:
    """Return what a run folder holds as the rules see it.

    Args:
        folder: The run folder.
        cfg: Its config.

    Raises:
        UserError: If no epoch has ended, and no fault says why; a `NothingTrained` where the only
            one was computed.
    """
    there = folder.path / "logs"
    lines = logs.epochs(folder.path)
    epochs = [row for one in lines if (row := _epoch(one))]
    faults = logs.rows(there / "faults.jsonl")
    if not epochs and not faults:
        if any("val_loss" in one and "loss" not in one for one in lines):
            raise NothingTrained(
                f"In the run {str(folder.path)!r} the head was computed and nothing was trained: "
                "there are no learning curves to judge. metrics.json and logs/training_sample.json "
                "have its figures."
            )
        raise UserError(
            f"The run {str(folder.path)!r} has not come to the end of an epoch: there is nothing "
            "to tell yet."
        )
    answered = {
        "validation": _answers(folder.path / "predictions", "validation"),
        "training sample": _answers(there, SAMPLE),
    }
    updates = [row for row in logs.rows(there / "updates.jsonl") if _is_update(row)]
    sample = _sample(there / f"{SAMPLE}.json") if is_sampled(folder) else _without(folder, cfg)
    monitor = sample["monitor"]
    best = Case(epochs, monitor=monitor, mode=sample["mode"]).best if epochs else {}
    measured = read_json(folder.metrics).get("validation") if folder.metrics.is_file() else None
    return Case(
        epochs, updates, monitor, sample["mode"],
        # One that did not come to its end has the figures of its best epoch.
        validation=_figures(measured) or {
            n.removeprefix("val_"): v for n, v in best.items() if n[:4] == "val_"
        },
        sample=_figures(sample["figures"]),
        floor=sample["floor"] or chance([row.get("true") for row in answered["validation"]]),
        train=sample["train"], held_out=sample["validation"], sampled=sample["examples"],
        classes=sample["classes"], answered=answered, copies=_copied(folder),
        faults=len(faults), frozen=_is_frozen(updates, cfg), modality=sample["modality"],
        lagging=_lagging(measured, monitor.removeprefix("val_")),
    )


# What the file of a training sample holds. A run folder may come from anybody.
_HOLDS: dict[str, Any] = {
    "monitor": str, "mode": Literal["max", "min"], "modality": str, "figures": dict[str, Any],
    "floor": dict[str, float], "classes": dict[str, int], "examples": int, "train": int,
    "validation": int,
}  # fmt: skip


def _sample(file: Path) -> dict[str, Any]:
    found = read_json(file, *_HOLDS)
    for name, kind in _HOLDS.items():
        if not fits(found[name], kind) or (kind is int and found[name] < 0):
            raise UserError(
                f"The file {str(file)!r} is damaged: {name} holds {str(found[name])[:80]!r}. "
                "Remove it, and the sample is measured again."
            )
    return found


def _without(folder: RunFolder, cfg: DictConfig) -> dict[str, Any]:
    """Return what is known of a run without a training sample."""
    task = read_json(folder.task) if folder.task.is_file() else {}
    monitor = str(cfg.task.get("monitor") or task.get("monitor") or "val_loss")
    found = read_json(folder.manifest).get("counts") if folder.manifest.is_file() else None
    counts: dict[str, Any] = found if fits(found, dict[str, dict[str, int]]) else {}  # type: ignore
    of_train = counts.get("train", {})
    file = folder.preprocess / "preprocess.json"
    settings = read_json(file) if file.is_file() else {}
    return {
        "monitor": monitor, "mode": direction(monitor), "figures": {}, "floor": {}, "examples": 0,
        "modality": "text" if "sequence_length" in settings else "images" if settings else "",
        "train": of_train.get("examples", 0),
        "validation": counts.get("validation", {}).get("examples", 0),
        "classes": {n.removeprefix("label "): c for n, c in of_train.items() if n != "examples"},
    }


def _epoch(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of an epoch, which may be infinite or no numbers; nothing of no epoch."""
    words = {name: row[name] for name in ("stage", "image_size") if isinstance(row.get(name), str)}
    found = words | {name: value for name, value in row.items() if is_number(value)}
    whole = {"epoch", "stage", "loss", "val_loss", "learning_rate"} <= found.keys()
    return found if whole else {}


def _is_update(row: Mapping[str, Any]) -> bool:
    kinds: dict[str, Any] = {"epoch": int, "stage": str, "peak": float,
                             "parts": dict[str, dict[str, float]]}  # fmt: skip
    return all(name in row and fits(row[name], kind) for name, kind in kinds.items()) and all(
        {"weights", "moved"} <= part.keys() for part in row["parts"].values()
    )


def _figures(found: object) -> dict[str, Any]:
    """Return figures that are numbers, and those of each class."""
    if not isinstance(found, dict):
        return {}
    by_class = found.get("per_class")
    return {name: value for name, value in found.items() if fits(value, float)} | (
        {"per_class": by_class} if fits(by_class, dict[str, dict[str, float]]) else {}
    )


def _lagging(found: object, name: str) -> list[Lagging]:
    """Return the slices that are clearly worse by a figure, as far as that makes sense."""
    sliced = found.get(KEY) if isinstance(found, dict) else None
    if not fits(sliced, dict[str, dict[str, dict[str, Any]]]):
        return []
    return [
        Lagging(column, value, one["examples"], float(one[name]))
        for column, values in (sliced or {}).items() for value, one in values.items()
        if one.get("verdict") == WORSE and is_number(one.get(name))
        and fits(one.get("examples"), int)
    ]  # fmt: skip


def _answers(folder: Path, split: str) -> list[dict[str, Any]]:
    """Return the records of a split; of answers only probabilities are looked at."""
    found = []
    for row in logs.rows(folder / f"{split}.jsonl"):
        answer = row.get("predicted")
        given = answer.get("probabilities") if isinstance(answer, dict) else None
        kept = {"probabilities": given} if given and fits(given, dict[str, float]) else {}
        found.append({**row, "predicted": kept, "id": row.get("id", "")})
    return found


def _copied(folder: RunFolder) -> int:
    """Return how many validation examples also are training examples."""
    if not folder.copies.is_file():
        return 0
    with open(folder.copies, newline="", encoding="utf-8") as file:
        pairs = [{row.get("split"), row.get("copy_of_split")} for row in csv.DictReader(file)]
    return sum(pair == {"train", "validation"} for pair in pairs)


def _is_frozen(updates: Sequence[Mapping[str, Any]], cfg: DictConfig) -> bool:
    """Whether the backbone rested in all stages."""
    if updates:
        return all(set(row["parts"]) <= {HEAD} for row in updates)
    trains = [node.get("train", "all") for node in cfg.finetune.values() if node is not None]
    return all(one in ("head", 0) for one in trains)
