"""Digests of examples: the same content has the same digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.current_read import begins
from kerasft.spec import Examples, Modality


def fingerprint(value: Any, modality: Modality) -> str:
    """Return the SHA-256 of what an example holds.

    Args:
        value: One entry of `Examples.inputs`: a path or encoded bytes for images, a text or a
            pair of texts for text.
        modality: `"images"` or `"text"`.

    Returns:
        64 hexadecimal digits. An image has the same ones as a file and as bytes.

    Example:

    >>> fingerprint("a", "text")[:8]
    'ca978112'
    """
    if modality == "text":
        return digest(value) if isinstance(value, str) else digest(*value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    status = Path(value).stat()
    return _file(os.fspath(value), status.st_size, status.st_mtime_ns)


def digest(*texts: str) -> str:
    """Return the SHA-256 of one text, or of several that no joining can confuse."""
    if len(texts) == 1:
        return hashlib.sha256(texts[0].encode("utf-8", "surrogatepass")).hexdigest()
    together = hashlib.sha256()
    for text in texts:
        together.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return together.hexdigest()


def digests_of(values: Sequence[Any], modality: Modality) -> np.ndarray:
    """Return the fingerprints of inputs as numbers, `uint8[N, 32]`.

    Args:
        values: See `Examples.inputs`.
        modality: `"images"` or `"text"`.

    Example:
        >>> hexed(digests_of(["a"], "text"))[0] == fingerprint("a", "text")
        True
    """
    sha256, made = hashlib.sha256, None
    if modality == "text":
        with suppress(AttributeError, UnicodeEncodeError):  # pairs, or half a character
            made = b"".join([sha256(value.encode()).digest() for value in values])
    if made is None:
        made = b"".join([bytes.fromhex(fingerprint(value, modality)) for value in values])
    return np.frombuffer(made, "uint8").reshape(-1, 32)


def fingerprints(part: Examples) -> np.ndarray:
    """Return the fingerprint of each example, `uint8[N, 32]`.

    They are computed once; of a file that was changed since, anew.

    Args:
        part: The examples, which remember their fingerprints; `Examples.take` hands them on.
    """
    stamps = stamps_of(part.inputs, part.modality)
    if part.noted is None:
        part.note(digests_of(part.inputs, part.modality), stamps)
    assert part.noted is not None
    digests, before = part.noted
    if stamps is not None and before is not None and not np.array_equal(stamps, before):
        changed = np.flatnonzero((stamps != before).any(axis=1))
        digests = digests.copy()
        digests[changed] = digests_of([part.inputs[i] for i in changed.tolist()], part.modality)
        part.note(digests, stamps)
    return digests


def stamps_of(values: Sequence[Any], modality: Modality) -> np.ndarray | None:
    """Return size and time of change of each file, `int64[N, 2]`, 0 of what is none.

    Args:
        values: See `Examples.inputs`.
        modality: `"images"`, or `"text"`, of which `None` is returned.
    """
    if modality == "text":
        return None
    made = np.zeros((len(values), 2), "int64")
    paths: Iterable[tuple[int, Any]] = (
        (place, value) for place, value in enumerate(values) if not isinstance(value, bytes)
    )
    if hasattr(values, "choose"):  # read one by one out of files of many
        paths = values.paths() if hasattr(values, "paths") else ()
    for place, value in paths:
        status = Path(value).stat()
        made[place] = status.st_size, status.st_mtime_ns
    return made


def hexed(digests: np.ndarray) -> list[str]:
    """Return fingerprints as `fingerprint` writes them."""
    return list(each_hexed(digests))


def each_hexed(digests: np.ndarray) -> Iterator[str]:
    """Yield what `hexed` returns: a million of them take 120 MB."""
    for start in range(0, len(digests), 4096):
        whole = digests[start : start + 4096].tobytes().hex()
        yield from [whole[i : i + 64] for i in range(0, len(whole), 64)]


def each_spelled(digests: np.ndarray) -> Iterator[bytes]:
    """Yield what `hexed` returns as ASCII."""
    for start in range(0, len(digests), 4096):
        whole = digests[start : start + 4096].tobytes().hex().encode()
        yield from [whole[i : i + 64] for i in range(0, len(whole), 64)]


def ranked(*digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order that fingerprints have when they are sorted, and where another begins.

    Args:
        *digests: `uint8[N, 32]`; of several arrays one behind the other.

    Returns:
        `int64[N]`, the places of the sorted fingerprints, of equal ones the first place first; and
        `bool[N]`, whether each of these differs from the one before.

    Example:
        >>> order, first = ranked(digests_of(["b", "a", "b"], "text"))
        >>> order.tolist(), first.tolist()
        ([0, 2, 1], [True, False, True])
    """
    words = np.concatenate([leading(one) for one in digests])
    order = np.argsort(words, kind="stable")
    words = words[order]
    same = words[1:] == words[:-1]
    del words
    first = np.ones(len(order), bool)
    first[1:] = ~same
    if same.any():  # copies, or once in 2**64
        tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
        rows = order[tied]
        whole = gathered(digests, rows).view(">u8").astype("uint64")
        turn = np.lexsort((rows, *whole.T[::-1]))
        order[tied], whole = rows[turn], whole[turn]
        first[tied[1:]] = (whole[1:] != whole[:-1]).any(axis=1)
    return order, first


def leading(digests: np.ndarray) -> np.ndarray:
    """Return the first eight bytes of fingerprints as numbers that sort alike, `uint64[N]`."""
    made = np.empty(len(digests), "uint64")
    for start in range(0, len(digests), 1 << 16):
        piece = np.ascontiguousarray(digests[start : start + (1 << 16), :8])
        made[start : start + len(piece)] = piece.view(">u8")[:, 0]
    return made


def gathered(digests: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return fingerprints out of several arrays, as if these were one, `uint8[M, 32]`.

    Args:
        digests: `uint8[N, 32]` each.
        rows: Which ones, counted over all of them, `int64[M]`.
    """
    if len(digests) == 1:
        return digests[0][rows]
    made, start = np.empty((len(rows), 32), "uint8"), 0
    for one in digests:
        here = (rows >= start) & (rows < start + len(one))
        made[here] = one[rows[here] - start]
        start += len(one)
    return made


def firsts(*digests: np.ndarray) -> np.ndarray:
    """Return for each fingerprint the place of the first one that is the same, `int64[N]`.

    Args:
        *digests: See `ranked`.

    Example:
        >>> firsts(digests_of(["b", "a", "b"], "text")).tolist()
        [0, 1, 0]
    """
    order, first = ranked(*digests)
    found = np.empty(len(order), "int64")
    found[order] = order if first.all() else order[first][np.cumsum(first) - 1]
    return found


@lru_cache(maxsize=1 << 18)
def _file(path: str, size: int, changed: int) -> str:
    # Size and time of change are part of the key, so that a file written anew is read anew.
    begins(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
