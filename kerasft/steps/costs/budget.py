"""`budget=10m`: what of a recipe fits into the time, chosen before a run begins."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kerasft.config.budgets import seconds
from kerasft.config.composition import compose
from kerasft.config.of_budgets import RECIPE, same
from kerasft.steps.costs import afterwards
from kerasft.steps.costs.afterwards import Afterwards
from kerasft.steps.costs.memory import let_go
from kerasft.steps.costs.plan import BRIEFLY, CAREFULLY, StagePlan
from kerasft.steps.costs.rehearsal import gone_on_with, rehearsed
from kerasft.steps.preparing import prepare
from kerasft.steps.preparing.stages import build_stages, settled
from kerasft.system.console import say, warn

# What epochs may take of the time that is left: a few steps tell the others to some percent.
MARGIN = 0.9
# Of a budget of fewer seconds little goes into measuring.
SHORT = 15 * 60


@dataclass(frozen=True)
class Choice:
    """What fits into a budget.

    Args:
        overrides: What was chosen, as overrides that choose it without a budget.
        why: The reason, in words.
        seconds: What training will take.
    """

    overrides: tuple[str, ...]
    why: str
    seconds: float


def settle(cfg: DictConfig, since: float) -> None:
    """Choose what fits, where a config has a budget, and write it into the config.

    A run that goes on keeps what it began with.

    Args:
        cfg: The config, changed in place.
        since: When its budget began, of `time.monotonic()`.

    Raises:
        UserError: For any mistake in the data or the parts.
    """
    if cfg.budget is None or _took_up(cfg):
        return
    began = time.monotonic()
    with rehearsed(cfg) as (parts, splits, backbone, ready):
        reading = time.monotonic() - began
        care = BRIEFLY if seconds(cfg.budget) < SHORT else CAREFULLY
        plans, after = afterwards.measure(cfg, parts, ready, backbone, care=care)
    del parts, splits, backbone, ready
    let_go()
    left = seconds(cfg.budget) - (time.monotonic() - since) - reading
    found = choose(cfg, plans, left)
    _tell(cfg, found, left, after)
    for override in found.overrides:
        key, _, value = override.partition("=")
        OmegaConf.update(cfg, key, None if value == "null" else int(value))


def choose(cfg: DictConfig, plans: Sequence[StagePlan], left: float) -> Choice:
    """Return what of a recipe fits.

    Args:
        cfg: The config.
        plans: What its stages cost, as it is.
        left: The seconds for training.

    Returns:
        As many epochs as fit, at most those of the config; where not one does, the stages before
        that need no epochs of their own; else some steps of each stage.
    """
    costs, least = {plan.name: plan for plan in plans}, MARGIN * left
    task = prepare.build_task(cfg)

    def stages(epochs: int) -> dict[str, Any]:
        now = cfg.copy()
        now.epochs = epochs
        return settled(build_stages(now.finetune), task, cfg.head, cfg.backbone)

    def takes(epochs: int) -> float:
        return _takes(stages(epochs), costs)

    fit, more = 0, cfg.epochs + 1
    while more - fit > 1:
        between = (fit + more) // 2
        fit, more = (between, more) if takes(between) <= least else (fit, between)
    if fit:
        why = "all of them fit" if fit == cfg.epochs else f"{more} would not fit"
        return Choice((f"epochs={fit}",), why, takes(fit))
    first, *others = plans
    solved = bool(stages(cfg.epochs)[first.name].solve)
    if solved and others and first.seconds <= least:
        nodes = dict.fromkeys(plan.name.partition("/")[0] for plan in others)
        return Choice(
            tuple(f"finetune.{name}=null" for name in nodes),
            "the computed head fits, and no epoch of what follows", first.seconds,
        )
    step = sum(plan.cost.step for plan in plans)
    once = sum(plan.cost.once for plan in plans)
    steps = min(max(int((least - once) / step), 1), cfg.max_steps or sys.maxsize)
    return Choice(
        (f"max_steps={steps}", "epochs=1"), "not one epoch fits", once + steps * step
    )


def _takes(stages: Mapping[str, Any], costs: Mapping[str, StagePlan]) -> float:
    """Return the seconds of stages, of those that a run has."""
    return sum(
        costs[name].cost.once + stage.epochs * costs[name].cost.epoch
        for name, stage in stages.items() if name in costs
    )


def _tell(cfg: DictConfig, found: Choice, left: float, after: Afterwards) -> None:
    recipe = [RECIPE] if same(cfg.finetune, compose([RECIPE]).finetune) else []
    overrides = " ".join([*recipe, *found.overrides])
    say(
        f"budget={cfg.budget}: {found.why}; training takes about {found.seconds:.0f} of the "
        f"{max(left, 0):.0f} s that are left for it. The same without a budget: "
        f"{overrides}. {after.told()}"
    )
    if found.seconds > left:
        warn("the budget is spent before training begins: it ends after its first step. What "
             "takes less: a smaller backbone or images, or finetune=linear_probe")  # fmt: skip


def _took_up(cfg: DictConfig) -> bool:
    """Take what was chosen for the run that goes on in the folder of a config, if there is one."""
    found = gone_on_with(cfg)
    if found is None or found[1].get("budget") != cfg.budget:
        return False
    _, then = found
    cfg.epochs, cfg.max_steps, cfg.finetune = then.epochs, then.max_steps, then.finetune
    return True
