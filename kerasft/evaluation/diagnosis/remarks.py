"""What is worth knowing of a run beside its verdict: what lags, calibration, its end."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kerasft.evaluation.calibration import BINS, calibration_error
from kerasft.evaluation.diagnosis.case import Case
from kerasft.evaluation.diagnosis.curves import TURNS, shape
from kerasft.evaluation.diagnosis.rules import GAP, drift, drifted
from kerasft.system.console import listing

# A calibration error above this is worth a temperature (Guo et al. 2017,
# https://arxiv.org/abs/1706.04599).
UNSURE = 0.1
# Of a class, so many examples are needed on either side before its gap is named.
OF_A_CLASS = 5


def remarks(case: Case) -> list[str]:
    """Return what is worth knowing beside the verdict: what lags, calibration, the end."""
    found: list[str] = []
    if not case.epochs:
        return found
    if worst := class_gaps(case):
        name, seen, held = worst[0]
        found.append(f"the class with the largest gap is {name!r}: recall {seen:.2f} on the "
                     f"training sample, {held:.2f} on validation")  # fmt: skip
    if case.lagging:
        name = case.monitor.removeprefix("val_")
        found.append(f"clearly worse than all of validation ({name} "
                     f"{case.validation.get(name, math.nan):.3f}): " + listing((
                         f"{one.column}={one.value} ({one.figure:.3f} of {one.examples:,} examples)"
                         for one in case.lagging), 3))  # fmt: skip
    if (off := miscalibration(case)) is not None and off > UNSURE:
        found.append(
            f"the network is off by {off:.2f} in how sure it is, on average (calibration error on "
            "validation); export.NAME.temperature=auto mends that in an export"
        )
    if drift(case) >= 1 + TURNS:
        found.append(f"calibration drifted: {drifted(case, drift(case))}")
    elif case.best["epoch"] <= len(case.epochs) - 2 and shape(case.values("val_loss")) == "turning":
        found.append(
            f"validation loss rose after the kept epoch {case.best['epoch']}: fewer epochs would do"
        )
    return found


def class_gaps(case: Case) -> list[tuple[str, float, float]]:
    """Return the classes whose gap is clear, the largest first: name, recall in both splits."""
    both = [part.get("per_class") for part in (case.sample, case.validation)]
    if not all(isinstance(one, Mapping) for one in both):
        return []
    seen, held = (one or {} for one in both)
    found = []
    for name in seen.keys() & held.keys():
        a, b = seen[name], held[name]
        if not {"recall", "support"} <= (a.keys() & b.keys()):
            continue
        if min(a["support"], b["support"]) >= OF_A_CLASS and a["recall"] - b["recall"] >= GAP:
            found.append((name, a["recall"], b["recall"]))
    return sorted(found, key=lambda one: (one[2] - one[1], one[0]))


def miscalibration(case: Case, split: str = "validation") -> float | None:
    """Return the expected calibration error of a split; `None` without one class an example."""
    rows = [
        (row["true"], given) for row in case.answered.get(split, ())
        if isinstance(given := row.get("predicted", {}).get("probabilities"), Mapping)
        and isinstance(row.get("true"), str) and row["true"] in given
    ]  # fmt: skip
    if len(rows) < BINS or len({tuple(given) for _, given in rows}) != 1:
        return None
    names = list(rows[0][1])
    p = np.array([[given[name] for name in names] for _, given in rows])
    return calibration_error(np.array([names.index(true) for true, _ in rows]), p)
