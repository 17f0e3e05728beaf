"""What a config's regularizers would be refused for, as far as that is known without the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from kerasft.catalogue import regularizers
from kerasft.config.nodes import STAGE, named_nodes

_HOME = "kerasft.model.regularize."
# What acts on the backbone alone, and is not there in stages that train the head alone.
_OF_BACKBONE = ("stochastic_depth", "embedding_noise", "l2_sp")
# Backbones for images.
_IMAGES = (
    "kerasft.model.backbones.applications", "kerasft.model.tiny.image",
    "kerasft.model.efficientnet_lite.efficientnet_lite0",
)


def problems(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield key and message of what is wrong with the nodes of `regularize`.

    Args:
        cfg: A config without interpolations.
    """
    alone = _all_train_the_head_alone(cfg)
    for name, node in named_nodes(cfg, "regularize").items():
        target = str(node.get("_target_"))
        if not target.startswith(_HOME):
            continue
        kind, key = target.removeprefix(_HOME), f"regularize.{name}"
        for setting, text in regularizers.problems(kind, name, node):
            yield f"{key}.{setting}", text
        if kind in _OF_BACKBONE and alone:
            yield key, (
                f"{key} acts on the backbone as it trains, but each stage trains the head alone. "
                "Choose finetune=full or two_phase, or leave it out (regularize=none)."
            )
        if problem := _of_backbone(cfg, kind):
            yield key, f"{key} {problem}"


def _of_backbone(cfg: DictConfig, kind: str) -> str:
    """Say what a regularizer misses in the backbone that is chosen, `""` where it may be there."""
    backbone = cfg.get("backbone")
    node: Any = backbone if isinstance(backbone, DictConfig) else {}
    target, chosen = node.get("_target_"), node.get("name")
    if kind == "embedding_noise" and target in _IMAGES:
        return (
            "adds noise to embedded tokens: it is for texts, and this backbone takes images. "
            "Choose augment=light or regularize=dropout, or leave it out (regularize=none)."
        )
    plain = (target == _IMAGES[0] and chosen in regularizers.NOT_RESIDUAL) or (
        target == _IMAGES[1] and node.get("family") in ("densenet", "vgg")
    )
    if kind == "stochastic_depth" and plain:
        return (
            f"drops residual branches, and {chosen or node.get('family')} has none: nothing goes "
            "around its layers. Choose a network that has them (ResNet, MobileNetV2, "
            "EfficientNet), regularize=dropout, or leave it out (regularize=none)."
        )
    return ""


def _all_train_the_head_alone(cfg: DictConfig) -> bool:
    stages = named_nodes(cfg, "finetune").values()
    return bool(stages) and all(
        node.get("_target_") == STAGE and node.get("train") in ("head", 0) for node in stages
    )
