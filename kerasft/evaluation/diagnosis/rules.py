"""What a run suffers from: the rules, each with its threshold and the reason for it.

A rule looks at a `Case` and returns evidence, in figures, or nothing. The order of `RULES` is that
of the verdicts: what explains more comes first, and hides what it explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kerasft.evaluation.diagnosis import words
from kerasft.evaluation.diagnosis.case import Case
from kerasft.evaluation.diagnosis.chance import ERRORS, NOTHING
from kerasft.evaluation.diagnosis.curves import TURNS, is_falling, shape

# --- thresholds ----------------------------------------------------------------------------------
# All on the way from the floor (one answer for all examples) to 1, so that tasks are alike.

# Training examples that are fitted less than this are not fitted: a network that may train as long
# as it wants learns nearly all of a set of a few thousand examples, noise included (Zhang et al.
# 2017, https://arxiv.org/abs/1611.03530).
FITTED = 0.8
# A larger gap costs a quarter of all that could be won. Smaller ones are common where all is well,
# since a network that was fine-tuned knows its examples: 0.07 in the run of docs/diagnose.md.
GAP = 0.25
# A smaller one counts where the loss of validation rose by half on the way to the kept epoch: the
# network has become surer of what it gets wrong.
SMALL_GAP, LOSS_ROSE = 0.15, 1.5
# With fewer training examples, or fewer of a class on average, results of fine-tuning vary most
# with the draw of the examples (Zhang et al. 2021, https://arxiv.org/abs/2006.05987).
FEW, FEW_OF_A_CLASS = 200, 50
# In an epoch weights that go farther than half of their own norm have little left of what they
# were; in the run of docs/diagnose.md no part of the backbone goes farther than 0.02.
FAR = 0.5
# Farther than this, and they were thrown about, however the loss looks; random weights of a small
# network go as far as their own norm, and learn by it.
VERY_FAR = 2.0
# A training loss this much above that of one answer for all, or above its own lowest, is one that
# steps have thrown up: none of fine-tuning at a fair rate comes there.
THROWN = 1.3
# A head begins at random and has to go somewhere: over a whole run less than this share of its
# norm is nowhere.
NEAR = 0.1
# A loss that fell by less than this part of it has hardly begun.
BEGUN = 0.2
# Validation that is near perfect after one epoch is too good to be true, for most tasks.
PERFECT, PERFECT_AT = 0.995, 50
# In the first epoch each example is new to the network, so that its loss then is one on unseen
# examples; validation that never comes near it is of another kind.
UNLIKE = 0.6
# A word alone that is right so often gives the label away.
TELLING = 0.97
# Copies of training examples that make up this part of validation prop its figures up.
COPIED = 0.05
# A network that is sure of another class than the one that it was taught is right more often than
# its teacher where that is rare and it has learned the rest (Northcutt et al. 2021,
# https://arxiv.org/abs/1911.00068).
SURE, CONTRADICTED, CONTRADICTIONS = 0.9, 0.03, 5
# How well validation must be known before it is called no better than chance.
KNOWN = 0.35
# Learned by heart: training fitted this far, or its loss below this part of that of one answer for
# all, while validation is at chance. Kept weights alone would not tell: where all epochs are at
# chance, the best one is one of the first.
BY_HEART = 0.5


@dataclass(frozen=True)
class Verdict:
    """What a run suffers from, or that it suffers from nothing.

    Args:
        name: One of `NAMES`.
        evidence: Sentences with figures.
    """

    name: str
    evidence: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": self.name, "evidence": list(self.evidence)}


HIGH, LOW = "learning rate too high", "learning rate too low"
LEAK, LABELS = "label leak possible", "labels suspect"
OVER, LITTLE = "over-fitted", "too little data"
FROZEN, UNDER = "frozen features say too little", "under-fitted"
WELL = "well fitted"
NAMES = (HIGH, LOW, LEAK, LABELS, OVER, LITTLE, FROZEN, UNDER, WELL)


def verdicts(case: Case) -> list[Verdict]:
    """Return what a run suffers from, what explains most first.

    Args:
        case: The run.

    Returns:
        At least one `Verdict`; `well fitted` stands alone.

    Example:
        >>> rows = [{"epoch": e, "stage": "full", "loss": 1 / e, "val_loss": 1.1 / e,
        ...          "val_accuracy": 0.9, "learning_rate": 1e-3} for e in (1, 2, 3)]
        >>> one = Case(rows, monitor="val_accuracy", mode="max", validation={"accuracy": 0.9},
        ...            sample={"accuracy": 0.95}, floor={"accuracy": 0.5},
        ...            held_out=100, sampled=100)
        >>> [verdict.name for verdict in verdicts(one)]
        ['well fitted']
    """
    if not case.epochs:
        return [Verdict(HIGH, tuple(_rate_high(case)))]
    found: dict[str, Verdict] = {}
    for name, (rule, hidden_by) in RULES.items():
        if not found.keys() & set(hidden_by) and (evidence := rule(case)):
            found[name] = Verdict(name, tuple(evidence))
    return list(found.values()) or [Verdict(WELL, tuple(_fair(case)))]


# --- the rules -----------------------------------------------------------------------------------


def _rate_high(case: Case) -> list[str]:
    if case.faults:
        times = "once" if case.faults == 1 else f"{case.faults} times"
        return [f"the loss was not a number {times} (logs/faults.jsonl)"]
    if not _is_poor(case):
        return []
    if not (losses := case.values("loss")):
        return []
    high = max(losses)
    floor = case.floor.get("log_loss", math.nan)
    evidence = []
    if high > THROWN * floor:
        evidence.append(
            f"training loss was as high as {high:.4f}, and one answer for all examples would have "
            f"{floor:.4f}"
        )
    elif (low := min(losses[:-1], default=math.nan)) * THROWN < losses[-1]:
        evidence.append(f"training loss rose from {low:.4f} to {losses[-1]:.4f}")
    far = max(case.backbone_moves or case.head_moves, default=math.nan)
    if case.updates and not far >= FAR:
        return []
    if far >= (FAR if evidence else VERY_FAR) and (case.backbone_moves or evidence):
        what = "backbone" if case.backbone_moves else "head"
        evidence.append(f"the {what}'s weights moved by {far:.2g} times their own norm in an epoch")
    return [*evidence, _pair(case)] if evidence else []


def _rate_low(case: Case) -> list[str]:
    losses = case.values("loss")
    if not _is_poor(case) or not losses:
        return []
    fell = 1 - losses[-1] / losses[0] if losses[0] else 0.0
    if not -NOTHING <= fell < BEGUN:
        return []
    if case.updates:
        total = sum(case.head_moves) or sum(case.backbone_moves)
        if total >= NEAR:
            return []
        what = "head" if case.head_moves else "network"
        moved = f"the {what}'s weights moved by {total:.2g} of their norm in the whole run"
    else:
        steps = [a > b for a, b in pairwise(losses)]
        if len(steps) < 2 or not all(steps):
            return []
        moved = "training loss fell in each epoch, by very little"
    return [f"{moved} (peak rate {case.peak:.2g})",
            f"training loss {_series(losses)}: {max(fell, 0):.1%} less than at first", _fit(case)]


def _leak(case: Case) -> list[str]:
    evidence = []
    if case.held_out and case.copies >= COPIED * case.held_out:
        evidence.append(
            f"{case.copies} of {case.held_out} validation examples are copies of training examples "
            "(copies.csv)"
        )
    first = case.compared[0]
    name = case.monitor
    if (
        case.mode == "max" and case.held_out >= PERFECT_AT and case.skill >= PERFECT
        and first["epoch"] == 1 and first.get(name, 0.0) >= PERFECT
    ):
        evidence.append(f"{name} is {first[name]:.4f} after the first epoch already")
    low = min(case.values("val_loss"), default=math.nan)
    if first["epoch"] == 1 and first["loss"] < UNLIKE * low and not case.skill >= FITTED:
        evidence.append(
            "in the first epoch, when each example was new, training loss was "
            f"{first['loss']:.4f}; that of validation never came below {low:.4f}: the training "
            "split has something that gives the label away, and validation has not"
        )
    return evidence + _words(case)


def _words(case: Case) -> list[str]:
    """Name a word that gives the label away."""
    if case.modality != "text":
        return []
    for split, other in (("training sample", "validation"), ("validation", "training sample")):
        records = case.answered.get(split, ())
        one = words.telling_word(records)
        if one is None or one.balanced < TELLING:
            continue
        there = words.share_with(case.answered.get(other, ()), one)
        apart = "" if math.isnan(there) else f", and in {there:.0%} of the {other}"
        return [f"the word {one.word!r} alone tells {one.label!r} in {one.balanced:.0%} of the "
                f"{split}{apart}"]  # fmt: skip
    return []


def _labels(case: Case) -> list[str]:
    evidence = []
    known = ERRORS * _noise(case) <= KNOWN
    if case.validation_is_chance and known:
        if case.fit >= BY_HEART or _is_learned(case):
            evidence.append(
                f"training examples were learned by heart ({_fit(case)}), and what was learned "
                f"says nothing about others: {_pair(case)}"
            )
        elif case.training_is_chance and not case.frozen:
            evidence.append(
                f"neither training nor validation is better than one answer for all ({_pair(case)})"
                ", though the weights moved"
            )
    if case.skill >= BY_HEART and len(wrong := contradicted(case)) >= max(
        CONTRADICTIONS, CONTRADICTED * case.sampled
    ):
        evidence.append(
            f"{len(wrong)} of {case.sampled} training examples contradict a network that is sure "
            f"of another class (by {SURE:.0%} or more), such as {', '.join(wrong[:5])}"
        )
    return evidence


def contradicted(case: Case) -> list[str]:
    """Return the training examples of the sample whose label a network denies, the surest first."""
    found = []
    for row in case.answered.get("training sample", ()):
        given = row.get("predicted", {}).get("probabilities")
        true = row.get("true")
        if not isinstance(given, Mapping) or not isinstance(true, str):
            continue
        likeliest = max(given, key=given.__getitem__)
        if likeliest != true and given[likeliest] >= SURE:
            found.append((-given[likeliest], str(row["id"])))
    return [name for _, name in sorted(found)]


def _over(case: Case) -> list[str]:
    clear = case.gap > ERRORS * case.gap_noise
    rose = drift(case)
    if not (clear and (case.gap >= GAP or (case.gap >= SMALL_GAP and rose >= LOSS_ROSE))):
        return []
    evidence = [f"measured gap: {_pair(case)}"]
    if rose >= 1 + TURNS:
        evidence.append(drifted(case, rose))
    return evidence


def _little(case: Case) -> list[str]:
    of_a_class = case.train / len(case.classes) if case.classes else math.inf
    if not _over(case) or not (0 < case.train < FEW or of_a_class < FEW_OF_A_CLASS):
        return []
    each = f", {of_a_class:.0f} of a class on average" if case.classes else ""
    return [f"{case.train:,} training examples{each}", f"measured gap: {_pair(case)}"]


def _frozen(case: Case) -> list[str]:
    if not case.frozen or not _is_poor(case):
        return []
    return [f"the backbone rested in all stages, and its features do not tell even the training "
            f"examples apart: {_pair(case)}", *_level(case)]  # fmt: skip


def _under(case: Case) -> list[str]:
    # Wrong labels cannot be fitted, and should not be.
    if not _is_poor(case) or (not case.training_is_chance and _labels(case)):
        return []
    return [f"{_fit(case)}; {_pair(case)}", *_level(case)]


# Verdict -> its rule, and the verdicts that explain the same better.
RULES: dict[str, tuple[Callable[[Case], list[str]], tuple[str, ...]]] = {
    HIGH: (_rate_high, ()),
    LOW: (_rate_low, (HIGH,)),
    LEAK: (_leak, (HIGH, LOW)),
    LABELS: (_labels, (HIGH, LOW, LEAK)),
    LITTLE: (_little, (LEAK, LABELS)),
    OVER: (_over, (LEAK, LABELS)),
    FROZEN: (_frozen, (HIGH, LOW, LEAK, OVER)),
    UNDER: (_under, (HIGH, LOW, LEAK, OVER, LITTLE, FROZEN)),
}


# --- what they look at ---------------------------------------------------------------------------


def _is_poor(case: Case) -> bool:
    """Whether training examples are not fitted; unknown counts as fitted."""
    return (bool(case.training_is_chance) or case.fit < FITTED) and not _is_learned(case)


def _is_learned(case: Case) -> bool:
    """Whether training came far below the loss of one answer for all, in any epoch."""
    low = min(case.values("loss"), default=math.nan)
    return bool(low < BY_HEART * case.floor.get("log_loss", math.nan)) and bool(
        case.validation_is_chance
    )


def _noise(case: Case) -> float:
    from kerasft.evaluation.diagnosis.chance import error

    one = case.figure
    if one is None:
        return math.nan
    return error(one.floor, max(case.held_out, 1)) / max(1 - one.floor, 1e-9)


def drift(case: Case) -> float:
    """Return how many times its lowest value the validation loss has at the kept epoch."""
    name = "val_log_loss" if "val_log_loss" in case.best else "val_loss"
    low = min((v for v in case.values(name) if v > 0), default=math.nan)
    return float(case.best.get(name, math.nan)) / low


def drifted(case: Case, times: float) -> str:
    """Say how far the validation loss rose on the way to the kept epoch."""
    name = "val_log_loss" if "val_log_loss" in case.best else "val_loss"
    value = case.best[name]
    return (
        f"{name} is {value:.4f} at the kept epoch {case.best['epoch']}, {times:.1f} times its "
        f"lowest, while {case.monitor} is at its best"
    )


def _pair(case: Case) -> str:
    one = case.figure
    if one is None:
        return "no figure between 0 and 1"
    seen = f"{case.sampled} training examples" if case.sample else "training, as it was logged"
    train = "not measured" if math.isnan(one.train) else f"{one.train:.3f}"
    floor = f" (one answer for all: {one.floor:.3f})" if one.floor else ""
    return (
        f"{one.name} {train} on {seen}, {one.validation:.3f} on {case.held_out} of "
        f"validation{floor}"
    )


def _fit(case: Case) -> str:
    losses = case.values("loss")
    return f"training loss is {shape(losses)} ({_series(losses)})"


def _level(case: Case) -> list[str]:
    losses = case.values("loss")
    if is_falling(losses):
        return ["training loss was still falling when the run ended"]
    return []


def _series(values: list[float]) -> str:
    if len(values) <= 4:
        return ", ".join(f"{v:.4f}" for v in values)
    return f"{values[0]:.4f}, {values[1]:.4f}, ..., {values[-1]:.4f}"


def _fair(case: Case) -> list[str]:
    losses = case.values("loss")
    return [_pair(case), f"training loss is {shape(losses)} ({_series(losses)}), that of "
            f"validation {shape(case.values('val_loss'))}"]  # fmt: skip
