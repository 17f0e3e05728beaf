"""Images of a run: learning curves, confusion matrix, predicted against true, F1 by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    ticks_of,
    tidy,
)
from kerasft.evaluation.metrics import Mode, direction

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curves(
    history: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    monitor: str,
    mode: Mode | None = None,
) -> Path:
    """Draw the loss and the monitored figure over the epochs.

    The best epoch is marked, and where one stage of the training gives way to the next.

    Args:
        history: One mapping an epoch: `epoch` (from 1), `stage`, `loss`, `val_loss` and figures
            such as `val_accuracy`. Figures that are absent or `None` leave a gap. An epoch with
            an `image_size`, another one than the model's, is not the best.
        path: The PNG file to write.
        monitor: The key of the figure that the best epoch is chosen by.
        mode: `"max"` or `"min"`: whether a larger or a smaller figure is better; by its name
            where not given.

    Returns:
        The path.

    Example:
        >>> learning_curves([{"epoch": 1, "stage": "full", "loss": 0.7, "val_loss": 0.6,
        ...     "val_accuracy": 0.8}], "curves.png", monitor="val_accuracy")
        PosixPath('curves.png')
    """
    from matplotlib.ticker import MaxNLocator

    epochs = np.array([row.get("epoch", i + 1) for i, row in enumerate(history)])
    panels = [("loss", ("loss", "val_loss"))]
    if monitor not in ("loss", "val_loss"):
        panels.append((monitor.removeprefix("val_"), (monitor.removeprefix("val_"), monitor)))
    figure = new_figure(5.2 * len(panels) + 0.4, 3.9)
    comparable = [{} if row.get("image_size") else row for row in history]
    best = _best(
        _column(comparable, monitor), mode or direction(monitor), _column(comparable, "val_loss")
    )
    for axes, (title, keys) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for key, colour, label in zip(keys, (GREY, BLUE), ("train", "validation"), strict=True):
            values = _column(history, key)
            if np.isfinite(values).any():
                small = 3 if len(values) <= 60 else 0
                axes.plot(epochs, values, color=colour, label=label, marker="o", markersize=small)
        _mark_stages(axes, history, epochs)
        if best is not None:
            axes.axvline(epochs[best], color=GREEN, linestyle=":", linewidth=1.2, zorder=0)
            value = _column(history, keys[1])[best]
            if np.isfinite(value):
                label = f"best epoch {epochs[best]}: {short(value)}"
                axes.plot(
                    epochs[best], value, "*", color=GREEN, markersize=13, zorder=4, label=label
                )
        axes.set_title(readable(title.replace("_", " ")), fontsize=11, pad=16)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axes.margins(x=0.06)
        tidy(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8.5)
    return save(figure, path)


def confusion_matrix(
    matrix: np.ndarray, names: Sequence[str], path: str | Path, *, counted: str = ""
) -> Path:
    """Draw a confusion matrix, coloured by the share of each true class.

    Counts are printed where the cells have room for them.

    Args:
        matrix: Counts, true classes in rows, `[C, C]`.
        names: The class names.
        path: The PNG file to write.
        counted: What was counted, such as `"pixels"`, where percentages of each true class are
            printed instead.

    Returns:
        The path.
    """
    matrix = np.asarray(matrix)
    size = len(names)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    ticks = ticks_of(names, 24)
    side = min(max(3.0, 0.55 * size), 13.0)
    room = min(max(len(tick) for tick in ticks), 24) * 0.085
    figure = new_figure(side + room + 1.5, side + room + 0.7)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    bar.set_label("share of the true class", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    font = min(9.5, 62 * side / size)
    points = side / size * 72  # the width of a cell
    axes.set_xticks(range(size), ticks, rotation=90 if size > 3 else 0, fontsize=font)
    axes.set_yticks(range(size), ticks, fontsize=font)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    digits = 4 if counted else len(str(int(matrix.max(initial=0))))
    count_font = min(11.0, points / max(0.75 * digits, 1.2))
    if count_font >= 4.5:
        for row, column in np.argwhere(matrix > 0):
            percent = f"{100 * shares[row, column]:.1f}"
            axes.text(
                column, row, percent if counted else str(int(matrix[row, column])),
                ha="center", va="center",
                fontsize=count_font, color="white" if shares[row, column] > 0.55 else "#222222",
                in_layout=False,  # within the axes: measuring it would only take time
            )  # fmt: skip
    axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#e4e7eb", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_color("#c5cad1")
    found = np.trace(matrix)
    title = f"{int(found)} of {int(matrix.sum())} right"
    if counted:
        title = f"{found / max(matrix.sum(), 1):.2%} of the {counted} right"
    axes.set_title(title, fontsize=11)
    return save(figure, path)


def predicted_against_true(
    y: np.ndarray, predicted: np.ndarray, path: str | Path, *, name: str = ""
) -> Path:
    """Draw each example's predicted number over its true one.

    Args:
        y: The true numbers, `[N]`.
        predicted: `[N]`.
        path: The PNG file to write.
        name: What is predicted, where it has a name.

    Returns:
        The path.
    """
    y, predicted = np.asarray(y, np.float64).ravel(), np.asarray(predicted, np.float64).ravel()
    sound = np.isfinite(y) & np.isfinite(predicted)
    figure = new_figure(5.2, 5.0)
    axes = figure.subplots()
    ends = np.concatenate([y[sound], predicted[sound]]) if sound.any() else np.zeros(1)
    low, high = float(ends.min()), float(ends.max())
    pad = 0.05 * (high - low) or 1.0
    limits = (low - pad, high + pad)
    axes.plot(limits, limits, color=GREEN, linewidth=1.2, linestyle="--", label="exact", zorder=1)
    axes.scatter(
        y[sound], predicted[sound], color=BLUE, edgecolor="none", zorder=2,
        s=float(np.clip(6000 / max(len(y), 1), 7, 30)),
        alpha=float(np.clip(300 / max(len(y), 1), 0.2, 0.8)),
    )  # fmt: skip
    axes.set(xlim=limits, ylim=limits, xlabel="true", ylabel="predicted", aspect="equal")
    title = f"{len(y)} examples"
    axes.set_title(f"{readable(name)}: {title}" if name else title, fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    tidy(axes)
    return save(figure, path)


def f1_by_class(per_class: Mapping[str, Mapping[str, float]], path: str | Path) -> Path:
    """Draw a bar for the F1 of each class, the best on top, with its support.

    Args:
        per_class: Class name to `f1` and `support`, as the metrics give it.
        path: The PNG file to write.

    Returns:
        The path.
    """
    found = {name: (row["f1"], f"{row['f1']:.2f}  ({row['support']})")
             for name, row in per_class.items()}  # fmt: skip
    return bars(found, path, label="F1 (support)", mean="macro")


def bars(
    found: Mapping[str, tuple[float, str]], path: str | Path, *, label: str, mean: str
) -> Path:
    """Draw a bar for each class, the best on top, and their mean.

    Args:
        found: Class name to a value from 0 to 1, and what stands beside the bar.
        path: The PNG file to write.
        label: What the values are.
        mean: What their mean is called.

    Returns:
        The path.
    """
    ticks = dict(zip(found, ticks_of(list(found), 28), strict=True))
    rows = sorted(found.items(), key=lambda item: item[1][0])
    step = 0.27 if len(rows) <= 60 else 0.16
    figure = new_figure(6.6, max(2.0, step * len(rows) + 1.1))
    axes = figure.subplots()
    values = [value for _, (value, _) in rows]
    axes.barh(range(len(rows)), values, color=BLUE, height=0.72)
    font = 9 if len(rows) <= 60 else 6.5
    axes.set_yticks(range(len(rows)), [ticks[name] for name, _ in rows], fontsize=font)
    for place, (_, (value, text)) in enumerate(rows):
        axes.text(value + 0.01, place, text, va="center", fontsize=font - 1, color="#444444")
    middle = float(np.mean(values)) if values else 0.0
    axes.axvline(middle, color=ORANGE, linewidth=1.2, linestyle="--", label=f"{mean} {middle:.3f}")
    axes.set(xlim=(0, 1.15), ylim=(-0.7, len(rows) - 0.3), xlabel=label)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    tidy(axes)
    axes.tick_params(axis="y", length=0)
    return save(figure, path)


def _mark_stages(axes: Axes, history: Sequence[Mapping[str, Any]], epochs: np.ndarray) -> None:
    """Name the stages above the plot, with a line between each two, where there are several."""
    stages = [row.get("stage") for row in history]
    starts = [i for i in range(len(stages)) if i == 0 or stages[i] != stages[i - 1]]
    if len(starts) < 2:
        return
    for start in starts:
        edge = epochs[start] - 0.5
        if start:
            axes.axvline(edge, color="#c5cad1", linewidth=1)
        axes.text(
            edge, 1.01, f" {readable(str(stages[start]))}", transform=axes.get_xaxis_transform(),
            fontsize=8, color="#555b66", ha="left", va="bottom",
        )  # fmt: skip
    axes.set_xlim(left=epochs[0] - 0.5)


def _column(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    values = [row.get(key) for row in history]
    return np.array([math.nan if value is None else float(value) for value in values])


def _best(values: np.ndarray, mode: str, losses: np.ndarray) -> int | None:
    """Return the place of the best value, of equal ones that with the lowest loss."""
    if not np.isfinite(values).any():
        return None
    best = values == (np.nanmax(values) if mode == "max" else np.nanmin(values))
    known = np.where(np.isnan(losses), np.inf, losses)
    return int(np.argmin(np.where(best, known, np.inf))) if np.isfinite(known[best]).any() else (
        int(np.argmax(best))
    )
