"""What a sweep wants more or less of, read from what a run left behind."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, nearest
from kerasft.runs import logs
from kerasft.runs.run_folder import RunFolder, open_run
from kerasft.system.files import read_json

# What is known of every run beside the figures of its validation split.
COSTS = ("weights", "size_mb", "latency_ms", "seconds")
# How often one example is answered to see how long that takes.
ANSWERS = 20


def directions(names: Sequence[str]) -> list[str]:
    """Return for each objective whether it is to be large or small, in Optuna's words.

    Example:
        >>> directions(["accuracy", "latency_ms"])
        ['maximize', 'minimize']
    """
    from kerasft.evaluation.metrics import direction

    return [
        "minimize" if name in COSTS or direction(name) == "min" else "maximize" for name in names
    ]


def values(
    names: Sequence[str], folder: Path, trusted: Sequence[str] = ()
) -> list[float]:
    """Return the objectives of a run that has ended.

    Args:
        names: Their names: figures of the validation split, or some of `COSTS`.
        folder: The run folder.
        trusted: Import prefixes that the run's own parts may come from.

    Raises:
        UserError: If a name is none of these, or a figure is not a number.
    """
    figures = read_json(RunFolder(folder).metrics, "validation")["validation"]
    found = []
    for name in names:
        value: Any
        if name in COSTS:
            value = _cost(name, folder, trusted)
        else:
            value = _loss(folder) if name == "loss" else figures.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            known = sorted(k for k, v in figures.items() if isinstance(v, float))
            raise UserError(
                f"sweep.objectives: {name} is no metric of this run. Allowed: "
                f"{', '.join([*known, *COSTS])}.{nearest(name, [*known, *COSTS])}"
            )
        if value != value:
            raise UserError(f"The objective {name} of this run is not a number.")
        found.append(float(value))
    return found


def _cost(name: str, folder: Path, trusted: Sequence[str]) -> float:
    if name == "size_mb":
        return RunFolder(folder).network.stat().st_size / 1e6
    if name == "seconds":
        return sum(row["seconds"] for row in logs.epochs(folder))
    from kerasft.runs import evidence, finetuned

    made = finetuned.load(*open_run(folder), trusted=trusted)
    if name == "weights":
        return float(made.model.count_params())
    example = evidence.read(RunFolder(folder)).examples.inputs[:1]
    made(example)  # compiles
    taken = []
    for _ in range(ANSWERS):
        began = time.perf_counter()
        made(example)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def _loss(folder: Path) -> float | None:
    """Return the validation loss of the epoch whose weights the run kept."""
    from kerasft.evaluation.metrics import direction

    monitor = read_json(RunFolder(folder).task, "monitor")["monitor"]
    choose = min if direction(monitor) == "min" else max
    # No epoch on images of another size than the model's is kept.
    rows = [
        row for row in logs.epochs(folder)
        if row.get(monitor) is not None and not row.get("image_size")
    ]
    return choose(rows, key=lambda row: row[monitor]).get("val_loss") if rows else None
