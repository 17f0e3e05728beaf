"""The table that compares runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kerasft.aliases import require_small
from kerasft.errors import UserError
from kerasft.evaluation.metrics import direction
from kerasft.files import at_home, read_json


def leaderboard(directory: str, *, metric: str | None = None) -> list[dict[str, Any]]:
    """Compare the runs below a folder, the best first.

    Runs are ranked by a figure of the validation split: choosing by the test split would make its
    figure too good.

    Args:
        directory: The folder.
        metric: The figure to rank by; by default the task's monitor of the first run.

    Returns:
        One dict a run: `rank`, `run`, `status`, `metric`, `validation`, `test`, and under
        `settings` what differs between the runs.

    Raises:
        UserError: If there is no run below the folder.
    """
    root = at_home(directory)
    if not root.is_dir():
        raise UserError(f"There is no folder {directory!r}.")
    found = sorted(
        {file.parent.resolve() for file in root.rglob("run.json")}
    )
    if not found:
        raise UserError(
            f"There is no run below {directory!r}. A run is a folder that `kerasft train` wrote."
        )
    rows, configs = [], []
    for folder in found:
        row, config = _read(folder, root.resolve())
        rows.append(row)
        configs.append(_flat(config))
    metric = metric or _monitor(found)
    lower = direction(metric) == "min"
    for row in rows:
        row["metric"] = metric
        for split in ("validation", "test"):
            row[split] = (row["metrics"].get(split) or {}).get(metric)
    known = sorted({name for row in rows for name in row["metrics"].get("validation") or {}})
    if known and metric not in known:
        raise UserError(
            f"--metric must be a figure of the runs: {', '.join(known)}. Received: {metric!r}."
        )
    differing = _differing(configs)
    for row, config in zip(rows, configs, strict=True):
        row["settings"] = {key: config.get(key) for key in differing}
        del row["metrics"]
    rows.sort(key=lambda r: (r["validation"] is None,
                             (r["validation"] or 0) * (1 if lower else -1)))
    for rank, row in enumerate(rows, 1):
        row["rank"] = rank if row["validation"] is not None else None
    return rows


def as_text(rows: list[dict[str, Any]]) -> str:
    """Return the leaderboard as a table."""
    from kerasft.console import table

    keys = list(rows[0]["settings"])
    metric = rows[0]["metric"]
    short = {key: _shortest(key, keys) for key in keys}
    header = ["rank", "run", *(short[k] for k in keys), f"validation {metric}", f"test {metric}",
              "status"]
    body = [
        [row["rank"], row["run"], *(_word(row["settings"][k]) for k in keys), row["validation"],
         row["test"], row["status"]]
        for row in rows
    ]
    return table(body, header)


def write(rows: list[dict[str, Any]], path: str) -> None:
    """Write the leaderboard as CSV or JSON, by the suffix."""
    from kerasft.files import write_json, written_whole

    if path.endswith(".json"):
        write_json(path, rows)
        return
    if not path.endswith(".csv"):
        raise UserError(f"--output must end in .csv or .json. Received: {path!r}.")
    keys = list(rows[0]["settings"])
    with written_whole(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "run", "status", "metric", "validation", "test", *keys])
        for row in rows:
            plain = [row[k] for k in ("rank", "run", "status", "metric", "validation", "test")]
            writer.writerow([*plain, *(row["settings"][k] for k in keys)])


def _read(folder: Path, root: Path) -> tuple[dict[str, Any], Any]:
    """Return the row and the config of a run; a damaged file costs its run the rank, no more."""
    name = str(folder.relative_to(root)) if folder != root else folder.name
    damaged = []

    def mapping(file: str, read: Callable[[Path], Any]) -> dict[str, Any]:
        if not (folder / file).is_file():
            return {}
        try:
            found = read(folder / file)
        except (UserError, OSError, ValueError, YAMLError, OmegaConfBaseException):
            found = None
        if not isinstance(found, dict):
            damaged.append(file)
        return found if isinstance(found, dict) else {}

    facts = mapping("run.json", read_json)
    config = mapping("config.yaml", _settings)
    metrics = mapping("metrics.json", read_json)
    status = facts.get("status", "unknown")
    if damaged:
        status = f"damaged: {', '.join(damaged)}"
    row = {"rank": None, "run": name, "status": status, "metrics": {} if damaged else metrics}
    return row, config


def _settings(file: Path) -> Any:
    require_small(file)
    return OmegaConf.to_container(OmegaConf.load(file))


def _monitor(folders: list[Path]) -> str:
    for folder in folders:
        try:
            monitor = read_json(folder / "task.json").get("monitor", "val_accuracy")
        except (UserError, AttributeError):  # a run that failed early, or is damaged
            continue
        return str(monitor).removeprefix("val_")
    return "accuracy"


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        found: dict[str, Any] = {}
        for key, value in node.items():
            found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: node}


def _differing(configs: list[dict[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all runs."""
    keys = sorted({key for config in configs for key in config})
    return [
        key for key in keys
        if key != "output_dir" and len({json.dumps(c.get(key), default=str) for c in configs}) > 1
    ]


def _shortest(key: str, keys: list[str]) -> str:
    """Return the end of a key that still tells it apart."""
    parts = key.split(".")
    for start in range(len(parts) - 1, -1, -1):
        tail = ".".join(parts[start:])
        if parts[-1] != "_target_" and sum(k.endswith(tail) for k in keys) == 1:
            return tail
    return key


def _word(value: Any) -> str:
    if value is None:
        return "-"
    text = str(value)
    return text if len(text) <= 40 else f"...{text[-37:]}"
