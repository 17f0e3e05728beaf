"""What a budget chooses where nobody named it: the backbone at hand that suits best, and stages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from omegaconf import DictConfig, OmegaConf

# Its first stage takes seconds, and what follows is no worse on validation.
RECIPE = "recipe=best"


def same(one: DictConfig, other: DictConfig) -> bool:
    """Whether two nodes are written alike, whatever their interpolations come to."""
    return bool(OmegaConf.to_container(one) == OmegaConf.to_container(other))


def usual(
    cfg: DictConfig, overrides: Sequence[str], composed: Callable[[Sequence[str]], DictConfig]
) -> None:
    """Let a budget choose what nobody named.

    Args:
        cfg: The config, changed in place.
        overrides: What it was composed of.
        composed: Composes others.
    """
    if cfg.budget is None:
        return

    def named(group: str) -> bool:
        return any(re.match(rf"[+~]*{group}[=.]", one) for one in overrides)

    default = composed([])
    if not named("backbone") and same(cfg.backbone, default.backbone):
        cfg.backbone = composed(["backbone=auto"]).backbone
    if not named("finetune") and not named("recipe") and same(cfg.finetune, default.finetune):
        cfg.finetune = composed([RECIPE]).finetune
