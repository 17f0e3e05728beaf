"""Overrides that set the learning rates which range tests suggest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kerasft.config.parameters import define
from kerasft.training.rate_rules import smoothed

if TYPE_CHECKING:
    from kerasft.training.range_test import Curve


@dataclass(frozen=True)
class StageRates:
    """What the range test of a stage found.

    Args:
        name: The stage.
        now: Its peak rate by the config as it is.
        curve: The recorded losses.
        rates: The suggestion of each rule, `None` where it finds none.
        rule: The rule that counts.
        head_alone: Whether the head alone trains.
        kept: Whether it was tested from kept activations, as the run trains it.
        start: What the weights were before the test, in words.
    """

    name: str
    now: float
    curve: Curve
    rates: Mapping[str, float | None]
    rule: str
    head_alone: bool
    kept: bool
    start: str

    @property
    def suggested(self) -> float | None:
        """The rate that is suggested, rounded to two digits."""
        return self.rates[self.rule]

    @property
    def smoothed(self) -> Any:
        """The losses as the rules look at them."""
        return smoothed(self.curve.losses, self.curve.counts)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "stage": self.name, "learning_rate": self.now, "suggested": self.suggested,
            "rule": self.rule, "rules": dict(self.rates), "start": self.start,
            "kept_activations": self.kept, "diverged": self.curve.diverged,
            "learning_rates": [float(rate) for rate in self.curve.rates],
            "losses": [float(loss) for loss in self.curve.losses],
            "smoothed": [float(loss) for loss in self.smoothed],
        }


def rounded(rate: float | None) -> float | None:
    """Return a rate with two digits, as it is said and set.

    Example:
        >>> rounded(0.00031623), rounded(None)
        (0.00032, None)
    """
    return None if rate is None else float(f"{rate:.2g}")


def overrides_of(
    cfg: DictConfig, stages: Mapping[str, Any], found: Sequence[StageRates]
) -> tuple[list[str], list[str]]:
    """Return what sets the suggested rates.

    Args:
        cfg: The config.
        stages: The stages by name.
        found: What each test found.

    Returns:
        Overrides; and what they leave open, a sentence each.
    """
    overrides, notes = [], [
        f"stage {one.name}: no rate lowers the loss in this test; {one.now:g} stays"
        for one in found if one.suggested is None
    ]  # fmt: skip
    rates = {one.name: one.suggested for one in found if one.suggested is not None}
    if len(found) == 1 and rates:
        ((name, rate),) = rates.items()
        stage = stages[name]
        if "/" not in name and stage.learning_rate is None:
            return [f"optimizer.learning_rate={rounded(rate / stage.rate):g}"], notes
    several: dict[str, list[StageRates]] = {}
    for one in found:
        if one.suggested is None:
            continue
        if "/" in one.name:
            several.setdefault(one.name.partition("/")[0], []).append(one)
        else:
            overrides.append(f"finetune.{one.name}.learning_rate={one.suggested:g}")
    for key, ones in several.items():
        more, note = _of_one_key(cfg, key, ones)
        overrides += more
        notes += note
    return overrides, notes


def _of_one_key(
    cfg: DictConfig, key: str, ones: Sequence[StageRates]
) -> tuple[list[str], list[str]]:
    """Return what sets the rates of several stages that one key makes, such as `gradual`."""
    heads = [one.suggested for one in ones if one.head_alone and one.suggested]
    rest = [one.suggested for one in ones if not one.head_alone and one.suggested]
    overrides, notes = [], []
    if heads:
        overrides.append(f"optimizer.learning_rate={min(heads):g}")
    if rest:
        if "learning_rate" not in define(str(cfg.finetune[key]["_target_"])).parameters:
            return overrides, [f"finetune.{key} takes no learning_rate of its own"]
        overrides.append(f"finetune.{key}.learning_rate={min(rest):g}")
        if len(set(rest)) > 1:
            notes.append(
                f"finetune.{key} has one rate for {len(rest)} stages: the lowest of "
                f"{', '.join(f'{rate:g}' for rate in rest)}"
            )
    return overrides, notes
