"""Plots of a leaderboard: intervals, history, importance, parallel coordinates, contours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.evaluation.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    new_figure,
    readable,
    save,
    short,
    tidy,
)
from kerasft.sweeps.board_rows import heads

# Settings that a plot has room for, and runs that importance can be told from.
MOST, LEAST = 30, 5
# A setting whose largest value is so many times its smallest is drawn by orders of magnitude.
MAGNITUDES = 10

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Scale:
    """One thing that was varied, as an axis to draw on.

    Args:
        key: The key.
        words: The values in order where they are words; empty for numbers.
        low: The smallest number.
        high: The largest.
        log: Whether it is drawn by orders of magnitude.
    """

    key: str
    words: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    @property
    def name(self) -> str:
        """The key, as short as it can be drawn."""
        return readable(self.key.rpartition(".")[2] or self.key, 24)

    def place(self, value: Any) -> float:
        """Return where a value lies, from 0 to 1; not a number where there is none."""
        if value is None:
            return math.nan
        if self.words:
            return self.words.index(str(value)) / max(len(self.words) - 1, 1)
        low, high, at = self.low, self.high, float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Return where to write what."""
        if self.words:
            return [(self.place(word), readable(word, 16)) for word in self.words]
        return [(self.place(step), f"{step:.3g}") for step in _steps(self.low, self.high, self.log)]


def _steps(low: float, high: float, log: bool) -> Sequence[float]:
    """Return a few round numbers between two."""
    near = 1e-9 * (high - low)  # as floats, the ends may be a little off
    steps: Sequence[float] = ()
    if log:
        magnitudes = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for leading in ((1,), (1, 3), (1, 2, 5)):
            every = [digit * 10.0**place for place in magnitudes for digit in leading]
            steps = [step for step in every if low - near <= step <= high + near]
            if len(steps) > 2:
                break
    elif high > low:
        from matplotlib.ticker import MaxNLocator

        every = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
        steps = [step for step in every if low - near <= step <= high + near]
    return steps[:: len(steps) // 8 + 1] if len(steps) > 1 else sorted({low, high})


def scales(rows: Sequence[Row]) -> list[Scale]:
    """Return what was varied among runs that came to a figure."""
    found = []
    for key in dict.fromkeys(key for row in rows for key in row["settings"]):
        values = [v for row in rows if (v := row["settings"].get(key)) is not None]
        if len({str(value) for value in values}) < 2:
            continue
        numbers = [number for value in values if (number := _number(value)) is not None]
        if len(numbers) < len(values):
            found.append(Scale(key, tuple(sorted({str(value) for value in values}))))
            continue
        low, high = min(numbers), max(numbers)
        found.append(Scale(key, (), low, high, low > 0 and high / low >= MAGNITUDES))
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def draw_all(rows: Sequence[Row], folder: Path, *, lower: bool) -> dict[str, Path]:
    """Draw what the runs can be drawn as.

    Args:
        rows: What `leaderboard` returned.
        folder: Where the PNG files go.
        lower: Whether a smaller figure is better.

    Returns:
        The files, by the title of what they show.
    """
    done = [row for row in rows if row["validation"] is not None]
    made: dict[str, Path] = {}
    if not done:
        return made
    varied = scales(done)
    made["Intervals"] = intervals(done, folder / "intervals.png")
    if all(re.fullmatch("[0-9]+", row["run"]) for row in rows):
        made["History"] = history(rows, folder / "history.png", lower=lower)
    shares = importance(done, varied)
    if shares:
        made["Importance"] = bars(shares, folder / "importance.png")
    if varied and len(done) > 1:
        made["Parallel coordinates"] = parallel(done, varied, folder / "parallel.png", lower=lower)
    ranked = sorted(varied, key=lambda scale: -shares.get(scale.key, 0.0))
    if len([one for one in ranked if not one.words]) > 1 and len(done) >= LEAST:
        numbers = [one for one in ranked if not one.words][:2]
        made["Contours"] = contours(done, (numbers[0], numbers[1]), folder / "contours.png",
                                    lower=lower)  # fmt: skip
    return made


def intervals(rows: Sequence[Row], path: Path) -> Path:
    """Draw the figure of each setting with its interval, the best on top."""
    shown = heads(rows)[:MOST]
    figure = new_figure(7.6, 0.9 + 0.3 * len(shown))
    axes = figure.subplots()
    for place, row in enumerate(shown):
        one = row["setting"]
        alike = one["as_good_as_best"]
        colour = GREY if alike is None else GREEN if alike else ORANGE
        if one["interval"]:
            axes.plot(one["interval"], [place, place], color=colour, linewidth=2)
        axes.plot(one["mean"], place, "o", color=colour, markersize=6)
    for colour, label in ((GREEN, "cannot be told from the best"), (ORANGE, "worse"),
                          (GREY, "not compared")):  # fmt: skip
        if any(line.get_color() == colour for line in axes.lines):
            axes.plot([], [], "o-", color=colour, label=label)
    axes.set_yticks(range(len(shown)), [_title(row) for row in shown], fontsize=8)
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel=f"{_measured(rows)}, 95 %")
    _legend(figure)
    tidy(axes)
    return save(figure, path)


