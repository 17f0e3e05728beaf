"""Golden requests: inputs of an artifact's signatures, and what it answered when it was proved.

Values stand as in TensorFlow Serving's column format of REST: `{"signature_name": ..., "inputs":
{NAME: rows}}` is a request, `{"outputs": {NAME: rows}}` its answer. Bytes that are no text stand as
`{"b64": ...}`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.layout import EXTRA, GOLDEN, read_signature
from kerasft.errors import UserError
from kerasft.system.files import read_json, write_json


@dataclass(frozen=True)
class Golden:
    """One request to an artifact, and its answer.

    Args:
        signature: The name of the signature.
        inputs: Input name to array, the batch first; strings as objects of bytes.
        outputs: Output name to array, likewise.
    """

    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


def write_golden(directory: str | Path, requests: Iterable[Golden], *, tolerance: float) -> None:
    """Write golden requests into an artifact.

    Args:
        directory: The folder of a version.
        requests: The requests.
        tolerance: The largest difference with which another answer passes, see `comparison.apart`.
    """
    write_json(Path(directory) / EXTRA / GOLDEN, {
        "tolerance": tolerance,
        "requests": [
            {
                "signature_name": one.signature,
                "inputs": {name: as_json(value) for name, value in one.inputs.items()},
                "outputs": {name: as_json(value) for name, value in one.outputs.items()},
            }
            for one in requests
        ],
    }, indent=None)  # fmt: skip  # or each pixel would have a line of its own


def read_golden(directory: str | Path) -> tuple[list[Golden], float]:
    """Return the golden requests of an artifact, and the tolerance of their answers.

    Raises:
        UserError: If the file is damaged. An artifact without one has no golden requests.
    """
    file = Path(directory) / EXTRA / GOLDEN
    if not file.is_file():
        return [], 0.0
    found, signatures = read_json(file, "tolerance", "requests"), read_signature(directory)
    try:
        requests = []
        for one in found["requests"]:
            specs = signatures["signatures"][one["signature_name"]]
            requests.append(Golden(
                one["signature_name"],
                *({name: from_json(value, specs[way][name]["dtype"])
                   for name, value in one[way].items()} for way in ("inputs", "outputs")),
            ))  # fmt: skip
        return requests, float(found["tolerance"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"The golden requests in {str(file)!r} cannot be read ({error!r}). The file is "
            "damaged, or from another version; export the run again: kerasft export RUN"
        ) from error


def as_json(value: np.ndarray) -> Any:
    """Return an array as REST writes it: nested lists, bytes that are no UTF-8 as `b64`."""
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        return _mapped(array.astype(object).tolist(), _text)
    if array.dtype == np.float32:
        # The shortest digits that give the same float32 again, and not those of a float64.
        return _mapped(array.tolist(), lambda x: float(str(np.float32(x))))
    return array.tolist()


def _text(value: bytes | str) -> Any:
    if isinstance(value, str):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _mapped(value: Any, change: Any) -> Any:
    return [_mapped(one, change) for one in value] if isinstance(value, list) else change(value)


def from_json(value: object, dtype: str) -> np.ndarray:
    """Return what `as_json` wrote as an array of a TensorFlow `dtype`, such as `string`."""
    if dtype != "string":
        return np.array(value, dtype)
    shape: list[int] = []
    rows = value
    while isinstance(rows, list):
        shape.append(len(rows))
        rows = rows[0] if rows else None
    flat: list[bytes] = []
    _mapped(value, lambda one: flat.append(_bytes(one)))
    made = np.empty(len(flat), object)
    made[:] = flat
    return made.reshape(shape)


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return value.encode()
