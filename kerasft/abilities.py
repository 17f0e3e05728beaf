"""Further abilities of tasks: what they read and write in their own way, and what they are set to.

Those that stand beside the protocol of all tasks are in `contracts`. Each is asked for with
`isinstance`; those with values, not methods alone, of a task only, never of a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from kerasft.spec import Backbone, Labels, Preprocess, Splits, Tensors

if TYPE_CHECKING:
    import keras

    from kerasft.rows import Rows

# Makes examples ready, by split; see `data.preprocessing.prepare_splits`.
Prepare = Callable[[Mapping[str, Any], Preprocess], Mapping[str, Any]]


@runtime_checkable
class Adjusting(Protocol):
    """A task that needs another preprocessing, or graph, than a backbone comes with."""

    def reading(self, backbone: Backbone) -> Backbone:
        """Return the backbone with the preprocessing, and the graph, that the task needs."""


@runtime_checkable
class Reading(Adjusting, Protocol):
    """A task whose examples are not what the data holds: parts of documents, packed blocks."""

    def read(
        self, splits: Splits, preprocess: Preprocess, prepare: Prepare, *, seed: int
    ) -> tuple[Splits, dict[str, Any]]:
        """Return the examples that are trained on and measured, and what a network takes of them.

        Args:
            splits: The data.
            preprocess: What `reading` returned.
            prepare: Makes examples ready, by split.
            seed: The seed of the run; nothing else may be random.

        Returns:
            The splits, with annotations that `targets` takes; and a `Store` for each.
        """


@dataclass(frozen=True)
class Begun:
    """The beginning of an example, to be gone on with.

    Args:
        shown: What is there, for readers.
        sent: What a writer is given.
        truth: What follows in truth.
    """

    shown: str
    sent: str
    truth: str


@runtime_checkable
class Generates(Protocol):
    """A task that answers a text by going on with it."""

    @property
    def converses(self) -> bool:
        """Whether examples are conversations, whose answers end by themselves."""

    def begun(self, example: str) -> Begun:
        """Return what an example begins with, and what it goes on with."""

    def settings(self, preprocess: Preprocess) -> Any:
        """Return how is written; `max_new` is the most tokens."""

    def generating(self, settings: Mapping[str, Any]) -> Any:
        """Return a copy that writes otherwise; raise `UserError` for what is no setting."""

    @property
    def draws(self) -> bool:
        """Whether answers are drawn, so that another seed gives others."""

    def writer(
        self, model: keras.Model, preprocess: Preprocess
    ) -> Callable[..., Mapping[str, Any]]:
        """Return a function, of TensorFlow ops alone, of raw texts to what is answered.

        It takes a seed for each text, too, `int64[batch]`; that of the settings for all without.

        Args:
            model: The network with its head.
            preprocess: What stands before it.
        """

    def read_off(self, model: keras.Model) -> tuple[Any, Any]:
        """Return the features that tokens are read off, and the embedding by which they are.

        Raises:
            UserError: If the model has a head of another kind.
        """

    def likeliest(
        self, model: keras.Model, preprocess: Preprocess
    ) -> Callable[[Any], Mapping[str, Any]]:
        """Return a function, of TensorFlow ops alone, of raw texts to what begins answers."""

    def embedder(self, model: keras.Model) -> Callable[[Any], Any] | None:
        """Return a function of what a network takes to one vector a text, if there is one."""

    def write(
        self, model: keras.Model, preprocess: Preprocess, texts: Sequence[str],
        seeds: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Return what is answered, as arrays with a row a text.

        Args:
            model: The network with its head.
            preprocess: What stands before it.
            texts: What is to be gone on with.
            seeds: One for each text; that of the settings for all where `None`.
        """


@runtime_checkable
class Advising(Protocol):
    """A task that knows of a setting which may fit the data better."""

    def advice(self, annotations: Rows) -> str:
        """Return a sentence for the user before anything is trained; `""` for none.

        Args:
            annotations: What is known of the training examples.
        """


@runtime_checkable
class Spread(Protocol):
    """A task whose parts of examples, such as tokens, count alike whichever batch they are in."""

    def batched(self, examples: float, alone: bool = False) -> Any:
        """Return a copy for training that knows how many examples a batch has, on average.

        Args:
            examples: Their number.
            alone: Whether each batch is an update of its own, and all have as many examples.
        """


@runtime_checkable
class Windowing(Protocol):
    """A task that may read a text in several windows.

    Args:
        windows: The most windows of a text; 1 where a text is read at once.
        overlap: Tokens that a window shares with the next one; `None` for the task's own way.
    """

    windows: int
    overlap: int | None


@runtime_checkable
class Comparing(Protocol):
    """A task that says how far two answers to the same examples are apart, as R-Drop asks."""

    def disagreement(self, one: Tensors, other: Tensors) -> Any:
        """Return a number for each example, `float32[batch]`, of the outputs of two passes.

        `float32[batch, labels]` where labels count each for itself. It is made of TensorFlow ops.
        """


@runtime_checkable
class Weighted(Protocol):
    """A task whose classes may count differently in the loss.

    Args:
        class_weight: A rule, or a weight by name; `None` where all count alike.
    """

    class_weight: str | Mapping[str, float] | None

    def weights(self, labels: Labels) -> np.ndarray:
        """Return what each class counts, `[classes]`; or with and without it, `[2, classes]`."""


@runtime_checkable
class Ordered(Protocol):
    """A task whose classes may have an order, as stars and grades have.

    Args:
        ordered: Whether they have that of the data; or their names, in order.
    """

    ordered: bool | Sequence[str]


@runtime_checkable
class Shortlisting(Protocol):
    """A task that also measures whether a label is among the likeliest few.

    Args:
        top_k: How many these are, where there are more classes.
    """

    top_k: int
