"""Writes the signatures of a model as one TensorFlow graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasft.exporters.signatures import Signature


def write_graph(
    directory: Path, signatures: Mapping[str, Signature], trackables: tuple[Any, ...]
) -> dict[str, Mapping[str, Any]]:
    """Write a SavedModel with these signatures.

    Args:
        directory: The folder to make.
        signatures: The signatures by name.
        trackables: Tables of the preprocessing that the graph uses.

    Returns:
        The specs of the outputs, by signature and name.

    Raises:
        OSError: If the folder cannot be written.
    """
    import keras
    import tensorflow as tf

    # The model is not tracked: its variables are kept through the graph that uses them, and a
    # tracked model would be written twice. Tables are kept only when tracked.
    archive = keras.export.ExportArchive()
    for item in trackables:
        archive.track(item)
    first: dict[int, str] = {}
    for name, made in signatures.items():
        same = first.setdefault(id(made), name)
        if same == name:
            archive.add_endpoint(name, made.answer, input_signature=list(made.inputs.values()))
        else:  # another name of that one: traced and written once
            traced = getattr(archive._tf_trackable, same)
            traced.get_concrete_function()
            archive.add_endpoint(name, traced)
    try:
        archive.write_out(str(directory), verbose=False)
        _name_methods(directory, signatures)
    except (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError) as error:
        full = "No space left on device" in error.message
        raise OSError("No space left on device" if full else error.message) from error
    return {
        name: getattr(archive._tf_trackable, name).get_concrete_function().structured_outputs
        for name in signatures
    }


def _name_methods(directory: Path, signatures: Mapping[str, Signature]) -> None:
    """Say in the artifact which calls of a server a signature answers: TensorFlow writes predict.

    TensorFlow Serving refuses `classify` and `regress` on signatures that name another method.
    """
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.saved_model import fingerprinting_utils

    others = {name: made.method for name, made in signatures.items() if made.method != "predict"}
    if not others:
        return
    file = directory / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved.meta_graphs:
        for name, method in others.items():
            graph.signature_def[name].method_name = f"tensorflow/serving/{method}"
    file.write_bytes(saved.SerializeToString(deterministic=True))
    # The fingerprint is one of the file before.
    (directory / "fingerprint.pb").unlink(missing_ok=True)
    fingerprinting_utils.write_fingerprint(str(directory))
