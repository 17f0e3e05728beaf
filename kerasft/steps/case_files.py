"""A run folder read as the rules of a diagnosis see it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kerasft.errors import UserError
from kerasft.evaluation.diagnosis.case import HEAD, Case
from kerasft.evaluation.diagnosis.chance import chance
from kerasft.evaluation.metrics import direction
from kerasft.runs import records
from kerasft.runs.run_folder import RunFolder
from kerasft.steps.training_sample import SAMPLE
from kerasft.system.files import read_json


def is_sampled(folder: RunFolder) -> bool:
    """Whether the run has a training sample."""
    return (folder.path / "logs" / f"{SAMPLE}.json").is_file()


def read_case(folder: RunFolder, cfg: DictConfig) -> Case:
    """Return what a run folder holds as the rules see it.

    Args:
        folder: The run folder.
        cfg: Its config.

    Raises:
        UserError: If no epoch has ended, and no fault says why.
    """
    logs = folder.path / "logs"
    epochs, faults = _lines(logs / "epochs.jsonl"), _lines(logs / "faults.jsonl")
    epochs = [row for row in epochs if {"epoch", "stage", "loss", "val_loss"} <= row.keys()]
    if not epochs and not faults:
        raise UserError(
            f"The run {str(folder.path)!r} has not come to the end of an epoch: there is nothing "
            "to tell yet."
        )
    sample = read_json(logs / f"{SAMPLE}.json") if is_sampled(folder) else {}
    metrics = read_json(folder.metrics) if folder.metrics.is_file() else {}
    answered = {
        "validation": records.read(folder.path / "predictions", "validation"),
        "training sample": records.read(logs, SAMPLE),
    }
    monitor = sample.get("monitor") or cfg.task.get("monitor") or _task(folder).get("monitor")
    monitor = str(monitor or "val_loss")
    counts = {} if sample else _counts(folder)
    updates = [row for row in _lines(logs / "updates.jsonl") if {"stage", "parts"} <= row.keys()]
    case = Case(
        epochs, updates, monitor, sample.get("mode") or direction(monitor),
        validation=metrics.get("validation", {}), sample=sample.get("figures", {}),
        floor=sample.get("floor") or chance([row.get("true") for row in answered["validation"]]),
        train=sample.get("train", counts.get("train", {}).get("examples", 0)),
        held_out=sample.get("validation", counts.get("validation", {}).get("examples", 0)),
        sampled=sample.get("examples", 0),
        classes=sample.get("classes") or {
            name.removeprefix("label "): n for name, n in counts.get("train", {}).items()
            if name != "examples"
        },
        answered=answered, copies=_copied(folder), faults=len(faults),
        frozen=_is_frozen(updates, cfg), modality=sample.get("modality", _modality(folder)),
    )
    if not case.validation and case.epochs:  # it did not come to its end
        figures = {n.removeprefix("val_"): v for n, v in case.best.items() if n[:4] == "val_"}
        object.__setattr__(case, "validation", figures)
    return case


def _lines(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a log; what is cut off at its end is left out."""
    if not file.is_file():
        return []
    found = []
    for line in file.read_text("utf-8", "replace").split("\n"):
        try:
            row = json.loads(line) if line else None
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def _task(folder: RunFolder) -> dict[str, Any]:
    return read_json(folder.task) if folder.task.is_file() else {}


def _counts(folder: RunFolder) -> dict[str, Any]:
    """Return how many examples of each class each split has, of the manifest."""
    found = read_json(folder.manifest).get("counts", {}) if folder.manifest.is_file() else {}
    return found if isinstance(found, dict) else {}


def _modality(folder: RunFolder) -> str:
    """Return what a run learned from, by its preprocessing."""
    file = folder.preprocess / "preprocess.json"
    if not file.is_file():
        return ""
    return "text" if "sequence_length" in read_json(file) else "images"


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
