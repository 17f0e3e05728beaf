"""When the training of a run with a budget has to end."""

from __future__ import annotations

import json

from omegaconf import DictConfig

from kerasft.config.budgets import seconds
from kerasft.runs.run_folder import RunFolder


def deadline(cfg: DictConfig, folder: RunFolder) -> float | None:
    """Return when training has to end, of `time.monotonic()`; `None` without a budget.

    A run that goes on has what its earlier epochs have left.
    """
    if cfg.get("budget") is None:
        return None
    return folder.began + seconds(cfg.budget) - _spent(folder)


def _spent(folder: RunFolder) -> float:
    """Return the seconds of the epochs that earlier processes have logged."""
    log = folder.path / "logs" / "epochs.jsonl"
    if not log.is_file():
        return 0.0
    lines = log.read_text("utf-8").splitlines()
    return sum(float(json.loads(line).get("seconds", 0.0)) for line in lines if line.strip())