def _measured(rows: Sequence[Row], most: int = 40) -> str:
    return f"validation {readable(rows[0]['metric'], most)}"


def _legend(figure: Any) -> None:
    """Put the legend above the axes, where nothing is drawn."""
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=8)


def _title(row: Row) -> str:
    runs = row["setting"]["runs"]
    words = " ".join(
        f"{key.rpartition('.')[2]}={value:.3g}" if isinstance(value, float) else
        f"{key.rpartition('.')[2]}={value}"
        for key, value in row["settings"].items() if value is not None
    )  # fmt: skip
    return readable(f"{','.join(runs[:4])}: {words}", 60)


def history(rows: Sequence[Row], path: Path, *, lower: bool) -> Path:
    """Draw the figure of each trial in the order they were begun, and the best so far."""
    figure = new_figure(7.2, 3.6)
    axes = figure.subplots()
    done = sorted((int(row["run"]), row["validation"]) for row in rows
                  if row["validation"] is not None)  # fmt: skip
    numbers, values = zip(*done, strict=True)
    so_far = np.minimum.accumulate(values) if lower else np.maximum.accumulate(values)
    axes.plot(numbers, values, "o", color=BLUE, label="trial", markersize=5)
    axes.step(numbers, so_far, where="post", color=GREEN, label="best so far")
    lost = sorted(int(row["run"]) for row in rows if row["validation"] is None)
    if lost:
        worst = max(values) if lower else min(values)
        axes.plot(lost, [worst] * len(lost), "x", color=GREY, label="pruned or failed")
    axes.set(xlabel="trial", ylabel=_measured(rows))
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure)
    tidy(axes)
    return save(figure, path)


def importance(rows: Sequence[Row], varied: Sequence[Scale]) -> dict[str, float]:
    """Return what share of the figure's variance each key explains, the largest first.

    By functional ANOVA over a random forest (Hutter et al., "An Efficient Approach for Assessing
    Hyperparameter Importance", 2014), of the keys that all runs have.

    Args:
        rows: Runs with a figure.
        varied: What was varied among them.

    Returns:
        By key; empty where there are fewer than `LEAST` runs, or all figures are alike.
    """
    import logging

    import optuna
    from optuna import distributions, importance

    common = [one for one in varied if all(r["settings"].get(one.key) is not None for r in rows)]
    if len(rows) < LEAST or not common or len({row["validation"] for row in rows}) < 2:
        return {}
    optuna.logging.set_verbosity(logging.ERROR)
    study = optuna.create_study()
    spaces: dict[str, Any] = {
        one.key: distributions.CategoricalDistribution(one.words) if one.words else
        distributions.FloatDistribution(one.low, one.high, log=one.log) for one in common
    }  # fmt: skip
    for row in rows:
        given = {one.key: row["settings"][one.key] for one in common}
        study.add_trial(optuna.trial.create_trial(
            values=[row["validation"]], distributions=spaces,
            params={one.key: str(given[one.key]) if one.words else float(given[one.key])
                    for one in common},
        ))  # fmt: skip
    evaluator = importance.FanovaImportanceEvaluator(seed=0)
    return dict(importance.get_param_importances(study, evaluator=evaluator))


