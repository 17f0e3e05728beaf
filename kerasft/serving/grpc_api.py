"""TensorFlow Serving's gRPC services, through its own messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from kerasft.serving import json_api
from kerasft.serving.answering import Answering
from kerasft.serving.bundle import Bundle, examples_of
from kerasft.serving.models import Model
from kerasft.serving.status import Failure, invalid


def add_to(
    server: Any, answering: Answering, log: Callable[[str], None] | None = None
) -> None:
    """Add the services to a server.

    Args:
        server: A `grpc.aio.Server`.
        answering: What answers.
        log: Takes a line for each request.
    """
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _Prediction(answering, log), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Status(answering, log), server)


class _Service:
    def __init__(self, answering: Answering, log: Callable[[str], None] | None):
        self.answering, self.log = answering, log

    async def _answered(self, call: str, context: Any, answer: Any) -> Any:
        """Wait for an answer, or end the call with the code of what went wrong."""
        try:
            made = await self.answering.in_time(answer)
        except Failure as failure:
            if self.log is not None:
                self.log(f"gRPC {call} {failure.code}")
            await context.abort(getattr(grpc.StatusCode, failure.code), failure.words)
            raise  # which `abort` has done already
        if self.log is not None:
            self.log(f"gRPC {call} OK")
        return made

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


class _Prediction(_Service, prediction_service_pb2_grpc.PredictionServiceServicer):
    async def Predict(self, request: Any, context: Any) -> Any:
        return await self._answered("Predict", context, self._predict(request))

    async def Classify(self, request: Any, context: Any) -> Any:
        return await self._answered("Classify", context, self._classify(request))

    async def Regress(self, request: Any, context: Any) -> Any:
        return await self._answered("Regress", context, self._regress(request))

    async def MultiInference(self, request: Any, context: Any) -> Any:
        return await self._answered("MultiInference", context, self._several(request))

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        return await self._answered("GetModelMetadata", context, self._metadata(request))

    async def _predict(self, request: Any) -> Any:
        import tensorflow as tf

        model, version, label = self._model(request.model_spec)
        with model.using(version, label) as bundle:
            name, definition = bundle.signature(request.model_spec.signature_name)
            if unknown := sorted(set(request.output_filter) - set(definition.outputs)):
                raise invalid(f"output tensor alias not found in signature: {unknown[0]}")
            inputs = {key: _array(key, value, definition) for key, value in request.inputs.items()}
            outputs = await self.answering.run(bundle, name, inputs)
            answer = predict_pb2.PredictResponse()
            _tell(answer.model_spec, model, bundle, name)
        for key, value in outputs.items():
            if not request.output_filter or key in request.output_filter:
                answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return answer

    async def _scores(self, request: Any, method: str) -> tuple[Any, Any, str, dict]:
        model, version, label = self._model(request.model_spec)
        serialized = examples_of(request.input)
        with model.using(version, label) as bundle:
            name = request.model_spec.signature_name
            outputs = await self.answering.score(bundle, name, method, serialized)
            return model, bundle, name, outputs

    async def _classify(self, request: Any) -> Any:
        model, bundle, name, outputs = await self._scores(request, "classify")
        answer = classification_pb2.ClassificationResponse()
        _tell(answer.model_spec, model, bundle, name)
        _fill_classes(answer.result, outputs)
        return answer

    async def _regress(self, request: Any) -> Any:
        model, bundle, name, outputs = await self._scores(request, "regress")
        answer = regression_pb2.RegressionResponse()
        _tell(answer.model_spec, model, bundle, name)
        _fill_numbers(answer.result, outputs)
        return answer

    async def _several(self, request: Any) -> Any:
        answer = inference_pb2.MultiInferenceResponse()
        for task in request.tasks:
            method = task.method_name.rpartition("/")[2]
            if method not in ("classify", "regress"):
                raise Failure("UNIMPLEMENTED", f"Unsupported signature: {task.method_name}")
            one = classification_pb2.ClassificationRequest(
                model_spec=task.model_spec, input=request.input
            )
            model, bundle, name, outputs = await self._scores(one, method)
            result = answer.results.add()
            _tell(result.model_spec, model, bundle, name)
            if method == "classify":
                _fill_classes(result.classification_result, outputs)
            else:
                _fill_numbers(result.regression_result, outputs)
        return answer

    async def _metadata(self, request: Any) -> Any:
        model, version, label = self._model(request.model_spec)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        if other := [field for field in request.metadata_field if field != "signature_def"]:
            raise invalid(f"Metadata field {other[0]} is not supported")
        bundle = model.find(version, label)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in bundle.signatures.items():
            signatures.signature_def[name].CopyFrom(definition)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        _tell(answer.model_spec, model, bundle, "")
        answer.metadata["signature_def"].Pack(signatures)
        return answer


class _Status(_Service, model_service_pb2_grpc.ModelServiceServicer):
    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        return await self._answered("GetModelStatus", context, self._status(request))

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        return await self._answered("HandleReloadConfigRequest", context, self._no_reload())

    async def _no_reload(self) -> Any:
        raise Failure("UNIMPLEMENTED", "This server serves the model that it was started with.")

    async def _status(self, request: Any) -> Any:
        model, version, label = self._model(request.model_spec)
        answer = get_model_status_pb2.GetModelStatusResponse()
        states = get_model_status_pb2.ModelVersionStatus.State
        for found in model.status(version, label):
            one = answer.model_version_status.add()
            one.version, one.state = int(found["version"]), states.Value(found["state"])
            one.status.error_message = found["status"]["error_message"]
            one.status.error_code = 2 if found["status"]["error_message"] else 0
        return answer


def _array(name: str, tensor: Any, definition: Any) -> np.ndarray:
    """Return a tensor of a request, seen to be of the type that the input takes."""
    import tensorflow as tf

    try:
        array = tf.make_ndarray(tensor)
    except (TypeError, ValueError) as error:
        raise invalid(f"Tensor {name} cannot be read: {error}") from error
    if name in definition.inputs and definition.inputs[name].dtype != tensor.dtype:
        wanted = tf.as_dtype(definition.inputs[name].dtype).name
        raise invalid(
            f"Expects arg[0] to be {wanted} but {tf.as_dtype(tensor.dtype).name} is provided "
            f"({name})"
        )
    return array


def _fill_classes(result: Any, outputs: dict[str, np.ndarray]) -> None:
    for row in json_api.pairs_of(outputs.get("classes"), outputs.get("scores")):
        classes = result.classifications.add().classes
        for label, score in row:
            classes.add(label=label.decode("utf-8", "replace"), score=score)


def _fill_numbers(result: Any, outputs: dict[str, np.ndarray]) -> None:
    for value in json_api.numbers_of(outputs["outputs"]):
        result.regressions.add(value=float(value))
