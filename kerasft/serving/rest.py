"""TensorFlow Serving's REST API over aiohttp."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from kerasft.serving import json_answers, json_api
from kerasft.serving.answering import Answering, infos_of
from kerasft.serving.hosts import Hosts
from kerasft.serving.json_reading import parse
from kerasft.serving.limits import Limits
from kerasft.serving.models import Model
from kerasft.serving.status import HTTP, Failure, invalid

_MODEL = r"(?i:/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?)"
_CALL = re.compile(_MODEL + r":(classify|regress|predict)")
_LOOK = re.compile(_MODEL + r"(/metadata)?")
# Up to so many bytes are read, and values written, where they come in: a thread would cost more.
_SMALL = 16 * 1024
_FEW = 5_000


def handler(
    answering: Answering, hosts: Hosts, *, log: Callable[[str], None] | None = None,
    say: Callable[[str], None] = print,
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Return what answers a request over HTTP.

    Args:
        answering: What answers.
        hosts: The names under which it is asked.
        log: Takes a line for each request.
        say: Takes a line for an error of the server's own.
    """

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        limits = answering.limits()
        code = 200
        try:
            hosts.require(
                request.headers.getall("Host", ()), target=_target(request.raw_path),
                old=request.version < (1, 1),
            )
            body = await answering.in_time(_answer(answering, request, limits), limits)
        except Failure as failure:
            code, body = HTTP[failure.code], _error(failure)
        except _TooLarge:
            code = 413
            body = json_answers.text_of(
                {"error": f"The request is larger than {limits.nbytes:,} bytes."}
            )
        except Exception as error:  # a fault of ours: the client gets JSON for it, too
            fault = Failure("INTERNAL", f"{type(error).__name__}: {error}")
            say(f"REST {request.method} {request.path}: {fault.words}")
            code, body = HTTP[fault.code], _error(fault)
        if log is not None:
            log(f"REST {request.method} {request.path} {code}")
        answer = web.Response(body=body, status=code, content_type="application/json",
                              charset="utf-8")  # fmt: skip
        await _send(request, answer, answering.seconds)
        return answer

    return handle


def _target(path: str) -> str | None:
    """Return the host in a request's first line, where it names one; it counts more than `Host`."""
    _, there, rest = path.partition("://")
    return re.split(r"[/?#\\]", rest, maxsplit=1)[0] if there and path[0] != "/" else None


def _error(failure: Failure) -> bytes:
    return json_answers.text_of({"error": failure.words})


async def _send(request: web.BaseRequest, answer: web.Response, seconds: float) -> None:
    """Send an answer to a client that may be slow to take it, or never does."""
    try:
        async with asyncio.timeout(seconds):
            await answer.prepare(request)
            await answer.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()


class _TooLarge(Exception):
    """A body that is larger than a request may be."""


async def _answer(answering: Answering, request: web.BaseRequest, limits: Limits) -> bytes:
    if request.method == "POST" and (match := _CALL.fullmatch(request.path)):
        name, number, label, call = match.groups()
        model, version = answering.of(name), _number(number)
        body = await _read(answering, request, limits)
        with answering.room.taken(len(body)):
            ask = _Ask(answering, model, version, label, limits, len(body) <= _SMALL)
            found = await ask.work(parse, body, limits)
            del body
            return await _CALLS[call.lower()](ask, found)
    if request.method == "GET" and (match := _LOOK.fullmatch(request.path)):
        name, number, label, metadata = match.groups()
        model = answering.of(name)
        if metadata:
            return json_answers.text_of(metadata_of(model, _number(number), label))
        return json_answers.text_of({"model_version_status": model.status(_number(number), label)})
    raise invalid(f"Malformed request: {request.method} {request.path}")


async def _read(answering: Answering, request: web.BaseRequest, limits: Limits) -> bytes:
    """Return the body, unpacked; no more of it is held than a request may have."""
    if (request.content_length or 0) > limits.nbytes:
        raise _TooLarge
    if request.version >= (1, 1) and request.headers.get("Expect", "").lower() == "100-continue":
        # The client waits with its body until the head was looked at.
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.content.iter_any():
            if size + len(part) > limits.nbytes:
                raise _TooLarge
            answering.room.take(len(part))
            size += len(part)
            parts.append(part)
    except ConnectionResetError:
        raise Failure("CANCELLED", "The client left before its request was whole.") from None
    except web.RequestPayloadError as error:
        request.content.feed_eof()  # or aiohttp goes on to read it, and fails in its own words
        raise invalid(f"The body cannot be read: {error}") from error
    finally:
        answering.room.give(size)
    return b"".join(parts) if len(parts) != 1 else parts[0]


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if len(text) > 19 or int(text) > 2**63 - 1:
        raise invalid(f"Failed to convert version: {text} to numeric.")
    return int(text)


class _Ask:
    """A request whose body is there: what it is for, and where it is worked on."""

    def __init__(self, answering: Answering, model: Model, version: int | None,
                 label: str | None, limits: Limits, small: bool):
        self.answering, self.model, self.version, self.label = answering, model, version, label
        self.limits, self.small = limits, small

    async def work(self, do: Callable[..., Any], *given: Any) -> Any:
        """Do what takes a moment here, and what takes longer beside the other requests."""
        return do(*given) if self.small else await self.answering.aside(do, *given)


def _signature_of(body: dict) -> str:
    return body.get("signature_name", "")


async def _predict(ask: _Ask, body: dict) -> bytes:
    with ask.model.using(ask.version, ask.label) as bundle:
        name, by_rows = _signature_of(body), "instances" in body
        inputs = await ask.work(
            json_api.predict_inputs, body, infos_of(bundle, name), ask.limits
        )
        body.clear()
        outputs = await ask.answering.run(bundle, name, inputs)
    return await _written(
        ask, outputs, partial(json_answers.predict_answer, outputs, by_rows=by_rows)
    )


async def _classify(ask: _Ask, body: dict) -> bytes:
    outputs = await _scored(ask, "classify", body)
    return await _written(
        ask, outputs,
        partial(json_answers.classified, outputs.get("classes"), outputs.get("scores")),
    )


async def _regress(ask: _Ask, body: dict) -> bytes:
    outputs = await _scored(ask, "regress", body)
    return await _written(ask, outputs, partial(json_answers.regressed, outputs.get("outputs")))


async def _scored(ask: _Ask, method: str, body: dict) -> dict[str, Any]:
    serialized = await ask.work(json_api.examples, body, ask.limits)
    with ask.model.using(ask.version, ask.label) as bundle:
        return await ask.answering.score(bundle, _signature_of(body), method, serialized)


async def _written(ask: _Ask, outputs: dict[str, Any], make: Callable[[], dict]) -> bytes:
    """Return an answer as text, made aside where there is much to write."""

    def write() -> bytes:
        return json_answers.text_of(make())

    ask.small = sum(value.size for value in outputs.values()) <= _FEW
    return await ask.work(write)


_CALLS: dict[str, Any] = {"predict": _predict, "classify": _classify, "regress": _regress}


def metadata_of(model: Model, version: int | None, label: str | None) -> dict[str, Any]:
    """Return what the signatures of a version take and give."""
    from google.protobuf import json_format

    bundle = model.find(version, label)
    signatures = {
        name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in sorted(bundle.signatures.items())
    }  # fmt: skip
    return {
        "model_spec": {
            "name": model.name, "signature_name": "", "version": str(bundle.number),
        },
        "metadata": {"signature_def": {"signature_def": signatures}},
    }  # fmt: skip
