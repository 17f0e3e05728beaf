"""A look before a run: whether data, backbone, augmentation and task fit, without reading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from kerasft.abilities import Generates
from kerasft.catalogue.networks import input_of
from kerasft.config.auto_batch import AUTO
from kerasft.config.building import beside, target_of
from kerasft.config.composition import build, plain
from kerasft.config.parameters import NotFound, define
from kerasft.config.task_inputs import takes_of
from kerasft.contracts import Located, Mixable, Task
from kerasft.data import ending, slices
from kerasft.data.annotations.drawn import require_kind
from kerasft.data.annotations.kinds import are_boxes
from kerasft.data.annotations.language import template_problem
from kerasft.data.astray import (
    ASTRAY,
    FILLS_WITH_IMAGE,
    OURS,
    astray,
    fills_astray,
    not_mixable,
)
from kerasft.data.looks import Look
from kerasft.data.splits import part_problem, ratios_of
from kerasft.distributed.cluster import overlooked
from kerasft.errors import UserError
from kerasft.spec import Modality
from kerasft.steps.preparing import surgery
from kerasft.steps.preparing.arranging import require_sampling
from kerasft.steps.preparing.heads import require_head
from kerasft.steps.preparing.prepare import require_monitors
from kerasft.steps.preparing.stages import build_stages
from kerasft.system.console import warn

MIXING = ("MixUp", "CutMix")
# The steps of ours that change texts.
WORDS = "kerasft.data.words."


@dataclass(frozen=True)
class Found:
    """What a check looked at, and what it did not look at; a phrase each."""

    checked: tuple[str, ...]
    unchecked: tuple[str, ...]

    def __str__(self) -> str:
        parts = (("Checked", self.checked), ("Not checked", self.unchecked))
        return "\n".join(
            "\n".join([f"{title}:", *(f"  - {one}" for one in phrases)]) for title, phrases in parts
        )


def look(cfg: DictConfig) -> Found:
    """Look at what a config names, as far as that needs no TensorFlow and reads no example.

    Args:
        cfg: A config that `kerasft.check` has found in order.

    Returns:
        What was looked at, and what was not.

    Raises:
        UserError: If something is not there, or does not fit the rest; with all such problems.

    Example:
        >>> from kerasft import compose
        >>> look(compose(["backbone=tiny_resnet"])).checked[0]
        'the config: every key, value and name of a part'
    """
    if said := overlooked(cfg.distribute):
        warn(said)
    task = require_monitors(cfg)
    checked = ["the config: every key, value and name of a part",
               "what callbacks and the best epoch go by is a metric of the task"]  # fmt: skip
    unchecked: list[str] = []
    problems: list[str] = []
    try:
        require_head(cfg, task)
        checked.append("the head takes what the task tells it")
    except UserError as error:
        problems += error.problems
    wanted = slices.asked(plain(cfg.slices))
    data, modality = _look_at_data(plain(cfg.data), wanted, problems)
    checked += data.checked
    unchecked += data.unchecked
    if data.kinds:
        try:
            require_kind(task.kind, data.kinds, str(cfg.data._target_).rpartition(".")[2])
            checked.append("the data has labels of the kind that the task learns")
        except UserError as error:
            problems += error.problems
    elif not problems:
        unchecked.append("whether the labels are of the kind that the task learns")
    if isinstance(task, Generates) and data.conversations is not None:
        if said := template_problem(data.conversations, template=task.converses):
            problems.append(said)
        else:
            checked.append("the data are " + (
                "conversations, and there is a template" if task.converses
                else "documents, and there is no template"
            ))
    backbone = plain(cfg.backbone)
    takes, name = input_of(backbone)
    learns = takes_of(cfg.task["_target_"]).modalities
    if modality is not None and modality not in learns and not problems:
        problems.append(
            f"The data is {modality}, but the task {cfg.task['_target_']} learns from "
            f"{' or '.join(learns)}. Choose another task or other data."
        )
    if modality is None or takes is None:
        unchecked.append("whether the backbone takes what the data is")
    elif modality != takes:
        problems.append(
            f"The data is {modality}, but the backbone {name} takes {takes}. Choose a "
            f"backbone for {modality} (`kerasft models` lists them) or other data."
        )
    else:
        both = {"text": "texts", "images": "images"}[takes]
        checked.append(f"the data is {both}, and the backbone takes {both}")
    problems += surgery.look_at(cfg, takes)
    if any((cfg.surgery or {}).values()):
        checked.append(f"surgery ({', '.join(cfg.surgery)}): its settings")
        unchecked.append("whether the network has the layers that surgery names; `kerasft surgery` "
                         "shows them")  # fmt: skip
    try:
        require_sampling(build(cfg.sampling), task)
    except UserError as error:
        problems += error.problems
    for node in (cfg.checkpoint, cfg.cache):  # they look at their settings when they are made
        try:
            build(node)
        except UserError as error:
            problems += error.problems
    steps = {name: node for name, node in (plain(cfg.augment) or {}).items() if node}
    if steps:
        problems += _augmentation(steps, task, modality or takes)
        problems += _ends(steps, sum(one.epochs for one in build_stages(cfg.finetune).values()))
        checked.append(f"augmentation ({', '.join(steps)}) fits the task")
        unchecked.append("augmentation at work; `kerasft show` shows it")
    if problems:
        raise UserError(problems=problems)
    if cfg.batch_size == AUTO:
        unchecked.append("how many examples fit in memory (batch_size=auto); a run measures it "
                         "before it begins")  # fmt: skip
    unchecked.append("the weights of the backbone, memory, and time; `kerasft train --plan` "
                     "measures them")  # fmt: skip
    return Found(tuple(checked), tuple(unchecked))


def _look_at_data(
    node: Mapping[str, Any], wanted: tuple[str | int, ...], problems: list[str]
) -> tuple[Look, Any]:
    target = str(node["_target_"])
    reads = slices.reads_columns(target_of(node))
    if wanted and reads:
        node = {**node, "slices": wanted}
    if target.startswith("kerasft."):  # what a number means to a source of one's own, it says
        parts = ratios_of(node.get("validation"), node.get("test"))
        problems += [said for name, part in parts.items()
                     if part is not None and (said := part_problem(name, part))]  # fmt: skip
    ask = beside(node, "look")
    if ask is None:
        return Look(unchecked=(f"the data: {target} tells nothing before it is read",)), None
    try:
        found = ask({name: value for name, value in node.items() if name != "_target_"})
    except UserError as error:
        problems += error.problems
        return Look(), None
    left = [one for one in wanted if found.modality != "text" or one != slices.LENGTH]
    if left and not reads and found.modality is not None:
        problems.append(slices.no_columns(left, target, found.modality))
    return found, found.modality


def _augmentation(steps: Mapping[str, Any], task: Task, modality: Modality | None) -> list[str]:
    """Return what speaks against the steps, of their classes and settings alone."""
    if not steps:  # `check` answers at once then
        return []
    from kerasft.data.changed_texts import displaced, not_of

    if isinstance(task, Located) and modality == "text":
        return [displaced(steps)]
    problems = [
        not_of(name, modality) for name, node in steps.items()
        # Of a step of one's own nothing is known before it is built.
        if modality is not None and str(node["_target_"]).startswith(("keras.", "kerasft."))
        and str(node["_target_"]).startswith(WORDS) != (modality == "text")
    ]
    if problems:
        return problems[:1]
    boxes = are_boxes(task.kind)
    for name, node in steps.items():
        target = str(node["_target_"])
        kind = target.rpartition(".")[2]
        if not target.startswith(("keras.", *OURS)):
            continue
        if task.follows_pixels and kind in ASTRAY:
            problems.append(astray(name, kind, boxes=boxes))
        elif kind in MIXING and not isinstance(task, Mixable):
            problems.append(not_mixable(name))
        elif boxes and (filling := _filling(target, node)) in FILLS_WITH_IMAGE:
            problems.append(fills_astray(name, kind, filling))
    return problems


def _ends(steps: Mapping[str, Any], epochs: int) -> list[str]:
    """Return what speaks against the ends of steps, where so many epochs are planned."""
    problems = []
    for name, node in steps.items():
        stop = node.get("stop")
        if stop is None or not str(node["_target_"]).startswith("kerasft."):
            continue
        if said := ending.problem(stop):
            problems.append(f"augment.{name}.{said}.")
        elif stop < 0 and ending.until(stop, epochs) == 0:
            problems.append(
                f"augment.{name}.stop={stop} leaves the last {-stop:.0f} epochs without, and there "
                f"are {epochs}: it would never be at work. Train longer, or set a share, such as "
                f"augment.{name}.stop=0.9."
            )
    return problems


def _filling(target: str, node: Mapping[str, Any]) -> str:
    try:
        default = define(target).parameters["fill_mode"].default
    except (NotFound, KeyError):
        return "constant"
    return str(node.get("fill_mode", default)).strip("'\"")
