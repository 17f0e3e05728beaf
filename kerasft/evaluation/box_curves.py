"""Precision against recall, and F1 against the score, of the classes of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.evaluation.boxes import RECALLS, decided, f1_by_score, interpolated
from kerasft.evaluation.drawing import BLUE, GREEN, GREY, ORANGE, new_figure, readable, save, tidy

# Classes that get a line of their own; a colour and a dash tell more of them apart than colours.
MOST = 12
COLOURS = (BLUE, ORANGE, GREEN, "#b3305e", "#7a4fb5", "#8a6d1a")
DASHES = ("-", (0, (4, 1.5)))
# The names of classes without a box that a title holds.
_NAMED = 3


@dataclass(frozen=True)
class Curve:
    """The curves of a class at an overlap (intersection over union) of 0.5.

    Args:
        unit: The class.
        boxes: How many boxes of it are there.
        precision: The best precision at each of `RECALLS` or at a higher recall, `float64[101]`.
            Their mean is the average precision.
        scores: The scores that occur, from 0 to 1, rising.
        f1: F1 of what is found from each of them on.
        least: The score from which on a box is answered.
        answered: Recall and precision of what is answered; NaN where nothing is.
    """

    unit: int
    boxes: int
    precision: np.ndarray
    scores: np.ndarray
    f1: np.ndarray
    least: float
    answered: tuple[float, float]

    @property
    def average_precision(self) -> float:
        return float(self.precision.mean())

    def f1_from(self, score: float) -> float:
        """Return F1 of what is found from a score on."""
        return float(self.f1[np.searchsorted(self.scores, score, side="left")])


def curves(statistics: Mapping[str, np.ndarray], least: np.ndarray) -> list[Curve]:
    """Return the curves of the classes of which boxes are there, the most frequent class first.

    Args:
        statistics: What `boxes.matched` returned, and `answered`, bool `[N, D]`.
        least: The score of each class from which on a box is answered.
    """
    there = statistics["there"][:, 0].sum(axis=0)
    f1, now = f1_by_score(statistics), decided(statistics)
    made = []
    for unit, precision, _ in interpolated(statistics):
        scores, values = (part[::-1] for part in f1[unit])  # rising
        # From the lowest score on all is found, and from 1 on, unless a score is that, nothing.
        lowest = values[:1] if len(values) else np.zeros(1)
        ends = np.array([1.0]) if not len(scores) or scores[-1] < 1 else np.zeros(0)
        made.append(Curve(
            unit, int(there[unit]), precision[:, 0],
            np.concatenate([[0.0], scores, ends]),
            np.concatenate([lowest, values, np.zeros(len(ends))]), float(least[unit]),
            (float(now["recall"][unit]), float(now["precision"][unit])),
        ))  # fmt: skip
    return sorted(made, key=lambda curve: -curve.boxes)


def draw_curves(found: Sequence[Curve], names: Sequence[str], path: str | Path) -> Path:
    """Draw precision against recall, and F1 against the score, at an overlap of 0.5.

    The most frequent classes get a line each, the others one for their mean; another one is the
    mean of all classes. A dot shows what is answered: precision at a recall is the best one there
    or further on, so that a dot may lie below its line.

    Args:
        found: What `curves` returned, at least one.
        names: The names of all classes.
        path: The PNG file to write.

    Returns:
        The path.
    """
    return save(_figure(found, names), path)


def _figure(found: Sequence[Curve], names: Sequence[str]) -> Any:
    figure = new_figure(12.4, 4.9)
    left, right = figure.subplots(1, 2)
    own, others = found[:MOST], found[MOST:]
    for place, curve in enumerate(own):
        style = {"color": COLOURS[place % len(COLOURS)], "linewidth": 1.5,
                 "linestyle": DASHES[place // len(COLOURS)]}  # fmt: skip
        words = _entry(readable(names[curve.unit], 24), curve.average_precision, curve.boxes)
        left.plot(RECALLS, curve.precision, label=words, **style)
        right.plot(curve.scores, curve.f1, drawstyle="steps-pre", **style)
        dot = {"color": style["color"], "markeredgecolor": "white", "markersize": 7, "zorder": 4}
        left.plot(*curve.answered, "o", **dot)
        right.plot(curve.least, curve.f1_from(curve.least), "o", **dot)
    if others:
        _mean(left, right, others, f"mean of {len(others)} others", color=GREY, linewidth=1.5)
    if len(found) > 1:
        _mean(left, right, found, f"mean of all {len(found)}", color="#222222", linewidth=2.4)
    left.plot([], [], "o", color=GREY, markeredgecolor="white", markersize=7, label="answered")
    if absent := _without(found, names):
        left.plot([], [], " ", label=absent)
    left.set(xlabel="recall", ylabel="precision")
    left.set_title("precision at each recall, IoU 0.5", fontsize=11)
    right.set(xlabel="score from which on a box is answered", ylabel="F1")
    right.set_title("F1 at each score, IoU 0.5", fontsize=11)
    for axes in (left, right):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_yticks(np.linspace(0, 1, 6))
        tidy(axes)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8.5,
        title="average precision (AP), objects", title_fontsize=9, alignment="left",
    )  # fmt: skip
    return figure


def _mean(left: Any, right: Any, found: Sequence[Curve], words: str, **style: Any) -> None:
    """Draw the mean of several classes: that of their average precisions is its own."""
    precision = np.mean([curve.precision for curve in found], axis=0)
    scores = np.linspace(0, 1, 201)
    f1 = np.mean([[curve.f1_from(score) for score in scores] for curve in found], axis=0)
    count = sum(curve.boxes for curve in found)
    label = _entry(words, float(precision.mean()), count)
    left.plot(RECALLS, precision, label=label, zorder=3, **style)
    right.plot(scores, f1, zorder=3, **style)


def _entry(name: str, average_precision: float, boxes: int) -> str:
    return f"{name}: {average_precision:.3f} ({boxes:,})"


def _without(found: Sequence[Curve], names: Sequence[str]) -> str:
    """Say which classes are not drawn, as none of their boxes is there."""
    drawn = {curve.unit for curve in found}
    absent = [readable(name, 16) for unit, name in enumerate(names) if unit not in drawn]
    if not absent:
        return ""
    more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
    return f"not drawn, as no object is here:\n{', '.join(absent[:_NAMED])}{more}"
