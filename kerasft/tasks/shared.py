"""What tasks share, and how a task is kept in a run folder."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kerasft.contracts import Answered, Recalling, Task
from kerasft.errors import UserError
from kerasft.model.linear import Linear
from kerasft.rows import Rows
from kerasft.spec import Decision, Labels, Tensors
from kerasft.system.recorded import require_fields
from kerasft.tasks import own_metrics

if TYPE_CHECKING:
    import tensorflow as tf
    from _typeshed import DataclassInstance


class Answering(Task, Answered, Recalling, Protocol):
    """A task whose figures follow from its answers, and these from what it keeps."""


def answer(
    task: Task, kept: Rows, labels: Labels, decision: Decision | None = None
) -> dict[str, np.ndarray]:
    """Return a task's named outputs for its `logits`: the `answer` of tasks that keep these.

    Args:
        task: The task.
        kept: Rows with the network's `logits`.
        labels: What the labels mean.
        decision: How probabilities become decisions, as it is served; the task's own way by
            default.
    """
    import tensorflow as tf

    further = () if decision is None else (decision,)
    found = task.answers(tf.constant(kept["logits"]), labels, *further)
    return {name: value.numpy() for name, value in found.items()}


def keep_logits(
    task: Task, outputs: tf.Tensor, inputs: Tensors, targets: Mapping[str, Any]
) -> dict[str, Any]:
    """Keep the outputs as they are: the `keep` of tasks with a vector of logits an example."""
    import tensorflow as tf

    return {"logits": tf.cast(outputs, tf.float32)}


def answered_statistics(
    task: Answering, annotations: Rows, kept: Rows, labels: Labels, decision: Decision | None = None
) -> dict[str, np.ndarray]:
    """Measure what the task answers: the `statistics` of tasks that are `Answered`."""
    found = task.answer(kept, labels) if decision is None else answer(task, kept, labels, decision)
    return task.statistics_of(annotations, found, labels)


def solve(
    solver: Callable[..., Linear], features: Any, targets: Rows, *,
    validation: tuple[Any, Rows] | None = None, **how: Any,
) -> Linear:
    """Solve a linear head on fixed features: the `solve` of tasks with a vector of outputs.

    Args:
        solver: A function of `kerasft.model.linear`.
        features: `[N, width]`, dense or sparse.
        targets: What the task's `targets` made: `labels`, and maybe a `weight`.
        validation: Features and targets that the strength of the penalty is chosen on.
        how: Further arguments of the solver.
    """
    held = None if validation is None else (validation[0], validation[1]["labels"])
    names = targets.columns
    weights = targets["weight"] if "weight" in names else None
    return solver(features, targets["labels"], weights=weights, validation=held, **how)


def scores_of_classes(
    task: Task, answers: Mapping[str, Any], labels: Labels
) -> dict[str, Any]:
    """Return the classes with their probabilities: the `scored` of tasks with classes."""
    import tensorflow as tf

    scores = answers["probabilities"]
    names = tf.constant(labels.names)
    return {"classes": tf.broadcast_to(names, tf.shape(scores)), "scores": scores}


def divergence_of_classes(task: Task, one: tf.Tensor, other: tf.Tensor) -> Any:
    """Return how far two answers are apart: the `disagreement` of tasks with one class an example.

    It is the Kullback-Leibler divergence in both directions, halved, `float32[batch]`.

    Args:
        task: The task.
        one: Logits, `[batch, classes]`, of any precision.
        other: Others of the same examples.

    Example:
        >>> one, other = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
        >>> round(float(divergence_of_classes(None, one, other)[0]), 4)
        0.4394
    """
    import tensorflow as tf

    logs = [tf.nn.log_softmax(tf.cast(each, tf.float32)) for each in (one, other)]
    apart = (tf.exp(logs[0]) - tf.exp(logs[1])) * (logs[0] - logs[1])
    return tf.reduce_sum(apart, axis=-1) / 2.0


def divergence_of_labels(task: Task, one: tf.Tensor, other: tf.Tensor) -> Any:
    """Return how far two answers are apart: the `disagreement` of tasks with several labels.

    Each label is there or not: the same of two classes, for each of them, `float32[batch, labels]`.

    Args:
        task: The task.
        one: Logits, `[batch, labels]`, of any precision.
        other: Others of the same examples.
    """
    import tensorflow as tf

    one, other = (tf.cast(each, tf.float32) for each in (one, other))
    # The logits' difference is that of log p / (1 - p).
    return (tf.sigmoid(one) - tf.sigmoid(other)) * (one - other) / 2.0


def squared_difference(task: Task, one: tf.Tensor, other: tf.Tensor) -> Any:
    """Return how far two answers are apart: the `disagreement` of tasks with numbers.

    Args:
        task: The task.
        one: Outputs, `[batch, numbers]`, of any precision, standardized as labels are.
        other: Others of the same examples.

    Returns:
        The mean of the squared differences, `float32[batch]`.
    """
    import tensorflow as tf

    one, other = (tf.cast(each, tf.float32) for each in (one, other))
    return tf.reduce_mean(tf.square(one - other), axis=-1)


def shares_as_they_are(
    task: Task, targets: Mapping[str, Any], labels: Labels
) -> dict[str, Any]:
    """Return targets unchanged: the `shares` of tasks whose labels are floats already."""
    return dict(targets)


def describe_classes(
    task: Task, targets: Mapping[str, np.ndarray], labels: Labels
) -> list[str]:
    """Name the classes of each example: the `describe` of tasks with classes.

    A class that an example has in part, after MixUp or CutMix, has its share behind it.

    Example:
        >>> pets = Labels("single", ("cat", "dog"))
        >>> describe_classes(None, {"labels": np.array([0, 1])}, pets)
        ['cat', 'dog']
        >>> describe_classes(None, {"labels": np.array([[0.25, 0.75], [1.0, 0.0]])}, pets)
        ['dog 0.75, cat 0.25', 'cat']
    """
    found = np.asarray(targets["labels"])
    if found.ndim == 1:
        return [labels.names[int(place)] for place in found]

    def words(shares: np.ndarray) -> str:
        # Shares that round to 0 or 1 are whole labels.
        there = [place for place in np.argsort(-shares, kind="stable") if shares[place] >= 0.005]
        return ", ".join(
            labels.names[place] + ("" if shares[place] >= 0.995 else f" {shares[place]:.2f}")
            for place in there
        )

    return [words(shares) or "no class" for shares in found]


def number_in_words(number: float, std: float) -> str:
    """Return a number that was learned in float32, standardized, with the digits that are left.

    Args:
        number: In the labels' own units.
        std: What it was divided by.

    Example:
        >>> number_in_words(1.2e-8, 1.5), number_in_words(1_600_000_017.0, 1e7)
        ('0', '1600000000')
    """
    # + 0.0 makes 0 of -0.
    return f"{round(number, 5 - math.floor(math.log10(std))) + 0.0:.12g}"


def to_dict(task: DataclassInstance) -> dict[str, Any]:
    """Return a task dataclass as plain values: its import path under `class`, and its fields."""
    path = f"{type(task).__module__}.{type(task).__qualname__}"
    return {"class": path, **dataclasses.asdict(task)}


def load(
    saved: Mapping[str, Any], *, trusted: Sequence[str] = ("kerasft",),
    file: Path = Path("task.json"),
) -> Any:
    """Build a task from what `to_dict` returned.

    Args:
        saved: The import path under `class`, and the task's fields.
        trusted: The packages or modules that a task may come from.
        file: Where that is from, for messages.

    Returns:
        The task, with what it had learned from data.

    Raises:
        UserError: The class is not from a trusted package, not there, or takes other fields.

    Example:
        >>> load({"class": "kerasft.tasks.regression.Regression", "loss_name": "huber"}).kind
        'number'
    """
    fields = dict(saved)
    path = str(fields.pop("class", ""))
    module, _, name = path.rpartition(".")
    if not path.startswith(tuple(f"{prefix}." for prefix in trusted)):
        raise UserError(
            f"A saved task must come from one of {', '.join(trusted)}. Received: class={path!r}. "
            "Name its package as trusted if the task is yours."
        )
    try:
        made = getattr(importlib.import_module(module), name)
        # Any other function would be called with what the file says.
        if not (isinstance(made, type) and dataclasses.is_dataclass(made)
                and callable(getattr(made, "answers", None))):
            raise TypeError(f"{path} is no task")
        require_fields(fields, made, file)
        # Not all of kerasft: what a file names there would be called.
        own = [prefix for prefix in trusted if prefix != "kerasft"]
        fields = own_metrics.trusted_only(fields, own)
        return made(**fields)
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(
            f"The saved task cannot be built: {error}. Received: class={path!r}, "
            f"fields {sorted(fields)}. It was probably written by another version of kerasft."
        ) from error
