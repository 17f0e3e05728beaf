"""The rows of a file by column, and how the file is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasft.system.console import listing


@dataclass(frozen=True)
class Rows:
    """The rows of one file.

    Args:
        path: The file, or what rows that are in none are called in messages.
        names: The names of the columns, in order.
        cells: The cells of each column, by name. `None` stands for a cell that is not there.
        places: Where each row stands: its first line, or its number from 1 where the file has
            no lines.
        unit: `"line"` or `"row"`: what a place counts.
        header: Whether the names were read from the first line.
        notices: Sentences for the user.
        classes: The names of the classes whose numbers a column holds, by column, where the data
            says them.
    """

    path: Path | str
    names: tuple[str, ...]
    cells: Mapping[str, Sequence[Any]]
    places: Sequence[Any]
    unit: str = "line"
    header: bool = False
    notices: tuple[str, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def home(self) -> Path:
        """The folder that relative paths in cells start from."""
        return self.path.parent if isinstance(self.path, Path) else Path()


@dataclass(frozen=True)
class Layout:
    """How the user says that the file is written; see `table` for each."""

    format: str = "auto"
    header: bool = True
    columns: Sequence[str] | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: bool | str = True
    several: bool = False  # whether a line may carry several labels


def by_name(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Return columns by their names."""
    # The first of two columns of one name wins here; `table` refuses to choose such a name.
    result: dict[str, Sequence[Any]] = {}
    for name, column in zip(names, columns, strict=True):
        result.setdefault(name, column)
    return result


def shown(names: Sequence[str]) -> str:
    """Return the names of columns for a message, long ones cut."""
    return listing(repr(name if len(name) <= 40 else f"{name[:40]}...") for name in names)
