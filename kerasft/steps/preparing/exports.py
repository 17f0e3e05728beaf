"""What exports say of a network before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import DictConfig

from kerasft.config.building import beside
from kerasft.contracts import Task

if TYPE_CHECKING:
    import keras


def check_network(cfg: DictConfig, task: Task, network: keras.Model) -> None:
    """See before a training that each export can write a network of its kind.

    Their modules say so in `check_network`, where they have one.

    Args:
        cfg: The config of a run.
        task: Its task.
        network: Its backbone, after surgery.

    Raises:
        UserError: If one cannot.
    """
    for one in (cfg.export or {}).values():
        if one and (check := beside(one, "check_network")) is not None:
            check(network=network, task=task)
