"""Estimates what a sweep will cost, from a few of its settings."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from kerasft.sweeps.space import Point, Space, name_of
from kerasft.system.console import say, table

# How many settings are measured at most.
MOST = 6


@dataclass(frozen=True)
class Outlook:
    """What a sweep will cost.

    Args:
        measured: By setting the seconds that a trial of it takes to its end.
        trials: How many trials there are to be.
        workers: How many of them run at a time.
        space: How many settings there are; `None` for no end of them.
    """

    measured: dict[str, float]
    trials: int
    workers: int
    space: int | None

    @property
    def seconds(self) -> float:
        """What the trials take together, one after the other, none of them pruned."""
        return self.trials * statistics.mean(self.measured.values())

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {**vars(self), "seconds": self.seconds}


def representative(space: Space) -> list[Point]:
    """Return settings that stand for all: each choice occurs in one of them, up to `MOST` in all.

    Intervals count with their lower end alone: how long a step takes seldom hangs on a number.
    """
    found: dict[str, Point] = {}
    for point in space.corners():
        kept = {axis.key: axis.ends()[0] if not axis.values else point[axis.key]
                for axis in space.axes if axis.key in point}  # fmt: skip
        found.setdefault(name_of(kept), kept)
    return list(found.values())[:MOST]


def measure(
    space: Space, configs: Sequence[tuple[Point, DictConfig]], total: int | None, workers: int,
    trusted: Sequence[str],
) -> Outlook:
    """Measure a few steps of some settings.

    Args:
        space: What is varied.
        configs: Settings and their configs.
        total: How many trials are wanted; `None` for all combinations.
        workers: How many of them run at a time.
        trusted: Import prefixes that a `_target_` may start with.

    Returns:
        The outlook.
    """
    from kerasft.run import plan

    measured = {
        name_of(point): sum(stage.seconds for stage in plan(cfg, trusted=trusted))
        for point, cfg in configs
    }
    there = None if space.endless else space.size()
    trials = min(n for n in (total, there) if n is not None)
    return Outlook(measured, trials, workers, there)


def tell(outlook: Outlook) -> None:
    """Say what a sweep will cost."""
    from kerasft.steps.costs.plan import in_words

    say(table([[name, seconds] for name, seconds in outlook.measured.items()],
              ["setting", "seconds a trial"]))  # fmt: skip
    of = "" if outlook.space is None else f" of {outlook.space:,} combinations"
    by = "" if outlook.workers == 1 else (
        f"; {outlook.workers} workers share the machine, so that they take less than that, but not "
        "in proportion"
    )
    say(f"{outlook.trials:,} trials{of}: about {in_words(outlook.seconds)} one after the other if "
        f"none is pruned, beside start-up and data{by}")
