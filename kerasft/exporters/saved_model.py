"""A TensorFlow SavedModel that takes raw input and gives named outputs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import kerasft
from kerasft.errors import UserError
from kerasft.exporters import parity
from kerasft.artifact.layout import EXTRA, versions
from kerasft.spec import Labels, as_raw
from kerasft.threads import untuned

# What the largest difference between memory and artifact may be. In half precision, batches of
# another size round differently.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2


def saved_model(
    model: Any,
    directory: str | Path,
    *,
    preprocess: Any,
    task: Any,
    labels: Labels,
    version: int | None = None,
    examples: Sequence[Any] | None = None,
    tolerance: float | None = None,
    name: str = "model",
) -> Path:
    """Write a SavedModel to `directory/VERSION/` and prove it on examples.

    The default signature takes `text` (with `text_pair` for pairs) or `image_bytes`, each a
    string tensor `[batch]`, and returns the task's outputs by name. The signature `labels` takes
    nothing and returns the class names. `assets.extra` holds `labels.txt`, `signature.json` and
    `parity.json`. The folder appears under its number only when all is written and proved, so
    that a server that watches `directory` never sees half of it.

    Args:
        model: The Keras model, from what `preprocess` gives to logits.
        directory: Where the versions lie.
        preprocess: Turns a batch of raw strings into the network's input; `modality`, `pair` and
            `trackables` (tables that the artifact must keep) are read from it.
        task: Its `postprocess` makes the outputs.
        labels: What the labels mean.
        version: The number of the version; the next free one where not given.
        examples: Raw examples to prove the artifact on, or paths of pictures. Without any, it is
            not proved.
        tolerance: The largest difference that passes. 1e-4 where not given; 0.02 for a model
            that computes in half precision.
        name: What the model is called in `signature.json`.

    Returns:
        The folder of the version.

    Raises:
        UserError: If the version is there already or the folder cannot be written.
        ExportError: If the artifact disagrees with the model; then nothing is left behind.

    Example:
        >>> saved_model(model, "served/films", preprocess=preprocess, task=task, labels=labels,
        ...             examples=["a fine film"])  # doctest: +SKIP
        PosixPath('served/films/1')
    """
    root = Path(directory)
    number = (max(versions(root), default=0) + 1) if version is None else int(version)
    final = root / str(number)
    if number < 0 or final.exists():
        raise UserError(
            f"export.version must be a free number from 0 on. Received: {number}"
            f"{' , which is there already' if final.exists() else ''} in {str(root)!r}. "
            "Leave it out to take the next one."
        )
    # A server ignores names that are not numbers; the same folder makes the rename atomic.
    beside = root / f".{number}-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        outputs = _write(model, beside, preprocess=preprocess, task=task, labels=labels)
        signature = _describe(name, preprocess, task, labels, outputs)
        extra = beside / EXTRA
        extra.mkdir(exist_ok=True)
        (extra / "labels.txt").write_text("".join(f"{n}\n" for n in labels.names), "utf-8")
        text = json.dumps(signature, indent=2, ensure_ascii=False)
        (extra / "signature.json").write_text(text + "\n", "utf-8")
        if examples is not None:
            raw = as_raw(examples, preprocess.modality)
            expected = _in_memory(model, raw, preprocess, task, labels)
            limit = tolerance or (HALF_TOLERANCE if _is_half(model) else TOLERANCE)
            parity.certify(beside, raw, expected, tolerance=limit)
        beside.rename(final)
    except OSError as error:
        raise UserError(
            f"The export cannot be written to {str(root)!r}: {error.strerror or error}. "
            "Choose another folder or make room."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return final


def _write(
    model: Any, directory: Path, *, preprocess: Any, task: Any, labels: Labels
) -> Mapping[str, Any]:
    """Write the artifact, and return the specs of its outputs."""
    import keras
    import tensorflow as tf

    def answer(raw: Any) -> dict[str, Any]:
        return task.postprocess(model(preprocess(raw), training=False), labels)

    def serve(text: Any) -> dict[str, Any]:
        return answer(text)

    def serve_pair(text: Any, text_pair: Any) -> dict[str, Any]:
        return answer(tf.stack([text, text_pair], axis=-1))

    names = _input_names(preprocess)
    signature = [tf.TensorSpec([None], tf.string, name=n) for n in names]
    # The model is not tracked: its variables are kept through the graph that uses them, and a
    # tracked model would be written twice. Tables are kept only when tracked.
    archive = keras.export.ExportArchive()
    for item in getattr(preprocess, "trackables", ()):
        archive.track(item)
    archive.add_endpoint(
        "serving_default", serve_pair if len(names) == 2 else serve, input_signature=signature
    )
    if labels.names:
        archive.add_endpoint(
            "labels", lambda: {"labels": tf.constant(labels.names)}, input_signature=[]
        )
    try:
        archive.write_out(str(directory), verbose=False)
    except (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError) as error:
        full = "No space left on device" in error.message
        raise OSError("No space left on device" if full else error.message) from error
    traced = archive._tf_trackable.serving_default.get_concrete_function()
    return traced.structured_outputs


def _in_memory(
    model: Any, raw: np.ndarray, preprocess: Any, task: Any, labels: Labels
) -> dict[str, np.ndarray]:
    """Return the outputs as evaluation makes them: preprocessed in tf.data, then the model."""
    import tensorflow as tf

    parts = []
    with tf.device("/CPU:0"):
        batches = tf.data.Dataset.from_tensor_slices(raw.tolist()).batch(16).map(preprocess)
        for batch in untuned(batches):
            outputs = task.postprocess(model(batch, training=False), labels)
            parts.append({key: value.numpy() for key, value in outputs.items()})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _describe(
    name: str, preprocess: Any, task: Any, labels: Labels, outputs: Mapping[str, Any]
) -> dict[str, Any]:
    import keras
    import tensorflow as tf

    facts: dict[str, Any] = {
        "name": name,
        "kind": labels.kind,
        "modality": preprocess.modality,
        "inputs": {n: {"dtype": "string", "shape": [None]} for n in _input_names(preprocess)},
        "outputs": {
            key: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for key, spec in sorted(outputs.items())
        },
        "labels": list(labels.names),
    }
    if labels.kind == "multi":
        facts["threshold"] = task.cutoff
    if preprocess.modality == "text":
        facts["sequence_length"] = getattr(preprocess, "sequence_length", None)
    else:
        facts["image_size"] = [getattr(preprocess, side, None) for side in ("height", "width")]
    facts["versions"] = {
        "kerasft": kerasft.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }
    return facts


def _input_names(preprocess: Any) -> tuple[str, ...]:
    if preprocess.modality == "images":
        return ("image_bytes",)
    return ("text", "text_pair") if getattr(preprocess, "pair", False) else ("text",)


def _is_half(model: Any) -> bool:
    """Tell whether any layer computes in 16 bits."""
    return any("16" in str(layer.compute_dtype) for layer in model._flatten_layers())
