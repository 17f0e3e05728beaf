"""What a probe found, as a table with a suggestion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kerasft.system.console import table
from kerasft.system.passwords import override_shown


@dataclass(frozen=True)
class Row:
    """One place in one backbone.

    Args:
        backbone: The overrides that choose the backbone.
        name: Its name.
        layer: Where it was cut, as `surgery.cut.layer` takes it; `None` for all of it.
        share: The share of its computing up to there.
        figure: The metric on validation.
        low: The lower end of its interval at 95 %, `None` where there is none.
        high: The upper one.
        milliseconds: What an example takes, in batches.
        megabytes: What its weights take, in float32.
        cut_short: Share of the training texts that are longer than `backbone.sequence_length`;
            `None` for images.
        pretrained: Whether its weights are pretrained.
        strength: That of the penalty, see `kerasft.model.linear`.
    """

    backbone: tuple[str, ...]
    name: str
    layer: str | None
    share: float
    figure: float
    low: float | None
    high: float | None
    milliseconds: float
    megabytes: float
    cut_short: float | None
    pretrained: bool
    strength: float


@dataclass(frozen=True)
class Probed:
    """What a probe found.

    Args:
        metric: The figure that backbones are compared by.
        rows: The best one first.
        left_out: By the overrides that choose a backbone, why it was not probed.
        train: How many training examples the linear models were fitted to.
        validation: How many they were measured on.
        suggested: The row that is suggested.
        overrides: The overrides of a first run with it.
        command: The same as a line for a shell; a call where the data is in memory.
    """

    metric: str
    rows: tuple[Row, ...]
    left_out: dict[str, str]
    train: int
    validation: int
    suggested: Row
    overrides: tuple[str, ...]
    command: str

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            [shown(one.backbone) or one.name, one.layer or "all", f"{one.share:.0%}", one.figure,
             "" if one.low is None else f"{one.low:.3f} to {one.high:.3f}",
             f"{one.milliseconds:.2f}", f"{one.megabytes:,.1f}",
             *([] if one.cut_short is None else [f"{one.cut_short:.1%}"])]
            for one in self.rows
        ]  # fmt: skip
        header = ["backbone", "up to", "computing", self.metric, "95 %", "ms an example", "MB"]
        texts = self.rows[0].cut_short is not None
        lines = [table(rows, [*header, *(["cut short"] if texts else [])])]
        lines += [f"not probed: {name}: {why}" for name, why in self.left_out.items()]
        if random := dict.fromkeys(one.name for one in self.rows if not one.pretrained):
            lines.append(f"random weights, which are for trying things out: {', '.join(random)}")
        best = self.suggested
        of = f"up to {best.layer}" if best.layer else "all of it"
        lines += [
            "", f"Suggested: {shown(best.backbone) or best.name}, {of}, as the highest "
            f"{self.metric} of a linear head on its features. To begin with:",
            f"  {self.command}",
        ]  # fmt: skip
        if cheaper := self._cheaper():
            lines.append(
                f"Within its interval, and {best.milliseconds / cheaper.milliseconds:.1f} times as "
                f"fast: {shown(cheaper.backbone) or cheaper.name}"
                + (f" up to {cheaper.layer}" if cheaper.layer else "")
            )
        return "\n".join(lines)

    def _cheaper(self) -> Row | None:
        """Return the fastest row that takes at most half the time and lies in the interval."""
        best = self.suggested
        if best.low is None or best.high is None:
            return None
        alike = [
            one for one in self.rows
            if best.low <= one.figure <= best.high and 2 * one.milliseconds <= best.milliseconds
        ]  # fmt: skip
        return min(alike, key=lambda one: one.milliseconds, default=None)


def shown(overrides: Sequence[str]) -> str:
    """Return overrides in one line, without passwords."""
    return " ".join(map(override_shown, overrides))
