"""Which figures a task has, and that what watches them watches one that there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.errors import UserError, nearest
from kerasft.rows import Rows
from kerasft.spec import Labels


def figures_of(task: Any, classes: Sequence[int] | None = None) -> set[str] | None:
    """Return the names of the figures that a task measures; `None` where it cannot be asked.

    Args:
        task: The task.
        classes: Numbers of classes to ask it with; by default some that bring out all figures,
            since some are of two classes alone, or of many.

    Example:
        >>> from kerasft.tasks.regression import Regression
        >>> sorted(figures_of(Regression()))[:3]
        ['loss', 'mae', 'mse']
    """
    found = {"loss"}
    for count in classes or (2, 3, max(12, min(int(getattr(task, "top_k", 0)), 999) + 1)):
        names = tuple(map(str, range(count)))
        place = np.arange(2 * count) % count
        rows = np.eye(count, dtype=np.float32)[place]
        y: Any = {"single": place, "multi": rows}.get(task.kind, place.astype(np.float32))
        outputs = {"probabilities": rows, "labels": rows > 0, "value": place.astype(np.float32)}
        try:
            labels = Labels(task.kind, names)
            statistics = task.statistics_of(Rows.of({"label": y}), outputs, labels)
            scores = task.figures(statistics, labels)
        except (AttributeError, KeyError):  # a task of the user's own, with outputs of its own
            return None
        found |= {name for name, value in scores.items() if isinstance(value, float)}
    return found


def require_known(
    task: Any, callbacks: Mapping[str, Any] | None, classes: int | None = None
) -> None:
    """Refuse a monitor that is no figure of the task: nothing would ever stop, or be kept.

    Args:
        task: The task; its own `monitor` is looked at too.
        callbacks: The nodes of the config's callbacks, as plain values.
        classes: The number of classes, where the data has been read.

    Raises:
        UserError: With each monitor that there is not.

    Example:
        >>> from kerasft.tasks.regression import Regression
        >>> require_known(Regression(), {"stop": {
        ...     "_target_": "keras.callbacks.EarlyStopping", "monitor": "val_mae"}})
    """
    asked = [("task.monitor", task.monitor), *_monitors(callbacks or {}, "callbacks")]
    # Measuring takes scikit-learn, whose import takes longer than all else that a check does.
    usual = {"loss", "val_loss", *_usual(task)}
    if all(name in usual for _, name in asked):
        return
    figures = figures_of(task, [classes] if classes and task.kind != "number" else None)
    if figures is None:
        return
    known = sorted(f"val_{name}" for name in figures)
    trained = ["loss"]
    if any(not name.startswith("val_") and name != "loss" for _, name in asked):
        trained += [metric.name for metric in task.compile().get("metrics", ())]
    problems = []
    for key, name in asked:
        # The best epoch is chosen by validation; a callback may watch the training, too.
        allowed = known if key == "task.monitor" else [*known, *trained, "learning_rate"]
        if name not in (*known, *trained, "learning_rate"):
            problems.append(
                f"{key} must be a figure that each epoch has. Received: {name!r}."
                f"{_meant(name, allowed)} Allowed: {', '.join(allowed)}."
            )
    if problems:
        raise UserError(problems=problems)


def _usual(task: Any) -> list[Any]:
    """Return the monitor that a task has by itself."""
    own = dataclasses.fields(task) if dataclasses.is_dataclass(task) else ()
    return [field.default for field in own if field.name == "monitor"]


def _meant(name: str, allowed: Sequence[str]) -> str:
    """Suggest the nearest name; `val_f1` begins like some that there are."""
    if said := nearest(name, allowed):
        return said
    alike = [one for one in allowed if one.startswith(f"{name}_") or one == f"val_{name}"]
    return f" Did you mean {' or '.join(map(repr, alike[:3]))}?" if alike else ""


def _monitors(values: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield each monitor that a callback of Keras is given, however deep it is."""
    if isinstance(values, Mapping):
        monitor = values.get("monitor")
        if isinstance(monitor, str) and str(values.get("_target_")).startswith("keras.callbacks."):
            yield f"{key}.monitor", monitor
        for name, inner in values.items():
            yield from _monitors(inner, f"{key}.{name}")
    elif isinstance(values, list | tuple):
        for number, inner in enumerate(values):
            yield from _monitors(inner, f"{key}.{number}")
