"""A LiteRT file (`.tflite`), for phones and small devices."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kerasft.artifact.fresh import ExportError
from kerasft.contracts import Task
from kerasft.errors import UserError, nearest
from kerasft.exporters import tensors
from kerasft.exporters.description import write_preprocessing
from kerasft.exporters.tensors import Feed
from kerasft.spec import Labels, Preprocess, takes_texts
from kerasft.system.files import at_home

if TYPE_CHECKING:
    import keras

FORM, FILE, SIGNATURE = "litert", "model.tflite", "serving_default"
NOT_RAW = "LiteRT has no operators that tokenize texts or decode images"
# The largest difference of probabilities that passes, by how the weights are kept.
TOLERANCES = {None: 1e-4, "float16": 2e-2, "dynamic": 1e-1, "int8": 1e-1}


def litert(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocess: Preprocess,
    task: Task,
    labels: Labels,
    examples: Sequence[Any] | None = None,
    name: str = "model",
    quantize: Literal["float16", "dynamic", "int8"] | None = None,
    tolerance: float | None = None,
) -> Path:
    """Write a LiteRT file and prove it on examples in LiteRT's interpreter.

    It takes tensors: LiteRT has no ops for texts or encoded images. `preprocessing.json` beside
    it says how to make them, and `tokenizer/` holds the vocabulary. The signature
    `serving_default` returns `probabilities` (or `value`) and `logits`. Batches may have any size,
    texts any length; where an op of the network needs texts of one length, that is tried too, and
    written down.

    Args:
        model: The Keras model, from what `preprocess` gives to logits.
        directory: The folder to write; an earlier export of this format is replaced.
        preprocess: Turns raw examples into the network's input.
        task: Its `answers` are what is served.
        labels: What the labels mean.
        examples: Raw examples to prove the file on, and to find the ranges of int8 by.
        name: What the model is called in `preprocessing.json`.
        quantize: `"float16"` keeps weights in 16 bits; `"dynamic"` in 8 bits, activations are
            rounded as they come; `"int8"` computes in 8 bits, in ranges found on the examples;
            `None` keeps all in float32.
        tolerance: The largest difference that passes: 1e-4 without quantization, 0.02 for
            float16, 0.1 for dynamic and int8, where not given.

    Returns:
        The folder.

    Raises:
        UserError: If an op is missing from LiteRT, or the folder holds something else.
        ExportError: If the file disagrees with the model; then nothing is left behind.

    Example:
        >>> litert(model, "films", preprocess=preprocess, task=task, labels=labels,
        ...        examples=["a fine film"], quantize="dynamic")  # doctest: +SKIP
        PosixPath('films')
    """
    check_early(quantize=quantize)
    given = _checked(examples)
    tensors.require_whole(model, task, labels)
    interpreter = tensors.require("ai_edge_litert.interpreter", FORM)
    batches = tensors.feeds(preprocess, given)
    with tensors.placed(directory, FORM) as folder:
        # It has no op for the choice of boxes.
        expected = tensors.in_memory(model, task, labels, batches, chosen=False)
        limit = TOLERANCES[quantize] if tolerance is None else tolerance
        blob, answers, length = _converted(
            interpreter, model, preprocess, task, labels, batches, quantize
        )
        report, problems = tensors.compare(
            expected, answers, task=task, labels=labels, tolerance=limit,
            judge_logits=quantize is None,
        )
        tensors.refuse(FORM, problems, len(given), _advice(quantize))
        (folder / FILE).write_bytes(blob)
        write_preprocessing(
            folder, preprocess=preprocess, task=task, labels=labels, feed=batches[0],
            outputs=expected, name=name, length=length, chosen=False,
        )
        (folder / tensors.README).write_text(_readme(name, preprocess, quantize), "utf-8")
        sizes = {"weights_in_memory": tensors.bytes_of_weights(model), FILE: len(blob)}
        checked = {"quantize": quantize, "checked_with": "ai_edge_litert", "sizes": sizes,
                   "not_raw": NOT_RAW}  # fmt: skip
        tensors.write_parity(folder, FORM, {**checked, **report}, len(given))
    return at_home(directory)


def check_early(*, quantize: str | None = None, **_: Any) -> None:
    """See before a training that the export can be made."""
    if quantize not in TOLERANCES:
        raise UserError(
            "export.litert.quantize must be null, float16, dynamic or int8. "
            f"Received: {quantize!r}." + nearest(str(quantize), ["float16", "dynamic", "int8"])
        )
    tensors.require("ai_edge_litert.interpreter", FORM)


def _checked(examples: Sequence[Any] | None) -> Sequence[Any]:
    if examples is None or not len(examples):
        raise UserError("export=litert is proved on at least one example. Received: none.")
    return examples


def _advice(quantize: str | None) -> str:
    if quantize is None:
        return "This is an op that LiteRT computes differently."
    milder = {"int8": "dynamic", "dynamic": "float16", "float16": "null"}[quantize]
    return (
        f"That is what rounding to {quantize} costs this network: try "
        f"export.litert.quantize={milder}, or allow more with export.litert.tolerance."
    )


def _converted(
    interpreter: Any, model: keras.Model, preprocess: Preprocess, task: Task, labels: Labels,
    batches: Sequence[Feed], quantize: str | None,
) -> tuple[bytes, Feed, int | None]:
    """Return the file, its answers, and the length of every text where it must have one."""
    lengths: list[int | None] = [None]
    pad = 0
    if takes_texts(preprocess):
        lengths.append(preprocess.sequence_length)
        pad = preprocess.pad
    errors = []
    for length in lengths:
        fed = [f if length is None else tensors.padded(f, length, pad) for f in batches]
        try:
            blob = _convert(model, task, labels, fed, quantize, length)
            return blob, _run(interpreter, blob, fed, tensors.by_token(model)), length
        except (RuntimeError, ValueError, ExportError) as error:
            errors.append(error)
    raise UserError(
        f"export=litert: LiteRT cannot carry this network ({_reason(errors[0])}). Choose "
        "export=onnx or export=saved_model."
    ) from errors[0]


def _reason(error: Exception) -> str:
    """Return what a converter or an interpreter said, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "op is neither" in line or "TF Select ops" in line]
    said = (telling or lines or [type(error).__name__])[-1]
    return said if len(said) < 300 else "... " + said[-300:]


