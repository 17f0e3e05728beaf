"""Which figures a task has, and that what watches them watches one that there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from string import Formatter
from typing import Any, cast

import numpy as np

from kerasft.abilities import Ordered, Shortlisting
from kerasft.config.write_paths import mappings
from kerasft.contracts import Answered, Sampled, Task
from kerasft.errors import UserError, nearest
from kerasft.rows import Rows
from kerasft.spec import Labels
from kerasft.tasks import own_metrics

# Callbacks whose `monitor` is a metric of each epoch.
WATCHING = ("keras.callbacks.", "kerasft.training.callbacks.")


def figures_of(task: Task, classes: Sequence[int] | None = None) -> set[str] | None:
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
    if isinstance(task, Ordered) and task.ordered not in (False, True):
        # An order by name is of the classes of the data, and these are made up.
        task = _with(task, ordered=True)
    if isinstance(task, own_metrics.Measuring) and (own := own_metrics.names(task.metrics)):
        # They are not measured here: that would take Keras, whose import takes longer than a check.
        found = figures_of(_with(task, metrics=None), classes)
        return None if found is None else {*found, *own}
    if isinstance(task, Sampled):
        labels = Labels(task.kind, ("one", "other"))
        made = task.figures(task.samples(labels), labels)
        return {"loss", *(name for name, value in made.items() if isinstance(value, float))}
    if not isinstance(task, Answered):
        return None  # of other answers, which cannot be made up
    found, likeliest = {"loss"}, int(task.top_k) if isinstance(task, Shortlisting) else 0
    for count in classes or (2, 3, max(12, min(likeliest, 999) + 1)):
        names = tuple(map(str, range(count)))
        place = np.arange(2 * count) % count
        rows = np.eye(count, dtype=np.float32)[place]
        y: Any = {"single": place, "multi": rows, "numbers": rows}.get(
            task.kind, place.astype(np.float32)
        )
        outputs = {
            "probabilities": rows, "labels": rows > 0, "values": rows,
            "value": place.astype(np.float32),
        }  # fmt: skip
        try:
            labels = Labels(task.kind, names)
            statistics = task.statistics_of(Rows.of({"label": y}), outputs, labels)
            scores = task.figures(statistics, labels)
        except Exception:
            if _is_ours(task):
                raise
            return None  # a task of the user's own, with outputs of its own
        found |= {name for name, value in scores.items() if isinstance(value, float)}
    return found


def _with(task: Task, **values: Any) -> Any:
    return dataclasses.replace(cast(Any, task), **values)


def require_known(
    task: Task, callbacks: Mapping[str, Any] | None, classes: int | None = None
) -> None:
    """Refuse a monitor that is no figure of the task: nothing would ever stop, or be kept.

    So is a field of a ModelCheckpoint's path: the first epoch would be lost with it.

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
    paths = list(_paths(callbacks or {}, "callbacks"))
    named = [name for _, name in asked] + [n for _, node in paths for n in _fields(node)]
    # Measuring takes scikit-learn, whose import takes longer than all else that a check does.
    usual = {"loss", "val_loss", *_COUNTED, *_usual(task)}
    figures = None
    if not all(name in usual for name in named):
        figures = figures_of(task, [classes] if classes and task.kind != "number" else None)
        if figures is None:
            return
    trained = ["loss"]
    if not all(name.startswith("val_") or name in usual for name in named):
        try:
            trained += [metric.name for metric in task.compile().get("metrics", ())]
        except Exception:
            if _is_ours(task):
                raise
            return
    known = sorted(f"val_{name}" for name in figures) if figures else sorted(usual - {*_COUNTED})
    every = [*known, *trained, "learning_rate"]
    problems = []
    for key, name in asked:
        # The best epoch is chosen by validation; a callback may watch the training, too.
        allowed = known if key == "task.monitor" else every
        if name not in every:
            problems.append(
                f"{key} must be a metric that each epoch has. Received: {name!r}."
                f"{_meant(name, allowed)} Allowed: {', '.join(allowed)}."
            )
    for key, node in paths:
        problems += _path_problems(key, node, [*known, *trained], trained)
    if problems:
        raise UserError(problems=problems)


def _is_ours(task: Task) -> bool:
    return type(task).__module__.partition(".")[0] == "kerasft"


# What ModelCheckpoint knows beside the figures.
_COUNTED = ("epoch", "batch")


def _path_problems(
    key: str, node: Mapping[str, Any], every: Sequence[str], trained: Sequence[str]
) -> Iterator[str]:
    """Yield what of a path cannot be filled in when a model is saved."""
    within = isinstance(node.get("save_freq"), int)  # after steps, where nothing is validated yet
    allowed = [*_COUNTED, *trained] if within else ["epoch", *every]
    unknown = [name for name in _fields(node) if name not in allowed]
    for name in unknown:
        when = "every so many steps" if within else "after each epoch"
        yield (
            f"{key} may hold fields that there are when the model is saved, {when}. Received: "
            f"{{{name}}} in {node['filepath']!r}.{_meant(name, allowed)} Allowed: "
            f"{', '.join(allowed)}."
        )
    if unknown:
        return
    values = {name: 1 if name in _COUNTED else 0.5 for name in allowed}
    try:
        node["filepath"].format(**values)
    except (ValueError, LookupError, AttributeError) as error:
        yield (
            f"{key} cannot be filled in: {error}. Received: {node['filepath']!r}. For instance: "
            "{epoch:02d}, {val_loss:.3f}."
        )


def _fields(node: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields of a path."""
    try:
        return [name for _, name, _, _ in Formatter().parse(node["filepath"]) if name is not None]
    except ValueError:  # said when it is filled in
        return []


def _usual(task: Task) -> list[Any]:
    """Return the monitor that a task has by itself."""
    if not dataclasses.is_dataclass(task):
        return []
    return [field.default for field in dataclasses.fields(task) if field.name == "monitor"]


def _meant(name: str, allowed: Sequence[str]) -> str:
    """Suggest the nearest name; `val_f1` begins like some that there are."""
    if said := nearest(name, allowed):
        return said
    alike = [one for one in allowed if one.startswith(f"{name}_") or one == f"val_{name}"]
    return f" Did you mean {' or '.join(map(repr, alike[:3]))}?" if alike else ""


def _monitors(values: object, key: str) -> Iterator[tuple[str, str]]:
    """Yield each monitor that a callback of Keras is given, however deep it is."""
    for place, node in mappings(values, key):
        monitor = node.get("monitor")
        if isinstance(monitor, str) and str(node.get("_target_")).startswith(WATCHING):
            yield f"{place}.monitor", monitor


def _paths(values: object, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each ModelCheckpoint that has a path, however deep it is, with the key of the path."""
    for place, node in mappings(values, key):
        saves = node.get("_target_") == "keras.callbacks.ModelCheckpoint"
        if saves and isinstance(node.get("filepath"), str):
            yield f"{place}.filepath", node
