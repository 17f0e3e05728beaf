"""Requests that TensorFlow Serving makes of a model before it answers others.

The first request of a shape is slow: graphs are optimized and buffers made. A server replays what
it finds in `assets.extra/tf_serving_warmup_requests`, a TFRecord file of `PredictionLog`
(https://www.tensorflow.org/tfx/serving/saved_model_warmup).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.layout import EXTRA, WARMUP
from kerasft.exporters.served import Served
from kerasft.exporters.signatures import inputs_of

# What TensorFlow Serving reads at most.
MOST = 1000
# And no more than so many bytes of them: pixels of large images in large batches take many.
MOST_BYTES = 256 * 2**20


def write(
    directory: Path, served: Served, signatures: Sequence[str], raw: np.ndarray,
    sizes: Sequence[int], name: str,
) -> int:
    """Write the warm-up requests of an artifact.

    Each signature is asked, for a session makes what runs it at its first call; with batches of
    each size, from the shortest to the longest example, and with a short, a middling and a long
    one alone.

    Args:
        directory: The folder of the version.
        served: Makes the inputs of the signatures.
        signatures: Their names.
        raw: Raw examples, `[N]`, pairs `[N, 2]`.
        sizes: Batch sizes.
        name: The name of the model.

    Returns:
        How many requests were written.
    """
    import tensorflow as tf

    file, written, size = directory / EXTRA / WARMUP, 0, 0
    if not sizes:
        return 0
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature in signatures:
            of = score_log if signature in ("classify", "regress") else predict_log
            for rows in _batches(raw, sizes):
                if written == MOST:
                    return written
                log = of(name, signature, inputs_of(served, signature, raw[rows]))
                if size + len(log) <= MOST_BYTES:
                    writer.write(log)
                    written, size = written + 1, size + len(log)
    return written


def _batches(raw: np.ndarray, sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the rows of each batch: examples of representative lengths."""
    lengths = [sum(map(len, np.atleast_1d(one).tolist())) for one in raw]
    order = np.argsort(lengths, kind="stable")
    for size in sorted(set(map(int, sizes))):
        if size == 1:
            for share in (0.1, 0.5, 0.9):
                yield order[[round(share * (len(order) - 1))]]
        else:
            # Some come again where there are few.
            yield order[np.linspace(0, len(order) - 1, size).round().astype(int)]


def predict_log(name: str, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Return a serialized `PredictionLog` of one request to `predict`.

    Args:
        name: The name of the model.
        signature: The name of the signature.
        inputs: Input name to array, strings as objects of bytes.

    Example:
        >>> len(predict_log("films", "serving_default", {"text": np.array([b"fine"], object)})) > 20
        True
    """
    import tensorflow as tf

    log, request = _begun("predict", name, signature)
    for key, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString(deterministic=True)
        request.inputs[key].ParseFromString(tensor)
    return log.SerializeToString(deterministic=True)


def score_log(name: str, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Return a serialized `PredictionLog` of one request to `classify` or `regress`.

    Args:
        name: The name of the model.
        signature: `"classify"` or `"regress"`, which is also how it is called.
        inputs: `inputs`: serialized `tf.train.Example`s.
    """
    log, request = _begun(signature, name, signature)
    request.input.example_list.examples.extend(inputs["inputs"].tolist())
    return log.SerializeToString(deterministic=True)


def _begun(method: str, name: str, signature: str) -> tuple[Any, Any]:
    log = _prediction_log()()
    request = getattr(log, f"{method}_log").request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    return log, request


@lru_cache(maxsize=1)
def _prediction_log() -> Any:
    """Return the message, made of the few fields that are needed.

    The package with all of TensorFlow Serving's messages is large, and only this one is needed.
    The numbers are those of tensorflow_serving/apis/{prediction_log,predict,classification,
    regression,input,model}.proto.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_pb2

    pool = descriptor_pool.DescriptorPool()

    def include(described: Any) -> None:
        for needed in described.dependencies:
            include(needed)
        copy = descriptor_pb2.FileDescriptorProto()
        described.CopyToProto(copy)
        pool.Add(copy)

    include(tensor_pb2.DESCRIPTOR)
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="kerasft/prediction_log.proto", package="kerasft.serving", syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )

    plain = {"string": kind.TYPE_STRING, "bytes": kind.TYPE_BYTES}

    def message(title: str, *fields: tuple[str, int, str]) -> Any:
        made = file.message_type.add(name=title)
        for key, number, of in fields:
            repeated = of.startswith("*")
            field = made.field.add(
                name=key, number=number,
                label=kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL,
            )
            of = of.lstrip("*")
            field.type = plain.get(of, kind.TYPE_MESSAGE)
            if of not in plain:
                field.type_name = of
        return made

    message("ModelSpec", ("name", 1, "string"), ("signature_name", 3, "string"))
    request = message(
        "PredictRequest", ("model_spec", 1, ".kerasft.serving.ModelSpec"),
        ("inputs", 2, "*.kerasft.serving.PredictRequest.InputsEntry"),
    )
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=kind.LABEL_OPTIONAL, type=kind.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=kind.LABEL_OPTIONAL, type=kind.TYPE_MESSAGE,
        type_name=".tensorflow.TensorProto",
    )
    message("PredictLog", ("request", 1, ".kerasft.serving.PredictRequest"))
    # An example is held as it was serialized, which reads the same.
    message("ExampleList", ("examples", 1, "*bytes"))
    message("Input", ("example_list", 1, ".kerasft.serving.ExampleList"))
    message(
        "ScoreRequest", ("model_spec", 1, ".kerasft.serving.ModelSpec"),
        ("input", 2, ".kerasft.serving.Input"),
    )
    message("ScoreLog", ("request", 1, ".kerasft.serving.ScoreRequest"))
    message(
        "PredictionLog", ("classify_log", 2, ".kerasft.serving.ScoreLog"),
        ("regress_log", 3, ".kerasft.serving.ScoreLog"),
        ("predict_log", 6, ".kerasft.serving.PredictLog"),
    )
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("kerasft.serving.PredictionLog")
    )
