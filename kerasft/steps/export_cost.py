"""How long the exports of a run will take, told before it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kerasft.config.composition import plain
from kerasft.spec import Backbone
from kerasft.steps.heads import with_head
from kerasft.steps.plan import CAREFULLY, Care, StagePlan, measure_stages
from kerasft.steps.prepare import Parts, Ready
from kerasft.system.console import listing, say
from kerasft.system.terminal import status

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Outlook:
    """What is known of exports before a run.

    Args:
        seconds: By name, how long an export will take, with its proof.
        unknown: The names of those that cannot be told.
    """

    seconds: Mapping[str, float]
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        said = [f"export {name} takes another {taken:.0f} s or so, with its proof"
                for name, taken in self.seconds.items()]  # fmt: skip
        if self.unknown:
            said.append(f"how long export {listing(self.unknown)} takes is not known beforehand")
        return "; ".join(said)


def measure(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone, *, care: Care = CAREFULLY
) -> tuple[list[StagePlan], Outlook]:
    """Measure what the stages of a run and its exports cost.

    Args:
        cfg: The config.
        parts: The cheap parts.
        ready: The data.
        backbone: The backbone; afterwards it is good for nothing else.
        care: How carefully.

    Returns:
        A `StagePlan` a stage, and the `Outlook` of the exports.
    """
    model = with_head(cfg, ready.task, ready.splits.labels, backbone)
    with status.showing("measuring steps ..."):
        plans = measure_stages(cfg, parts, ready, backbone, care=care, model=model)
    return plans, outlook(cfg, ready, model)


def outlook(cfg: DictConfig, ready: Ready, model: keras.Model) -> Outlook:
    """Rehearse the exports that a config asks for at the end of its run.

    Args:
        cfg: The config.
        ready: The data.
        model: The assembled model. Afterwards it is good for nothing else: it is brought into the
            form that is exported.

    Returns:
        The `Outlook`. A format is rehearsed by the function `rehearse` of its module.
    """
    wanted = {key: one for key, one in (cfg.export or {}).items() if one}
    rehearsals = {key: _rehearsal(one) for key, one in wanted.items()}
    if not any(rehearsals.values()):
        return Outlook({}, tuple(wanted))
    from kerasft.model.adaptation import merge
    from kerasft.model.fast import at_rest
    from kerasft.model.precision import in_float32

    merge(in_float32(model))
    further: dict[str, Any] = {"at_rest": at_rest} if cfg.fast else {}
    with status.showing("rehearsing the export ..."):
        found = {
            key: act(
                model=model, preprocess=ready.preprocess, task=ready.task,
                labels=ready.splits.labels, examples=ready.held_out.inputs, **further,
                **{name: value for name, value in plain(wanted[key]).items() if name != "_target_"},
            )
            for key, act in rehearsals.items() if act
        }  # fmt: skip
    known = {key: taken for key, taken in found.items() if taken is not None}
    return Outlook(known, tuple(key for key in wanted if key not in known))


def _rehearsal(node: DictConfig) -> Any:
    """Return the function that rehearses an export, or `None`."""
    home, _, _ = str(node["_target_"]).rpartition(".")
    with suppress(ModuleNotFoundError):  # what is built need not stand in a module directly
        return getattr(importlib.import_module(home), "rehearse", None)
    return None


def tell(found: Outlook) -> None:
    """Say how long exports will take, where any are asked for."""
    if said := str(found):
        say(said)
