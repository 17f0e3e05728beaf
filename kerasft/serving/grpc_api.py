"""TensorFlow Serving's gRPC services, through its own messages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from itertools import islice
from typing import Any

import grpc
import numpy as np
from google.protobuf.message_factory import GetMessageClass
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2,
    predict_pb2,
    prediction_service_pb2,
    regression_pb2,
)

from kerasft.serving import json_answers
from kerasft.serving.answering import Answering
from kerasft.serving.bundle import Bundle
from kerasft.serving.incoming import Incoming
from kerasft.serving.limits import Limits
from kerasft.serving.models import Model
from kerasft.serving.protos import array_of, examples_of, message_of
from kerasft.serving.status import Failure, invalid

# Up to so many bytes are read, and values written, where they come in: a thread would cost more.
_SMALL = 64 * 1024
_FEW = 50_000
# So often may a metadata field be named.
_FIELDS = 100

_Written = tuple[Callable[[], bytes], bool]


def add_to(
    server: Any, answering: Answering, *, log: Callable[[str], None] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Add the services to a server.

    Args:
        server: A `grpc.aio.Server`.
        answering: What answers.
        log: Takes a line for each request.
        say: Takes a line for an error of the server's own.
    """
    incoming = Incoming()
    for pb2, made in (
        (prediction_service_pb2, _Prediction(answering, incoming, log, say)),
        (model_service_pb2, _Status(answering, incoming, log, say)),
    ):
        for service in pb2.DESCRIPTOR.services_by_name.values():
            handlers = {method.name: made.handler(method) for method in service.methods}
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service.full_name, handlers),)
            )


class _Service:
    """Answers the calls of a service, each by the method of its name."""

    def __init__(self, answering: Answering, incoming: Incoming,
                 log: Callable[[str], None] | None, say: Callable[[str], None]):
        self.answering, self.incoming, self.log, self.say = answering, incoming, log, say

    def handler(self, method: Any) -> Any:
        """Return what answers a call.

        It takes the request in bytes: so the time runs while it is read, and what cannot be read
        is answered in words. It takes a stream, which on the wire is the same where one message
        comes: so it begins before the message, and the time runs while that comes in.
        """
        kind, act = GetMessageClass(method.input_type), getattr(self, method.name)

        async def answer(_: Any, context: grpc.aio.ServicerContext) -> bytes:
            return await self._answered(method.name, kind, act, context)

        return grpc.stream_unary_rpc_method_handler(answer)

    async def _answered(
        self, call: str, kind: Any, act: Callable[[Any, Limits, bool], Coroutine],
        context: grpc.aio.ServicerContext
    ) -> bytes:
        """Answer a call, or end it with the code of what went wrong."""
        limits = self.answering.limits()
        try:
            body = await self.incoming.message(context, limits)
            made = await self.answering.in_time(self._made(kind, act, body, limits), limits)
        except Failure as failure:
            await self._abort(call, context, failure)
            raise  # which `abort` has done already
        except grpc.aio.AbortError:  # its message did not come
            if self.log is not None:
                self.log(f"gRPC {call} {context.code().name}")
            raise
        except Exception as error:  # a fault of ours
            fault = Failure("INTERNAL", f"{type(error).__name__}: {error}")
            self.say(f"gRPC {call}: {fault.words}")
            await self._abort(call, context, fault)
            raise
        if self.log is not None:
            self.log(f"gRPC {call} OK")
        return made

    async def _abort(self, call: str, context: grpc.aio.ServicerContext, failure: Failure) -> None:
        if self.log is not None:
            self.log(f"gRPC {call} {failure.code}")
        await context.abort(getattr(grpc.StatusCode, failure.code), failure.words)

    async def _made(
        self, kind: object, act: Callable[[Any, Limits, bool], Coroutine],
        body: bytes, limits: Limits,
    ) -> bytes:
        with self.answering.room.taken(len(body)):
            small = len(body) <= _SMALL
            request = await self._work(small, message_of, kind, body, limits)
            del body
            write, few = await act(request, limits, small)
            return await self._work(few, write)

    async def _work(self, small: bool, do: Callable[..., Any], *given: Any) -> Any:
        """Do what takes a moment here, and what takes longer beside the other requests."""
        return do(*given) if small else await self.answering.aside(do, *given)

    def _model(self, spec: Any) -> tuple[Model, int | None, str | None]:
        """Return the model that a request names, and which version of it."""
        if not spec.name:
            raise invalid("Missing ModelSpec")
        model = self.answering.of(spec.name)
        choice = spec.WhichOneof("version_choice")
        version = spec.version.value if choice == "version" else None
        label = spec.version_label if choice == "version_label" else None
        return model, version, label


def _tell(spec: Any, model: Model, bundle: Bundle, signature: str) -> None:
    spec.name, spec.signature_name = model.name, signature
    spec.version.value = bundle.number


