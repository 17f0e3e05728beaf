"""Tensors of requests are looked at before anything is made of them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

pytest.importorskip("tensorflow_serving")

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import input_pb2

from kerasft.serving.limits import Limits
from kerasft.serving.protos import array_of, examples_of
from kerasft.serving.status import Failure


def info(dtype, *shape: int):
    made = meta_graph_pb2.TensorInfo(dtype=dtype)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def tensor(dtype, *shape: int, **values):
    made = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


TEXT, FLOAT, INT = types_pb2.DT_STRING, types_pb2.DT_FLOAT, types_pb2.DT_INT32


@pytest.mark.parametrize("value", [
    np.float32([[1, 2], [3, 4]]), np.arange(6, dtype=np.int64),
    np.array([b"a", b"", b"\xff"], object), np.array([True, False]),
    np.float16([1.5, -2]), np.uint8([0, 255]), np.float64([]),
    np.uint64([2**63]), tf.constant([1.5, 2.5], tf.bfloat16).numpy(),
], ids=str)  # fmt: skip
def test_what_is_whole_is_read_as_tensorflow_reads_it(value):
    made = tf.make_tensor_proto(value)
    found = array_of("x", made, None, Limits())
    assert found.dtype == value.dtype
    assert found.tolist() == tf.make_ndarray(made).tolist()


def test_a_tensor_without_values_is_read():
    assert array_of("x", tensor(INT, 0, 1000), info(INT, -1, -1), Limits()).shape == (0, 1000)
    assert array_of("s", tensor(TEXT, 0), info(TEXT, -1), Limits()).shape == (0,)


def test_a_list_that_is_too_short_is_filled_up_with_its_last_value():
    found = array_of("x", tensor(FLOAT, 4, float_val=[1, 2]), info(FLOAT, -1), Limits())
    assert found.tolist() == [1, 2, 2, 2]
    found = array_of("s", tensor(TEXT, 2, string_val=[b"a"]), info(TEXT, -1), Limits())
    assert found.tolist() == [b"a", b"a"]
    assert array_of("s", tensor(TEXT, 1), info(TEXT, -1), Limits()).tolist() == [b""]
    assert array_of("x", tensor(INT, 1), info(INT, -1), Limits()).tolist() == [0]


unknown = tensor(TEXT, string_val=[b"a"])
unknown.tensor_shape.unknown_rank = True
ONE = {"string_val": [b"a"]}


@pytest.mark.parametrize(("given", "wanted", "words"), [
    (tensor(TEXT, 2**27, **ONE), info(TEXT, -1), "holds 134,217,728 examples"),
    (tensor(TEXT, 2**62, 2**62, **ONE), info(TEXT, -1, -1), "is too large"),
    (tensor(TEXT, 0, 2**63 - 1, 2**63 - 1), info(TEXT, -1, -1, -1), "is too large"),
    (tensor(INT, 0, 2**62), info(INT, -1, -1), "is too large"),
    (tensor(INT, 0, 2**61, 2), info(INT, -1, -1, -1), "is too large"),
    (tensor(INT, 0, 2**58), info(INT, -1, -1), "with a 1 for each 0 would take"),
    (tensor(INT, 1, 0, 2**40), info(INT, -1, -1, -1), "with a 1 for each 0 would take"),
    (tensor(INT, 0, 2**62, tensor_content=b""), None, "is too large"),
    (tensor(TEXT, -1, **ONE), info(TEXT, -1), r"its shape is \[-1\]"),
    (tensor(TEXT, *[1] * 5000, **ONE), info(TEXT, -1), "5,000 dimensions"),
    (tensor(TEXT, 1, 1, **ONE), info(TEXT, -1), r"has the shape \[1,1\].* takes \[\?\]"),
    (tensor(FLOAT, 1, 7, float_val=[1]), info(FLOAT, -1, 8), r"has the shape \[1,7\]"),
    (tensor(INT, 1, 10**7, int_val=[1]), info(INT, -1, -1), "at most 1,000,000 bytes are filled"),
    (tensor(TEXT, 900, string_val=[b"a" * 10**6]), info(TEXT, -1), "bytes are filled up"),
    (tensor(INT, 900, 10**6), info(INT, -1, -1), "bytes are filled up"),
    (tensor(TEXT, 1, string_val=[b"a", b"b"]), info(TEXT, -1), "takes 1 values, and it holds 2"),
    (tensor(TEXT, 1, tensor_content=b"\x01a"), info(TEXT, -1), "belong into string_val"),
    (tensor(INT, 2, tensor_content=b"abc"), info(INT, -1), "takes 8 bytes, and .* holds 3"),
    (tensor(types_pb2.DT_UINT8, 1, int_val=[300]), info(types_pb2.DT_UINT8, -1), "cannot be read"),
    (tensor(types_pb2.DT_VARIANT, 1), info(TEXT, -1), "to be string but variant"),
    (tensor(types_pb2.DT_VARIANT, 1), info(types_pb2.DT_VARIANT, -1), "no type that a request"),
    (tensor(types_pb2.DT_RESOURCE, 1), info(TEXT, -1), "to be string but resource"),
    (tensor(9999, 1), info(TEXT, -1), "to be string but type 9999"),
    (unknown, info(TEXT, -1), "says nothing of its shape"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_made(given, wanted, words):
    tracemalloc.start()
    try:
        with pytest.raises(Failure, match=words) as refused:
            array_of("x", given, wanted, Limits())
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
    assert refused.value.code == "INVALID_ARGUMENT"


def test_examples_and_their_context_are_counted_before_they_are_made():
    many = input_pb2.Input()
    many.example_list.examples.extend([tf.train.Example()] * 1001)
    with pytest.raises(Failure, match="holds 1,001 examples"):
        examples_of(many)
    shared = input_pb2.Input().example_list_with_context
    shared.context.features.feature["x"].bytes_list.value.append(b"a" * 10**6)
    shared.examples.extend([tf.train.Example()] * 100)
    with pytest.raises(Failure, match="context in each example would take 100,00"):
        examples_of(input_pb2.Input(example_list_with_context=shared))
