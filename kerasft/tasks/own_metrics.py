"""Metrics that a config names beside those that a task has by itself: `task.metrics.NAME`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from kerasft.config.building import as_config, build, build_function, plain
from kerasft.config.targets import comparing_problems
from kerasft.contracts import Task
from kerasft.errors import UserError
from kerasft.evaluation.metrics import SMALLER_IS_BETTER, direction
from kerasft.rows import Rows
from kerasft.spec import Labels
from kerasft.tasks import losses

if TYPE_CHECKING:
    import tensorflow as tf

Nodes = Mapping[str, Mapping[str, Any]]
# The most numbers that a metric is given at once of what was predicted.
_AT_ONCE = 2**22
# How many examples tell whether a loss and metrics can be computed.
_FEW = 64
# What the log of an epoch holds already.
_TAKEN = ("loss", "epoch", "stage", "learning_rate", "seconds", "image_size", "accuracy", "mae")


@runtime_checkable
class Measuring(Protocol):
    """A task that is measured by metrics of the user's own, too.

    Its `loss` and `metrics` are nodes of the config, which it builds itself whenever it needs them:
    so they are saved with it.
    """

    @property
    def loss(self) -> str | Mapping[str, Any] | None: ...

    @property
    def metrics(self) -> Nodes | None: ...

    def compared(self, y_true: tf.Tensor, outputs: tf.Tensor) -> tuple[Any, Any]:
        """Return what metrics compare, of what the loss compares.

        Args:
            y_true: A batch of what is learned.
            outputs: What the network puts out.

        Returns:
            Rows of 0 and 1 (or shares of them, where examples are mixed) and probabilities, or
            numbers in the labels' own units.
        """


class Measured(Measuring, Task, Protocol):
    """A whole task that is so."""


def check(metrics: Nodes | None) -> None:
    """Refuse names that could be no metric's, and what is no node.

    Raises:
        UserError: With each of them.

    Example:
        >>> check({"f2": {"_target_": "keras.metrics.FBetaScore", "beta": 2.0}})
    """
    problems = []
    for name, node in (metrics or {}).items():
        if not re.fullmatch(r"[A-Za-z]\w*", str(name)) or str(name).startswith("val_"):
            problems.append(
                "task.metrics: a name must be of letters, digits and '_', a letter first, and must "
                f"not begin with 'val_', which validation puts there. Received: {name!r}."
            )
        elif name in _TAKEN:
            problems.append(
                f"task.metrics.{name}: there is a metric of that name already. Choose another."
            )
        if node is not None and not (isinstance(node, Mapping) and "_target_" in node):
            path = node if isinstance(node, str) and "." in node else "keras.metrics.AUC"
            problems.append(
                f"task.metrics.{name} must be a mapping with a `_target_`: "
                f"task.metrics.{name}._target_={path}. Received: {node!r}."
            )
    if problems:
        raise UserError(problems=problems)


def names(metrics: Nodes | None) -> tuple[str, ...]:
    """Return the names of metrics that are not switched off.

    Example:
        >>> names({"log_error": {"_target_": "keras.metrics.LogCoshError"}, "other": None})
        ('log_error',)
    """
    return tuple(name for name, node in (metrics or {}).items() if node)


def show(task: Measuring, further: Sequence[str] = ()) -> None:
    """Have a task's own metrics shown beside those that it has by itself, in a new task.

    Args:
        task: The task.
        further: Other figures that are shown like them.
    """
    own = (*further, *names(task.metrics))
    of_epochs = [shown for name in own for shown in (name, f"val_{name}")]
    for attribute, more in (("headlines", own), ("each_epoch", of_epochs)):
        object.__setattr__(task, attribute, (*getattr(type(task), attribute), *more))


def in_training(task: Measuring) -> list[Any]:
    """Return a task's own metrics as they go along with training, batch by batch.

    Raises:
        UserError: If one of them is no metric.
    """
    import keras

    class Seen(keras.metrics.Metric):
        def __init__(self, inner, sparse, name):
            super().__init__(name=name)
            self.inner, self.sparse = inner, sparse

        def update_state(self, y_true, y_pred, sample_weight=None):
            y_true, y_pred = task.compared(y_true, y_pred)
            if self.sparse:
                y_true = keras.ops.argmax(y_true, axis=-1)
            self.inner.update_state(y_true, y_pred)

        def result(self):
            return self.inner.result()

        def reset_state(self):
            self.inner.reset_state()

    made = []
    for name, node in (task.metrics or {}).items():
        if not node:
            continue
        found = _built(name, json.dumps(plain(node)))
        if not isinstance(found, keras.metrics.Metric):
            found = keras.metrics.MeanMetricWrapper(found, name=name)
        made.append(Seen(found, _is_sparse(node), name))
    return made


def with_own(
    figures: dict[str, Any], metrics: Nodes | None, true: np.ndarray, predicted: np.ndarray, *,
    classes: int = 0,
) -> dict[str, Any]:
    """Add the figures of a task's own metrics to those that it has by itself.

    Args:
        figures: Those of the task.
        metrics: The value of `task.metrics`.
        true: What metrics compare with, `float32[N, ...]`, see `Measuring.compared`.
        predicted: What was predicted, `float32[N, ...]`.
        classes: How many classes there are, where `true` is the number of each example's, `int[N]`.
            The rows of 0 and 1 that metrics compare with are then made batch by batch.

    Returns:
        All of them. One that is not finite on these examples is left out.

    Raises:
        UserError: If a metric has the name of another one, cannot be computed, or is no number.

    Example:
        >>> node = {"_target_": "keras.metrics.MeanAbsoluteError"}
        >>> with_own({}, {"far_error": node}, np.array([[1.0]]), np.array([[3.0]]))
        {'far_error': 2.0}
    """
    own = {}
    for name, node in (metrics or {}).items():
        if not node:
            continue
        if name in figures:
            raise UserError(
                f"task.metrics.{name}: the task has a metric of that name already. Choose another."
            )
        value = _value(name, node, true, predicted, classes)
        if np.isfinite(value):
            own[name] = value
    return figures | own


def require_sound(task: Measured, annotations: Rows, labels: Labels) -> None:
    """See before training that a loss and metrics of the user's own can be computed of the data.

    Args:
        task: A task that is `Measuring`, as it fits the data.
        annotations: The labels of the training split.
        labels: What they mean.

    Raises:
        UserError: If one of them cannot.
    """
    if task.loss is None and not task.metrics:
        return
    import tensorflow as tf

    count = len(annotations)
    few = annotations.take(np.unique(np.linspace(0, count - 1, min(count, _FEW)).astype(int)))
    targets = task.targets(few, labels).gather(np.arange(len(few)))
    tensors = {name: tf.constant(value) for name, value in targets.items()}
    y = np.asarray(task.batch(None, tensors, labels)[0])
    # What a network puts out before it has learned anything.
    outputs = np.random.default_rng(0).normal(size=y.shape).astype(np.float32)
    losses.require_finite(task.compile()["loss"], y, outputs)
    task.figures(task.statistics(few, Rows.of({"logits": outputs}), labels), labels)


def _value(
    name: str, node: Mapping[str, Any], true: np.ndarray, predicted: np.ndarray, classes: int
) -> float:
    import keras

    found, update = _metric(name, json.dumps(plain(node)))
    p, sparse = np.asarray(predicted, np.float32), _is_sparse(node)

    def y(rows: slice) -> np.ndarray:
        some = true[rows]
        if classes:
            return some if sparse else _rows_of(some, classes)
        some = np.asarray(some, np.float32)
        return some.argmax(axis=-1) if sparse else some

    try:
        if isinstance(found, keras.metrics.Metric):
            if not found.variables:  # some make them of the first batch that they see
                found.update_state(y(slice(1)), p[:1])
            found.reset_state()
            batch = max(_AT_ONCE // max(p[:1].size, 1), 1)
            for start in range(0, len(p), batch):
                rows = slice(start, start + batch)
                update(y(rows), p[rows])
            value = np.asarray(keras.ops.convert_to_numpy(found.result()), np.float64)
        else:  # which may be of the split as a whole
            value = np.asarray(found(y(slice(None)), p), np.float64)
            value = value.mean() if value.shape[:1] == p.shape[:1] else value
    except Exception as error:  # whatever code of the user's own raises
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"task.metrics.{name} cannot be computed of labels of the shape "
            f"{[len(p), *y(slice(1)).shape[1:]]} and predictions of the shape {list(p.shape)}: "
            f"{type(error).__name__}: {first}"
        ) from error
    if value.size != 1:
        advice = (
            f" Set task.metrics.{name}.average=macro." if "average" in _arguments(node) else ""
        )
        raise UserError(
            f"task.metrics.{name} must give one number. Received: {value.size} of them from "
            f"{node['_target_']}.{advice}"
        )
    return float(value.reshape(()))


def _rows_of(y: np.ndarray, classes: int) -> np.ndarray:
    rows = np.zeros((len(y), classes), np.float32)
    rows[np.arange(len(y)), y] = 1.0
    return rows


@lru_cache(maxsize=32)
def _metric(name: str, node: str) -> tuple[Any, Any]:
    """Return a metric that whole splits are measured with, and its update as a graph.

    Both are kept: a split that is drawn anew is measured often.
    """
    import tensorflow as tf

    found = _built(name, node)
    update = getattr(found, "update_state", None)
    return found, update and tf.function(update, autograph=False, reduce_retracing=True)


def _built(name: str, node: str) -> Any:
    import keras

    config = as_config({"task": {"metrics": {name: json.loads(node)}}}).task.metrics[name]
    found = build_function(config) or build(config, name=name)
    if isinstance(found, keras.losses.Loss):  # each is a figure of its own, too
        found = found.call
    if isinstance(found, keras.Layer) or not (
        isinstance(found, keras.metrics.Metric) or callable(found)
    ):
        raise UserError(
            f"task.metrics.{name} must be a keras.metrics.Metric, or a function of labels and "
            f"predictions. Received: {config['_target_']}, which gives a {type(found).__name__}."
        )
    wants = {"up": "max", "down": "min"}.get(getattr(found, "_direction", ""))
    if wants is not None and wants != direction(name):
        better = "smaller" if wants == "min" else "larger"
        raise UserError(
            f"task.metrics.{name}: of {config['_target_']} the {better} value is the better one, "
            "and the name says otherwise: names with "
            f"{', '.join(SMALLER_IS_BETTER[:-1])} or {SMALLER_IS_BETTER[-1]} among "
            "their words are of metrics that are better when smaller. Call it "
            f"{f'{name}_error' if wants == 'min' else 'something else'}."
        )
    return found


def _is_sparse(node: Mapping[str, Any]) -> bool:
    """Whether a metric takes the number of the class, and not a row of 0 and 1."""
    home, _, name = str(node["_target_"]).rpartition(".")
    return home.startswith("keras.") and name.lower().startswith("sparse")


def _arguments(node: Mapping[str, Any]) -> Sequence[str]:
    from kerasft.config.parameters import NotFound, define

    try:
        return list(define(node["_target_"]).parameters)
    except NotFound:
        return ()


def trusted_only(fields: dict[str, Any], trusted: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a saved task without own parts that are not trusted.

    A run folder may come from anywhere. Whoever measures the run again checks its config first, and
    refuses it as a whole; whoever only compares runs needs neither loss nor metrics of their own.

    Args:
        fields: The fields of the task.
        trusted: Import prefixes that parts may come from, beside those of kerasft and Keras.
    """
    def fine(node: Any) -> bool:
        is_node = isinstance(node, Mapping) and "_target_" in node
        return not is_node or not list(
            comparing_problems("task", as_config(node), tuple(trusted))
        )

    kept = {name: value for name, value in fields.items() if name != "loss" or fine(value)}
    if isinstance(metrics := kept.get("metrics"), Mapping):
        kept["metrics"] = {name: node for name, node in metrics.items() if fine(node)}
    return kept
