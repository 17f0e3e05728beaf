"""Messages over gRPC are bounded while they come in, and counted before they are read."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from kerasft.serving import connections, incoming, protos, wire
from kerasft.serving.limits import Limits
from kerasft.serving.protos import message_of
from kerasft.serving.status import Failure

METHOD = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


@contextlib.contextmanager
def calls(server, method: str):
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        yield channel.unary_unary(method)


def spec(cls, **more):
    made = cls(**more)
    made.model_spec.name = "toy"
    return made.SerializeToString()


def frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
    size, number = struct.pack(">I", len(data))[1:], struct.pack(">I", stream)
    return size + bytes([kind, flags]) + number + data


def head(method: str) -> bytes:
    def header(name: bytes, value: bytes) -> bytes:
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    return b"".join(header(*pair) for pair in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", method.encode()),
        (b":authority", b"x"), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
    ))  # fmt: skip


def connect(server, settings: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.server.ports["grpc"]), 30)
    made.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings))
    return made


def half_sent(server, streams: int) -> socket.socket:
    """Begin calls over one connection, each with a few bytes of a long message."""
    made = connect(server)
    for k in range(streams):
        body = b"\0" + struct.pack(">I", 60_000_000) + b"\x1a" * 100
        made.sendall(frame(1, 4, 2 * k + 1, head(METHOD)) + frame(0, 0, 2 * k + 1, body))
    return made


@pytest.mark.enable_socket
def test_a_client_that_never_takes_its_answer_is_left(serve, toy, monkeypatch):
    monkeypatch.setattr(connections, "AGE_SECONDS", 0.5)
    status = spec(get_model_status_pb2.GetModelStatusRequest)
    body = b"\0" + struct.pack(">I", len(status)) + status
    with serve(toy, rest_port=None, timeout=0.3) as server, \
            connect(server, struct.pack(">HI", 4, 0)) as connection:  # a window of no bytes
        began = time.monotonic()
        connection.sendall(frame(1, 4, 1, head(STATUS)) + frame(0, 1, 1, body))
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
        assert 0.5 < time.monotonic() - began < 10


@pytest.mark.enable_socket
def test_messages_that_do_not_come_give_their_places_to_others(serve, toy, monkeypatch):
    monkeypatch.setattr(incoming, "SECONDS", 0.2)
    monkeypatch.setattr(incoming, "WAITING", 6)
    status = spec(get_model_status_pb2.GetModelStatusRequest)
    with serve(toy, rest_port=None) as server, half_sent(server, 30), \
            calls(server, STATUS) as ask:  # fmt: skip
        for _ in range(5):
            began = time.monotonic()
            while True:
                try:
                    assert ask(status, timeout=30)
                    break
                except grpc.RpcError as error:  # turned away while too many wait: to be tried again
                    assert error.code() in (grpc.StatusCode.UNAVAILABLE,
                                            grpc.StatusCode.RESOURCE_EXHAUSTED)  # fmt: skip
                    assert time.monotonic() - began < 5
                    time.sleep(0.05)
            assert time.monotonic() - began < 5


@pytest.mark.enable_socket
def test_a_message_that_does_not_come_ends_in_time(serve, toy, caplog):
    with serve(toy, rest_port=None, timeout=0.5) as server, half_sent(server, 3) as connection:
        said, began = b"", time.monotonic()
        while said.count(b"No answer within 0.5 s.") < 3:
            assert time.monotonic() - began < 10
            said += connection.recv(65536)
        assert time.monotonic() - began > 0.3
    # gRPC's own thread may wake a loop that a server before this one has closed.
    ours = [one for one in caplog.records if "PollerCompletionQueue" not in one.getMessage()]
    assert not ours


@pytest.mark.enable_socket
def test_a_call_without_a_message_is_refused(toy_server):
    with grpc.insecure_channel(toy_server.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.stream_unary(METHOD)(iter(()), timeout=30)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "The call holds no message."


@pytest.mark.every(3)
@pytest.mark.enable_socket
@pytest.mark.parametrize("case", ["outputs", "inputs", "fields"])
def test_millions_of_names_do_not_keep_others_waiting(case, toy_server):
    name = spec(predict_pb2.PredictRequest)
    method, body = {
        "outputs": (METHOD, name + b"\x1a\x02ab" * 4_000_000),
        "inputs": (METHOD, name + b"".join(
            b"\x12\x08\x0a\x06%06x" % i for i in range(300_000))),
        "fields": (METADATA, name + b"\x12\x00" * 4_000_000),
    }[case]  # fmt: skip
    told: list = []

    def asked() -> None:
        with calls(toy_server, method) as ask, pytest.raises(grpc.RpcError) as refused:
            ask(body, timeout=60)
        told.append((refused.value.code(), refused.value.details()))

    asking, longest = threading.Thread(target=asked), 0.0
    asking.start()
    while asking.is_alive():
        began = time.monotonic()
        assert toy_server.ask("")[0] == 200
        longest = max(longest, time.monotonic() - began)
    ((code, words),) = told
    assert code == grpc.StatusCode.INVALID_ARGUMENT, words
    assert words.startswith({
        "outputs": "output tensor alias not found in signature: ab",
        "inputs": "input size does not match signature: ", "fields": "Metadata field  is not",
    }[case]), words  # fmt: skip
    assert longest < 2


@pytest.mark.parametrize(("body", "words"), [
    (b"\x1a\x00" * 5_000_001, "more than 5,000,000 fields"),
    (b"".join(b"\x12\x06\x0a\x04%04d" % (i % 9999) for i in range(340_000)), "1,000,000 messages"),
    # The dimensions of a shape are messages, too.
    (b"\x12\x9a\x9a\x7a\x0a\x01a\x12\x94\x9a\x7a\x12\x90\x9a\x7a" + b"\x12\x00" * 1_000_000,
     "1,000,000 messages"),
])  # fmt: skip
def test_fields_and_messages_are_counted_before_they_are_made(body, words):
    with pytest.raises(Failure, match=words):
        message_of(predict_pb2.PredictRequest, body)


def test_time_runs_while_fields_are_counted():
    with pytest.raises(Failure, match="No answer within 0 s"):
        message_of(predict_pb2.PredictRequest, b"\x1a\x00" * 600_000, Limits(seconds=0))


def test_every_message_is_counted_as_it_is_read(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(protos, "_UNCOUNTED", -1)
    request = predict_pb2.PredictRequest(output_filter=["a", "b" * 300])
    for value in ([1.5] * 100, [b"x" * 200, b""], [[1, 2], [3, 4]], [2**60] * 50):
        request.inputs[str(value)].CopyFrom(tf.make_tensor_proto(value))
    request.model_spec.version.value = 300
    body = request.SerializeToString()
    assert message_of(predict_pb2.PredictRequest, body) == request
    # What is cut anywhere is refused by the reader, or means the same without the rest.
    for end in range(len(body)):
        with contextlib.suppress(Failure):
            message_of(predict_pb2.PredictRequest, body[:end])
    monkeypatch.setattr(wire, "MOST_MESSAGES", 10)
    with pytest.raises(Failure, match="more than 10 messages"):
        message_of(predict_pb2.PredictRequest, body)
