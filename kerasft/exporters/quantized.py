"""The same network with weights that take a quarter or half of the room."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kerasft.artifact.layout import WEIGHTS as WEIGHTS_FILE
from kerasft.contracts import Answered, Task
from kerasft.errors import UserError, nearest
from kerasft.exporters import tensors
from kerasft.exporters.copied import copied
from kerasft.exporters.saved_model import check_early as check_saved_model
from kerasft.exporters.saved_model import saved_model
from kerasft.exporters.tensors import Feed
from kerasft.rows import Rows
from kerasft.spec import Evidence, Labels, Preprocess

WEIGHTS = ("int8", "bfloat16")
# Below this share of its bytes in layers that Keras quantizes, a network would stay nearly as
# large as it is.
WORTH = 0.5


def quantized(model: keras.Model, weights: str) -> Any:
    """Return a copy of a network that keeps its weights in fewer bits and computes in float32.

    `"int8"` is Keras' own quantization of the weights of dense layers and embeddings, one scale
    for each output or row; activations are left as they are (rounding them too costs accuracy
    and, on processors, time). `"bfloat16"` keeps every array of two or more sides in 16 bits,
    whatever the layer, but depthwise kernels. Both go through `export=saved_model` like any other
    network.

    Args:
        model: A functional Keras model; it stays as it is.
        weights: `"int8"` or `"bfloat16"`.

    Returns:
        A Keras model with the same inputs and outputs.

    Raises:
        UserError: If the network's layers have no such form in Keras.

    Example:
        >>> inputs = keras.Input((64,))
        >>> model = keras.Model(inputs, keras.layers.Dense(32)(inputs))
        >>> tensors.bytes_of_weights(model)
        8320
        >>> tensors.bytes_of_weights(quantized(model, "int8"))
        2304
    """
    check_early(weights=weights)
    copy = _copy(model)
    return _in_int8(copy) if weights == "int8" else _in_bfloat16(copy)


def check_early(*, weights: str = "int8", task: Task | None = None, **further: Any) -> None:
    """See before a training that there is such a form of weights, and of what else is told."""
    check_saved_model(task=task, **further)
    if weights not in WEIGHTS:
        raise UserError(
            f"weights must be one of {', '.join(WEIGHTS)}. Received: {weights!r}."
            + nearest(weights, WEIGHTS)
        )


def small_saved_model(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocess: Preprocess,
    task: Task,
    labels: Labels,
    examples: Sequence[Any],
    evidence: Evidence | None = None,
    weights: Literal["int8", "bfloat16"] = "int8",
    tolerance: float = 1e-1,
    version: int | None = None,
    signatures: Sequence[str] | None = None,
    top_k: int = 5,
    buckets: Sequence[int] | None = None,
    golden: int = 4,
    warm_up: Sequence[int] | None = (1, 8),
    licence: str | None = None,
    limits: str | None = None,
    about: Mapping[str, Any] | None = None,
    name: str = "model",
) -> Path:
    """Write a SavedModel whose weights take a quarter or half of the room.

    The copy with small weights is held against the network on the examples; then it is exported
    and proved as `export=saved_model` does it. What the small weights changed is written to
    `assets.extra/weights.json` and to the card. Decisions do not go with them: temperature and
    goals are tuned on what the whole network gave for the validation split.

    Args:
        model: The Keras model, from what `preprocess` gives to logits.
        directory: Where the versions lie.
        preprocess: Turns raw examples into the network's input.
        task: Its `answers` are what is served.
        labels: What the labels mean.
        examples: Raw examples, or paths of images.
        evidence: What the run kept: the labels of these examples, to tell the figures before and
            after.
        weights: `"int8"` or `"bfloat16"`, see `quantized`.
        tolerance: How far probabilities or values may move.
        version: As in `saved_model`; so are the next five.
        signatures: Their names.
        top_k: How many of the likeliest labels are named.
        buckets: Lengths in tokens that batches of texts are padded to.
        golden: How many of the examples are kept in the artifact.
        warm_up: The batch sizes of the requests that a server warms up with.
        licence: The licence of the model, for its card.
        limits: What the model is not for, for its card.
        about: Facts of the run for the model's card.
        name: What the model is called.

    Returns:
        The folder of the version.

    Raises:
        UserError: If the network's layers have no such form in Keras.
        ExportError: If it answers too differently; then nothing is left behind.
    """
    smaller = quantized(model, weights)
    batches = tensors.feeds(preprocess, examples)
    report = measured(
        model, smaller, batches, task=task, labels=labels, tolerance=tolerance,
        y=None if evidence is None else evidence.examples.labels,
    )
    return saved_model(
        smaller, directory, preprocess=preprocess, task=task, labels=labels, examples=examples,
        version=version, signatures=signatures, top_k=top_k, buckets=buckets, golden=golden,
        warm_up=warm_up, licence=licence, limits=limits, about=about, name=name,
        reports={WEIGHTS_FILE: {"weights": weights, **report}},
    )


def measured(
    model: keras.Model, smaller: keras.Model, batches: Sequence[Feed], *, task: Task,
    labels: Labels, tolerance: float, y: np.ndarray | None = None,
) -> dict[str, Any]:
    """Compare a network with its smaller copy on examples.

    Args:
        model: The network.
        smaller: What `quantized` made of it.
        batches: Inputs, as `tensors.feeds` gives them.
        task: Its `answers` are what is served.
        labels: What the labels mean.
        tolerance: The largest difference of probabilities or values that passes.
        y: The labels of the examples, where they are known.

    Returns:
        `metrics`, where labels are known: the task's figures `before` and `after`; `examples`
        answered, `tolerance`, `largest_difference`, `label_flips`, `ties`, and `sizes`
        with the `before` and `after` of the weights in bytes.

    Raises:
        ExportError: If it differs by more, or gives other labels.
    """
    before, after = (tensors.in_memory(one, task, labels, batches) for one in (model, smaller))
    report, problems = tensors.compare(
        before, after, task=task, labels=labels, tolerance=tolerance, judge_logits=False
    )
    count = len(before["logits"])
    tensors.refuse("saved_model_small", problems, count, "The small weights cost that.")
    sizes = {"before": tensors.bytes_of_weights(model), "after": tensors.bytes_of_weights(smaller)}
    figures = {}
    if y is not None and isinstance(task, Answered):  # what is answered singly, too, comes last
        figures["metrics"] = {
            way: _figures(task, labels, y, outputs)
            for way, outputs in (("before", before), ("after", after))
        }
    return {"examples": count, **report, **figures, "sizes": sizes}


def _figures(task: Task, labels: Labels, y: np.ndarray, outputs: Feed) -> dict[str, float]:
    assert isinstance(task, Answered)
    of_examples = {name: value[: len(y)] for name, value in outputs.items()}
    statistics = task.statistics_of(Rows.of({"label": y}), of_examples, labels)
    figures = task.figures(statistics, labels)
    return {name: value for name, value in figures.items() if isinstance(value, float)}


def _copy(model: keras.Model) -> Any:
    return copied(
        model, f"A {type(model).__name__} cannot be copied with smaller weights: it does not come "
        "back from its config with the same weights. Export it as it is.",
    )


def _in_int8(copy: keras.Model) -> Any:
    before = tensors.bytes_of_weights(copy)
    config = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for each layer that has no such form
            copy.quantize(config=config)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UserError(f"weights=int8: Keras cannot quantize this network ({error}).") from error
    kept = sum(_bytes(v) for v in copy.variables if v.dtype == "int8")
    if kept * 4 < WORTH * before:
        raise UserError(
            "weights=int8: Keras quantizes dense layers and embeddings, and they hold only "
            f"{kept * 4 / before:.0%} of this network's weights. Choose weights=bfloat16, or "
            "export=litert export.litert.quantize=dynamic, which does convolutions too."
        )
    return copy


def _bytes(variable: keras.Variable) -> int:
    return int(np.prod(variable.shape)) * (1 if variable.dtype == "int8" else 4)


def _in_bfloat16(network: keras.Model) -> Any:
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), network.input
    )
    return keras.Model(inputs, KeptInBfloat16(network, name="network")(inputs), name=network.name)


class KeptInBfloat16(keras.layers.Layer):
    """A network whose matrices are kept in bfloat16, and computed with in float32.

    Args:
        network: A functional model; it is taken over.
    """

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        # Pixels must reach the network as they are.
        self.autocast = False
        # Out of sight of Keras' tracking, which would keep its float32 weights too.
        object.__setattr__(self, "_network", network)
        self.whole, pairs = [], []
        for variable in network.variables:
            # Of a depthwise kernel each output sums few terms, whose errors do not cancel out, and
            # it is small: MobileNet's answers move three times as far where it is rounded too.
            depthwise = len(variable.shape) == 4 and variable.shape[-1] == 1
            if len(variable.shape) < 2 or variable.dtype != "float32" or depthwise:
                self.whole.append(variable)
                continue
            half = self.add_weight(
                shape=variable.shape, dtype="bfloat16", trainable=False, initializer="zeros",
                autocast=False, name=variable.path.replace("/", "_"),
            )
            half.assign(keras.ops.cast(variable.value, "bfloat16"))
            pairs.append((variable, half))
        object.__setattr__(self, "_pairs", pairs)
        self.built = True

    def call(self, inputs):
        read = [(v, keras.ops.cast(half.value, "float32")) for v, half in self._pairs]
        with keras.StatelessScope(state_mapping=read):
            return self._network(inputs, training=False)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self._network.output.shape, dtype=self._network.output.dtype)
