"""What a config leaves open, settled before a run begins."""

from __future__ import annotations

import time

from omegaconf import DictConfig

from kerasft.steps.advice import backbone_choice
from kerasft.steps.costs import budget, micro_batch


def settle(cfg: DictConfig, *, budgeted: bool = False) -> float:
    """Settle what a config leaves open, each in words of a config and told.

    Args:
        cfg: The config, changed in place.
        budgeted: Whether its budget counts from here.

    Returns:
        When that began, of `time.monotonic()`.

    Raises:
        UserError: For any mistake in the data or the parts.
    """
    began = time.monotonic()
    backbone_choice.settle(cfg)
    micro_batch.settle(cfg)
    if budgeted:
        budget.settle(cfg, began)
    return began
