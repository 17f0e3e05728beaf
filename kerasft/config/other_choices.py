"""What an experiment sets of steps, where the command line or a recipe chooses other steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kerasft.config.schema import NAMED, OF_ALL


def let_go(
    cfg: DictConfig, overrides: Sequence[str], composed: Callable[[Sequence[str]], DictConfig],
    choices: Callable[[Sequence[str]], Mapping[str, Any]],
) -> None:
    """Take out of a config what was set for steps that have not been chosen in the end.

    `experiment=X` sets `finetune.head.epochs` for the stages that it chooses. With `finetune=full`
    or `recipe=quick` beside it there are other stages, of which that says nothing.

    Args:
        cfg: The composed config, changed in place.
        overrides: What it was composed of.
        composed: Composes others.
        choices: Returns what others choose, by group.
    """
    given = [[one for one in overrides if _chooses(one, group)] for group in OF_ALL]
    given.append([one for one in overrides if any(_chooses(one, group) for group in NAMED)])
    steps = [step for step in given if step]
    if len(steps) < 2:
        return
    before, first = choices(steps[0]), dict.fromkeys(NAMED, 0)
    for index in range(1, len(steps)):
        after = choices([one for step in steps[: index + 1] for one in step])
        first |= {name: index for name in NAMED if after.get(name) != before.get(name)}
        before = after
    for name, index in first.items():
        if index and not OmegaConf.is_missing(cfg, name):
            chosen = [one for step in steps[index:] for one in step]
            below = [one for one in overrides if re.match(rf"[+~]*{name}\.", one)]
            cfg[name] = composed([*chosen, *below])[name]


def _chooses(override: str, group: str) -> bool:
    """Whether an override chooses of a group.

    Example:
        >>> _chooses("recipe=quick", "recipe"), _chooses("recipes=quick", "recipe")
        (True, False)
    """
    return re.match(rf"[+~]*{group}(=|$)", override) is not None
