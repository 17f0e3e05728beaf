"""Abilities of tasks that read their examples in their own way, or answer by writing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from kerasft.spec import Backbone, Preprocess, Splits

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

    def settings(self, preprocess: Any) -> Any:
        """Return how is written; `max_new` is the most tokens."""

    def generating(self, settings: Mapping[str, Any]) -> Any:
        """Return a copy that writes otherwise; raise `UserError` for what is no setting."""

    def writer(self, model: Any, preprocess: Preprocess) -> Callable[[Any], Mapping[str, Any]]:
        """Return a function, of TensorFlow ops alone, of raw texts to what is answered.

        Args:
            model: The network with its head.
            preprocess: What stands before it.
        """

    def embedder(self, model: Any) -> Callable[[Any], Any] | None:
        """Return a function of what a network takes to one vector a text, if there is one."""

    def write(self, model: Any, preprocess: Preprocess, texts: Sequence[str]) -> dict[str, Any]:
        """Return what is answered, as arrays with a row a text."""