class _Prediction(_Service):
    """Each call returns what writes its answer, and whether that takes but a moment."""

    async def Predict(self, request: Any, limits: Limits, small: bool) -> _Written:
        model, version, label = self._model(request.model_spec)
        with model.using(version, label) as bundle:
            name, definition = bundle.signature(request.model_spec.signature_name)
            _require_outputs(request.output_filter, definition.outputs)
            bundle.require_inputs(name, request.inputs)
            inputs = await self._work(small, _arrays, request, definition, limits)
            outputs = await self.answering.run(bundle, name, inputs)
            answer = predict_pb2.PredictResponse()
            _tell(answer.model_spec, model, bundle, name)

        def write() -> bytes:
            _fill_outputs(answer, outputs, set(request.output_filter))
            return answer.SerializeToString()

        return write, _are_few(outputs)

    async def _scores(
        self, spec: Any, given: Any, method: str, limits: Limits, small: bool
    ) -> tuple[Any, Any, str, dict]:
        model, version, label = self._model(spec)
        serialized = await self._work(small, examples_of, given, limits)
        with model.using(version, label) as bundle:
            name = spec.signature_name
            outputs = await self.answering.score(bundle, name, method, serialized)
            return model, bundle, name, outputs

    async def Classify(self, request: Any, limits: Limits, small: bool) -> _Written:
        answer = classification_pb2.ClassificationResponse()
        return await self._scored(request, answer, "classify", _fill_classes, limits, small)

    async def Regress(self, request: Any, limits: Limits, small: bool) -> _Written:
        answer = regression_pb2.RegressionResponse()
        return await self._scored(request, answer, "regress", _fill_numbers, limits, small)

    async def _scored(
        self, request: Any, answer: Any, method: str, fill: Callable[[Any, dict], None],
        limits: Limits, small: bool,
    ) -> _Written:
        model, bundle, name, outputs = await self._scores(
            request.model_spec, request.input, method, limits, small
        )
        _tell(answer.model_spec, model, bundle, name)

        def write() -> bytes:
            fill(answer.result, outputs)
            return answer.SerializeToString()

        return write, _are_few(outputs)

    async def MultiInference(self, request: Any, limits: Limits, small: bool) -> _Written:
        answer = inference_pb2.MultiInferenceResponse()
        seen: set[tuple[str, str]] = set()
        found: list[tuple[str, Any, dict]] = []
        for task in request.tasks:
            method = task.method_name.rpartition("/")[2]
            if method not in ("classify", "regress"):
                raise Failure("UNIMPLEMENTED", f"Unsupported signature: {task.method_name}")
            asked = (method, task.model_spec.signature_name)
            if asked in seen:  # or a short request would run the model any number of times
                raise invalid(f"Duplicate evaluation of signature: {asked[1]}")
            seen.add(asked)
            model, bundle, name, outputs = await self._scores(
                task.model_spec, request.input, method, limits, small
            )
            result = answer.results.add()
            _tell(result.model_spec, model, bundle, name)
            found.append((method, result, outputs))

        def write() -> bytes:
            for method, result, outputs in found:
                if method == "classify":
                    _fill_classes(result.classification_result, outputs)
                else:
                    _fill_numbers(result.regression_result, outputs)
            return answer.SerializeToString()

        return write, all(_are_few(outputs) for *_, outputs in found)

    async def GetModelMetadata(self, request: Any, limits: Limits, small: bool) -> _Written:
        model, version, label = self._model(request.model_spec)
        fields = request.metadata_field
        if not fields:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in islice(fields, _FIELDS):
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        if len(fields) > _FIELDS:
            raise invalid(f"The request names {len(fields):,} metadata fields, and there is one.")
        bundle = model.find(version, label)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in bundle.signatures.items():
            signatures.signature_def[name].CopyFrom(definition)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        _tell(answer.model_spec, model, bundle, "")
        answer.metadata["signature_def"].Pack(signatures)
        return answer.SerializeToString, True


class _Status(_Service):
    async def HandleReloadConfigRequest(
        self, request: Any, limits: Limits, small: bool
    ) -> _Written:
        raise Failure("UNIMPLEMENTED", "This server serves the model that it was started with.")

    async def GetModelStatus(self, request: Any, limits: Limits, small: bool) -> _Written:
        model, version, label = self._model(request.model_spec)
        answer = get_model_status_pb2.GetModelStatusResponse()
        states = get_model_status_pb2.ModelVersionStatus.State
        for found in model.status(version, label):
            one = answer.model_version_status.add()
            one.version, one.state = int(found["version"]), states.Value(found["state"])
            one.status.error_message = found["status"]["error_message"]
            one.status.error_code = 2 if found["status"]["error_message"] else 0
        return answer.SerializeToString, True


def _require_outputs(asked: Sequence[str], outputs: Collection[str]) -> None:
    """See that a signature has the outputs that are asked for; of many names only a few are read.

    Raises:
        Failure: If it has not.
    """
    for name in islice(asked, len(outputs)):
        if name not in outputs:
            raise invalid(f"output tensor alias not found in signature: {name}")
    if len(asked) > len(outputs):
        raise invalid(
            f"output_filter names {len(asked):,} outputs, and the signature has {len(outputs):,}."
        )


def _are_few(outputs: dict[str, np.ndarray]) -> bool:
    return sum(value.size for value in outputs.values()) <= _FEW


def _arrays(request: Any, definition: Any, limits: Limits) -> dict[str, np.ndarray]:
    return {
        key: array_of(key, value, definition.inputs[key], limits)
        for key, value in request.inputs.items()
    }


def _fill_outputs(answer: Any, outputs: dict[str, np.ndarray], wanted: set[str]) -> None:
    import tensorflow as tf

    for key, value in outputs.items():
        if not wanted or key in wanted:
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))


def _fill_classes(result: Any, outputs: dict[str, np.ndarray]) -> None:
    for row in json_answers.pairs_of(outputs.get("classes"), outputs.get("scores")):
        classes = result.classifications.add().classes
        for label, score in row:
            classes.add(label=label.decode("utf-8", "replace"), score=score)


def _fill_numbers(result: Any, outputs: dict[str, np.ndarray]) -> None:
    for value in json_answers.numbers_of(outputs.get("outputs")):
        result.regressions.add(value=float(value))
