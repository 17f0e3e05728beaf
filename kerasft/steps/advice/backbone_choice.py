"""`backbone=auto`: the network that suits the data best, of those whose weights are at hand."""

from __future__ import annotations

import gc
import inspect
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kerasft.catalogue import networks
from kerasft.config.alternatives import Alternative
from kerasft.config.budgets import seconds
from kerasft.config.checks import check
from kerasft.config.composition import compose, config_dir, options, plain
from kerasft.config.parameters import define
from kerasft.config.task_inputs import takes_of
from kerasft.contracts import Solvable
from kerasft.errors import UserError
from kerasft.evaluation.metrics import direction
from kerasft.model.at_hand import TARGET, at_hand
from kerasft.steps.advice import probe
from kerasft.steps.advice.probed import shown
from kerasft.steps.costs.memory import let_go
from kerasft.steps.costs.rehearsal import gone_on_with, tried
from kerasft.steps.fitting import solving
from kerasft.steps.preparing import prepare
from kerasft.system.console import listing, say
from kerasft.system.terminal import status

# What of a budget goes into finding out.
SHARE = 0.2
# A training step against a forward pass, when all layers train.
TRAINING = 3.0
# What each choice may be given, where it takes it.
SETTINGS = ("image_size", "sequence_length")


@dataclass(frozen=True)
class Candidate:
    """A network that may be chosen.

    Args:
        own: The overrides that choose it.
        cfg: The config with it.
        size: How many weights it has, 0 where that is not known.
    """

    own: tuple[str, ...]
    cfg: DictConfig
    size: int


@dataclass(frozen=True)
class Found:
    """A network that was looked at.

    Args:
        candidate: It.
        layer: Where it is best cut, as `surgery.cut.layer` takes it; `None` for all of it.
        said: What there is to say of it.
        score: How good it is; more is better.
        takes: The seconds of an example.
    """

    candidate: Candidate
    layer: str | None
    said: str
    score: float = 0.0
    takes: float = 0.0

    @property
    def cut(self) -> tuple[str, ...]:
        """The overrides that leave away what lies above the layer."""
        return () if self.layer is None else ("surgery=cut", f"surgery.cut.layer={self.layer}")


def settle(cfg: DictConfig) -> None:
    """Choose a backbone where a config leaves that open, and write it into the config.

    A run that goes on keeps the one that it began with.

    Args:
        cfg: The config, changed in place where it has `backbone=auto`.

    Raises:
        UserError: If there is none at hand for the data, or the data cannot be read.
    """
    if cfg.backbone.get("_target_") != TARGET or _took_up(cfg):
        return
    wanted = _settings(cfg)
    with tried(cfg), status.showing("choosing a backbone ..."):
        chosen, others = _choose(cfg, wanted)
    let_go()
    _tell(chosen, others)
    cfg.backbone = chosen.candidate.cfg.backbone
    if chosen.cut:
        cfg.surgery = compose(chosen.cut).surgery


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the node's values, the defaults of its signature among them."""
    taken = {name: one.default for name, one in inspect.signature(at_hand).parameters.items()}
    return taken | {key: value for key, value in plain(cfg.backbone).items() if key in taken}


def _choose(cfg: DictConfig, wanted: dict[str, Any]) -> tuple[Found, list[str]]:
    """Return the network that suits best, and what there is to say of it and the others."""
    began = time.monotonic()
    task = prepare.build_task(cfg)
    if not isinstance(task, Solvable):
        splits = prepare.read_data(cfg, prepare.cheap_parts(cfg), None)
        found, left_out = candidates(cfg, splits.train.modality, wanted)
        _require(found, splits.train.modality, left_out)
        called = _name_of(cfg.task)
        why = _uncompared(
            f"task={called}" if called else type(task).__name__, found, splits.train.modality,
            named=wanted["among"] is not None,
        )
        return Found(found[0], None, why), [why, *left_out]
    drawn = probe.draw(cfg, wanted["examples"])
    modality = drawn.splits.train.modality
    found, left_out = candidates(cfg, modality, wanted)
    end = math.inf if cfg.budget is None else began + SHARE * seconds(cfg.budget)
    looked_at, unseen = _look(found, drawn, wanted["depths"], end)
    _require(looked_at, modality, [*left_out, *unseen])
    fit = [one for one in looked_at if _fits(cfg, one, drawn.examples, end)]
    quick = min(looked_at, key=lambda one: one.takes)
    chosen = max(fit or [quick], key=lambda one: one.score)
    others = [
        one.said + ("" if one in fit else ", too slow for the budget")
        for one in looked_at if one is not chosen
    ]
    return chosen, [chosen.said, *others, *left_out, *unseen]


def _uncompared(
    task: str, found: Sequence[Candidate], modality: str, *, named: bool
) -> str:
    """Return why no network was compared with another, which one is taken, and what to set.

    Args:
        task: What the task is called.
        found: The networks that may be chosen, of which the first one is taken.
        modality: What the data is.
        named: Whether the user listed them, so that their sizes are not known.
    """
    first, *others = found
    which = "the only one there is" if not others else (
        f"the first of {len(found)} in backbone.among" if named
        else f"the smallest of {len(found)} whose weights are at hand"
    )
    other = shown(others[-1].own) if others else "backbone.preset=NAME"
    return (
        f"{shown(first.own)} is taken, {which}, and none was compared: that is done by a linear "
        f"head on one vector an example, which {task} has not. "
        + ("Another one may be better" if named else "A larger one may be much better")
        + f": in place of backbone=auto set {other}, say (`kerasft models {modality}` lists more)"
    )


