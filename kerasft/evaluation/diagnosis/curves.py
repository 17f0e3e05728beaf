"""The shape of learning curves, in words and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# A change that is smaller than this part of the first value is none.
FLAT = 0.02
# From its lowest point on a curve must rise by this part of it to turn; see `overfitting`.
TURNS = 0.1


def shape(values: Sequence[float]) -> str:
    """Name the shape of a loss over epochs.

    Args:
        values: One an epoch.

    Returns:
        `"falling"`, `"levelled off"` (it fell, but not in the last third), `"flat"`, `"rising"`,
        `"turning"` (it fell, then rose again), `"unsteady"`, or `"too short"` below two epochs.

    Example:
        >>> shape([1.0, 0.6, 0.4, 0.3]), shape([1.0, 0.5, 0.8]), shape([0.7, 0.69, 0.7])
        ('falling', 'turning', 'flat')
    """
    v = np.asarray(values, np.float64)
    if len(v) < 2 or not np.isfinite(v).all():
        return "too short" if len(v) < 2 else "not a number"
    first, last, low = v[0], v[-1], int(v.argmin())
    scale = max(abs(first), 1e-12)
    if np.ptp(v) < FLAT * scale:
        return "flat"
    if low == 0:
        return "rising"
    if last - v[low] > TURNS * max(abs(v[low]), 1e-12) and low < len(v) - 1:
        back = (np.diff(v) > TURNS * scale).sum() > 1 and (np.diff(v) < -TURNS * scale).sum() > 1
        return "unsteady" if back else "turning"
    return "falling" if is_falling(values) else "levelled off"


def is_falling(values: Sequence[float]) -> bool:
    """Whether a loss still falls at its end: by 2 % or more over its last third.

    Example:
        >>> is_falling([1.0, 0.8, 0.6, 0.5]), is_falling([1.0, 0.5, 0.4, 0.4, 0.4, 0.4])
        (True, False)
    """
    v = np.asarray(values, np.float64)
    if len(v) < 2:
        return False
    before = v[-1 - max(len(v) // 3, 1)]
    return bool(before - v[-1] > FLAT * max(abs(before), 1e-12))


def early_sign(
    rows: Sequence[Mapping[str, Any]], floor: Mapping[str, float], examples: int, steps: int
) -> str | None:
    """Say after an epoch what is certain already, once.

    Args:
        rows: One dict an epoch, as `logs/epochs.jsonl` has them.
        floor: Figures of validation for an answer that is the same for all, see `chance`.
        examples: Validation examples.
        steps: Steps of an epoch.

    Returns:
        A sentence, or `None`; also `None` where it was said after an earlier epoch.

    Example:
        >>> rows = [{"epoch": e, "stage": "full", "loss": e, "val_loss": e} for e in (1, 2)]
        >>> early_sign(rows, {}, 100, 50)[:40]
        'the loss is diverging in stage full: fro'
    """
    for said in (_diverges, _stays_at_chance):
        if (now := said(rows, floor, examples, steps)) and not any(
            said(rows[:count], floor, examples, steps) for count in range(1, len(rows))
        ):
            return now
    return None


# A stage whose losses on training and validation are both so many times their lowest is diverging.
DIVERGED = 1.5
# So many epochs, and so many steps, without anything learned are enough to say so.
EPOCHS, STEPS = 3, 60


def _diverges(
    rows: Sequence[Mapping[str, Any]], floor: Mapping[str, float], examples: int, steps: int
) -> str | None:
    stage = [row for row in rows if row["stage"] == rows[-1]["stage"]]
    if len(stage) < 2:
        return None
    last = stage[-1]
    for name in ("loss", "val_loss"):
        low = min(row[name] for row in stage[:-1])
        if not last[name] > DIVERGED * max(low, 1e-6):
            return None
    low = min(row["loss"] for row in stage[:-1])
    return (
        f"the loss is diverging in stage {last['stage']}: from {low:.4f} to {last['loss']:.4f} in "
        f"training, and {last['val_loss']:.4f} on validation. A lower learning rate may help, or "
        "schedule.warmup=0.1"
    )


def _stays_at_chance(
    rows: Sequence[Mapping[str, Any]], floor: Mapping[str, float], examples: int, steps: int
) -> str | None:
    from kerasft.evaluation.diagnosis.chance import is_chance

    if len(rows) < EPOCHS or len(rows) * steps < STEPS:
        return None
    figures = [
        {name.removeprefix("val_"): value for name, value in row.items() if name[:4] == "val_"}
        for row in rows
    ]
    if not all(is_chance(one, floor, max(examples, 1)) for one in figures):
        return None
    first, last = rows[0]["loss"], rows[-1]["loss"]
    return (
        f"after {len(rows)} epochs validation is no better than one answer for all examples "
        f"(training loss {first:.4f}, now {last:.4f}): the learning rate may be far off, the "
        "labels may have nothing to do with the inputs, or what trains cannot tell them apart"
    )
