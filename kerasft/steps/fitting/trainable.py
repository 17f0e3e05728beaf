"""Tells what trains in a stage: each part, how fast, and how it is held back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kerasft.system.console import say, table
from kerasft.system.terminal import Styled

if TYPE_CHECKING:
    from kerasft.training.stages import Stage
    from kerasft.training.trainability import Part

# So many parts are shown before training at most: the uppermost and the lowest.
MOST_PARTS = 12


def tell(
    name: str, stage: Stage, peak: float, steps: int | None, parts: Sequence[Part],
    *, most: int | None = None,
) -> None:
    """Say what trains in a stage.

    Args:
        name: The stage's name.
        stage: The stage.
        peak: Its peak learning rate.
        steps: Its steps; `None` where nothing is trained.
        parts: What it consists of.
        most: How many parts are shown; `None` for all.
    """
    total, trains = sum(one.weights for one in parts), sum(one.trains for one in parts)
    images = "images of {}x{}, ".format(*stage.size) if stage.size else ""
    takes = "" if steps is None else f"{steps:,} steps, "
    say()
    if stage.solve:
        say(Styled.of((f"stage {name}:", "bold"), f" {trains:,} of {total:,} weights, those of the "
                      "head, are computed"))
        return
    say(Styled.of((f"stage {name}:", "bold"), f" {takes}{images}learning rate up to "
                  f"{peak:g}, {trains:,} of {total:,} weights train"))
    say(as_table([one for one in parts if one.weights], most))


def as_table(parts: Sequence[Part], most: int | None = None) -> str:
    """Return parts as a table; columns in which no part has anything are left out.

    Args:
        parts: What a stage consists of.
        most: How many are shown; `None` for all.

    Example:
        >>> from kerasft.training.trainability import Part
        >>> print(as_table([Part("conv_*", 448, 448, 1e-4), Part("head", 130, 130, 1e-3)]))
        part    weights  train  share  learning rate
        conv_*      448    448  100%   0.0001
        head        130    130  100%   0.001
    """
    rows = [_row(one) for one in parts]
    if most is not None and len(rows) > most:
        above = most // 2
        rest = parts[above : above + 1 - most]
        count, trains = sum(one.weights for one in rest), sum(one.trains for one in rest)
        between = [f"({len(rest)} more parts)", count, trains, _share(trains, count)]
        rows = [*rows[:above], between + [""] * (len(rows[0]) - 4), *rows[above + 1 - most :]]
    header = ["part", "weights", "train", "share", "learning rate", "weight decay", "batch norm",
              "adapter"]  # fmt: skip
    shown = [i for i in range(len(header)) if i < 4 or any(row[i] not in ("", "-") for row in rows)]
    return table([[row[i] for i in shown] for row in rows], [header[i] for i in shown])


def _row(part: Part) -> list[Any]:
    return [
        part.name, part.weights, part.trains, _share(part.trains, part.weights),
        _number(part.learning_rate), _number(part.weight_decay), part.batch_norm or "-",
        part.adapter or "-",
    ]


def _share(trains: int, count: int) -> str:
    return f"{trains / count:.0%}" if count else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
