"""The REST API answers as TensorFlow Serving's does."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import math
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
import zlib

import pytest

pytestmark = pytest.mark.enable_socket


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


# request: answer
PREDICTS = {
    "rows of objects": (
        {"instances": [{"x": 1.0, "s": "a"}, {"x": 2, "s": "খ"}]},
        {"predictions": [{"echo": "a", "y": 1.0}, {"echo": "খ", "y": 2.0}]}),
    "columns": (
        {"inputs": {"x": [0.1, 2.5], "s": ["a", b64(b"b")]}},
        {"outputs": {"echo": ["a", "b"], "y": [0.1, 2.5]}}),
    "bare rows of one input": (
        {"signature_name": "one", "instances": [[1, 2], [3, 4]]}, {"predictions": [3, 7]}),
    "named rows of one input": (
        {"signature_name": "one", "instances": [{"ids": [1, 2]}]}, {"predictions": [3]}),
    "a bare column": ({"signature_name": "one", "inputs": [[1, 2]]}, {"outputs": [3]}),
    "bytes both ways": (
        {"signature_name": "bytes", "instances": [b64(b"\xff\x00x"), b64(b"")]},
        {"predictions": [{"back_bytes": b64(b"\xff\x00x"), "length": 3},
                         {"back_bytes": b64(b""), "length": 0}]}),
    "bytes in columns": (
        {"signature_name": "bytes", "inputs": [b64(b"\xff")]},
        {"outputs": {"back_bytes": [b64(b"\xff")], "length": [1]}}),
    "an output without a batch, in columns": (
        {"signature_name": "whole", "inputs": [1.0, 2.0]}, {"outputs": 3.0}),
}  # fmt: skip


@pytest.mark.parametrize("case", PREDICTS)
def test_predict(case, toy_server):
    request, answer = PREDICTS[case]
    assert toy_server.ask(":predict", request) == (200, answer)
    assert toy_server.ask("/versions/1:predict", request) == (200, answer)
    assert toy_server.ask("/labels/stable:predict", request) == (200, answer)


def test_numbers_that_json_does_not_know(toy_server):
    code, found = toy_server.ask(
        ":predict", {"signature_name": "odd", "instances": [0.0, 1.0, -1.0]}
    )
    assert code == 200
    values = found["predictions"]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


def test_classify_and_regress(toy_server):
    body = {"examples": [{"x": 0.25}, {"x": [1.0]}]}
    assert toy_server.ask(":classify", {**body, "signature_name": "classify"}) == (
        200, {"results": [[["hoch", 0.25], ["tief", 0.75]], [["hoch", 1.0], ["tief", 0.0]]]}
    )
    # Without a name the one signature of that method is meant.
    assert toy_server.ask(":regress", body) == (200, {"results": [0.5, 2.0]})
    shared = {"context": {"x": 3.0}, "examples": [{}, {"x": 1.0}]}
    code, found = toy_server.ask(":regress", shared)
    assert (code, found["results"][0]) == (200, 6.0)


def test_every_call_takes_a_version_or_a_label(toy_server):
    body = {"examples": [{"x": 0.25}]}
    classified = (200, {"results": [[["hoch", 0.25], ["tief", 0.75]]]})
    metadata = toy_server.ask("/metadata")
    assert metadata[0] == 200
    for which in ("/versions/1", "/labels/stable"):
        assert toy_server.ask(f"{which}:classify", body) == classified
        assert toy_server.ask(f"{which}:regress", body) == (200, {"results": [0.5]})
        assert toy_server.ask(f"{which}/metadata") == metadata
    for call in ("/versions/9:classify", "/labels/zzz:classify", "/versions/9/metadata",
                 "/labels/zzz/metadata"):  # fmt: skip
        code, found = toy_server.ask(call, None if "metadata" in call else body)
        assert (code, list(found)) == (400 if "zzz" in call else 404, ["error"]), call


def test_status_and_metadata(toy_server):
    available = [{"version": "1", "state": "AVAILABLE",
                  "status": {"error_code": "OK", "error_message": ""}}]  # fmt: skip
    for path in ("", "/versions/1", "/labels/stable"):
        assert toy_server.ask(path) == (200, {"model_version_status": available})
    code, found = toy_server.ask("/metadata")
    assert code == 200
    assert found["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures["classify"]["method_name"] == "tensorflow/serving/classify"
    assert signatures["one"]["inputs"]["ids"]["dtype"] == "DT_INT32"
    sizes = [d["size"] for d in signatures["one"]["inputs"]["ids"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "-1"]


# (method, path, body): (code, words)
REFUSED = {
    "nothing": ("POST", ":predict", b"", 400, "The document is empty"),
    "no JSON": ("POST", ":predict", b"{", 400, "JSON Parse error: .* at offset: 1"),
    "no UTF-8": ("POST", ":predict", b'{"a": "\xff"}', 400, "JSON Parse error"),
    "too deep": ("POST", ":predict", b"[" * 100_000, 400, "JSON Parse error"),
    "a list": ("POST", ":predict", b"[1]", 400, "Is not object"),
    "neither": ("POST", ":predict", {"x": 1}, 400, "Missing 'inputs' or 'instances' key"),
    "both": ("POST", ":predict", {"inputs": 1, "instances": 1}, 400, "expecting only one of"),
    "no rows": ("POST", ":predict", {"instances": []}, 400, "No values in 'instances'"),
    "no list of rows": ("POST", ":predict", {"instances": 3}, 400, "to be an list/array"),
    "a bare row for two inputs": (
        "POST", ":predict", {"instances": [1]}, 400, "expecting list of objects"),
    "a bare column for two inputs": (
        "POST", ":predict", {"inputs": [1]}, 400, "expecting an object as multiple"),
    "mixed rows": (
        "POST", ":predict", {"instances": [{"x": 1, "s": ""}, 3]}, 400,
        "Expecting object but got list at item 1"),
    "an unknown input": (
        "POST", ":predict", {"instances": [{"x": 1, "s": "", "z": 1}]}, 400,
        "element: 0 key: z .*does not have named input: z"),
    "a missing input": (
        "POST", ":predict", {"instances": [{"x": 1}]}, 400, "keys must be equal to: s,x"),
    "a missing column": (
        "POST", ":predict", {"inputs": {"x": [1]}}, 400, "Missing named input: s"),
    "text for a number": (
        "POST", ":predict", {"instances": [{"x": "1", "s": ""}]}, 400,
        'Value: "1" Type: String is not of expected type: float32'),
    "a fraction for a whole number": (
        "POST", ":predict", {"signature_name": "one", "instances": [[1.5]]}, 400,
        "not of expected type: int32"),
    "a number too large": (
        "POST", ":predict", {"signature_name": "one", "instances": [[2**40]]}, 400,
        "out of the range of int32"),
    "true for a number": (
        "POST", ":predict", {"signature_name": "one", "instances": [[True]]}, 400, "Type: Bool"),
    "null": ("POST", ":predict", {"signature_name": "one", "instances": [None]}, 400, "Type: Null"),
    "ragged rows": (
        "POST", ":predict", {"signature_name": "one", "instances": [[1], [1, 2]]}, 400,
        r"Expecting shape \[1\] but got: \[2\]"),
    "ragged within": (
        "POST", ":predict", {"signature_name": "one", "inputs": [[1], [1, 2]]}, 400,
        "unexpected size"),
    "too many dimensions": (
        "POST", ":predict", {"signature_name": "one", "inputs": [[[1]]]}, 400, "shape"),
    "bytes that are no base64": (
        "POST", ":predict", {"signature_name": "bytes", "instances": [{"b64": "!"}]}, 400,
        "Unable to base64 decode"),
    "an unknown signature": (
        "POST", ":predict", {"signature_name": "zzz", "instances": [1]}, 400,
        'signature name: "zzz" not found in signature def'),
    "a signature that is no text": (
        "POST", ":predict", {"signature_name": 3, "instances": [1]}, 400, "must be a string"),
    "what the graph refuses": (
        "POST", ":predict", {"instances": [{"x": -1, "s": ""}]}, 400,
        r"^assertion failed: \[x must not be negative:\] \[-1\]$"),
    "what the graph refuses in bytes": (
        "POST", ":predict", {"signature_name": "classify", "instances": [{"b64": "/w=="}]}, 400,
        "refuses an input"),
    "bytes in an output for texts": (
        "POST", ":predict", {"signature_name": "broken", "instances": ["a"]}, 400,
        "name that ends in _bytes"),
    "an output without a batch, in rows": (
        "POST", ":predict", {"signature_name": "whole", "instances": [1.0]}, 400,
        "total has no shape information"),
    "an unknown version": (
        "POST", "/versions/9:predict", {"instances": [1]}, 404,
        r"Servable not found for request: Specific\(toy, 9\)"),
    "a version beyond numbers": (
        "POST", f"/versions/{10**30}:predict", {"instances": [1]}, 400, "to numeric"),
    "an unknown label": (
        "POST", "/labels/zzz:predict", {"instances": [1]}, 400, "version label: zzz"),
    "the status of an unknown version": (
        "GET", "/versions/9", None, 404, "Could not find version 9 of model toy"),
    "another call": ("POST", ":generate", {}, 400, "Malformed request: POST"),
    "a GET for predict": ("GET", ":predict", None, 400, "Malformed request: GET"),
    "another model": ("GET", "x", None, 404, r"not found for request: Latest\(toyx\)"),
    "half a character": ("POST", ":predict", {"instances": [{"x": 1, "s": "\ud800"}]}, 400,
                         r'"\\ud800" is not UTF-8'),
    "half a character in a key": (
        "POST", ":predict", {"instances": [{"\ud800": 1}]}, 400, r"named input: \\ud800"),
    "half a character in a column": (
        "POST", ":predict", {"inputs": {"\ud800": [1]}}, 400, "Missing named input"),
    "half a character in a signature's name": (
        "POST", ":predict", {"signature_name": "\udfff", "instances": [1]}, 400, r"\\udfff"),
    "half a character in base64": (
        "POST", ":predict", {"signature_name": "bytes", "instances": [{"b64": "\ud800"}]}, 400,
        r"base64 decode: \"\\ud800\""),
    "half a character in a feature": (
        "POST", ":classify", {"examples": [{"x": "\ud800"}]}, 400, "is not UTF-8"),
    "half a character in a feature's name": (
        "POST", ":classify", {"examples": [{"\ud800": 1.0}]}, 400, "name that is not UTF-8"),
    "half a character in the model's name": ("GET", "/../%ED%A0%80", None, 400, "%ED%A0%80"),
    "half a character in a label": ("GET", "/labels/%ED%A0%80", None, 400, "%ED%A0%80"),
    "base64 without its padding": (
        "POST", ":predict", {"signature_name": "bytes", "instances": [{"b64": "YQ"}]}, 400,
        "Unable to base64 decode"),
    "a number that float32 does not hold": (
        "POST", ":predict", {"instances": [{"x": 1e300, "s": ""}]}, 400, "range of float32"),
    "a number that nothing holds": (
        "POST", ":predict", b'{"instances": [{"x": 1e999, "s": ""}]}', 400, "range of float32"),
    "a feature that float32 does not hold": (
        "POST", ":classify", {"examples": [{"x": 1e300}]}, 400, "out of range"),
    "lists in lists without end": (
        "POST", ":predict", b'{"signature_name": "bytes", "inputs": ' + b"[" * 90 + b'"a"'
        + b"]" * 90 + b"}", 400, "has the shape"),
    "a version in other digits": ("GET", "/versions/%D9%A1", None, 400, "Malformed request"),
    "a zero byte": ("GET", "%00", None, 404, "toy\0"),
    "no examples": ("POST", ":classify", {}, 400, "key 'examples' is expected"),
    "an empty list of examples": ("POST", ":classify", {"examples": []}, 400, "empty array"),
    "examples that are none": ("POST", ":classify", {"examples": [1]}, 400, "must be JSON object"),
    "mixed features": (
        "POST", ":classify", {"examples": [{"x": [1.0, "a"]}]}, 400,
        "feature: x expecting type: float"),
    "nested features": ("POST", ":classify", {"examples": [{"x": [[1]]}]}, 400, "Type|type"),
    "a missing feature": (
        "POST", ":classify", {"examples": [{"y": 1.0}], "signature_name": "classify"}, 400,
        "Feature: x"),
    "classify by predict": (
        "POST", ":classify", {"examples": [{"x": 1.0}], "signature_name": "serving_default"}, 400,
        "Expected classification signature method_name"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, toy_server):
    import re

    method, path, body, code, words = REFUSED[case]
    answered, found = toy_server.ask(path, body, method=method)
    assert answered == code, found
    assert list(found) == ["error"]
    assert re.search(words, found["error"]), found
    assert toy_server.ask("")[0] == 200


def test_more_rows_than_may_wait_are_refused(serve, toy):
    with serve(toy, waiting=4, grpc_port=None) as server:
        for call, body in (
            (":predict", {"instances": [{"x": 1, "s": ""}] * 5}),
            (":predict", {"inputs": {"x": [1], "s": ["a"] * 5}}),
            (":classify", {"examples": [{"x": 1.0}] * 5}),
        ):
            code, found = server.ask(call, body)
            assert (code, found["error"]) == (
                400, "The request holds 5 examples, and this server takes 4 at once (--waiting)."
            )
        body = {"context": {"x": "a" * 20_000_000}, "examples": [{}] * 4}
        code, found = server.ask(":classify", body)
        assert code == 400
        assert "context in each example would take 80,000" in found["error"]
        assert server.ask(":predict", {"instances": [{"x": 1, "s": ""}] * 4})[0] == 200


@pytest.mark.slow
def test_others_are_answered_while_a_large_request_is_read(toy_server):
    row = b"[" + b"1," * 1_000_000 + b"1]"
    body = b'{"signature_name":"one","instances":[' + b",".join([row] * 3) + b"]}"
    told: list = []
    asking = threading.Thread(target=lambda: told.append(toy_server.ask(":predict", body)))
    asking.start()
    longest, count = 0.0, 0
    while asking.is_alive():
        began = time.monotonic()
        assert toy_server.ask("")[0] == 200
        longest, count = max(longest, time.monotonic() - began), count + 1
    assert told == [(200, {"predictions": [1_000_001] * 3})]
    assert count > 3
    assert longest < 2


def test_a_body_that_unpacks_to_more_than_a_request_may_have(serve, toy):
    packed = gzip.compress(b'{"instances":["' + b"a" * 50_000_000 + b'"]}')
    assert len(packed) < 60_000
    with serve(toy, most_mb=1.0, grpc_port=None) as server:
        for encoding, data in (("gzip", packed), ("deflate", zlib.compress(b"a" * 5_000_000))):
            connection = http.client.HTTPConnection("127.0.0.1", server.server.ports["rest"])
            connection.request("POST", "/v1/models/toy:predict", data,
                               {"Content-Encoding": encoding})  # fmt: skip
            answer = connection.getresponse()
            assert (answer.status, list(json.load(answer))) == (413, ["error"])
            connection.close()
        whole = gzip.compress(b'{"instances": [{"x": 1, "s": "a"}]}')
        request = urllib.request.Request(
            f"{server.url}:predict", whole, {"Content-Encoding": "gzip"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer) == {"predictions": [{"echo": "a", "y": 1.0}]}
        assert server.server.answering.room.held == 0


def said_to(server, data: bytes, seconds: float = 30) -> bytes:
    """Send bytes; return all that comes until the server closes."""
    said = b""
    address = ("127.0.0.1", server.server.ports["rest"])
    with socket.create_connection(address, seconds) as connection:
        connection.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                said += part
    return said


def test_a_name_that_is_not_this_machines_is_refused(serve, toy):
    line = b"GET /v1/models/toy HTTP/1.1\r\nConnection: close\r\n"
    there = b"GET http://stranger.example/v1/models/toy HTTP/1.1\r\nConnection: close\r\n"
    with serve(toy, grpc_port=None, allowed_hosts=["films.example"]) as server:
        for head, code in (
            (line + b"Host: localhost:1\r\n", b"200"),
            (line + b"Host: FILMS.example\r\n", b"200"),
            (line + b"Host: stranger.example\r\n", b"403"),
            (there + b"Host: localhost\r\n", b"403"),
            (line, b"400"),
            (b"GET /v1/models/toy HTTP/1.0\r\n", b"200"),
            (b"GET /v1/models/toy HTTP/1.0\r\nHost: stranger.example\r\n", b"403"),
        ):
            said = said_to(server, head + b"\r\n")
            assert said.split(b" ", 2)[1] == code, (head, said)
        said = said_to(server, line + b"Host: stranger.example\r\n\r\n")
        assert "--allowed-host" in json.loads(said.partition(b"\r\n\r\n")[2])["error"]


def test_a_head_that_does_not_come_ends_the_connection(serve, toy):
    with serve(toy, timeout=0.3, grpc_port=None) as server:
        for sent in (b"", b"GET /v1/models/toy HTTP/1.1\r\nHost: local"):
            began = time.monotonic()
            assert said_to(server, sent) == b""
            assert time.monotonic() - began < 5
        assert server.ask("")[0] == 200


def test_an_idle_connection_gives_its_place_to_a_new_one(serve, toy, monkeypatch):
    from kerasft.serving import connections

    monkeypatch.setattr(connections, "most_connections", lambda: 5)
    with serve(toy, grpc_port=None) as server, contextlib.ExitStack() as held:
        address = ("127.0.0.1", server.server.ports["rest"])
        halves = [held.enter_context(socket.create_connection(address, 30)) for _ in range(20)]
        with contextlib.suppress(ConnectionError):
            for half in halves:
                half.sendall(b"GET / HT")
        assert server.ask("")[0] == 200
        with contextlib.suppress(ConnectionResetError):
            assert halves[0].recv(10) == b""  # the oldest one was closed


def test_a_fault_of_the_server_is_told_in_json(serve, toy, monkeypatch, capsys):
    from kerasft.serving import rest

    def fail(*_):
        raise ZeroDivisionError("by \ud800")

    with serve(toy, grpc_port=None) as server:
        monkeypatch.setattr(rest, "parse", fail)
        assert server.ask(":predict", {}) == (500, {"error": r"ZeroDivisionError: by \ud800"})
    assert "REST POST /v1/models/toy:predict: ZeroDivisionError" in capsys.readouterr().out


def test_a_request_that_is_too_large(serve, toy):
    with serve(toy, most_mb=0.01, grpc_port=None) as server:
        code, found = server.ask(":predict", b" " * 20_000)
        assert (code, list(found)) == (413, ["error"])
        assert "larger than 10,000 bytes" in found["error"]
        assert server.ask("")[0] == 200


def test_a_request_that_takes_too_long(serve, toy):
    with serve(toy, timeout=0.2) as server:
        code, found = server.ask(":predict", {"signature_name": "slow", "instances": [1.0]})
        assert (code, found["error"]) == (504, "No answer within 0.2 s.")
        # The operations of what was given up go on for a while, in the threads that others need.
        body = {"instances": [{"x": 1.0, "s": "a"}]}
        server.until(lambda: server.ask(":predict", body)[0] == 200)


def test_curl(toy_server):
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    said = subprocess.run(
        ["curl", "-s", f"{toy_server.url}:predict", "-d", '{"instances": [{"x": 2, "s": "a"}]}'],
        capture_output=True, check=True, timeout=60,
    )
    assert json.loads(said.stdout) == {"predictions": [{"echo": "a", "y": 2.0}]}


def test_a_client_that_goes_away_harms_nobody(toy_server):
    port = toy_server.server.ports["rest"]
    head = b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    for sent in (b"", head + b"\r\n{", b"\xff\x00\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(sent)
    assert toy_server.ask("")[0] == 200


def half_sent(server, header: str = ""):
    """Send one byte of the hundred of a request; return the connection."""
    connection = socket.create_connection(("127.0.0.1", server.server.ports["rest"]), 30)
    connection.sendall(
        "POST /v1/models/toy:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
        f"{header}\r\n{{".encode()
    )
    return connection


def test_a_body_that_does_not_come(serve, toy):
    with serve(toy, timeout=0.3, grpc_port=None) as server, half_sent(server) as connection:
        began = time.monotonic()
        said = b""
        while part := connection.recv(4096):  # until the server closes it
            said += part
        assert time.monotonic() - began < 5
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 504 ")
        assert json.loads(body) == {"error": "No answer within 0.3 s."}
        assert server.ask("")[0] == 200


def test_a_client_that_leaves_amid_its_body(serve, toy, caplog, capsys):
    said = []

    def told():
        said.append(capsys.readouterr().out)
        return "REST POST /v1/models/toy:predict 499" in "".join(said)

    with serve(toy, grpc_port=None, verbose=True) as server:
        half_sent(server).close()
        server.until(told)
        assert server.ask("")[0] == 200
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


def test_a_body_that_is_not_in_its_encoding(toy_server, caplog):
    with half_sent(toy_server, "Content-Encoding: gzip\r\n") as connection:
        connection.sendall(b"x" * 99)
        said = connection.recv(4096)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"The body cannot be read" in said
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]
