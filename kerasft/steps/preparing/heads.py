"""The head of a config: that it fits its task, and the model that it makes of a backbone."""

from __future__ import annotations

import importlib.util
from typing import Any

from omegaconf import DictConfig

from kerasft.config.composition import build, compose, options
from kerasft.config.parameters import define
from kerasft.contracts import Following, Task, losses_of
from kerasft.errors import UserError
from kerasft.spec import Backbone, Labels
from kerasft.system.console import listing


def require_head(cfg: DictConfig, task: Task) -> None:
    """See that a task of ours hands the head what it takes.

    Raises:
        UserError: If not; it names the heads that would do.
    """
    if not type(task).__module__.startswith("kerasft."):
        return
    given = set(task.head(Labels(task.kind, ("one", "other"))))
    if _takes(cfg.head, given):
        return
    others = {name: compose([f"head={name}"]).head for name in options("head")}
    fit = [name for name, node in others.items() if _takes(node, given)]
    told = f"the number of {listing(sorted(given))}" if given else "no number of outputs"
    raise UserError(
        f"head: {cfg.head['_target_']} does not fit {cfg.task['_target_']}, which tells its head "
        f"{told}. Choose {listing(f'head={n}' for n in fit)}."
    )


def follow_head(cfg: DictConfig, task: Task) -> Task:
    """Return the task with the loss that trains the head.

    Raises:
        UserError: If the user chose another one.
    """
    if not isinstance(task, Following):
        return task
    home, _, name = str(cfg.head["_target_"]).rpartition(".")
    # A class may stand between a module and what is built; such a head says nothing of losses.
    head = getattr(importlib.import_module(home), name, None) if _is_module(home) else None
    return task.for_losses(losses_of(head))


def _is_module(path: str) -> bool:
    try:
        return importlib.util.find_spec(path) is not None
    except ModuleNotFoundError:
        return False


def _takes(head: DictConfig, given: set[str]) -> bool:
    """Whether a head takes what a task hands it, and needs nothing else."""
    found = define(head["_target_"])
    needed = {name for name, one in found.parameters.items() if one.required}
    known = found.open or given <= found.parameters.keys()
    return known and needed <= {"features", *given, *map(str, head)}


def with_head(cfg: DictConfig, task: Task, labels: Labels, backbone: Backbone) -> Any:
    """Return the model: the backbone, the head on it, what regularizes both, and what adapts it."""
    from kerasft.model.assemble import assemble
    from kerasft.model.regularizing.consistency import require_random

    given = task.head(labels)
    model = assemble(backbone, lambda features: build(cfg.head, features=features, **given))
    for node in (*(cfg.regularize or {}).values(), *(cfg.adapt or {}).values()):
        if node:
            model = build(node, model=model, task=task)
    require_random(model)
    return model
