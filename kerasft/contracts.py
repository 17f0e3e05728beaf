"""What tasks offer to the rest of the package, as protocols: what all have, and abilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from kerasft.artifact.comparison import Output
from kerasft.rows import Rows
from kerasft.spec import Decision, Kind, Labels, Mode, Tensors

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Head = TypeVar("Head", bound=Callable[..., Any])


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

        Each augmented view of an image then has targets of its own.
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

    def batch(self, inputs: Tensors, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
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
        self, outputs: Tensors, inputs: Tensors, targets: Mapping[str, Any]
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
        self, outputs: Tensors, labels: Labels, decision: Decision | None = None
    ) -> Mapping[str, Any]:
        """Turn outputs into what is served: tensors by name, in TensorFlow ops, the batch first."""

    def outputs(self, labels: Labels, decision: Decision | None = None) -> Mapping[str, Output]:
        """Return how each of `answers` is compared with another computation of it, and shown.

        Of what is not named, floats must be close, and all else equal.
        """

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


def lacking(task: object) -> list[str]:
    """Return what a task must have and this one has not.

    Example:
        >>> from kerasft.tasks.regression import Regression
        >>> lacking(Regression()), lacking("no task")[:3]
        ([], ['kind', 'monitor', 'mode'])
    """
    return [name for name in vars(Task) if name[0] != "_" and not hasattr(task, name)]


def odd_units(model: keras.Model, task: Task, labels: Labels) -> int | None:
    """Return how many numbers a network puts out, where its task wants others; else `None`."""
    shape, wanted = model.output_shape, task.head(labels).get("units")
    if wanted is None or not isinstance(shape, tuple) or shape[-1] == wanted:
        return None
    return shape[-1]


def trained_by(*losses: str) -> Callable[[Head], Head]:
    """Mark a head with the losses of its task that train it, the usual one first.

    Example:
        >>> @trained_by("focal")
        ... def mine(features, *, classes): ...
        >>> losses_of(mine)
        ('focal',)
    """

    def mark(head: Head) -> Head:
        vars(head)["losses"] = losses
        return head

    return mark


def losses_of(head: Callable[..., Any] | None) -> tuple[str, ...]:
    """Return the losses that a head is marked with; none where any may do."""
    return tuple(getattr(head, "losses", ()))


@runtime_checkable
class Following(Protocol):
    """A task with several losses, which takes the one that its head is made for."""

    def for_losses(self, losses: Sequence[str]) -> Task:
        """Return a copy with a loss, the first of these where the user chose none.

        Args:
            losses: Those that train the head, the usual one first; none where any may do.

        Raises:
            UserError: If the user chose another one.
        """


@runtime_checkable
class Mixable(Protocol):
    """A task whose targets can be mixed with those of other examples, as MixUp and CutMix do."""

    def shares(self, targets: Mapping[str, Any], labels: Labels) -> dict[str, Any]:
        """Return a batch of targets whose `labels` are floats, of which shares can be added."""


@runtime_checkable
class Described(Protocol):
    """A task that says in words what a network learns of an example, as `kerasft show` does."""

    def describe(self, targets: Mapping[str, np.ndarray], labels: Labels) -> list[str]:
        """Return a line for each example of a batch.

        Args:
            targets: A batch of `targets` as augmentation left it, `labels` maybe mixed.
            labels: What the labels mean.
        """


@runtime_checkable
class Tunable(Protocol):
    """A task whose decisions can be tuned on the validation split."""

    def tune(self, annotations: Rows, kept: Rows, labels: Labels) -> Task:
        """Return a copy that decides as is best on these examples."""


@runtime_checkable
class Deciding(Protocol):
    """A task whose exports can decide otherwise than its run: for a goal, at a temperature."""

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
class Recalling(Protocol):
    """A task whose answers follow from what it keeps: the network need not be run for them."""

    def answer(self, kept: Rows, labels: Labels) -> dict[str, np.ndarray]:
        """Return `answers`, maybe more precise than they are served, for what was kept."""


@runtime_checkable
class Answered(Protocol):
    """A task that is measured by what it answers: an export can be measured like its network."""

    def statistics_of(
        self, annotations: Rows, answers: Mapping[str, np.ndarray], labels: Labels
    ) -> dict[str, np.ndarray]:
        """Return the `statistics` of examples from their answers."""


@runtime_checkable
class Thresholded(Protocol):
    """A task that decides on each class for which a probability suffices."""

    @property
    def cutoff(self) -> float:
        """The probability from which on a class is decided on."""

    def cutoffs(self, decision: Decision) -> Any:
        """The same after training, for each class or for all."""


@runtime_checkable
class Demanding(Protocol):
    """A task that cannot be measured on just any labels."""

    def check_validation(self, annotations: Rows) -> None:
        """Raise `UserError` where `monitor` cannot be measured on these validation examples."""


@runtime_checkable
class Solvable(Protocol):
    """A task whose best linear head on fixed features can be computed, see `model.linear`."""

    def solve(self, features: Any, targets: Rows, labels: Labels, **how: Any) -> Any:
        """Return a `Linear` to outputs; `how` goes to the solver (`validation`, `seed`, ...)."""


@runtime_checkable
class Rounding(Protocol):
    """A task whose exports answer less precisely than it is measured."""

    def served_precision(self) -> str:
        """Say what that loses, or `""`; raise `UserError` where nothing would be left."""


@runtime_checkable
class Ranked(Protocol):
    """A task among whose answers are the likeliest labels, in order."""

    def ranked(self, answers: Mapping[str, Any], labels: Labels, top: int) -> Mapping[str, Any]:
        """Return the first labels and their scores, as tensors by name."""


@runtime_checkable
class Scored(Protocol):
    """A task that answers TensorFlow Serving's call `classify` or `regress`, its `method`."""

    method: str

    def scored(self, answers: Mapping[str, Any], labels: Labels) -> Mapping[str, Any]:
        """Return what the call gives back, of `answers`."""


