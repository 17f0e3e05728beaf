"""What a config's adapters would be refused for, as far as that is known without the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from kerasft.catalogue.adapters import LowRankSettings
from kerasft.config.nodes import STAGE, named_nodes

_HOME = "kerasft.model.adapters."


def problems(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield key and message of what is wrong with the nodes of `adapt` and the stages with them.

    Args:
        cfg: A config without interpolations.
    """
    nodes = {name: node for name, node in named_nodes(cfg, "adapt").items() if node.get("_target_")}
    for name, node in nodes.items():
        if node["_target_"] == f"{_HOME}lora":
            own = {key: node[key] for key in vars(LowRankSettings()) if key in node}
            for key, text in LowRankSettings(**own).problems(name):
                yield f"adapt.{name}.{key}", text
    if "saved" in {_kind(node) for node in nodes.values()} and len(nodes) > 1:
        yield "adapt", (
            "adapt.saved goes with no other adapter: its file says all of them. Received: "
            f"{', '.join(nodes)}."
        )
    if nodes:
        yield from _of_stages(cfg, nodes)


def _of_stages(cfg: DictConfig, nodes: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what stages and adapters together come to nothing for."""
    stages = named_nodes(cfg, "finetune")
    if not all(node.get("_target_") == STAGE for node in stages.values()):
        return
    first, kinds = next(iter(nodes)), {_kind(node) for node in nodes.values()}
    # The adapter of a file may be there to stay as it is.
    if kinds != {"saved"} and all(node.get("train") in ("head", 0) for node in stages.values()):
        yield f"adapt.{first}", (
            f"adapt.{first} adapts the backbone, but each stage trains the head alone "
            f"({', '.join(stages)}). Choose finetune=full or two_phase, or adapt=none."
        )


def _kind(node: dict[str, Any]) -> str:
    return str(node["_target_"]).removeprefix(_HOME)
