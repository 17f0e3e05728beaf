"""TensorFlow Serving's REST API: JSON on one side, arrays on the other.

https://www.tensorflow.org/tfx/serving/api_rest; where that is silent, what the server's
`util/json_tensor.cc` does.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.serving.status import invalid


def parse(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds, and see that its signature name is one.

    Raises:
        Failure: If it is no JSON object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        found = json.loads(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(found, dict):
        raise invalid(f"JSON Value: {_short(found)} Is not object")
    if not isinstance(found.get("signature_name", ""), str):
        raise invalid("'signature_name' key must be a string value.")
    return found


def predict_inputs(body: Mapping[str, Any], infos: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the inputs of a predict request.

    Args:
        body: The request: `instances` by rows or `inputs` by columns.
        infos: The `TensorInfo` of each input of the signature.

    Raises:
        Failure: If it does not fit the signature.
    """
    if "instances" in body and "inputs" in body:
        raise invalid(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if "instances" in body:
        return _rows(body["instances"], infos)
    if "inputs" in body:
        return _columns(body["inputs"], infos)
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(instances: Any, infos: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid("Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    named = _is_object(instances[0])
    if not named and len(infos) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    columns: dict[str, list[Any]] = {name: [] for name in infos}
    shapes: dict[str, tuple[int, ...]] = {}
    for i, row in enumerate(instances):
        if named != _is_object(row):
            kinds = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {kinds[0]} but got {kinds[1]} at item {i} of input list")
        values = row if named else {next(iter(infos)): row}
        where = f"Failed to process element: {i}"
        for name, value in values.items():
            key = f" key: {name}" if named else ""
            if name not in infos:
                raise invalid(
                    f"{where}{key} of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does "
                    f"not have named input: {name}"
                )
            try:
                array = _array(value, infos[name].dtype)
            except _Odd as odd:
                raise invalid(
                    f"{where}{key} of 'instances' list. Error: INVALID_ARGUMENT: {odd}"
                ) from odd
            shape = shapes.setdefault(name, array.shape)
            if shape != array.shape:
                raise invalid(
                    f"{where}{key} of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape "
                    f"{_shape(shape)} but got: {_shape(array.shape)}"
                )
            columns[name].append(array)
        if set(values) != set(infos):
            raise invalid(
                f"{where} of 'instances' list. JSON object: {_short(row)} keys must be equal to: "
                f"{','.join(sorted(infos))}"
            )
    return {name: np.stack(arrays) for name, arrays in columns.items()}


def _columns(inputs: Any, infos: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if not _is_object(inputs):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        inputs = {next(iter(infos)): inputs}
    arrays = {}
    for name, info in infos.items():
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        try:
            arrays[name] = _array(inputs[name], info.dtype)
        except _Odd as odd:
            raise invalid(str(odd)) from odd
    return arrays


class _Odd(ValueError):
    """A value that is none of the type that an input takes."""


def _array(value: Any, dtype: int) -> np.ndarray:
    """Return a JSON value as an array of the type of an input."""
    import tensorflow as tf

    kind = tf.as_dtype(dtype)
    shape, flat = _flat(value)
    if kind == tf.string:
        made = np.empty(len(flat), object)
        made[:] = [_bytes(one) for one in flat]
        return made.reshape(shape)
    allowed: tuple[type, ...] = (bool,) if kind.is_bool else (int,) if kind.is_integer else (
        int, float
    )
    for one in flat:
        if not isinstance(one, allowed) or (isinstance(one, bool) and not kind.is_bool):
            raise _Odd(_unexpected(one, kind.name))
    try:
        return np.array(flat, kind.as_numpy_dtype).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise _Odd(f"JSON Value: {_short(value)} is out of the range of {kind.name}") from error


def _flat(value: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of nested lists, and the values in them."""
    shape, probe = [], value
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None
    level = [value]
    for depth, size in enumerate(shape):
        lists = [one for one in level if isinstance(one, list)]
        if len(lists) != len(level) or any(len(one) != size for one in lists):
            raise _Odd(
                f"Encountered list at unexpected size: expecting {size} values at level {depth}"
            )
        level = [inner for one in lists for inner in one]
    if any(isinstance(one, list) for one in level):
        raise _Odd(f"Encountered list at unexpected level: {len(shape)}")
    return tuple(shape), level


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise _Odd(f"JSON Value: {_short(value)} is not UTF-8: {error.reason}") from error
    if _is_base64(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise _Odd(f"Unable to base64 decode: {_short(value['b64'])}") from error
    raise _Odd(_unexpected(value, "string"))


_TYPES = {bool: "Bool", int: "Number", float: "Number", str: "String", dict: "Object",
          list: "Array", type(None): "Null"}  # fmt: skip


def _unexpected(value: Any, wanted: str) -> str:
    return (
        f"JSON Value: {_short(value)} Type: {_TYPES[type(value)]} is not of expected type: {wanted}"
    )


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"]


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 120 else f"{text[:117]}..."


def _shape(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def predict_answer(outputs: Mapping[str, np.ndarray], *, by_rows: bool) -> dict[str, Any]:
    """Return the answer to a predict request, in the format in which it was asked.

    Raises:
        Failure: If the outputs do not agree on the number of rows, or JSON has no word for one.
    """
    columns = {name: _values(name, value) for name, value in sorted(outputs.items())}
    if not by_rows:
        return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}
    counts: dict[str, int] = {}
    for name, value in sorted(outputs.items()):
        if not value.ndim:
            raise invalid(f"Tensor name: {name} has no shape information")
        counts[name] = len(value)
        expected = next(iter(counts.values()))
        if counts[name] != expected:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {counts[name]} expecting: "
                f"{expected}"
            )
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _values(name: str, value: np.ndarray) -> Any:
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        as_bytes = name.endswith("_bytes")
        return _mapped(array.tolist(), lambda one: _string(name, one, as_bytes))
    if array.dtype.kind == "f" and array.dtype.itemsize == 4:
        # The shortest digits that give the same float32 again, and not those of a float64.
        return _mapped(array.tolist(), lambda x: float(str(np.float32(x))))
    if array.dtype.name not in _WRITTEN:
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype.name}")
    return array.tolist()


_WRITTEN = ("bool", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")


def _string(name: str, value: Any, as_bytes: bool) -> Any:
    raw = value if isinstance(value, bytes) else str(value).encode()
    if as_bytes:
        return {"b64": base64.b64encode(raw).decode()}
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise invalid(
            f"The output {name} holds bytes that are no UTF-8. An output for bytes must have a "
            "name that ends in _bytes."
        ) from error


def _mapped(value: Any, change: Any) -> Any:
    return [_mapped(one, change) for one in value] if isinstance(value, list) else change(value)


def examples(body: Mapping[str, Any]) -> np.ndarray:
    """Return the serialized examples of a classify or regress request.

    Args:
        body: `examples`, a list of objects from feature to value or list of values; `context`,
            features that all of them share.

    Raises:
        Failure: If there are none, or a feature holds values of several types.
    """
    found = body.get("examples")
    if "examples" not in body:
        raise invalid("When method is classify, key 'examples' is expected and was not found")
    if not isinstance(found, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not found:
        raise invalid("'examples' value is an empty array")
    context = body.get("context", {})
    shared = _example(context)
    made = np.empty(len(found), object)
    for i, one in enumerate(found):
        whole = type(shared)()
        whole.CopyFrom(shared)
        whole.MergeFrom(_example(one))
        made[i] = whole.SerializeToString()
    return made


def _example(features: Any) -> Any:
    import tensorflow as tf

    if not isinstance(features, dict):
        raise invalid(
            f"Example must be JSON object but got JSON {_TYPES.get(type(features), 'value')}"
        )
    example = tf.train.Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        for one in value if isinstance(value, list) else [value]:
            _add(feature, name, one)
    return example


def _add(feature: Any, name: str, value: Any) -> None:
    plain: Any
    if isinstance(value, str) or _is_base64(value):
        kind = "bytes_list"
        try:
            plain = _bytes(value)
        except _Odd as odd:
            raise invalid(f"Feature: {name}: {odd}") from odd
    elif isinstance(value, int):  # true and false, too
        kind, plain = "int64_list", int(value)
    elif isinstance(value, float):
        kind, plain = "float_list", value
    else:
        raise invalid(
            f"Feature: {name} has element with unexpected JSON type: {_TYPES[type(value)]}"
        )
    if feature.WhichOneof("kind") not in (None, kind):
        expected = feature.WhichOneof("kind").removesuffix("_list")
        raise invalid(
            f"Unexpected element type in feature: {name} expecting type: {expected}"
        )
    try:
        getattr(feature, kind).value.append(plain)
    except ValueError as error:
        raise invalid(f"Feature: {name} has a number out of range: {_short(value)}") from error


def classified(classes: np.ndarray | None, scores: np.ndarray | None) -> dict[str, Any]:
    """Return the answer to a classify request: pairs of label and score for each example."""
    pairs = pairs_of(classes, scores)
    return {"results": [
        [[label.decode("utf-8", "replace"), float(str(np.float32(score)))] for label, score in row]
        for row in pairs
    ]}  # fmt: skip


def pairs_of(
    classes: np.ndarray | None, scores: np.ndarray | None
) -> list[list[tuple[bytes, float]]]:
    """Return label and score of each class of each example; what is missing is empty or 0."""
    given = classes if classes is not None else scores
    if given is None or given.ndim != 2:
        raise invalid("Expected classification output Tensors of shape [batch_size num_classes]")
    names = np.full(given.shape, b"", object) if classes is None else classes
    values = np.zeros(given.shape, np.float32) if scores is None else scores
    return [
        list(zip(row, numbers.tolist(), strict=True))
        for row, numbers in zip(names.tolist(), values, strict=True)
    ]


def regressed(outputs: np.ndarray) -> dict[str, Any]:
    """Return the answer to a regress request: a number an example."""
    return {"results": [float(str(x)) for x in numbers_of(outputs)]}


def numbers_of(outputs: np.ndarray) -> list[np.float32]:
    """Return a number an example, of an output `[batch]` or `[batch, 1]`."""
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    if outputs.ndim != 1:
        raise invalid("Expected Regression output Tensor to be of shape [batch_size] or "
                      f"[batch_size 1]; it is {_shape(outputs.shape)}")
    return list(outputs.astype(np.float32))
