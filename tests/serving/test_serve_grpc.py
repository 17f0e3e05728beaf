"""The gRPC services answer the official stubs."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def stub(toy_server):
    with grpc.insecure_channel(toy_server.address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def status(toy_server):
    with grpc.insecure_channel(toy_server.address) as channel:
        yield model_service_pb2_grpc.ModelServiceStub(channel)


def predict(signature="", name="toy", version=None, label=None, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def example(**features):
    made = tf.train.Example()
    for key, value in features.items():
        made.features.feature[key].float_list.value.append(value)
    return made


def test_predict(stub):
    x, s = np.float32([1, 2.5]), [b"\xff", "খ".encode()]
    for choice in ({}, {"version": 1}, {"label": "stable"}):
        answer = stub.Predict(predict(x=x, s=s, **choice), timeout=30)
        assert tf.make_ndarray(answer.outputs["y"]).tolist() == [1, 2.5]
        assert tf.make_ndarray(answer.outputs["echo"]).tolist() == s
        assert (answer.model_spec.name, answer.model_spec.version.value) == ("toy", 1)
        assert answer.model_spec.signature_name == "serving_default"
    asked = predict(x=x, s=s)
    asked.output_filter.append("y")
    assert list(stub.Predict(asked, timeout=30).outputs) == ["y"]


def test_classify_regress_and_both(stub):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "toy", "classify"
    request.input.example_list.examples.extend([example(x=0.25), example(x=1.0)])
    rows = stub.Classify(request, timeout=30).result.classifications
    pairs = [[(c.label, c.score) for c in row.classes] for row in rows]
    assert pairs == [[("hoch", 0.25), ("tief", 0.75)], [("hoch", 1.0), ("tief", 0.0)]]
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "toy"
    shared = request.input.example_list_with_context
    shared.context.CopyFrom(example(x=3.0))
    shared.examples.extend([tf.train.Example()])
    (one,) = stub.Regress(request, timeout=30).result.regressions
    assert one.value == 6.0
    several = inference_pb2.MultiInferenceRequest()
    several.input.example_list.examples.append(example(x=0.5))
    for method in ("classify", "regress"):
        task = several.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "toy", method
    first, second = stub.MultiInference(several, timeout=30).results
    assert first.classification_result.classifications[0].classes[0].score == 0.5
    assert second.regression_result.regressions[0].value == 1.0


def test_metadata_and_status(stub, status):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "toy"
    answer = stub.GetModelMetadata(request, timeout=30)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["regress"].method_name == "tensorflow/serving/regress"
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "toy"
    (one,) = status.GetModelStatus(asked, timeout=30).model_version_status
    assert (one.version, one.state, one.status.error_code) == (1, 30, 0)  # 30 is AVAILABLE


INVALID, UNKNOWN = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(("request_", "code", "words"), [
    (predict(name="zzz"), UNKNOWN, "Latest(zzz)"),
    (predict(name=""), INVALID, "Missing ModelSpec"),
    (predict(version=9), UNKNOWN, "Specific(toy, 9)"),
    (predict(label="zzz"), INVALID, "label: zzz"),
    (predict("zzz"), INVALID, "not found in signature def"),
    (predict(x=[1.0]), INVALID, "input size does not match signature"),
    (predict(x=[1], s=["a"]), INVALID, "Expects arg[0] to be float32 but int32"),
    (predict(x=[-1.0], s=["a"]), INVALID, "x must not be negative"),
    (predict(x=[1.0], s=["a", "b"]), None, ""),
    (predict("one", ids=[1, 2]), INVALID, "shape"),
])  # fmt: skip
def test_what_is_refused(request_, code, words, stub):
    if code is None:  # inputs that do not agree on the batch are the graph's affair
        assert stub.Predict(request_, timeout=30).outputs
        return
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(request_, timeout=30)
    assert refused.value.code() == code
    assert words in refused.value.details()
    assert "{{" not in refused.value.details()


def test_other_calls_that_are_refused(stub, status):
    broken = predict(s=["a"])
    broken.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
    broken.inputs["x"].tensor_content = b"abc"
    unknown = predict(x=[1.0], s=["a"])
    unknown.output_filter.append("zzz")
    too_many = predict(x=[1.0], s=["a"])
    too_many.output_filter.extend(["y"] * 3)
    fields = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"] * 101)
    fields.model_spec.name = "toy"
    empty = classification_pb2.ClassificationRequest()
    empty.model_spec.name = "toy"
    field = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["other"])
    none = get_model_metadata_pb2.GetModelMetadataRequest()
    field.model_spec.name = none.model_spec.name = "toy"
    reload = model_management_pb2.ReloadConfigRequest()
    for call, request, code, words in (
        (stub.Predict, broken, INVALID, "x cannot be read"),
        (stub.Predict, unknown, INVALID, "output tensor alias not found in signature: zzz"),
        (stub.Predict, too_many, INVALID, "names 3 outputs, and the signature has 2"),
        (stub.GetModelMetadata, fields, INVALID, "names 101 metadata fields, and there is one"),
        (stub.Classify, empty, INVALID, "Input is empty"),
        (stub.GetModelMetadata, field, INVALID, "other is not supported"),
        (stub.GetModelMetadata, none, INVALID, "at least one metadata_field"),
        (status.HandleReloadConfigRequest, reload, grpc.StatusCode.UNIMPLEMENTED, "started with"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call(request, timeout=30)
        assert refused.value.code() == code
        assert words in refused.value.details()


def test_what_is_no_message_and_what_is_asked_twice(toy_server, stub):
    with grpc.insecure_channel(toy_server.address) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for body in (b"\xff\xff\xff", b"\x0a\x05\x0a\x03\xed\xa0\x80"):  # no message, no UTF-8
            with pytest.raises(grpc.RpcError) as refused:
                raw(body, timeout=30)
            assert refused.value.code() == INVALID
            assert "The request is no PredictRequest" in refused.value.details()
    several = inference_pb2.MultiInferenceRequest()
    several.input.example_list.examples.append(example(x=0.5))
    for _ in range(2):
        task = several.tasks.add(method_name="tensorflow/serving/classify")
        task.model_spec.name, task.model_spec.signature_name = "toy", "classify"
    with pytest.raises(grpc.RpcError, match="Duplicate evaluation of signature: classify"):
        stub.MultiInference(several, timeout=30)
    # Words of any length would be more than a client takes.
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(predict(name="é" * 10**6), timeout=30)
    assert refused.value.code() == UNKNOWN


def test_a_shape_of_many_examples_in_a_few_bytes(stub):
    for shape, dtype in (([2**27], 7), ([2**62, 2**62], 7), ([-1], 7), ([1], 21), ([1], 9999)):
        asked = predict("bytes")
        asked.inputs["data_bytes"].dtype = dtype
        for size in shape:
            asked.inputs["data_bytes"].tensor_shape.dim.add(size=size)
        if dtype == 7:
            asked.inputs["data_bytes"].string_val.append(b"a")
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(asked, timeout=30)
        assert refused.value.code() == INVALID, refused.value.details()


def test_a_request_that_is_too_large(serve, toy):
    with serve(toy, most_mb=0.01) as server, grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(predict("bytes", data_bytes=[b"x" * 20_000]), timeout=30)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.Predict(predict("bytes", data_bytes=[b"x"]), timeout=30).outputs


def test_a_request_that_takes_too_long(serve, toy):
    with serve(toy, timeout=0.2) as server, grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(predict("slow", seconds=[1.0]), timeout=30)
        assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert refused.value.details() == "No answer within 0.2 s."


@pytest.mark.slow
def test_a_client_with_a_deadline(serve, toy, caplog):
    with serve(toy) as server, grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(predict("slow", seconds=[2.0]), timeout=0.2)
        assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        # What it asked is let go in the end, and the next one is answered.
        server.until(lambda: server.server.answering.batcher.held == 0)
        assert stub.Predict(predict("bytes", data_bytes=[b"x"]), timeout=30).outputs
        assert server.server.model.find().using == 0
    assert not caplog.records
