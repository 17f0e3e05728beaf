"""Small frozen values that every room shares. Nothing here imports TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeGuard

import numpy as np

from kerasft.rows import Rows

if TYPE_CHECKING:
    import tensorflow as tf

# What labels are: `"single"`, `"multi"`, `"number"`, or what a task of another kind calls its own.
Kind = str
Modality = Literal["images", "text"]
Mode = Literal["max", "min"]
# What a network is fed with, and what it puts out: one tensor, or several by name.
Tensors: TypeAlias = "tf.Tensor | Mapping[str, tf.Tensor]"

# The class of a pixel that is neither learned nor counted.
IGNORED = 255
SPLIT_NAMES: tuple[str, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Labels:
    """What the labels of a data set mean.

    Args:
        kind: `"single"` (one class an example), `"multi"` (any number of classes) or
            `"number"` (regression).
        names: The class names, in the order of the network's outputs. Empty for numbers.
    """

    kind: Kind
    names: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"kind": self.kind, "names": list(self.names)}

    def is_of(self, kind: str) -> bool:
        """Whether a task of this kind learns such labels."""
        return self.kind == kind


@dataclass(frozen=True)
class Examples:
    """Random-access examples, held column by column.

    Args:
        modality: `"images"` or `"text"`.
        inputs: For images, the path (`str`) or the encoded bytes (`bytes`) of each image; for
            text, each text (`str`) or pair of texts (`tuple[str, str]`).
        annotations: What is known of each example, as rows: a column `label` for the kinds
            `"single"` (`int64[N]`), `"multi"` (`float32[N, classes]` of 0 and 1), `"number"`
            (`float64[N]`, or float32) and `"numbers"` (`[N, numbers]`); for `"boxes"` the columns
            `boxes`, `labels` and `ignored` of each object and the `size` of each image; for
            `"masks"` the `mask` of each image, its `size`, `pixels` and `digest`; for `"spans"` the
            `labels`, `span_starts` and `span_ends` of what is marked in each `text`, in
            characters; other columns for other kinds. An array is such a column `label`.
        ids: One stable name an example, unique in the data set: a relative path, or file and row;
            a tuple, or a sequence that is read when it is asked, as `inputs` may be.
        slices: Which slice each example is in, a column of numbers for each name in
            `Splits.slices`; `None` where there are none.
    """

    modality: Modality
    inputs: Sequence[Any]
    annotations: Rows
    ids: tuple[str, ...]
    slices: Rows | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.annotations, Rows):
            object.__setattr__(self, "annotations", Rows.of({"label": self.annotations}))
        if not len(self.inputs) == len(self.annotations) == len(self.ids):
            raise ValueError(
                "Examples must hold as many inputs as labels and ids. Received: "
                f"{len(self.inputs)} inputs, {len(self.annotations)} labels, {len(self.ids)} ids."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def noted(self) -> tuple[np.ndarray, np.ndarray | None] | None:
        """What `note` was told."""
        # No field, so that examples with other inputs never have those of these.
        return self.__dict__.get("_noted")

    def note(self, digests: np.ndarray, stamps: np.ndarray | None) -> None:
        """Have the fingerprints of the inputs remembered, see `data.fingerprint.fingerprints`.

        Args:
            digests: `uint8[N, 32]`.
            stamps: Size and time of change of the file of each, `int64[N, 2]`; `None` for texts.
        """
        self.__dict__["_noted"] = (digests, stamps)

    @cached_property
    def labels(self) -> np.ndarray:
        """The column `label`, of those kinds of annotations that have one."""
        return self.annotations["label"]

    def take(self, indices: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples at `indices`, in that order."""
        chosen = [int(i) for i in indices]
        made = dataclasses.replace(
            self,
            inputs=_chosen(self.inputs, chosen, list),
            annotations=self.annotations.take(chosen),
            ids=_chosen(self.ids, chosen),
            slices=None if self.slices is None else self.slices.take(chosen),
        )
        if self.noted is not None:
            digests, stamps = self.noted
            made.note(digests[chosen], None if stamps is None else stamps[chosen])
        return made


def _chosen(values: Any, indices: Sequence[int], made: Any = tuple) -> Any:
    """Return values at indices, unread where they are read late."""
    lazily = getattr(values, "choose", None)
    return lazily(indices) if lazily else made(values[i] for i in indices)


