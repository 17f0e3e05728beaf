"""What is said on the console: lines, tables, and counted warnings."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def say(line: str = "") -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)


def warn(line: str) -> None:
    """Print a warning to the error stream."""
    print(f"warning: {line}", file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Return rows as a plain text table, numbers to the right.

    Example:
        >>> print(table([["a", 1.5]], ["name", "value"]))
        name   value
        a     1.5000
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    right = [
        bool(rows) and all(isinstance(r[i], int | float) or r[i] is None for r in rows)
        for i in range(len(header))
    ]

    def line(parts: Sequence[str]) -> str:
        padded = [
            part.rjust(width) if is_right else part.ljust(width)
            for part, width, is_right in zip(parts, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), *map(line, cells)])


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
