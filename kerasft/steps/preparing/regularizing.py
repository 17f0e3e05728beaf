"""Regularizers in a run: what they need of the task."""

from __future__ import annotations

from omegaconf import DictConfig

from kerasft.abilities import Comparing
from kerasft.contracts import Task
from kerasft.errors import UserError


def require_task(cfg: DictConfig, task: Task) -> None:
    """See that answers of the task can be compared where a regularizer compares them.

    Args:
        cfg: The config.
        task: Its task.

    Raises:
        UserError: If not.
    """
    for name, node in (cfg.regularize or {}).items():
        compares = node and node["_target_"] == "kerasft.model.regularize.r_drop"
        if compares and not isinstance(task, Comparing):
            own = "" if type(task).__module__.startswith("kerasft.") else (
                ", or give it `disagreement(one, other)`: how far two outputs are apart, a number "
                "for each example"
            )
            raise UserError(
                f"regularize.{name} compares two answers to one example, which is possible for "
                "classes, labels and numbers (classification, multi_label, regression, "
                f"multi_regression). Received: task {cfg.task['_target_']}. Leave it out"
                f"{own}."
            )
