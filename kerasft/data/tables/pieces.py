"""Tables for training, read a piece at a time where that gives what reading them whole gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kerasft.data.tables.parts import LINES, Parts
from kerasft.data.tables.readers import format_of, read, require_file
from kerasft.data.tables.reading import Layout, Rows


def can_be_cut(label: Any, layout: Layout) -> bool:
    """Whether pieces of a table say of its labels what the whole says.

    Whether the first line is an example that was taken for a header shows in all labels together,
    and is asked where their column is chosen by number.

    Args:
        label: The column of labels, or several.
        layout: How the table is written.
    """
    several = label if isinstance(label, (list, tuple)) else [label]
    return not layout.header or all(
        isinstance(one, str) and not one.isdecimal() for one in several
    )


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
