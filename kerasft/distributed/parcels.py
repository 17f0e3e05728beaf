"""Arrays as bytes, and back: what one worker sends another."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

# How many bytes say how long the table of contents is.
_HEAD = 8


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as bytes. Arrays of objects must hold `bytes`.

    Args:
        arrays: By name.

    Example:
        >>> found = unpacked(packed({"n": np.arange(3), "text": np.array([b"a", b""], object)}))
        >>> found["n"].tolist(), found["text"].tolist()
        ([0, 1, 2], [b'a', b''])
    """
    contents, pieces = [], []
    for name, array in arrays.items():
        if array.dtype.hasobject:
            texts = array.ravel().tolist()
            sizes = np.array([len(text) for text in texts], "int64")
            piece = sizes.tobytes() + b"".join(texts)
        else:
            piece = array.tobytes()
        contents.append([name, array.dtype.name, list(array.shape), len(piece)])
        pieces.append(piece)
    table = json.dumps(contents).encode()
    return b"".join([len(table).to_bytes(_HEAD, "little"), table, *pieces])


def unpacked(parcel: bytes) -> dict[str, np.ndarray]:
    """Return the arrays that `packed` made bytes of.

    Args:
        parcel: The bytes.
    """
    start = _HEAD + int.from_bytes(parcel[:_HEAD], "little")
    made = {}
    for name, kind, shape, size in json.loads(parcel[_HEAD:start]):
        piece = memoryview(parcel)[start : start + size]
        start += size
        if kind != "object":
            made[name] = np.frombuffer(piece, np.dtype(kind)).reshape(shape)
            continue
        count = int(np.prod(shape))
        sizes = np.frombuffer(piece[: 8 * count], "int64")
        ends = np.cumsum(sizes)
        texts = bytes(piece[8 * count :])
        array = np.empty(count, object)
        array[:] = [texts[begin:end] for begin, end in zip(ends - sizes, ends, strict=True)]
        made[name] = array.reshape(shape)
    return made
