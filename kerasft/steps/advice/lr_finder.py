"""Finds learning rates: a range test of each stage, which leaves everything as it was."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kerasft.config import auto_batch
from kerasft.config.checks import settle
from kerasft.errors import UserError
from kerasft.spec import Backbone
from kerasft.steps.advice import beforehand
from kerasft.steps.advice.lr_overrides import StageRates, overrides_of, rounded
from kerasft.steps.advice.range_test import Tester
from kerasft.steps.fitting.fit import make_recipe
from kerasft.steps.preparing import in_memory, prepare, sizes
from kerasft.steps.preparing.heads import with_head
from kerasft.steps.preparing.prepare import Parts, Ready
from kerasft.system.console import say, table, without_chatter
from kerasft.system.files import write_json
from kerasft.system.folders import output_problem
from kerasft.system.terminal import status
from kerasft.training.rate_rules import RULES

# The image unless the command line says otherwise; the figures go beside it.
PLOT = "lr_find.png"
# A head is there after few updates at a rate that is far below the one at which the loss is lowest;
# a whole network moves further in an epoch than in a test, and wants more (docs/learning-rate.md).
AUTO = {True: "valley", False: "lowest"}
# Updates of a test: as many as an epoch has, but at least and at most so many.
LEAST, MOST = 60, 100
# Below so many updates a test has too few points for any rule.
FEWEST = 20


@dataclass(frozen=True)
class Wanted:
    """What is tested.

    Args:
        output: The `.png` file for the curves; the figures go into a `.json` file beside it. `None`
            writes neither.
        start: The first learning rate.
        end: The last one, unless the loss diverges before.
        updates: Updates of the weights from the one to the other; by default those of an epoch,
            but from 60 to 100. Where an epoch has fewer batches they are repeated.
        rule: The rule whose rate is suggested, one of `RULES`; `"auto"`: `"valley"` where the head
            alone trains, and else `"lowest"`.

    Raises:
        UserError: If it cannot be tested, or the file not be written.

    Example:
        >>> Wanted(updates=80).updates_of(batches=500, each=1)
        80
    """

    output: str | None = None
    start: float = 1e-7
    end: float = 10.0
    updates: int | None = None
    rule: str = "auto"

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.start < self.end < float("inf"):
            problems.append(
                "--start must be above 0, and --end above it. Received: "
                f"{self.start:g} and {self.end:g}."
            )
        if self.updates is not None and self.updates < FEWEST:
            problems.append(f"--updates must be at least {FEWEST}. Received: {self.updates}.")
        if self.rule not in ("auto", *RULES):
            problems.append(
                f"--rule must be one of auto, {', '.join(RULES)}. Received: {self.rule!r}."
            )
        if problem := output_problem(self.output, (".png",), ".png"):
            problems.append(problem)
        if problems:
            raise UserError(problems=problems)

    def updates_of(self, batches: int, each: int) -> int:
        """Return the updates of a test.

        Args:
            batches: Those of an epoch.
            each: Those of an update.
        """
        return self.updates or min(max(batches // each, LEAST), MOST)


@dataclass(frozen=True)
class Found:
    """What range tests of all stages found.

    Args:
        stages: A `StageRates` a stage.
        overrides: What sets the suggested rates, to be pasted behind `kerasft train`.
        plot: The image, where one was written.
        notes: What cannot be set by overrides, a sentence each.
    """

    stages: list[StageRates]
    overrides: list[str]
    plot: Path | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "overrides": self.overrides, "notes": self.notes,
            "stages": [one.to_dict() for one in self.stages],
        }


@without_chatter()
def lr_find(
    config: Any = (), *, data: Any = None, output: str | None = None, start: float = 1e-7,
    end: float = 10.0, updates: int | None = None, rule: str = "auto",
    config_dirs: Sequence[str] = (), trusted: Sequence[str] = (),
) -> Found:
    """Suggest a learning rate for each stage, by a range test (Smith 2017). Nothing is trained.

    In a test the rate rises from update to update, by the same factor each time, while the loss is
    recorded (<https://arxiv.org/abs/1506.01186>, section 3.3). Batches, augmentation, optimizer,
    gradient accumulation, precision, adapters and kept activations are those of the run. A stage
    behind another one is tested from where a brief training of that one leads, at its suggested
    rate. Neither weights nor random numbers nor the activation cache nor any run folder are changed
    by it.

    Args:
        config: See `train`, as `data`, `config_dirs` and `trusted`.
        output: The `.png` file for the curves; the figures go into a `.json` file beside it. `None`
            writes neither.
        start: The first learning rate.
        end: The last one, unless the loss diverges before.
        updates: Updates of the weights from the one to the other; by default those of an epoch,
            but from 60 to 100.
        rule: Which rule's rate is suggested: `"valley"`, `"steep"` or `"lowest"`. `"auto"`, the
            default, is `"valley"` where the head alone trains, and else `"lowest"`.

    Returns:
        A `Found`: a `StageRates` a stage, and the overrides that set the suggested rates.

    Raises:
        UserError: For any mistake in the config, the data, or what is asked for.

    Example:
        >>> small = ["backbone=tiny_resnet", "backbone.image_size=16", "finetune=linear_probe"]
        >>> found = lr_find(small, updates=20)
        data: 50 train, 200 validation, 1,547 test; 10 classes (0, 1, 2, 3, 4, 5, ...)
        >>> [(one.name, one.now) for one in found.stages]
        [('probe', 0.001)]
    """
    from kerasft.training.randomness import undisturbed

    wanted = Wanted(output, start, end, updates, rule)
    cfg = settle(in_memory.reading(config, data, config_dirs), config_dirs, trusted)
    prepare.require_monitors(cfg)
    with undisturbed(), in_memory.holding(cfg, data):
        beforehand.settle(cfg)
        with prepare.runtime(cfg):
            parts = prepare.cheap_parts(cfg)
            splits = prepare.read_data(cfg, parts, None)
            backbone = prepare.load_backbone(cfg, splits)
            ready = prepare.make_ready(cfg, parts, splits, backbone)
            stages = test_stages(cfg, parts, ready, backbone, wanted)
    overrides, notes = overrides_of(cfg, parts.stages, stages)
    plot = None if wanted.output is None else draw(stages, Path(wanted.output))
    found = Found(stages, overrides, plot, notes)
    if plot is not None:
        write_json(plot.with_suffix(".json"), found.to_dict())
    return found


def test_stages(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone, wanted: Wanted
) -> list[StageRates]:
    """Test the learning rates of each stage, one after the other.

    Args:
        cfg: The config.
        parts: The cheap parts.
        ready: The data.
        backbone: The backbone.
        wanted: What is tested.

    Returns:
        What each test found.
    """
    from kerasft.model.fast import accelerated
    from kerasft.training.stages import is_head_alone

    model = with_head(cfg, ready.task, ready.splits.labels, backbone)
    recipe = make_recipe(cfg, parts, ready.task, backbone)
    recipe.require(model)
    at_sizes = sizes.of_stages(cfg, parts, ready, backbone, model, parts.stages)
    steps, epochs = recipe.planned(ready.batches.steps)
    each, first, found = auto_batch.accumulated(cfg), 0, []
    begins = "no training"
    with accelerated(model, steps=steps * sum(epochs.values())) if cfg.fast else nullcontext():
        for place, name in enumerate(parts.stages):
            now = recipe.select(model, name)
            brief = each * min(max(steps * epochs[name] // each, 1), MOST)
            is_last = place == len(parts.stages) - 1
            updates = wanted.updates_of(steps, each)
            tester = Tester(
                cfg, parts, at_sizes[name], model, recipe, name,
                first=first, count=max(updates * each, 0 if is_last else brief),
                epochs=epochs[name], steps=steps * epochs[name],
            )
            with status.showing(f"testing learning rates of stage {name} ..."):
                curve = tester.test(now, wanted.start, wanted.end, updates)
            alone = is_head_alone(model)
            one = StageRates(
                name, now, curve, {rule: rounded(find(curve)) for rule, find in RULES.items()},
                AUTO[alone] if wanted.rule == "auto" else wanted.rule, alone, tester.kept, begins,
            )
            found.append(one)
            first += epochs[name] * ready.batches.steps
            if not is_last:
                with status.showing(f"training stage {name} briefly ..."):
                    rate = one.suggested or now
                    if tester.train(rate, brief):
                        begins = f"{brief // each} updates of stage {name} at {rate:g}"
                    else:
                        begins += f"; stage {name} diverged at {rate:g}"
    return found


def draw(stages: Sequence[StageRates], path: Path) -> Path:
    """Draw the curves of all stages, and return the file."""
    from kerasft.evaluation.rate_plot import range_test

    def marks(one: StageRates) -> dict[str, float]:
        others = [rule for rule in RULES if rule != one.rule]
        found = {rule: one.rates[rule] for rule in (one.rule, *others)} | {"now": one.now}
        return {name: rate for name, rate in found.items() if rate is not None}

    return range_test(
        [{"title": f"stage {one.name}", "rates": one.curve.rates, "losses": one.curve.losses,
          "smoothed": one.smoothed, "marks": marks(one)} for one in stages],
        path,
    )


def tell(found: Found) -> None:
    """Say what was found, the overrides last."""
    rows = []
    for one in found.stages:
        curve = one.curve
        rows.append([
            one.name, len(curve.rates), f"{one.now:g}",
            *(f"{rate:g}" if rate else "-" for rate in one.rates.values()),
            f"{curve.rates[-1]:.2g}" if curve.diverged else "-",
        ])
    say(table(rows, ["stage", "updates", "rate now", *RULES, "diverged"]))
    for one in found.stages[1:]:
        say(f"stage {one.name}: tested after {one.start}")
    for note in found.notes:
        say(note)
    if found.plot is not None:
        say(f"curves: {found.plot}; values: {found.plot.with_suffix('.json')}")
    if found.overrides:
        rules = ", ".join(dict.fromkeys(one.rule for one in found.stages))
        say(f"suggested ({rules}): {' '.join(found.overrides)}")


def run(options: argparse.Namespace) -> None:
    """Carry out `kerasft lr-find`."""
    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        found = lr_find(
            options.overrides, output=options.output, start=options.start, end=options.end,
            updates=options.updates, rule=options.rule, config_dirs=options.config_dir,
            trusted=options.trust,
        )
    if options.json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        tell(found)
