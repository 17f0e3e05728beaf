"""When the training of a run with a budget has to end."""

from __future__ import annotations

from omegaconf import DictConfig

from kerasft.config.budgets import seconds
from kerasft.runs import logs
from kerasft.runs.run_folder import RunFolder
from kerasft.system.recorded import is_number


def deadline(cfg: DictConfig, folder: RunFolder) -> float | None:
    """Return when training has to end, of `time.monotonic()`; `None` without a budget.

    A run that goes on has what its earlier epochs have left.
    """
    if cfg.get("budget") is None:
        return None
    return folder.began + seconds(cfg.budget) - _spent(folder)


def _spent(folder: RunFolder) -> float:
    """Return the seconds of the epochs that earlier processes have logged."""
    found = [row.get("seconds") for row in logs.epochs(folder.path)]
    return sum(float(one) for one in found if is_number(one))
