"""CSV and TSV: rows of cells that a delimiter separates, with quotes or without."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kerasft.data.tables.encodings import mojibake
from kerasft.data.tables.quotes import Span, check_spans, doubtful_told
from kerasft.data.tables.reading import Layout, Rows, by_name, shown
from kerasft.errors import UserError, some
from kerasft.system.console import listing

# Of `data.quoting`: quotes are believed, whatever they hold.
STRICT = "strict"
_SEP = re.compile(r'"?sep=(.)"?(?=[\r\n])', re.I)


def lines_of(text: str) -> list[str]:
    """Split at the ends of lines alone: other separators may stand inside a text."""
    if "\n" not in text and "\r" in text:
        return text.split("\r")
    return [line[:-1] if line.endswith("\r") else line for line in text.split("\n")]


@dataclass(frozen=True)
class Before:
    """What the beginning of a file says of the rest.

    Args:
        lines: How many lines have been read.
        names: The columns; none where no row has been read.
        delimiter: What parts the cells.
        seen: The rows and lines of the last part, by which those that quotes hold together are
            judged.
        doubtful: Which lines may be rows of their own, of all parts.
    """

    lines: int
    names: tuple[str, ...]
    delimiter: str
    seen: tuple[Sequence[Sequence[str]], Sequence[str]] = ((), ())
    doubtful: tuple[str, ...] = ()


def delimited(path: Path, text: str, layout: Layout, delimiter: str, key: str) -> Rows:
    """Return the rows of a whole text; see `delimited_part`."""
    return delimited_part(path, text, layout, delimiter, key)[0]


def delimited_part(
    path: Path, text: str, layout: Layout, delimiter: str, key: str, *,
    before: Before | None = None, more: bool = False,
) -> tuple[Rows, str, Before]:
    """Read rows of cells.

    Args:
        path: The file, for messages.
        text: Whole lines of it.
        layout: How it is written.
        delimiter: What parts the cells, where neither the user nor the file says otherwise.
        key: The config key behind the path.
        before: What was read of the file before; `None` at its beginning.
        more: Whether more of it follows, into which the last row may go on.

    Returns:
        The rows, maybe none of a part; the text of a row that goes on; and what holds for the rest
        of the file.

    Raises:
        UserError: If it is not what it is said to be.
    """
    if layout.quoting not in (True, False, STRICT):
        raise UserError(
            f"data.quoting must be true, false or {STRICT}. Received: "
            f"data.quoting={layout.quoting!r}."
        )
    first = before is None or not before.names
    lines = 0 if before is None else before.lines
    if before is not None:
        delimiter = before.delimiter
    else:
        text, told = told_delimiter(text)
        if told and layout.delimiter is None:
            delimiter = told
    if delimiter == "\\t":  # as a shell hands it over
        delimiter = "\t"
    if layout.quoting and len(delimiter) != 1:
        raise UserError(
            "data.delimiter must be one character (or set data.quoting=false). Received: "
            f"data.delimiter={delimiter!r}."
        )
    notices = mojibake(path, layout.encoding) if before is None else ()
    rest = ""
    seen, doubtful = (((), ()), ()) if before is None else (before.seen, before.doubtful)
    if layout.quoting:
        header = layout.header and first
        records, places, spans, plain, rest = _quoted(path, text, delimiter, key, lines, more)
        if layout.quoting != STRICT and spans:
            doubtful += check_spans(
                path, spans, [*records[:header], *seen[0], *records[header:]],
                [*plain[:header], *seen[1], *plain[header:]], delimiter, header=header, key=key,
            )  # fmt: skip
        if more:  # the last part of a file may be too small to tell what its columns hold
            seen = records[header:], plain[header:]
        else:
            notices += doubtful_told(path, doubtful)
    else:
        numbered = [(line, n) for n, line in enumerate(lines_of(text), lines + 1) if line]
        records = [line.split(delimiter) for line, _ in numbered]
        places = [n for _, n in numbered]
    read = text[: len(text) - len(rest)]
    lines += read.count("\n") or read.count("\r")
    if not records and (more or not first):
        names = () if before is None else before.names
        rows = Rows(path, names, dict.fromkeys(names, ()), (), notices=notices)
        return rows, rest, Before(lines, names, delimiter, seen, doubtful)
    if not records:
        raise UserError(f"{key}: {path} holds no rows, only empty lines.")
    if before is not None and before.names:
        names = before.names
    else:
        names = names_of(path, records[0], layout, delimiter, key)
        if layout.header:
            records, places = records[1:], places[1:]
    ragged = [
        f"line {n:,} has {len(r)}" for n, r in zip(places, records, strict=True)
        if len(r) != len(names)
    ]  # fmt: skip
    if ragged:
        raise UserError(
            f"{key}: {path} should have {some(len(names), 'cell')} in each row "
            f"({shown(names)}), and {some(len(ragged), 'row')} do not: "
            f"{listing(ragged)}. Check data.delimiter (it is {delimiter!r}), and set "
            f"data.quoting={str(not layout.quoting).lower()} if the file "
            + ("quotes no cells." if layout.quoting else 'puts cells in "quotes".')
        )
    columns = list(zip(*records, strict=True)) or [() for _ in names]
    rows = Rows(
        path,
        names,
        by_name(names, columns),
        places,
        header=layout.header and layout.columns is None,
        notices=notices,
    )
    return rows, rest, Before(lines, names, delimiter, seen, doubtful)


def told_delimiter(text: str) -> tuple[str, str | None]:
    """Return a text without its line `sep=;`, by which Excel is told the delimiter, and that."""
    found = _SEP.match(text)
    # The line stays, empty, so that the numbers of the others stay.
    return (text[found.end() :], found[1]) if found else (text, None)


def _quoted(
    path: Path, text: str, delimiter: str, key: str, before: int, more: bool
) -> tuple[list[list[str]], list[int], list[Span], list[str], str]:
    """Return records, their lines, those of several lines, all lines, and the text that goes on.

    The lines are given where records of several lines are, or more of the file follows.
    """
    rest = ""
    if '"' not in text and "\r" not in text:
        plain = text.removesuffix("\n").split("\n")
        places = [n for n, line in enumerate(plain, before + 1) if line]
        return [line.split(delimiter) for line in plain if line], places, [], plain, ""
    limit = csv.field_size_limit(2**31 - 1)
    records, places, spans, last = [], [], [], 0
    # `splitlines` would also split inside of texts; a reader wants the ends of lines kept.
    ends = "\r" if "\n" not in text and "\r" in text else "\n"
    reader = csv.reader(_with_ends(text, ends), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            if record:
                records.append(record)
                places.append(before + last + 1)
                if reader.line_num > last + 1:
                    spans.append((last, reader.line_num, record))
            last = reader.line_num
    except csv.Error as error:
        if more and "unexpected end of data" in str(error):
            rest = "".join(islice(_with_ends(text, ends), last, None))
        elif "new-line character" in str(error):
            raise UserError(
                f"{key}: {path}, line {before + last + 1:,} holds a carriage return in a cell "
                "without quotes. If the file quotes no cells, set data.quoting=false, which keeps "
                "it; else put the cell in quotes, or take the carriage return out."
            ) from error
        else:
            raise UserError(
                f"{key}: {path}, line {before + last + 1:,}: the quotes do not pair up ({error}). "
                "If the file quotes no cells, set data.quoting=false; else write a quote inside a "
                'cell twice ("").'
            ) from error
    finally:
        csv.field_size_limit(limit)
    plain = []
    if spans or more:
        lines = text[: len(text) - len(rest)].removesuffix(ends).split(ends)
        plain = [line.removesuffix("\r") for line in lines]
    found = [Span(before + first + 1, plain[first:end], cells) for first, end, cells in spans]
    return records, places, found, plain, rest


def _with_ends(text: str, ends: str) -> Iterator[str]:
    """Yield the lines of a text with their ends, one at a time: all at once are twice the text."""
    start = 0
    while (end := text.find(ends, start)) >= 0:
        yield text[start : end + 1]
        start = end + 1
    if start < len(text) or not text:
        yield text[start:] + ends


def names_of(
    path: Path, first: Sequence[str], layout: Layout, delimiter: str, key: str
) -> tuple[str, ...]:
    """Return the names of the columns, of the first row and what the user says of it."""
    given = None if layout.columns is None else tuple(str(name) for name in layout.columns)
    if given is not None and len(given) != len(first):
        raise UserError(
            f"data.columns must name each column of {path}: it has {len(first)}, separated by "
            f"{delimiter!r}. Received: {len(given)} names ({listing(given)})."
        )
    if layout.header:
        return given or tuple(first)
    if given and [n.strip().casefold() for n in first] == [n.strip().casefold() for n in given]:
        raise UserError(
            f"{key}: the first line of {path} holds the names of the columns "
            f"({listing(map(repr, first))}), and data.header=false takes it for an example. "
            "Set data.header=true."
        )
    return given or tuple(str(n) for n in range(len(first)))
