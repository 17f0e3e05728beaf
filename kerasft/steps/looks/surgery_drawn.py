"""Prints what surgery makes of a backbone, as trees before and after."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from kerasft.config.checks import settle
from kerasft.config.composition import build, build_named
from kerasft.steps.preparing.prepare import runtime
from kerasft.system.console import say
from kerasft.system.terminal import status


def run(options: Any) -> None:
    """Run the command, of its options."""
    draw(settle(options.overrides, options.config_dir, options.trust))


def draw(cfg: DictConfig) -> None:
    """Print the backbone of a config as a tree, before and after its steps.

    No data is read, no pretrained weight is loaded, and nothing is written.

    Args:
        cfg: The config.

    Raises:
        UserError: If a step cannot be taken.
    """
    from kerasft.model.surgery.operate import operate
    from kerasft.model.surgery.tree import compared

    with runtime(cfg):
        steps = build_named(cfg.surgery)
        with status.showing("loading the backbone ..."):
            backbone = build(cfg.backbone, pretrained=False)
        done = operate(backbone, steps)
    before, after = compared(done.before, done.after)
    say(f"{backbone.name} before surgery:")
    for line in before:
        say(line)
    if not steps:
        say("surgery=none: it stays as it is. surgery=cut, remove, replace, insert_after, reset, "
            "input_channels and image_size change it.")
        return
    for line in ("", *done.said, "", f"{backbone.name} after surgery (- left out, ~ changed, "
                 "+ new):", *after):
        say(line)