def _convert(
    model: keras.Model, task: Task, labels: Labels, batches: Sequence[Feed], quantize: str | None,
    length: int | None,
) -> bytes:
    import keras
    import tensorflow as tf

    names = list(batches[0])
    answer = tensors.answerer(model, task, labels, names, chosen=False)
    specs = [_spec(name, value, length) for name, value in batches[0].items()]
    with tempfile.TemporaryDirectory() as folder, tensors.quietly():
        archive = keras.export.ExportArchive()
        archive.add_endpoint(SIGNATURE, answer, input_signature=specs)
        archive.write_out(folder, verbose=False)
        made = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        if quantize:
            made.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            made.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            made.representative_dataset = _representative(batches)
        try:
            return made.convert()
        except Exception as error:  # ConverterError is a plain Exception
            raise ExportError(str(error)) from error


def _spec(name: str, value: np.ndarray, length: int | None) -> Any:
    import tensorflow as tf

    shape = [None, length] if value.ndim == 2 else [None, *value.shape[1:]]
    return tf.TensorSpec(shape, value.dtype, name=name)


def _representative(batches: Sequence[Feed]) -> Callable[[], Iterator[tuple[str, Feed]]]:
    def examples() -> Iterator[tuple[str, Feed]]:
        for feed in batches:
            for i in range(len(next(iter(feed.values())))):
                yield SIGNATURE, {name: value[i : i + 1] for name, value in feed.items()}

    return examples


def _run(interpreter: Any, blob: bytes, batches: Sequence[Feed], by_token: bool) -> Feed:
    with warnings.catch_warnings(), tensors.quietly():
        warnings.simplefilter("ignore")
        made = interpreter.Interpreter(model_content=blob)
        runner = made.get_signature_runner(SIGNATURE)
        return tensors.concatenate(
            [runner(**feed) for feed in batches], batches if by_token else None
        )


def _readme(name: str, preprocess: Preprocess, quantize: str | None) -> str:
    given = "token tensors" if preprocess.modality == "text" else "uint8 pixels"
    return f"""# {name}, for LiteRT

`{FILE}` takes {given}, not raw {preprocess.modality}: {NOT_RAW}.
`{tensors.PREPROCESSING}` says how they are made, in which order the labels are, and what decides.
Weights: {quantize or "float32"}. What was compared with the network in memory, and how far it
differed, is in `{tensors.PARITY}`.

```python
from ai_edge_litert.interpreter import Interpreter

run = Interpreter("{FILE}").get_signature_runner("{SIGNATURE}")
outputs = run(**inputs)  # the inputs of {tensors.PREPROCESSING} by name, each an array
```
"""
