"""The named nodes of a config's groups, for checks that look at several of them at once."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

STAGE = "kerasft.training.stages.Stage"


def named_nodes(cfg: DictConfig, group: str) -> dict[str, dict[str, Any]]:
    """Return the named nodes of a group that are switched on, as plain values.

    Args:
        cfg: A config without interpolations.
        group: The group.
    """
    held = cfg.get(group)
    plain: Any = OmegaConf.to_container(held) if isinstance(held, DictConfig) else {}
    return {str(name): node for name, node in plain.items() if isinstance(node, dict)}
