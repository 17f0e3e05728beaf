"""CSV and TSV: rows of cells that a delimiter separates, with quotes or without."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from kerasft.data.annotations.classes import some
from kerasft.data.tables.encodings import mojibake
from kerasft.data.tables.quotes import Span, check_spans
from kerasft.data.tables.reading import Layout, Rows, by_name, shown
from kerasft.errors import UserError
from kerasft.system.console import listing

# Of `data.quoting`: quotes are believed, whatever they hold.
STRICT = "strict"
_SEP = re.compile(r'"?sep=(.)"?(?=[\r\n])', re.I)


def lines_of(text: str) -> list[str]:
    """Split at the ends of lines alone: other separators may stand inside a text."""
    if "\n" not in text and "\r" in text:
        return text.split("\r")
    return [line[:-1] if line.endswith("\r") else line for line in text.split("\n")]


def delimited(path: Path, text: str, layout: Layout, delimiter: str, key: str) -> Rows:
    if layout.quoting not in (True, False, STRICT):
        raise UserError(
            f"data.quoting must be true, false or {STRICT}. Received: "
            f"data.quoting={layout.quoting!r}."
        )
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
    notices = mojibake(path, layout.encoding)
    if layout.quoting:
        records, places, said = _quoted(path, text, delimiter, layout, key)
        notices += said
    else:
        numbered = [(line, n) for n, line in enumerate(lines_of(text), 1) if line]
        records = [line.split(delimiter) for line, _ in numbered]
        places = [n for _, n in numbered]
    if not records:
        raise UserError(f"{key}: {path} holds no rows, only empty lines.")
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
    return Rows(
        path,
        names,
        by_name(names, columns),
        places,
        header=layout.header and layout.columns is None,
        notices=notices,
    )


def told_delimiter(text: str) -> tuple[str, str | None]:
    """Return a text without its line `sep=;`, by which Excel is told the delimiter, and that."""
    found = _SEP.match(text)
    # The line stays, empty, so that the numbers of the others stay.
    return (text[found.end() :], found[1]) if found else (text, None)


def _quoted(
    path: Path, text: str, delimiter: str, layout: Layout, key: str
) -> tuple[list[list[str]], list[int], tuple[str, ...]]:
    before = csv.field_size_limit(2**31 - 1)
    records, places, spans, last = [], [], [], 0
    # `splitlines` would also split inside of texts; a reader wants the ends of lines kept.
    ends = "\r" if "\n" not in text and "\r" in text else "\n"
    lines = text.removesuffix(ends).split(ends)
    reader = csv.reader((line + ends for line in lines), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            if record:
                records.append(record)
                places.append(last + 1)
                if reader.line_num > last + 1:
                    spans.append((last, reader.line_num, record))
            last = reader.line_num
    except csv.Error as error:
        if "new-line character" in str(error):
            raise UserError(
                f"{key}: {path}, line {last + 1:,} holds a carriage return in a cell without "
                "quotes. If the file quotes no cells, set data.quoting=false, which keeps it; "
                "else put the cell in quotes, or take the carriage return out."
            ) from error
        raise UserError(
            f"{key}: {path}, line {last + 1:,}: the quotes do not pair up ({error}). If the file "
            'quotes no cells, set data.quoting=false; else write a quote inside a cell twice ("").'
        ) from error
    finally:
        csv.field_size_limit(before)
    if spans and layout.quoting != STRICT:
        plain = [line.removesuffix("\r") for line in lines]
        found = [Span(first + 1, plain[first:end], cells) for first, end, cells in spans]
        said = check_spans(
            path, found, records, plain, delimiter, header=layout.header, key=key
        )
        return records, places, said
    return records, places, ()


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
