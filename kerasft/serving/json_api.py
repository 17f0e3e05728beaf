"""TensorFlow Serving's REST API: JSON on one side, arrays on the other.

https://www.tensorflow.org/tfx/serving/api_rest; where that is silent, what the server's
`util/json_tensor.cc` does.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.serving.json_reading import Named, short
from kerasft.serving.limits import MOST_DIMENSIONS, Limits
from kerasft.serving.status import invalid

# So many numbers are made at once, while others wait.
_PIECE = 50_000
_LARGEST = float(np.finfo(np.float32).max)


def predict_inputs(
    body: Mapping[str, Any], infos: Mapping[str, Any], limits: Limits | None = None
) -> dict[str, np.ndarray]:
    """Return the inputs of a predict request.

    Args:
        body: The request: `instances` by rows or `inputs` by columns.
        infos: The `TensorInfo` of each input of the signature.
        limits: What the request may take; the number of examples is looked at first.

    Raises:
        Failure: If it does not fit the signature, or takes too much.
    """
    limits = limits or Limits()
    if "instances" in body and "inputs" in body:
        raise invalid(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if "instances" in body:
        return _rows(body["instances"], infos, limits)
    if "inputs" in body:
        return _columns(body["inputs"], infos, limits)
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(
    instances: object, infos: Mapping[str, Any], limits: Limits
) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid("Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    limits.count(len(instances))
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
                array = _array(name, value, infos[name], limits, row=True)
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
                f"{where} of 'instances' list. JSON object: {short(row)} keys must be equal to: "
                f"{','.join(sorted(infos))}"
            )
    return {name: np.stack(arrays) for name, arrays in columns.items()}


def _columns(
    inputs: Any, infos: Mapping[str, Any], limits: Limits
) -> dict[str, np.ndarray]:
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
        if isinstance(inputs[name], list):
            limits.count(len(inputs[name]))
        try:
            arrays[name] = _array(name, inputs[name], info, limits)
        except _Odd as odd:
            raise invalid(str(odd)) from odd
    return arrays


class _Odd(ValueError):
    """A value that is none of the type that an input takes."""


def _array(
    name: str, value: Any, info: Any, limits: Limits, *, row: bool = False
) -> np.ndarray:
    """Return a JSON value as an array of the type and the shape that an input takes."""
    import tensorflow as tf

    kind = tf.as_dtype(info.dtype)
    shape, flat = _flat(value, limits)
    text = kind == tf.string
    _ = [_bytes(one) for one in flat[:1]] if text else _numbers(flat[:1], kind)
    require_shape(name, shape, info, row=row)
    made = np.empty(len(flat), object if text else kind.as_numpy_dtype)
    for at in range(0, len(flat), _PIECE):
        limits.check()
        piece = flat[at : at + _PIECE]
        made[at : at + _PIECE] = [_bytes(one) for one in piece] if text else _numbers(piece, kind)
    return made.reshape(shape)


def _numbers(values: list[Any], kind: Any) -> np.ndarray:
    """Return numbers, or truth values, as an array of a type that holds them."""
    allowed: tuple[type, ...] = (bool,) if kind.is_bool else (int,) if kind.is_integer else (
        int, float
    )
    for one in values:
        if not isinstance(one, allowed) or (isinstance(one, bool) and not kind.is_bool):
            raise _Odd(_unexpected(one, kind.name))
    try:
        with np.errstate(over="ignore"):  # found below
            made = np.array(values, kind.as_numpy_dtype)
    except (OverflowError, ValueError) as error:
        raise _Odd(_out_of_range(values, kind)) from error
    if not (kind.is_bool or kind.is_integer) and not np.isfinite(made).all():
        wrong = [
            one for one, number in zip(values, made, strict=True)
            if not np.isfinite(number) and not isinstance(one, Named)
        ]  # fmt: skip
        if wrong:
            raise _Odd(_out_of_range(wrong, kind))
    return made


def _out_of_range(values: list[Any], kind: Any) -> str:
    return f"JSON Value: {short(values)} is out of the range of {kind.name}"


def require_shape(name: str, shape: Sequence[int], info: Any, *, row: bool = False) -> None:
    """See that a shape is one that an input takes.

    Args:
        name: The name of the input.
        shape: The shape, which costs nothing yet.
        info: The `TensorInfo` of the input.
        row: Whether it is the shape of one example.

    Raises:
        Failure: If it is not.
    """
    given = info.tensor_shape
    wanted = [dim.size for dim in given.dim][1 if row else 0 :]
    if given.unknown_rank:
        fits = len(shape) < MOST_DIMENSIONS
    else:
        fits = len(shape) == len(wanted) and all(
            size in (-1, one) for one, size in zip(shape, wanted, strict=True)
        )
    if not fits:
        told = "any" if given.unknown_rank else _shape(["?" if s < 0 else s for s in wanted])
        raise invalid(
            f"Tensor {name} has the shape {_shape(shape[:MOST_DIMENSIONS])}, and the signature "
            f"takes {told}{' for an example' if row else ''}."
        )


def _flat(value: Any, limits: Limits) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of nested lists, and the values in them."""
    shape, probe = [], value
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None
    level = [value]
    for depth, size in enumerate(shape):
        limits.check()
        if any(not isinstance(one, list) or len(one) != size for one in level):
            raise _Odd(
                f"Encountered list at unexpected size: expecting {size} values at level {depth}"
            )
        level = [inner for one in level for inner in one]
    if any(isinstance(one, list) for one in level):
        raise _Odd(f"Encountered list at unexpected level: {len(shape)}")
    return tuple(shape), level


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise _Odd(f"JSON Value: {short(value)} is not UTF-8: {error.reason}") from error
    if _is_base64(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise _Odd(f"Unable to base64 decode: {short(value['b64'])}") from error
    raise _Odd(_unexpected(value, "string"))


_TYPES = {bool: "Bool", int: "Number", float: "Number", str: "String", dict: "Object",
          list: "Array", type(None): "Null"}  # fmt: skip


def _type(value: object) -> str:
    return _TYPES.get(type(value), "Number")


def _unexpected(value: object, wanted: str) -> str:
    return (
        f"JSON Value: {short(value)} Type: {_type(value)} is not of expected type: {wanted}"
    )


def _is_base64(value: object) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"]


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _shape(shape: Sequence[object]) -> str:
    return f"[{','.join(map(str, shape))}]"


def examples(body: Mapping[str, Any], limits: Limits | None = None) -> np.ndarray:
    """Return the serialized examples of a classify or regress request.

    Args:
        body: `examples`, a list of objects from feature to value or list of values; `context`,
            features that all of them share.
        limits: What the request may take; also how large the examples may be with the context in
            each of them.

    Raises:
        Failure: If there are none, a feature holds values of several types, or they take too much.
    """
    limits = limits or Limits()
    found = body.get("examples")
    if "examples" not in body:
        raise invalid("When method is classify, key 'examples' is expected and was not found")
    if not isinstance(found, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not found:
        raise invalid("'examples' value is an empty array")
    limits.count(len(found))
    shared = _example(body.get("context", {}), limits)
    limits.weigh(shared.ByteSize() * len(found), "The context in each example")
    made = np.empty(len(found), object)
    for i, one in enumerate(found):
        whole = type(shared)()
        whole.CopyFrom(shared)
        whole.MergeFrom(_example(one, limits))
        made[i] = whole.SerializeToString()
    return made


def _example(features: Any, limits: Limits) -> Any:
    import tensorflow as tf

    if not isinstance(features, dict):
        raise invalid(f"Example must be JSON object but got JSON {_type(features)}")
    example = tf.train.Example()
    for name, value in features.items():
        limits.check()
        try:
            feature = example.features.feature[name]
        except UnicodeEncodeError as error:
            raise invalid(f"Feature: {name} has a name that is not UTF-8") from error
        for at, one in enumerate(value if isinstance(value, list) else [value]):
            if at % _PIECE == 0:
                limits.check()
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
        if abs(value) > _LARGEST and not isinstance(value, Named):
            raise invalid(f"Feature: {name} has a number out of range: {short(value)}")
    else:
        raise invalid(
            f"Feature: {name} has element with unexpected JSON type: {_type(value)}"
        )
    if feature.WhichOneof("kind") not in (None, kind):
        expected = feature.WhichOneof("kind").removesuffix("_list")
        raise invalid(
            f"Unexpected element type in feature: {name} expecting type: {expected}"
        )
    try:
        getattr(feature, kind).value.append(plain)
    except ValueError as error:
        raise invalid(f"Feature: {name} has a number out of range: {short(value)}") from error
