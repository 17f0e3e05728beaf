"""Warns of a stage that loses what the one before it had won."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# How many standard errors a figure between 0 and 1 must fall, and by what share of itself a loss or
# an error must rise, to be more than noise.
ERRORS, SHARE = 2.0, 0.1


def setback(
    rows: Sequence[Mapping[str, Any]], *, monitor: str, mode: str, train: int, validation: int
) -> str | None:
    """Say so where the last stage ended worse than the one before it, in training too.

    A figure of the validation split alone may fall because the network overfits; where that of the
    training split falls with it, the stage has spoilt the weights.

    Args:
        rows: One dict an epoch with `epoch`, `stage` and figures, the last stage's at the end. Only
            stages of the same `image_size`, where there is any, are compared.
        monitor: The figure of the validation split that counts.
        mode: `"max"` or `"min"`.
        train: Training examples.
        validation: Validation examples.

    Returns:
        A sentence with what may help, or `None`.

    Example:
        >>> rows = [
        ...     {"stage": "head", "accuracy": 0.93, "val_accuracy": 0.90},
        ...     {"stage": "all", "accuracy": 0.45, "val_accuracy": 0.50},
        ... ]
        >>> setback(rows, monitor="val_accuracy", mode="max", train=208, validation=153)[:40]
        'stage all lost what stage head had won: '
    """
    after = rows[-1] if rows else {}
    before = next((
        row for row in reversed(rows)
        if row["stage"] != after["stage"] and row.get("image_size") == after.get("image_size")
    ), None)  # fmt: skip
    if before is None:
        return None
    # Not every figure is taken in training; the loss is.
    name = monitor.removeprefix("val_")
    seen, seen_mode = (name, mode) if name in after and name in before else ("loss", "min")
    figures = ((monitor, mode, validation), (seen, seen_mode, train))
    if not all(_worse(before.get(n), after.get(n), m, count) for n, m, count in figures):
        return None
    said = " and ".join(
        f"{n} went from {_shown(before[n])} to {_shown(after[n])}" for n, *_ in figures
    )
    stage = after["stage"]
    key, _, one_of_several = stage.partition("/")
    fewer = "" if one_of_several else f", fewer layers in finetune.{key}.train"
    return (
        f"stage {stage} lost what stage {before['stage']} had won: {said}. The weights of the best "
        f"epoch are kept. What may help: a lower finetune.{key}.rate or "
        f"finetune.{key}.learning_rate{fewer}, or more epochs."
    )


def _worse(before: float | None, after: float | None, mode: str, examples: int) -> bool:
    """Whether a figure became worse by more than noise."""
    if before is None or after is None:
        return False
    if mode == "min":
        return after > before + SHARE * abs(before)
    # As if it were a share of the examples; the least is that of one example.
    spread = sum(max(p * (1 - p), 1 / examples) for p in (_share(before), _share(after)))
    return before - after > ERRORS * math.sqrt(spread / examples)


def _shown(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.001 or not value else f"{value:.3g}"


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