def _look(
    candidates: Sequence[Candidate], drawn: probe.Drawn, depths: int, end: float
) -> tuple[list[Found], list[str]]:
    """Probe networks one after the other, as long as there is time; say why others were not."""
    found: list[Found] = []
    unseen = []
    pace = 0.0  # seconds a weight
    for one in candidates:
        now = time.monotonic()
        if found and now + pace * one.size > end:
            unseen.append(f"{shown(one.own)}: no time to look at it")
            continue
        choice = Alternative(one.own, one.own)
        try:
            rows = [(choice, *row) for row in probe.rows_of(one.cfg, choice, drawn, depths)]
        except UserError as error:
            unseen.append(f"{shown(one.own)}: {' '.join(error.problems)}")
            continue
        metric = solving.headline(drawn.task, rows[0][2].figures("validation"))
        sign = 1 if direction(metric) == "max" else -1
        _, row, _ = probe.deep_enough(sorted(rows, key=lambda one: -sign * one[1].figure), metric)
        low = "" if row.low is None else f" ({row.low:.3f} to {row.high:.3f})"
        found.append(Found(
            one, row.layer,
            f"{row.name} {metric} {row.figure:.3f}{low}, {row.milliseconds:.1f} ms an example",
            sign * row.figure, row.milliseconds / 1e3,
        ))  # fmt: skip
        pace = (time.monotonic() - now) / max(one.size, 1)
        gc.collect()
    return found, unseen


def candidates(
    cfg: DictConfig, modality: str, wanted: dict[str, Any]
) -> tuple[list[Candidate], list[str]]:
    """Return the networks that may be chosen, the smallest first, and why others may not be.

    Args:
        cfg: The config.
        modality: What the data is.
        wanted: The values of `backbone=auto`, see `kerasft.model.at_hand.at_hand`.

    Raises:
        UserError: If one of `backbone.among` cannot be composed.
    """
    if wanted["among"] is None:
        listed = _at_hand(cfg, modality)
    else:
        listed = [(tuple(shlex.split(str(one))), 0) for one in wanted["among"]]
    found, left_out = [], []
    # One whose size is not known is not taken for the smallest.
    for own, size in sorted(listed, key=lambda one: one[1] or math.inf):
        one = cfg.copy()
        one.backbone = _node(own)
        for key in SETTINGS:
            if wanted[key] is not None and _takes(one.backbone, key):
                own = (*own, f"backbone.{key}={wanted[key]}")
                OmegaConf.update(one, f"backbone.{key}", wanted[key], force_add=True)
        try:
            check(one)
        except UserError as error:
            left_out.append(f"{shown(own)}: {' '.join(error.problems)}")
            continue
        found.append(Candidate(own, one, size))
    return found, left_out


def _at_hand(cfg: DictConfig, modality: str) -> list[tuple[tuple[str, ...], int]]:
    """Return what chooses each network whose weights are at hand, and how many it has."""
    takes = takes_of(cfg.task.get("_target_"))
    return [
        (tuple(shlex.split(row["choose"])), int(row["parameters"] or 0))
        for row in networks.models("", {})
        if row["cached"] and row["input"] == modality and takes.fits(row)
    ]


def _name_of(node: DictConfig) -> str | None:
    """Return the name of a task among those that are shipped, `None` of one of the user's own."""
    for name in options("task"):
        shipped = OmegaConf.load(config_dir() / "task" / f"{name}.yaml")
        if OmegaConf.select(shipped, "_target_") == node.get("_target_"):
            return name
    return None


def _node(own: Sequence[str]) -> DictConfig:
    other = [one for one in own if not one.lstrip("+").startswith("backbone")]
    if other:
        raise UserError(
            "backbone.among holds overrides of backbone alone, a list of texts such as "
            f"'backbone=applications backbone.name=MobileNetV2'. Received: {shlex.join(other)!r}."
        )
    try:
        return compose(list(own)).backbone
    except UserError as error:
        raise UserError(problems=[f"backbone.among: {one}" for one in error.problems]) from error


def _takes(node: DictConfig, key: str) -> bool:
    return key in define(str(node["_target_"])).parameters


def _require(found: Sequence[object], modality: str, left_out: Sequence[str]) -> None:
    if not found:
        raise UserError(
            f"backbone=auto: no network for {modality} whose weights are at hand can be used"
            + (f" ({listing(left_out)})" if left_out else "")
            + ". `kerasft models` lists networks: name one (backbone.preset=NAME), which loads its "
            "weights, or say which there are: 'backbone.among=[\"backbone.preset=FOLDER\"]'."
        )


def _fits(cfg: DictConfig, one: Found, examples: int, end: float) -> bool:
    """Whether an epoch fits into the budget, all layers training."""
    if cfg.budget is None:
        return True
    left = end + (1 - SHARE) * seconds(cfg.budget) - time.monotonic()
    return TRAINING * one.takes * examples <= left


def _tell(chosen: Found, said: Sequence[str]) -> None:
    first, *rest = said
    others = f"; of the others: {'; '.join(rest)}" if rest else ""
    overrides = shlex.join([*chosen.candidate.own, *chosen.cut])
    say(f"backbone=auto: {first}{others}. The same without: {overrides}")


def _took_up(cfg: DictConfig) -> bool:
    """Take the backbone of the run that goes on in the folder of a config, if there is one."""
    found = gone_on_with(cfg)
    if found is None or found[1].backbone.get("_target_") == TARGET:
        return False
    cfg.backbone, cfg.surgery = found[1].backbone, found[1].surgery
    return True
