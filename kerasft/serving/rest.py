"""TensorFlow Serving's REST API over aiohttp."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from kerasft.serving import json_api
from kerasft.serving.answering import Answering, infos_of
from kerasft.serving.models import Model
from kerasft.serving.status import HTTP, Failure, invalid

_MODEL = r"(?i:/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?)"
_CALL = re.compile(_MODEL + r":(classify|regress|predict)")
_LOOK = re.compile(_MODEL + r"(/metadata)?")


def application(
    answering: Answering, *, most_bytes: int, log: Callable[[str], None] | None = None
) -> web.Application:
    """Return the HTTP application.

    Args:
        answering: What answers.
        most_bytes: The largest body that is read.
        log: Takes a line for each request.
    """

    async def handle(request: web.Request) -> web.Response:
        code, body = 200, None
        try:
            body = await answering.in_time(_answer(answering, request))
        except Failure as failure:
            code, body = HTTP[failure.code], {"error": failure.words}
        except web.HTTPRequestEntityTooLarge:
            code, body = 413, {"error": f"The request is larger than {most_bytes:,} bytes."}
        if log is not None:
            log(f"REST {request.method} {request.path} {code}")
        return web.Response(
            text=json.dumps(body, ensure_ascii=False), status=code,
            content_type="application/json",
        )

    made = web.Application(client_max_size=most_bytes)
    made.router.add_route("*", "/{any:.*}", handle)
    return made


async def _answer(answering: Answering, request: web.Request) -> dict[str, Any]:
    if request.method == "POST" and (match := _CALL.fullmatch(request.path)):
        name, number, label, call = match.groups()
        model, version = answering.of(name), _number(number)
        body = json_api.parse(await _read(request))
        return await _CALLS[call.lower()](answering, model, version, label, body)
    if request.method == "GET" and (match := _LOOK.fullmatch(request.path)):
        name, number, label, metadata = match.groups()
        model = answering.of(name)
        if metadata:
            return metadata_of(model, _number(number), label)
        return {"model_version_status": model.status(_number(number), label)}
    raise invalid(f"Malformed request: {request.method} {request.path}")


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except ConnectionResetError:
        raise Failure("CANCELLED", "The client left before its request was whole.") from None
    except web.RequestPayloadError as error:
        request.content.feed_eof()  # or aiohttp goes on to read it, and fails in its own words
        raise invalid(f"The body cannot be read: {error}") from error


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if len(text) > 19 or int(text) > 2**63 - 1:
        raise invalid(f"Failed to convert version: {text} to numeric.")
    return int(text)


async def _predict(
    answering: Answering, model: Model, version: int | None, label: str | None, body: dict
) -> dict[str, Any]:
    with model.using(version, label) as bundle:
        name = body.get("signature_name", "")
        inputs = json_api.predict_inputs(body, infos_of(bundle, name))
        outputs = await answering.run(bundle, name, inputs)
    return json_api.predict_answer(outputs, by_rows="instances" in body)


async def _classify(
    answering: Answering, model: Model, version: int | None, label: str | None, body: dict
) -> dict[str, Any]:
    serialized = json_api.examples(body)
    with model.using(version, label) as bundle:
        outputs = await answering.score(
            bundle, body.get("signature_name", ""), "classify", serialized
        )
    return json_api.classified(outputs.get("classes"), outputs.get("scores"))


async def _regress(
    answering: Answering, model: Model, version: int | None, label: str | None, body: dict
) -> dict[str, Any]:
    serialized = json_api.examples(body)
    with model.using(version, label) as bundle:
        outputs = await answering.score(
            bundle, body.get("signature_name", ""), "regress", serialized
        )
    return json_api.regressed(outputs["outputs"])


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
