"""The curves of a learning-rate range test as an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.evaluation.drawing import BLUE, GREEN, GREY, ORANGE, new_figure, readable, save, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# So many panels stand beside one another.
ACROSS = 3
# Marks in the order in which they are given, the first of them being the one that counts.
STYLES = ((GREEN, "-"), (ORANGE, "--"), (GREY, ":"), (BLUE, ":"))


def range_test(curves: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Draw the training loss against the learning rate, a panel for each curve.

    Args:
        curves: For each, `title`, `rates`, `losses` and `smoothed`, arrays of the same length, and
            `marks`: learning rates by what they are, the one that is suggested first.
        path: The PNG file to write.

    Returns:
        The path.

    Example:
        >>> rates = np.geomspace(1e-6, 1.0, 30)
        >>> losses = 0.7 - 0.3 * (rates > 1e-4)
        >>> range_test([{"title": "full", "rates": rates, "losses": losses, "smoothed": losses,
        ...     "marks": {"suggested": 3e-4}}], "rates.png")
        PosixPath('rates.png')
    """
    across = min(len(curves), ACROSS)
    down = -(-len(curves) // across)
    figure = new_figure(4.6 * across + 0.6, 3.9 * down)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, curve in zip(panels, curves, strict=False):
        _draw(axes, curve)
    for axes in panels[len(curves) :]:
        axes.axis("off")
    return save(figure, path)


def _draw(axes: Axes, curve: Mapping[str, Any]) -> None:
    rates, losses, smoothed = (np.asarray(curve[k]) for k in ("rates", "losses", "smoothed"))
    axes.plot(rates, losses, ".", color=GREY, markersize=3.5, label="loss of an update")
    axes.plot(rates, smoothed, color=BLUE, label="smoothed")
    for (name, rate), (colour, line) in zip(curve["marks"].items(), STYLES, strict=False):
        axes.axvline(
            rate, color=colour, linestyle=line, linewidth=1.3, zorder=1, label=f"{name} {rate:.2g}"
        )
    axes.set_xscale("log")
    low, high = limits(losses, smoothed)
    axes.set_ylim(low, high)
    axes.set_title(readable(str(curve["title"])), fontsize=10)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.legend(fontsize=7.5, frameon=False)
    tidy(axes)


def limits(losses: np.ndarray, smoothed: np.ndarray) -> tuple[float, float]:
    """Return the losses that a panel shows: what diverges must not press the rest flat.

    Example:
        >>> losses = np.array([1.0, 0.8, 0.6, 50.0])
        >>> low, high = limits(losses, losses)
        >>> round(low, 2), round(high, 2)
        (0.51, 1.23)
    """
    start = losses[: max(len(losses) // 4, 1)]
    least = float(min(losses.min(), smoothed.min()))
    # All of the losses before any learning, and of those after it half as much again.
    most = max(float(start.max()), least + 1.5 * (float(np.median(start)) - least))
    most = most if most > least else least + max(abs(least), 1e-3)
    return least - 0.15 * (most - least), most + 0.05 * (most - least)
