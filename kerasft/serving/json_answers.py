"""Answers in JSON, as TensorFlow Serving's REST API writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasft.serving.status import invalid


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


def _string(name: str, value: object, as_bytes: bool) -> Any:
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


def text_of(body: Mapping[str, Any]) -> bytes:
    """Return an answer as JSON in UTF-8, row by row, so that others run between them."""
    write = json.JSONEncoder(ensure_ascii=False).encode
    (key, value), *more = body.items()
    if not more and isinstance(value, list):
        text = f"{{{write(key)}: [{', '.join([write(row) for row in value])}]}}"
    else:
        text = write(body)
    # Half a character in a text cannot be written but as an escape, which JSON knows.
    return text.encode("utf-8", "backslashreplace")


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


def regressed(outputs: np.ndarray | None) -> dict[str, Any]:
    """Return the answer to a regress request: a number an example."""
    return {"results": [float(str(x)) for x in numbers_of(outputs)]}


def numbers_of(outputs: np.ndarray | None) -> list[np.float32]:
    """Return a number an example, of an output `[batch]` or `[batch, 1]`."""
    if outputs is None:
        raise invalid("Expected one output Tensor named outputs")
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    if outputs.ndim != 1:
        raise invalid("Expected Regression output Tensor to be of shape [batch_size] or "
                      f"[batch_size 1]; it is {list(outputs.shape)}")
    return list(outputs.astype(np.float32))
