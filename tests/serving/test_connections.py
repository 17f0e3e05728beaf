"""Connections are bounded, and what is no HTTP is answered in JSON."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import time

import pytest

from kerasft.serving import connections
from kerasft.serving.connections import Reports, grpc_options, most_connections

LINE = b"GET /v1/models/toy HTTP/1.1\r\n"
ASK = b"POST /v1/models/toy:predict HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n"
BODY = b'{"instances": [{"x": 1, "s": "a"}]}'


def connect(server, api: str = "rest") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server.ports[api]), 20)


def answered(server, *parts: bytes) -> tuple[int, bytes, dict]:
    """Send a request in parts; return the code, the head and the body of the answer."""
    with connect(server) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                said += part
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head, json.loads(body)


@pytest.mark.enable_socket
@pytest.mark.parametrize(("parts", "words"), [
    ([LINE + b"Host: localhost\r\nHost: localhost\r\n\r\n"], "Host"),
    ([LINE + b"Host: localhost\r\nA: " + b"x" * 20_000 + b"\r\n\r\n"], "more than 8190 bytes"),
    ([b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n"], "cannot be read"),
    ([b"\x16\x03\x01\x02\x00"], "cannot be read"),
    ([ASK + b"Content-Length: -1\r\n\r\n"], "Content-Length"),
    ([ASK + b"Content-Length: 5\r\nContent-Encoding: br\r\n\r\nabcde"], "br|brotli"),
    ([ASK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], "chunk"),
    ([ASK + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"], "chunk"),
    ([ASK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", b"zz\r\n"], "chunk"),
])  # fmt: skip
def test_what_is_no_http_is_answered_in_json(parts, words, toy_server):
    import re

    code, head, found = answered(toy_server, *parts)
    assert code == 400
    assert b"application/json" in head
    assert list(found) == ["error"]
    assert re.search(words, found["error"]), found
    assert toy_server.ask("")[0] == 200


@pytest.mark.enable_socket
def test_a_client_that_waits_with_its_body_is_told_to_go_on(toy_server):
    head = ASK + b"Content-Length: %d\r\nExpect: 100-Continue\r\n\r\n" % len(BODY)
    with connect(toy_server) as connection:
        connection.sendall(head)
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.enable_socket
@pytest.mark.parametrize(("change", "code"), [
    ((b"/toy:", b"/other:"), b"404"), ((b"localhost", b"stranger.example"), b"403"),
    ((b"Length: 35", b"Length: 99000000"), b"413"), ((b"HTTP/1.1", b"HTTP/1.0"), b"200"),
])  # fmt: skip
def test_what_the_head_tells_is_answered_before_the_body(change, code, toy_server):
    head = ASK + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(BODY)
    with connect(toy_server) as connection:
        connection.sendall(head.replace(*change))
        if code == b"200":  # HTTP/1.0 knows no such answer
            connection.sendall(BODY)
        assert connection.recv(1000).split(b" ")[1] == code


def test_both_apis_together_leave_half_of_the_files(monkeypatch):
    import resource

    for soft, most in ((300, 75), (3, 1), (10**6, 1000), (-1, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert most_connections() == most
        assert dict(grpc_options(1, seconds=1))["grpc.max_allowed_incoming_connections"] == most


def test_a_lack_of_files_is_said_once(caplog):
    said: list[str] = []
    loop = asyncio.new_event_loop()
    try:
        loop.set_exception_handler(Reports(said.append))
        for _ in range(100):
            loop.call_exception_handler(
                {"message": "accept", "exception": OSError(errno.EMFILE, "Too many open files")}
            )
        assert len(said) == 1
        assert "Too many open files" in said[0]
        assert not caplog.records
        loop.call_exception_handler({"message": "another", "exception": OSError(errno.EIO, "x")})
        assert [record.message.splitlines()[0] for record in caplog.records] == ["another"]
    finally:
        loop.close()


@pytest.mark.enable_socket
def test_an_idle_connection_over_grpc_is_ended(serve, toy, monkeypatch):
    monkeypatch.setattr(connections, "GRPC_IDLE_SECONDS", 0.3)
    with serve(toy, rest_port=None) as server, connect(server, "grpc") as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        began = time.monotonic()
        pings = 0
        with contextlib.suppress(ConnectionResetError):
            while said := connection.recv(65536):
                # A client that goes on answering pings is ended all the same.
                pings += said.count(b"\0\0\x08\6\0")
                for at in range(len(said) - 16):
                    if said[at : at + 5] == b"\0\0\x08\6\0":
                        echo = said[at + 9 : at + 17]
                        connection.sendall(b"\0\0\x08\6\1\0\0\0\0" + echo)
        assert time.monotonic() - began < 15