@dataclass(frozen=True)
class Copy:
    """An example whose input is the same as that of an earlier one.

    Args:
        split: Its split.
        example: Its id.
        label: Its label in words; `None` where examples have none.
        of_split: The split of the earlier one.
        of_example: The id of the earlier one.
        of_label: The label of the earlier one.
        differs: Whether their annotations differ.
    """

    split: str
    example: str
    label: str | None
    of_split: str
    of_example: str
    of_label: str | None
    differs: bool


@dataclass(frozen=True)
class Splits:
    """The three-way split that a data node returns.

    Args:
        train: Examples to learn from.
        validation: Examples to choose and stop by.
        test: Examples that are looked at once, or `None` where there are none.
        labels: What the labels mean.
        source: Plain values that say where the examples come from and how they were split; they
            go into the manifest.
        notices: Sentences for the user: what was skipped, what looks odd.
        copies: Exact copies that stand in two splits, or under two labels.
        slices: By what figures are told apart: the names of the slices, by column.
    """

    train: Examples
    validation: Examples
    test: Examples | None
    labels: Labels
    source: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Examples]:
        """The splits that exist, by name."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in found.items() if part is not None}


@dataclass(frozen=True)
class Decision:
    """How probabilities become decisions, tuned on validation after training.

    Args:
        temperature: The logits are divided by it.
        goal: What the thresholds were tuned for, `"f1"`, `"recall"` or `"precision"`; empty for
            none.
        at_least: The share that recall or precision reached on validation.
        thresholds: For kind `"multi"` the probability of each class from which it is decided on.
            For `"single"` with `positive`, one number: from it on the label is the positive class.
            For `"single"` without, the probability of each class from which a label of it counts
            as decided.
        positive: The index of the class that the goal is about, or `None`.
        validation: What was found on validation, as plain values.
    """

    temperature: float = 1.0
    goal: str = ""
    at_least: float | None = None
    thresholds: tuple[float, ...] = ()
    positive: int | None = None
    validation: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def to_dict(self, labels: Labels) -> dict[str, Any]:
        """Return it as plain values, with the names of the classes."""
        made: dict[str, Any] = {"temperature": self.temperature}
        if self.goal:
            names = labels.names if self.positive is None else (labels.names[self.positive],)
            made |= {
                "goal": self.goal,
                "at_least": self.at_least,
                "positive": None if self.positive is None else labels.names[self.positive],
                "thresholds": dict(zip(names, self.thresholds, strict=True)),
            }
        return made | {"validation": dict(self.validation)}


@dataclass(frozen=True)
class Evidence:
    """What a run keeps so that decisions can be tuned and exports proved without its data.

    Args:
        examples: A few held-out examples, images as encoded bytes.
        kept: What the task kept of the network's outputs for them when the run measured it.
        measured: For each split that was measured its annotations, and what was kept of it.
    """

    examples: Examples
    kept: Rows
    measured: Mapping[str, tuple[Rows, Rows]]


class Preprocess(Protocol):
    """What turns raw input into tensors: one object for training, prediction and export.

    `__call__` takes a batch of raw values (`tf.string`, `[batch]`; for pairs of texts
    `[batch, 2]`) and returns what the network takes. It is made of TensorFlow ops alone, so that
    it runs in `tf.data` and inside an exported signature.
    """

    modality: Modality
    pair: bool
    trackables: tuple[Any, ...]

    def __call__(self, raw: tf.Tensor | Sequence[Any]) -> Any: ...

    def save(self, directory: str | Path) -> None: ...


class ImagePreprocess(Preprocess, Protocol):
    """A `Preprocess` of encoded images, which all become one size."""

    height: int
    width: int
    resize: str
    interpolation: str
    antialias: bool
    upright: bool
    parts: tuple[Any, ...]

    def decode(self, encoded: tf.Tensor) -> Any:
        """Decode one image: a scalar `tf.string` to `uint8[height, width, channels]`."""

    def pixels(self, encoded: tf.Tensor) -> Any:
        """Decode one image in the size that it has."""

    def framed(self, raw: tf.Tensor) -> tuple[Any, Any]:
        """Return images as `__call__` does, and how each was placed, see `vision.geometry`."""

    def placed(self, annotations: Rows) -> Rows:
        """Return annotations with positions as the network sees them, see `vision.geometry`."""


class TextPreprocess(Preprocess, Protocol):
    """A `Preprocess` of texts or pairs of texts, whose rows have lengths of their own."""

    tokenizer: Any
    inputs: tuple[str, ...]
    sequence_length: int
    doubled: bool
    words: str
    start: int | None
    end: int | None
    pad: int

    def changed(self, **settings: Any) -> TextPreprocess:
        """Return a copy with other settings, on the same tokenizer."""

    def tokens(self, text: tf.Tensor) -> Any:
        """Return the tokens of texts, ragged."""

    def pack(self, raw: tf.Tensor, tokens: tf.RaggedTensor | None = None) -> dict[str, Any]:
        """Return texts as `__call__` does, of their `tokens` where these are known."""

    def framed(self, raw: tf.Tensor) -> tuple[Any, dict[str, Any]]:
        """Return texts as `__call__` does, and where words stand, see `model.text.alignment`."""

    def placed(self, annotations: Rows) -> Rows:
        """Return annotations with the words of each text, see `model.text.alignment`."""


def takes_images(preprocess: Preprocess) -> TypeGuard[ImagePreprocess]:
    """Whether a preprocessing is of images."""
    return preprocess.modality == "images"


def placed(annotations: Rows, preprocess: Preprocess) -> Rows:
    """Return annotations with positions as the network sees them, where there are positions."""
    if takes_images(preprocess) and "size" in annotations:
        return preprocess.placed(annotations)
    if takes_texts(preprocess) and "text" in annotations:
        return preprocess.placed(annotations)
    return annotations


def channels_of(preprocess: ImagePreprocess) -> int:
    """Return how many channels images have: 3, where a preprocessing says nothing."""
    return int(getattr(preprocess, "channels", 3))


def takes_texts(preprocess: Preprocess) -> TypeGuard[TextPreprocess]:
    """Whether a preprocessing is of texts."""
    return preprocess.modality == "text"


@dataclass(frozen=True)
class Backbone:
    """A pretrained network and its preprocessing.

    Args:
        network: A functional `keras.Model` from what `preprocess` returns to features.
        preprocess: A `Preprocess`.
        name: For reports.
        learning_rate: The peak rate at which the whole of such a network is usually fine-tuned;
            used where the user sets none.
        pretrained: Whether the network carries pretrained weights.
        summary: Whether the first position of the output is a summary token.
        causal: Whether the network reads from left to right only.
        feature: The output that a head on one sequence takes, where the network names several.
        whole: The network that `network` was cut out of, or what reads the rest of it, where a head
            may take layers of the rest.
    """

    network: Any
    preprocess: Preprocess
    name: str
    learning_rate: float
    pretrained: bool = True
    summary: bool = False
    causal: bool = False
    feature: str = ""
    whole: Any = None


@dataclass(frozen=True)
class Features:
    """What a head sees of any backbone.

    Args:
        sequence: Float tensor `[batch, positions, width]`: tokens of a text, or the places of a
            feature map row by row.
        mask: Tensor `[batch, positions]`, true where a position holds a token, or `None` where
            all positions count.
        summary: Whether position 0 is a summary token ([CLS]) that `pooling="cls"` may take.
        causal: Whether a position sees only what stands before it, so that the last one knows most.
        maps: The last feature map of each size of a network for images, `[batch, height, width,
            channels]`, by the power of two of its stride.
        last: Which of the maps the network ends in, or `None` where it ends in no map, or in
            several.
        size: Rows and columns of the images, or `None`.
        fused: Whether the maps are a pyramid already: what the coarse ones know has been added to
            the finer ones.
        missing: Why there is no `sequence`, where it is `None`.
        whole: See `Backbone`.
        tokens: The `token_ids` of a network for text.
        embedding: The layer that embeds them, where it can be read backwards.
    """

    sequence: Any
    mask: Any = None
    summary: bool = False
    causal: bool = False
    maps: Mapping[int, Any] = field(default_factory=dict)
    last: int | None = None
    size: tuple[int, int] | None = None
    fused: bool = False
    missing: str = ""
    whole: Any = None
    tokens: Any = None
    embedding: Any = None