def bars(shares: Mapping[str, float], path: Path) -> Path:
    """Draw the importance of each key."""
    figure = new_figure(6.4, 0.9 + 0.36 * len(shares))
    axes = figure.subplots()
    names = [readable(key, 40) for key in shares]
    axes.barh(range(len(names)), list(shares.values()), color=BLUE, height=0.6)
    for place, value in enumerate(shares.values()):
        axes.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=8, color="#444444")
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set(xlim=(0, 1.1), ylim=(len(names) - 0.4, -0.6), xlabel="share of the variance explained")
    tidy(axes)
    return save(figure, path)


def _colours(rows: Sequence[Row], lower: bool) -> tuple[Callable[[float], Any], Any]:
    """Return what colours a figure, and the map behind it: the better, the darker."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    values = [row["validation"] for row in rows]
    # The worst quarter alike: one bad run would make all others look the same.
    worst = float(np.quantile(values, 0.75 if lower else 0.25))
    norm = Normalize(min(values), worst, clip=True) if lower else \
        Normalize(worst, max(values), clip=True)
    shade = colormaps["viridis" if lower else "viridis_r"]
    return (lambda value: shade(norm(value))), ScalarMappable(norm, shade)


def parallel(rows: Sequence[Row], varied: Sequence[Scale], path: Path, *, lower: bool) -> Path:
    """Draw each run as a line through its values; darker ones did better."""
    values = [row["validation"] for row in rows]
    last = Scale(f"validation {rows[0]['metric']}", (), min(values), max(values))
    every = [*varied, last]
    figure = new_figure(1.6 + 1.5 * len(every), 4.4)
    axes = figure.subplots()
    colour, _ = _colours(rows, lower)
    # The best are drawn last, and so on top.
    for row in sorted(rows, key=lambda row: row["validation"], reverse=lower):
        heights = [one.place(row["settings"].get(one.key)) for one in varied]
        heights.append(last.place(row["validation"]))
        axes.plot(range(len(every)), heights, color=colour(row["validation"]), linewidth=1.4,
                  alpha=0.85, marker="o", markersize=3)  # fmt: skip
    for place, one in enumerate(every):
        axes.axvline(place, color="#c5cad1", linewidth=1, zorder=0)
        # No line passes to the left of the first axis; behind the others' words they grow pale.
        aside, side = (-0.04, "right") if not place else (0.04, "left")
        for height, text in one.ticks():
            axes.text(place + aside, height, text, fontsize=8, va="center", ha=side, zorder=4,
                      color="#333333", bbox={"facecolor": "white", "alpha": 0.85,
                                             "edgecolor": "none", "pad": 0.8})  # fmt: skip
    axes.set_xticks(range(len(every)), [one.name for one in every], fontsize=9)
    axes.set(xlim=(-0.2, len(every) - 0.7), ylim=(-0.05, 1.05))
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return save(figure, path)


def contours(
    rows: Sequence[Row], pair: tuple[Scale, Scale], path: Path, *, lower: bool
) -> Path:
    """Draw the figure over the two numbers that matter most."""
    across, up = pair
    there = [row for row in rows if all(row["settings"].get(one.key) is not None for one in pair)]
    figure = new_figure(6.0, 4.6)
    axes = figure.subplots()
    points = np.array([[across.place(r["settings"][across.key]), up.place(r["settings"][up.key])]
                       for r in there]).reshape(-1, 2)  # fmt: skip
    values = np.array([row["validation"] for row in there])
    colour, mapped = _colours(rows, lower)
    if len(np.unique(points, axis=0)) >= 4:
        from matplotlib.tri import Triangulation

        try:
            triangles = Triangulation(points[:, 0], points[:, 1])
        except (RuntimeError, ValueError):  # all on one line
            pass
        else:
            axes.tricontourf(triangles, values, levels=10, cmap=mapped.cmap, norm=mapped.norm,
                             alpha=0.55)  # fmt: skip
    axes.scatter(points[:, 0], points[:, 1], c=[colour(value) for value in values], s=36,
                 edgecolors="white", linewidths=0.8, zorder=3)  # fmt: skip
    for one, put in ((across, axes.set_xticks), (up, axes.set_yticks)):
        places, words = zip(*one.ticks(), strict=True)
        put(places, words)
    axes.set(xlabel=across.name, ylabel=up.name)
    bar = figure.colorbar(mapped, ax=axes, fraction=0.045, pad=0.03)
    bar.set_label(_measured(rows), fontsize=9)
    bar.ax.yaxis.set_major_formatter(lambda value, _: short(value))
    tidy(axes)
    return save(figure, path)