@runtime_checkable
class Framed(Protocol):
    """A task among whose answers are positions in images.

    Its `answers` are in the network's pixels. So are those of the signature `tensors`; whoever
    sends an image is answered in the pixels of that image.
    """

    def in_image(
        self, answers: Mapping[str, Any], frames: tf.Tensor, labels: Labels
    ) -> Mapping[str, Any]:
        """Return answers whose positions are those in the original images, in TensorFlow ops.

        `frames` is `float32[batch, 6]`, see `model.vision.geometry`; `answers` come by name.
        """


@runtime_checkable
class Located(Protocol):
    """A task among whose answers are positions in texts: as `Framed`, in characters."""

    def in_text(
        self, answers: Mapping[str, Any], frames: Mapping[str, Any], labels: Labels
    ) -> Mapping[str, Any]:
        """Return answers in characters, in TensorFlow ops; see `model.text.alignment.framed`."""


@runtime_checkable
class Rephrasing(Protocol):
    """A task whose answers to images are also given in other forms, each by a signature.

    Args:
        forms: The names of these signatures.
    """

    forms: tuple[str, ...]

    def rephrased(
        self, form: str, answers: Mapping[str, Any], frames: tf.Tensor, labels: Labels
    ) -> Mapping[str, Any]:
        """Return what `in_image` returned in another form, one of `forms`, in TensorFlow ops."""


@runtime_checkable
class Explained(Protocol):
    """A task that says how answers follow from numbers, for programs that do it themselves."""

    def rule(self, labels: Labels, *, chosen: bool = True) -> dict[str, Any]:
        """Return what decides as plain values, `rule` in words among them.

        Args:
            labels: What the labels mean.
            chosen: Whether the numbers are `answers`, or `candidates` of a task that is `Choosing`.
        """


@runtime_checkable
class Choosing(Protocol):
    """A task whose answers are chosen of many, by an op that not every format carries."""

    def candidates(self, outputs: Tensors, labels: Labels) -> Mapping[str, Any]:
        """Return what is chosen of: tensors by name, in TensorFlow ops, the batch first."""


@runtime_checkable
class Sampled(Protocol):
    """A task that says what its statistics look like, so that its figures are known beforehand."""

    def samples(self, labels: Labels) -> dict[str, np.ndarray]:
        """Return made-up `statistics` of a few examples that bring out all figures."""


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
