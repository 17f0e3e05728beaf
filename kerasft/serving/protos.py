"""Tensors and examples in TensorFlow's messages: looked at first, then made.

A tensor's message says of which shape it is, and a shorter list of values stands for the last one
repeated. So a few bytes may stand for any amount of memory.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from kerasft.serving.json_api import require_shape
from kerasft.serving.limits import MOST_DIMENSIONS, Limits
from kerasft.serving.status import invalid
from kerasft.serving.wire import require_few

# What a list of values that is too short is filled up with may take so many bytes.
MOST_FILLED = 1_000_000
# A message of so many bytes is read in a tenth of a second, whatever it holds.
_UNCOUNTED = 1_000_000
# NumPy counts the bytes of an array in 63 bits, and a value has at most 16.
_MOST_VALUES = (2**63 - 1) // 16
# The type to the list that holds its values; others come as `tensor_content`.
_LISTS = {
    "float32": "float_val", "float64": "double_val", "int32": "int_val", "int16": "int_val",
    "int8": "int_val", "uint8": "int_val", "uint16": "int_val", "int64": "int64_val",
    "uint32": "uint32_val", "uint64": "uint64_val", "bool": "bool_val", "string": "string_val",
    "float16": "half_val", "bfloat16": "half_val",
}  # fmt: skip


def array_of(name: str, tensor: Any, info: Any, limits: Limits) -> np.ndarray:
    """Return the array that a `TensorProto` stands for.

    Args:
        name: The name of the input.
        tensor: The message.
        info: The `TensorInfo` of the input; `None` for any.
        limits: The most examples, and bytes.

    Raises:
        Failure: If the type or the shape is not the input's, its values are not of that shape, or
            it would take too much. Nothing is made then.
    """
    if info is not None and info.dtype != tensor.dtype:
        raise invalid(
            f"Expects arg[0] to be {_type(info.dtype)} but {_type(tensor.dtype)} is provided "
            f"({name})"
        )
    kind = _type(tensor.dtype)
    if kind not in _LISTS:
        raise invalid(f"Tensor {name} cannot be read: {kind} is no type that a request can hold")
    shape = _shape(name, tensor)
    if info is not None:
        require_shape(name, shape, info)
    if shape:
        limits.count(shape[0])
    return _filled(name, tensor, kind, shape, math.prod(shape), limits)


@cache
def _name_of(dtype: int) -> str:
    import tensorflow as tf

    return tf.as_dtype(dtype).name


def _type(dtype: int) -> str:
    try:
        return _name_of(dtype)
    except TypeError:
        return f"type {dtype}"


def _shape(name: str, tensor: Any) -> tuple[int, ...]:
    given = tensor.tensor_shape
    if given.unknown_rank:
        raise invalid(f"Tensor {name} cannot be read: it says nothing of its shape")
    if len(given.dim) > MOST_DIMENSIONS:
        raise invalid(f"Tensor {name} cannot be read: it has {len(given.dim):,} dimensions")
    shape = tuple(dim.size for dim in given.dim)
    if any(size < 0 for size in shape):
        raise invalid(f"Tensor {name} cannot be read: its shape is {list(shape)}")
    if math.prod(size for size in shape if size) > _MOST_VALUES:
        raise invalid(f"Tensor {name} cannot be read: {list(shape)} is too large")
    return shape


def _filled(
    name: str, tensor: Any, kind: str, shape: tuple[int, ...], count: int, limits: Limits
) -> np.ndarray:
    import tensorflow as tf

    dtype = tf.as_dtype(tensor.dtype).as_numpy_dtype
    size = np.dtype(dtype).itemsize
    if 0 in shape:  # it holds nothing, but what the graph makes of it may be of its other sizes
        other = math.prod(one for one in shape if one)
        limits.weigh(other * size, f"Tensor {name} of {list(shape)} with a 1 for each 0")
    if content := tensor.tensor_content:  # a copy each time
        if kind == "string":
            raise invalid(f"Tensor {name} cannot be read: texts belong into string_val")
        if len(content) != count * size:
            raise invalid(
                f"Tensor {name} cannot be read: {list(shape)} takes {count * size:,} bytes, and "
                f"tensor_content holds {len(content):,}"
            )
        return np.frombuffer(content, dtype).reshape(shape)
    given = getattr(tensor, _LISTS[kind])
    if len(given) > count:
        raise invalid(
            f"Tensor {name} cannot be read: {list(shape)} takes {count:,} values, and it holds "
            f"{len(given):,}"
        )
    last = len(given[-1]) if kind == "string" and len(given) else 0
    missing = (count - len(given)) * (size + last)
    if missing > MOST_FILLED:
        raise invalid(
            f"Tensor {name} holds {len(given):,} of the {count:,} values of {list(shape)}: at "
            f"most {MOST_FILLED:,} bytes are filled up with the last one."
        )
    limits.weigh(count * size, f"Tensor {name}")
    made = np.empty(count, dtype)
    try:
        made[: len(given)] = _values(given, kind, dtype)
    except (OverflowError, ValueError) as error:
        raise invalid(f"Tensor {name} cannot be read: {error}") from error
    # As TensorFlow does: the last value again, or the type's empty one.
    made[len(given) :] = made[len(given) - 1] if len(given) else b"" if kind == "string" else 0
    return made.reshape(shape)


def _values(given: Any, kind: str, dtype: Any) -> Any:
    if kind in ("float16", "bfloat16"):
        return np.fromiter(given, np.uint16, len(given)).view(dtype)
    return list(given) if kind == "string" else np.fromiter(given, dtype, len(given))


def examples_of(given: Any, limits: Limits | None = None) -> np.ndarray:
    """Return the examples of a `tensorflow.serving.Input`, serialized, with their context.

    Args:
        given: The message.
        limits: The most examples, and bytes with the context in each of them.

    Raises:
        Failure: If there are none, or too many.
    """
    limits = limits or Limits()
    kind = given.WhichOneof("kind")
    context = None
    if kind == "example_list_with_context":
        found = given.example_list_with_context.examples
        context = given.example_list_with_context.context
    elif kind == "example_list":
        found = given.example_list.examples
    else:
        found = []
    if not found:
        raise invalid("Input is empty.")
    limits.count(len(found))
    if context is not None:
        limits.weigh(context.ByteSize() * len(found), "The context in each example")
    made = np.empty(len(found), object)
    for i, example in enumerate(found):
        limits.check()
        if context is None:
            made[i] = example.SerializeToString()
            continue
        whole = type(example)()
        whole.CopyFrom(context)
        whole.MergeFrom(example)
        made[i] = whole.SerializeToString()
    return made


def message_of(kind: Any, body: bytes, limits: Limits | None = None) -> Any:
    """Return the message that a request holds.

    Args:
        kind: The class of the message.
        body: The request. What is in a large one is counted first.
        limits: The time that it may take.

    Raises:
        Failure: If it holds none, or too much, or texts in it are no UTF-8.
    """
    from google.protobuf.message import DecodeError

    if len(body) > _UNCOUNTED:
        require_few(kind.DESCRIPTOR, body, limits or Limits())
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise invalid(f"The request is no {kind.DESCRIPTOR.name}: {error}") from error
