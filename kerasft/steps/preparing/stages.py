"""The stages of a config, by name, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kerasft.config.composition import build_named
from kerasft.contracts import Solvable, Task
from kerasft.errors import UserError

# Heads that take one vector an example of the backbone, by `pooling`; of these one is linear, but
# for a pooling that learns.
POOLED = "kerasft.model.heads.pooled."
LINEAR, LEARNED = f"{POOLED}linear", "attention"
# Networks for trying out.
RANDOM = "kerasft.model.tiny."


def build_stages(group: Mapping[str, Any] | None) -> dict[str, Any]:
    """Build the stages of a config.

    Args:
        group: The named nodes. Where one makes several stages by name, they are told apart by
            `NODE/NAME`.

    Returns:
        The stages by name, in order.

    Raises:
        UserError: If a node refuses its values; the message has the node's key.
    """
    found: dict[str, Any] = {}
    for name, node in (group or {}).items():
        try:
            for made in build_named({name: node}).values():
                several = made if isinstance(made, Mapping) else None
                found |= {f"{name}/{one}": each for one, each in several.items()} if several else {
                    name: made
                }  # fmt: skip
        except UserError as error:
            raise UserError(
                problems=[one.replace("finetune.NAME.", f"finetune.{name}.")
                          for one in error.problems]
            ) from error
    return found


def settled(
    stages: Mapping[str, Any], task: Task, head: Mapping[str, Any], backbone: Mapping[str, Any]
) -> dict[str, Any]:
    """Settle stages with `solve=auto`: computed where there is a best head on pretrained features.

    Elsewhere they are left out, but for one that is all there is, which is trained.

    Args:
        stages: Stages by name.
        task: The task.
        head: The head's node of the config.
        backbone: The backbone's.
    """
    if isinstance(task, Solvable) and is_linear(head) and not is_random(backbone):
        return {
            name: replace(one, epochs=1) if one.solve == "auto" else one
            for name, one in stages.items()
        }
    others = {name: one for name, one in stages.items() if one.solve != "auto"}
    return others or {name: replace(one, solve=False) for name, one in stages.items()}


def is_linear(head: Mapping[str, Any]) -> bool:
    """Whether a head's node makes a linear head on pooled features, which learns nothing else.

    Example:
        >>> is_linear({"_target_": "kerasft.model.heads.pooled.linear", "pooling": "mean"})
        True
    """
    return head.get("_target_") == LINEAR and head.get("pooling", "auto") != LEARNED


def is_random(backbone: Mapping[str, Any]) -> bool:
    """Whether a backbone's node makes a network whose weights were never trained.

    Example:
        >>> is_random({"_target_": "kerasft.model.backbones.applications", "weights": None})
        True
    """
    own = str(backbone.get("_target_")).startswith(RANDOM)
    return own or ("weights" in backbone and backbone["weights"] is None)
