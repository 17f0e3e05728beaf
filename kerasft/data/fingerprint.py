"""Digests of examples: the same content has the same digest."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from kerasft.data.current_read import begins
from kerasft.spec import Modality


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


@lru_cache(maxsize=1 << 18)
def _file(path: str, size: int, changed: int) -> str:
    # Size and time of change are part of the key, so that a file written anew is read anew.
    begins(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
