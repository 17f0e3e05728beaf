"""Quotes that open in one row and close in a later one, so that the rows between become a cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kerasft.console import listing
from kerasft.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# So large a part of a column has to look alike before a cell is told to be one of it.
_MOST = 0.8


@dataclass(frozen=True)
class Span:
    """A record that takes several lines of the file.

    Args:
        first: The number of its first line.
        lines: These lines.
        cells: What they are read as.
    """

    first: int
    lines: Sequence[str]
    cells: Sequence[str]


def check_spans(
    path: Path, spans: Sequence[Span], records: Sequence[Sequence[str]], lines: Sequence[str],
    delimiter: str, *, header: bool, key: str,
) -> None:
    """Refuse records of several lines where most of these lines are rows by themselves.

    A cell may well have line breaks, and commas too. What tells them apart is that a line of such
    a cell is no row: it has another number of delimiters, or no label where the label should be.

    Args:
        path: The file.
        spans: The records of several lines.
        records: All records.
        lines: All lines of the file.
        delimiter: What separates cells.
        header: Whether the first record names the columns.
        key: The config key behind the path, for messages.

    Raises:
        UserError: If quotes have swallowed rows.
    """
    if not spans or len(records[0]) < 2:
        return
    width = len(records[0])
    columns = _columns(records[header:], lines[header:], width, delimiter)
    swallowed = []
    for span in spans:
        there = [line for line in span.lines if line.strip()]
        of_header = header and span.first == 1
        # The column that the quote is in says nothing.
        clear = [
            place for place, cell in enumerate(span.cells)
            if place < width and columns[place].clear and "\n" not in cell and "\r" not in cell
        ]  # fmt: skip
        rows = 0
        if clear or delimiter == "\t" or of_header:
            rows = sum(
                len(cells := line.split(delimiter)) == width
                and (of_header or all(columns[place].fits(cells[place]) for place in clear))
                for line in there
            )
        if rows > len(there) / 2 and rows > 1:
            swallowed.append(span)
    if swallowed:
        where = [f"{s.first:,} to {s.first + len(s.lines) - 1:,}" for s in swallowed]
        raise UserError(
            f"{key}: in {path} a quote at the beginning of a cell makes several rows one cell: "
            f"lines {listing(where)}. If the file quotes no cells, set data.quoting=false; else "
            'write a quote inside a cell twice (""), or close it. If these lines do belong to one '
            "cell, save the table as JSONL."
        )


@dataclass(frozen=True)
class _Column:
    """What the cells of a column have in common, if anything.

    Args:
        words: The few values that most cells are one of.
        numbers: Whether most cells are numbers.
    """

    words: frozenset[str] = field(default_factory=frozenset)
    numbers: bool = False

    @property
    def clear(self) -> bool:
        return bool(self.words) or self.numbers

    def fits(self, cell: str) -> bool:
        return cell in self.words or (self.numbers and _NUMBER.fullmatch(cell) is not None)


def _columns(
    records: Sequence[Sequence[str]], lines: Sequence[str], width: int, delimiter: str
) -> list[_Column]:
    """Describe the columns as they are with quotes; or without, where that gives a table too."""
    quoted = [record for record in records if len(record) == width]
    there = [line.split(delimiter) for line in lines if line.strip()]
    plain = [cells for cells in there if len(cells) == width]
    if len(plain) < _MOST * len(there):
        plain = []
    made = []
    for place in range(width):
        one = _described(row[place] for row in quoted)
        # A cell with a quote is what is in question.
        other = _described(row[place] for row in plain if '"' not in row[place])
        made.append(_Column(one.words | other.words, one.numbers or other.numbers))
    return made


def _described(cells: Iterable[str]) -> _Column:
    counts = Counter(cells)
    total = sum(counts.values())
    again = {word: n for word, n in counts.items() if n > 1 and word.strip() == word != ""}
    numbers = sum(n for word, n in counts.items() if _NUMBER.fullmatch(word))
    few = len(again) <= total / 2 and sum(again.values()) >= _MOST * total
    return _Column(frozenset(again if few else ()), total > 1 and numbers >= _MOST * total)
