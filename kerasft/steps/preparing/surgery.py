"""The surgery of a config: the steps on its backbone, and a look at them beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from kerasft.config.composition import build, build_named, plain
from kerasft.errors import UserError
from kerasft.spec import Backbone
from kerasft.system.console import say

STEPS = "kerasft.model.surgery.steps."


def with_surgery(
    cfg: DictConfig, backbone: Backbone, *, sized: bool = True, quiet: bool = False
) -> Backbone:
    """Return the backbone after the steps of a config, and say what they did.

    Args:
        cfg: The config.
        backbone: The backbone as it was loaded.
        sized: Whether the size of images is set too; not where a stage has one of its own.
        quiet: Whether nothing is said.

    Raises:
        UserError: If a step cannot be taken.
    """
    steps = build_named(cfg.surgery)
    if not sized:
        steps = {name: step for name, step in steps.items() if not hasattr(step, "sides")}
    if not steps:
        return backbone
    from kerasft.model.surgery.operate import operate

    done = operate(backbone, steps)
    for line in () if quiet else done.said:
        say(line)
    return done.backbone


def look_at(cfg: DictConfig, takes: str | None) -> list[str]:
    """Return what can be said against the steps of a config without its network.

    Args:
        cfg: The config.
        takes: What the backbone takes, `"images"` or `"text"`; `None` where that is not known.
    """
    problems: list[str] = []
    steps: dict[str, Any] = {}
    for name, node in (cfg.surgery or {}).items():
        # A layer within a step is Keras', which is not imported here.
        if node and str(node["_target_"]).startswith(STEPS) and not _holds_calls(plain(node)):
            try:
                steps[str(name)] = build(node)
            except UserError as error:
                problems += [one.replace("surgery.NAME", f"surgery.{name}", 1)
                             for one in error.problems]  # fmt: skip
    for name, step in steps.items() if takes else ():
        if getattr(step, "modality", takes) != takes:
            problems.append(not_of_texts(name))
    return problems


def not_of_texts(name: str) -> str:
    """Say that a step of surgery needs images."""
    return (
        f"surgery.{name} is of images, and the backbone takes texts. Take it out: ~surgery.{name}."
    )


def _holds_calls(node: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) and "_target_" in value for value in node.values())
