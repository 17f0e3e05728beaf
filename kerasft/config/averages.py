"""What a config's averages of weights would be refused for."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from kerasft.catalogue import averages
from kerasft.config.nodes import named_nodes

_KINDS = {
    "kerasft.training.averages.Ema": "Ema", "kerasft.training.averages.Swa": "Swa",
    "kerasft.training.soup.Soup": "Soup",
}  # fmt: skip


def problems(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield key and message of what is wrong with the nodes of `average`.

    Args:
        cfg: A config without interpolations.
    """
    nodes, optimizer = named_nodes(cfg, "average"), cfg.get("optimizer")
    kinds = {
        name: _KINDS[node["_target_"]] for name, node in nodes.items()
        if node.get("_target_") in _KINDS
    }
    for name, kind in kinds.items():
        for key, text in averages.problems(kind, nodes[name], name):
            yield f"average.{name}.{key}", text
    running = [name for name, kind in kinds.items() if kind != "Soup"]
    if isinstance(optimizer, DictConfig) and optimizer.get("use_ema") is True and running:
        yield "optimizer.use_ema", (
            f"optimizer.use_ema and average.{running[0]} both average the weights. Leave "
            "optimizer.use_ema out, or set average=none."
        )
