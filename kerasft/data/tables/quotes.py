"""Stray quotes that swallow the rows between them into one cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kerasft.data.annotations.alike import is_number
from kerasft.errors import UserError
from kerasft.system.console import listing

# So large a part of a column has to look alike before a cell is told to be one of it.
_MOST = 0.8
# What separates several labels of an example; commas and blanks are in texts, too.
_SIGNS = ";|/"


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
) -> tuple[str, ...]:
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

    Returns:
        Where the cells beside a quote are too different to say; see `doubtful_told`.

    Raises:
        UserError: If quotes have swallowed rows.
    """
    if not spans or len(records[0]) < 2:
        return ()
    width = len(records[0])
    columns = _columns(records[header:], lines[header:], width, delimiter)
    swallowed: list[Span] = []
    doubtful: list[Span] = []
    for span in spans:
        there = [line for line in span.lines if line.strip()]
        of_header = header and span.first == 1
        # The column that the quote is in says nothing.
        clear = [
            place for place, cell in enumerate(span.cells)
            if place < width and columns[place].clear and "\n" not in cell and "\r" not in cell
        ]  # fmt: skip
        rows = sum(
            len(cells := line.split(delimiter)) == width
            and (of_header or all(columns[place].fits(cells[place]) for place in clear))
            for line in there
        )
        if rows > len(there) / 2 and rows > 1:
            sure = clear or delimiter == "\t" or of_header
            (swallowed if sure else doubtful).append(span)
    if swallowed:
        raise UserError(
            f"{key}: in {path} a quote at the beginning of a cell makes several rows one cell: "
            f"lines {listing(map(_where, swallowed))}. If the file quotes no cells, set "
            'data.quoting=false; else write a quote inside a cell twice (""), or close it. If '
            "these lines do belong to one cell, set data.quoting=strict, which believes each quote."
        )
    return tuple(map(_where, doubtful))


def doubtful_told(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for the user on lines that may be rows or one cell, if there are any.

    Args:
        path: The file.
        lines: What `check_spans` returned.
    """
    return (
        f"In {path} quotes make one cell of lines that look like rows themselves: lines "
        f"{listing(lines)}. If they are rows, and the file quotes no cells, set "
        "data.quoting=false; if they are cells, data.quoting=strict.",
    ) * bool(lines)


def _where(span: Span) -> str:
    return f"{span.first:,} to {span.first + len(span.lines) - 1:,}"


@dataclass(frozen=True)
class _Column:
    """What the cells of a column have in common, if anything.

    Args:
        words: The few values that most cells are one of.
        numbers: Whether most cells are numbers.
        pieces: What most cells are made of, and by which sign: labels such as `a;b`.
    """

    words: frozenset[str] = field(default_factory=frozenset)
    numbers: bool = False
    pieces: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def clear(self) -> bool:
        return bool(self.words or self.pieces) or self.numbers

    def fits(self, cell: str) -> bool:
        return cell in self.words or (self.numbers and is_number(cell)) or any(
            all(piece.strip() in known for piece in cell.split(sign))
            for sign, known in self.pieces.items()
        )


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
        made.append(_Column(
            one.words | other.words, one.numbers or other.numbers, {**one.pieces, **other.pieces}
        ))  # fmt: skip
    return made


def _described(cells: Iterable[str]) -> _Column:
    counts = Counter(cells)
    total = sum(counts.values())
    again = {word: n for word, n in counts.items() if n > 1 and word.strip() == word != ""}
    numbers = sum(n for word, n in counts.items() if is_number(word))
    few = len(again) <= total / 2 and sum(again.values()) >= _MOST * total
    measured = total > 1 and numbers >= _MOST * total
    pieces = {} if few or measured else _pieces(counts)
    return _Column(frozenset(again if few else ()), measured, pieces)


def _pieces(cells: Counter[str]) -> dict[str, frozenset[str]]:
    """Return the few labels that cells of several are made of, by what separates them."""
    found = {}
    for sign in _SIGNS:
        if sum(n for cell, n in cells.items() if sign in cell) * 4 < sum(cells.values()):
            continue
        counts: Counter[str] = Counter()
        for cell, n in cells.items():
            for piece in cell.split(sign):
                counts[piece.strip()] += n
        again = {piece: n for piece, n in counts.items() if n > 1 and piece}
        total = sum(counts.values())
        if len(again) <= total / 4 and sum(again.values()) >= _MOST * total:
            found[sign] = frozenset(again)
    return found
