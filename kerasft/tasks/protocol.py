"""What every task offers to the rest of the package, and how a task is kept in a run folder."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kerasft.errors import UserError
from kerasft.evaluation.metrics import Mode
from kerasft.rows import Rows
from kerasft.spec import Decision, Kind, Labels
from kerasft.system.recorded import require_fields


class Task(Protocol):
    """What the examples' labels are to the network.

    A task is a frozen value that the config builds before any data is read. What it learns from
    data (`adapt`, `tune`) it returns as a copy, and `to_dict` keeps it.
    """

    @property
    def kind(self) -> Kind: ...

    @property
    def monitor(self) -> str:
        """The figure that epochs are chosen by: `val_` and a key of `score`, or `val_loss`."""

    @property
    def mode(self) -> Mode:
        """Whether a larger or a smaller `monitor` is better."""

    @property
    def follows_pixels(self) -> bool:
        """Whether what is learned moves with the pixels, as boxes and masks do.

        Each augmented view of a picture then has targets of its own.
        """

    @property
    def headlines(self) -> tuple[str, ...]:
        """The figures that a run shows at its end, the first ones first; all others are written."""

    @property
    def each_epoch(self) -> tuple[str, ...]:
        """The figures that the line of an epoch shows, beside the losses and the monitor."""

    def head(self, labels: Labels) -> Mapping[str, Any]:
        """Return what a head may be handed, by name: `units`, how many numbers it puts out."""

    def adapt(self, annotations: Rows) -> Task:
        """Return a copy that knows the training labels' scale, where the task needs it."""

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        """Return what a network learns of each example; made once, in NumPy.

        Args:
            annotations: The raw labels, see `Examples.annotations`.
            labels: What they mean.
            training: Whether examples are weighted as in training.

        Returns:
            A row an example. Columns that augmentation may move have Keras' own names: `labels`,
            `boxes`, `segmentation_masks`.
        """

    def batch(self, inputs: Any, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        """Return what the loss compares with, and the weights, or `None` where all count alike.

        It runs last in the `tf.data` graph, after augmentation, in TensorFlow ops alone.

        Args:
            inputs: What the network is fed with; kept activations where a stage trains from them.
            targets: A batch of `targets`, padded; see `Rows.gather`.
            labels: What the labels mean.
        """

    def compile(self) -> Mapping[str, Any]:
        """Return the task's part of the arguments of `Model.compile`: `loss`, `metrics`, ..."""

    def keep(
        self, outputs: Any, inputs: Any, targets: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return all that measuring and tuning need of a batch, as few bytes an example as do.

        It runs in the graph, right behind the network, and nothing else of the outputs is kept.

        Args:
            outputs: What the network puts out.
            inputs: What it was fed with.
            targets: A batch of `targets`, as it is stored.

        Returns:
            Tensors by name, the batch first; a `tf.RaggedTensor` where lengths differ.
        """

    def answers(
        self, outputs: Any, labels: Labels, decision: Decision | None = None
    ) -> Mapping[str, Any]:
        """Turn outputs into what is served: tensors by name, in TensorFlow ops, the batch first."""

    def statistics(
        self, annotations: Rows, kept: Rows, labels: Labels, decision: Decision | None = None
    ) -> dict[str, np.ndarray]:
        """Return what each example adds to the figures, as arrays with a row an example.

        Figures of any choice of these rows can then be computed: of drawings, of slices.

        Args:
            annotations: The raw labels.
            kept: What `keep` kept, see `Rows`.
            labels: What the labels mean.
            decision: How probabilities become decisions; the task's own way by default.
        """

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        """Return the figures of examples, as plain floats, of their statistics."""

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: Path, *, split: str
    ) -> list[Path]:
        """Draw what a split's examples came to; return the files."""

    def to_dict(self) -> dict[str, Any]:
        """Return the task as plain values that `load` takes."""


@runtime_checkable
class Mixable(Protocol):
    """A task whose targets can be mixed with those of other examples, as MixUp and CutMix do."""

    def shares(self, targets: Mapping[str, Any], labels: Labels) -> dict[str, Any]:
        """Return a batch of targets whose `labels` are floats, of which shares can be added."""


@runtime_checkable
class Tunable(Protocol):
    """A task whose decisions can be tuned on the validation split."""

    def tune(self, annotations: Rows, kept: Rows, labels: Labels) -> Task:
        """Return a copy that decides as is best on these examples."""

    def decide(
        self, annotations: Rows, kept: Rows, labels: Labels, *, temperature: float | str = 1.0,
        goal: str | None = None, at_least: float | None = None, positive: str | None = None,
    ) -> Decision:
        """Return the decision that an export makes, tuned on validation."""

    def check_decision(
        self, *, temperature: float | str = 1.0, goal: str | None = None,
        at_least: float | None = None, positive: str | None = None,
    ) -> None:
        """Raise `UserError` where `decide` would, as far as that is known without data."""


@runtime_checkable
class Answered(Protocol):
    """A task that is measured by what it answers: an export can be measured like its network."""

    def statistics_of(
        self, annotations: Rows, answers: Mapping[str, np.ndarray], labels: Labels
    ) -> dict[str, np.ndarray]:
        """Return the `statistics` of examples from their answers."""


@runtime_checkable
class Summed(Protocol):
    """A task with figures that follow from sums over examples, which are quickly drawn anew."""

    def sums(
        self, metric: str, statistics: Mapping[str, np.ndarray], labels: Labels
    ) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
        """Return what is summed, `[N, ...]`, and the figure as a function of sum and number.

        `None` where a figure is no such function. Of bool `[N]` the figure is the share of the
        examples that are right, and two models can be compared example by example.
        """


def answer(
    task: Any, kept: Rows, labels: Labels, decision: Decision | None = None
) -> dict[str, np.ndarray]:
    """Return a task's named outputs for what it kept.

    Args:
        task: The task. Where it has a method `answer`, this is asked: it may be more precise than
            what is served.
        kept: Rows with the network's `logits`.
        labels: What the labels mean.
        decision: How probabilities become decisions, as it is served; the task's own way by
            default.

    Example:
        >>> from kerasft.tasks.regression import Regression
        >>> kept = Rows.of({"logits": np.ones((1, 1), "float32")})
        >>> answer(Regression(mean=1.7e9), kept, Labels("number"))["value"]
        array([1.7e+09])
    """
    if decision is None and (own := getattr(task, "answer", None)):
        return own(kept, labels)
    import tensorflow as tf

    further = () if decision is None else (decision,)
    found = task.answers(tf.constant(kept["logits"]), labels, *further)
    return {name: value.numpy() for name, value in found.items()}


def keep_logits(
    task: Any, outputs: Any, inputs: Any, targets: Mapping[str, Any]
) -> dict[str, Any]:
    """Keep the outputs as they are: the `keep` of tasks with a vector of logits an example."""
    import tensorflow as tf

    return {"logits": tf.cast(outputs, tf.float32)}


def answered_statistics(
    task: Any, annotations: Rows, kept: Rows, labels: Labels, decision: Decision | None = None
) -> dict[str, np.ndarray]:
    """Measure what the task answers: the `statistics` of tasks that are `Answered`."""
    return task.statistics_of(annotations, answer(task, kept, labels, decision), labels)


def shares_as_they_are(
    task: Any, targets: Mapping[str, Any], labels: Labels
) -> dict[str, Any]:
    """Return targets unchanged: the `shares` of tasks whose labels are floats already."""
    return dict(targets)


def to_dict(task: Any) -> dict[str, Any]:
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
        return made(**fields)
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(
            f"The saved task cannot be built: {error}. Received: class={path!r}, "
            f"fields {sorted(fields)}. It was probably written by another version of kerasft."
        ) from error
