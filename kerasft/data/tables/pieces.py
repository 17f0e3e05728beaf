"""Tables for training, read a piece at a time where their format allows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kerasft.data.tables.parts import LINES, Parts
from kerasft.data.tables.readers import format_of, read, require_file
from kerasft.data.tables.reading import Layout, Rows


def in_pieces(path: Path, layout: Layout, key: str) -> Iterator[Rows]:
    """Yield the rows of a file, in several pieces where its format allows it.

    Args:
        path: The file.
        layout: How it is written.
        key: The config key behind the path, for messages.
    """
    require_file(path, key)
    if format_of(path, layout.format, key) in ("json", LINES) or not path.is_file():
        yield read(path, layout, key)
    else:
        yield from Parts(path, layout, key)
