"""How long what comes after training will take, told before a run: measuring, and exports."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from kerasft.config.building import beside, plain
from kerasft.runs.finetuned import FineTuned, eval_batch_size
from kerasft.spec import Backbone
from kerasft.steps.costs.plan import CAREFULLY, Care, StagePlan, measure_stages
from kerasft.steps.measuring.training_sample import sample_size
from kerasft.steps.preparing.heads import with_head
from kerasft.steps.preparing.prepare import Parts, Ready
from kerasft.system.console import listing
from kerasft.system.terminal import status

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Afterwards:
    """What comes after training.

    Args:
        measuring: The seconds in which all held-out examples and the training sample are answered.
        exports: By name, the seconds of an export with its proof.
        unknown: The names of exports of which that is not known.
    """

    measuring: float
    exports: Mapping[str, float]
    unknown: tuple[str, ...]

    def told(self) -> str:
        """Return a sentence on all of it, without a full stop."""
        said = [f"Measuring the result takes another {self.measuring:.0f} s or so"]
        said += [f"export {name} another {taken:.0f} s or so, with its proof"
                 for name, taken in self.exports.items()]  # fmt: skip
        if self.unknown:
            said.append(f"how long export {listing(self.unknown)} takes is not known beforehand")
        return "; ".join(said)


def measure(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone, *, care: Care = CAREFULLY
) -> tuple[list[StagePlan], Afterwards]:
    """Measure what the stages of a run cost, and what comes after them.

    Args:
        cfg: The config.
        parts: The cheap parts.
        ready: The data.
        backbone: The backbone; afterwards it is good for nothing else.
        care: How carefully.

    Returns:
        A `StagePlan` a stage, and what comes after the last.
    """
    model = with_head(cfg, ready.task, ready.splits.labels, backbone)
    with status.showing("measuring steps ..."):
        plans = measure_stages(cfg, parts, ready, backbone, care=care, model=model)
    from kerasft.model.adapting.adaptation import merge
    from kerasft.model.precision import in_float32

    first = _first_answers(cfg, ready, in_float32(model))
    examples = {name: len(part) for name, part in ready.splits.parts.items()}
    asked = sum(count for name, count in examples.items() if name != "train")
    asked += sample_size(cfg, ready.splits)
    answering = plans[-1].whole.answering * asked / examples["validation"]
    merge(model)
    return plans, Afterwards(first + answering, *of_exports(cfg, ready, model))


def _first_answers(cfg: DictConfig, ready: Ready, model: keras.Model) -> float:
    """Return the seconds until the first batch is answered: most of it is tracing."""
    made = FineTuned(
        model, ready.preprocess, ready.task, ready.splits.labels, eval_batch_size(cfg)
    )
    rows = np.arange(min(made.batch_size, len(ready.splits.validation)))
    targets = made.targets(ready.splits.validation.annotations.take(rows))
    began = time.perf_counter()
    made.measure(ready.stores["validation"].take(rows), targets)
    return time.perf_counter() - began


def of_exports(
    cfg: DictConfig, ready: Ready, model: keras.Model
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Rehearse the exports that a config asks for at the end of its run.

    Args:
        cfg: The config.
        ready: The data.
        model: The assembled model, in the form that is exported.

    Returns:
        By name, the seconds of each export; and the names of those that cannot be told. A format
        is rehearsed by the function `rehearse` of its module.
    """
    wanted = {key: one for key, one in (cfg.export or {}).items() if one}
    rehearsals = {key: act for key, one in wanted.items() if (act := beside(one, "rehearse"))}
    if not rehearsals:
        return {}, tuple(wanted)
    from kerasft.model.fast import at_rest

    further: dict[str, Any] = {"at_rest": at_rest} if cfg.fast else {}
    found = {}
    for key, act in rehearsals.items():
        settings = plain(wanted[key])
        settings.pop("_target_")
        with status.showing(f"rehearsing export {key} ..."):
            seconds = act(
                model=model, preprocess=ready.preprocess, task=ready.task,
                labels=ready.splits.labels, examples=ready.held_out.inputs, **further, **settings,
            )  # fmt: skip
        if seconds is not None:
            found[key] = seconds
    return found, tuple(key for key in wanted if key not in found)
