"""What an experiment sets of parts, where the command line or a recipe chooses other parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kerasft.config.replaced import is_given, keys_of, take_out
from kerasft.config.schema import NAMED, OF_ALL, RUNTIME

# What an experiment says of its backbone for the sake of its data. All else is of the network.
OF_DATA = ("image_size", "resize", "sequence_length")


def let_go(
    cfg: DictConfig, overrides: Sequence[str], composed: Callable[[Sequence[str]], DictConfig],
    choices: Callable[[Sequence[str]], Mapping[str, Any]],
) -> None:
    """Take out of a config what was set for parts that have not been chosen in the end.

    `experiment=X` sets `finetune.head.epochs` for the stages that it chooses. With `finetune=full`
    or `recipe=quick` beside it there are other stages, of which that says nothing. So it is with
    `backbone.weights` of a network that `backbone=Y` takes the place of; of its other parts, an
    experiment's values stay where the new one takes them.

    Args:
        cfg: The composed config, changed in place.
        overrides: What it was composed of.
        composed: Composes others.
        choices: Returns what others choose, by group.
    """
    _let_go_of_parts(cfg, overrides, composed, choices)
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


def _let_go_of_parts(
    cfg: DictConfig, overrides: Sequence[str], composed: Callable[[Sequence[str]], DictConfig],
    choices: Callable[[Sequence[str]], Mapping[str, Any]],
) -> None:
    """Do so for the groups that are one part each."""
    sets = [one for one in overrides if any(_chooses(one, group) for group in OF_ALL)]
    parts = [
        name for name in RUNTIME
        if name not in NAMED and any(_chooses(one, name) for one in overrides)
    ]
    if not sets or not parts:
        return
    before, after = choices(sets), choices(overrides)
    parts = [name for name in parts if before.get(name) != after.get(name)]
    if not parts:
        return
    given = keys_of(overrides)
    # Without values: those of other parts may need what the experiment chooses.
    alone = composed([one for one in overrides if any(_chooses(one, name) for name in parts)])
    for name in parts:
        node, own = OmegaConf.select(cfg, name), OmegaConf.select(alone, name)
        if not isinstance(node, DictConfig) or not isinstance(own, DictConfig):
            continue
        usual: Any = OmegaConf.to_container(own, resolve=False)
        names = [key for key in node if not is_given(f"{name}.{key}", given)]
        of_network = set(names).difference(OF_DATA) if name == "backbone" else ()
        take_out(node, names, of_network, usual)


def _chooses(override: str, group: str) -> bool:
    """Whether an override chooses of a group.

    Example:
        >>> _chooses("recipe=quick", "recipe"), _chooses("recipes=quick", "recipe")
        (True, False)
    """
    return re.match(rf"[+~]*{group}(=|$)", override) is not None
