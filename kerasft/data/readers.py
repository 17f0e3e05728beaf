"""Files of rows, read into columns without changing a character."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasft.console import listing
from kerasft.data.encodings import decode, mojibake
from kerasft.data.labels import some
from kerasft.data.reading import begins
from kerasft.errors import UserError, nearest

SUFFIXES: dict[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PACKED = dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip"), "Unpack it first.") | (
    dict.fromkeys((".xls", ".xlsx", ".ods"), "Save the sheet as CSV (UTF-8) or Parquet.")
)
FORMATS: tuple[str, ...] = ("csv", "tsv", "jsonl", "json", "parquet")


@dataclass(frozen=True)
class Rows:
    """The rows of one file.

    Args:
        path: The file.
        names: The names of the columns, in order.
        cells: The cells of each column, by name. `None` stands for a cell that is not there.
        places: Where each row stands: its first line, or its number from 1 where the file has
            no lines.
        unit: `"line"` or `"row"`: what a place counts.
        header: Whether the names were read from the first line.
        notices: Sentences for the user.
    """

    path: Path
    names: tuple[str, ...]
    cells: Mapping[str, Sequence[Any]]
    places: Sequence[int]
    unit: str = "line"
    header: bool = False
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Layout:
    """How the user says that the file is written; see `table` for each."""

    format: str = "auto"
    header: bool = True
    columns: Sequence[str] | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: bool = True


def read(path: Path, layout: Layout, key: str = "data.path") -> Rows:
    """Read a file of rows.

    Args:
        path: The file.
        layout: How it is written.
        key: The config key behind the path, for messages.

    Returns:
        Its `Rows`, at least one.

    Raises:
        UserError: If the format is unknown, or if the file is not what it is said to be.
    """
    if path.is_dir():
        raise UserError(
            f"{key} must be a file of one of the formats {list(FORMATS)}. Received: {path}, a "
            "folder. For a folder of pictures choose data=image_folder."
        )
    form = _format(path, layout.format, key)
    begins(path)
    if form == "parquet":
        rows = _parquet(path, key)
    else:
        text = decode(path, layout.encoding, key)
        if form == "jsonl":
            rows = _jsonl(path, text, key)
        elif form == "json":
            rows = _json(path, text, key)
        else:
            delimiter = layout.delimiter or ("\t" if form == "tsv" else ",")
            rows = _delimited(path, text, layout, delimiter, key)
    if not len(rows):
        raise UserError(f"{key}: {path} holds no rows." + _header_only(rows))
    return rows


def _header_only(rows: Rows) -> str:
    if not rows.names:
        return ""
    return (
        f" Its first line, {_listed(rows.names)}, was taken for the names of the columns; if it is "
        "an example, set data.header=false."
    )


def _listed(names: Sequence[str]) -> str:
    return listing(repr(name if len(name) <= 40 else f"{name[:40]}...") for name in names)


def _format(path: Path, form: str, key: str) -> str:
    if form == "auto":
        if found := SUFFIXES.get(path.suffix.lower()):
            return found
        if path.suffix.lower() in _PACKED:
            raise UserError(
                f"{key}: {path.name} is packed, and packed tables are not read. "
                f"{_PACKED[path.suffix.lower()]} If only its name is wrong, set data.format."
            )
        raise UserError(
            f"{key}: the suffix of {path.name} does not say how the file is written; known are "
            f"{', '.join(SUFFIXES)}. Say it with data.format, one of {list(FORMATS)}."
        )
    if form not in FORMATS:
        raise UserError(
            f"data.format must be auto or one of {list(FORMATS)}. Received: data.format={form!r}."
            + nearest(form, FORMATS)
        )
    return form


def _lines(text: str) -> list[str]:
    """Split at the ends of lines alone: other separators may stand inside a text."""
    if "\n" not in text and "\r" in text:
        return text.split("\r")
    return [line[:-1] if line.endswith("\r") else line for line in text.split("\n")]


def _delimited(path: Path, text: str, layout: Layout, delimiter: str, key: str) -> Rows:
    if delimiter == "\\t":  # as a shell hands it over
        delimiter = "\t"
    if layout.quoting and len(delimiter) != 1:
        raise UserError(
            "data.delimiter must be one character (or set data.quoting=false). Received: "
            f"data.delimiter={delimiter!r}."
        )
    if layout.quoting:
        records, places = _quoted(path, text, delimiter, key)
    else:
        numbered = [(line, n) for n, line in enumerate(_lines(text), 1) if line]
        records = [line.split(delimiter) for line, _ in numbered]
        places = [n for _, n in numbered]
    if not records:
        raise UserError(f"{key}: {path} holds no rows, only empty lines.")
    names = _names(path, records[0], layout, delimiter, key)
    if layout.header:
        records, places = records[1:], places[1:]
    ragged = [
        f"line {n:,} has {len(r)}" for n, r in zip(places, records, strict=True)
        if len(r) != len(names)
    ]  # fmt: skip
    if ragged:
        raise UserError(
            f"{key}: {path} should have {some(len(names), 'cell')} in each row "
            f"({_listed(names)}), and {some(len(ragged), 'row')} do not: "
            f"{listing(ragged)}. Check data.delimiter (it is {delimiter!r}), and set "
            f"data.quoting={str(not layout.quoting).lower()} if the file "
            + ("quotes no cells." if layout.quoting else 'puts cells in "quotes".')
        )
    columns = list(zip(*records, strict=True)) or [() for _ in names]
    return Rows(
        path,
        names,
        _by_name(names, columns),
        places,
        header=layout.header and layout.columns is None,
        notices=mojibake(path, layout.encoding),
    )


def _quoted(path: Path, text: str, delimiter: str, key: str) -> tuple[list[list[str]], list[int]]:
    before = csv.field_size_limit(2**31 - 1)
    records, places, last = [], [], 0
    # `splitlines` would also split inside of texts; a reader wants the ends of lines kept.
    ends = "\r" if "\n" not in text and "\r" in text else "\n"
    lines = (line + ends for line in text.split(ends))
    if text.endswith(ends):
        lines = (line + ends for line in text[: -len(ends)].split(ends))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for record in reader:
            if record:
                records.append(record)
                places.append(last + 1)
            last = reader.line_num
    except csv.Error as error:
        raise UserError(
            f"{key}: {path}, line {last + 1:,}: the quotes do not pair up ({error}). If the file "
            'quotes no cells, set data.quoting=false; else write a quote inside a cell twice ("").'
        ) from error
    finally:
        csv.field_size_limit(before)
    return records, places


def _names(
    path: Path, first: Sequence[str], layout: Layout, delimiter: str, key: str
) -> tuple[str, ...]:
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


def _by_name(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> dict[str, Sequence[Any]]:
    # The first of two columns of one name wins here; `table` refuses to choose such a name.
    result: dict[str, Sequence[Any]] = {}
    for name, column in zip(names, columns, strict=True):
        result.setdefault(name, column)
    return result


def _jsonl(path: Path, text: str, key: str) -> Rows:
    records, places = [], []
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{key}: {path}, line {number:,} is no JSON: {_fault(error)}. Each line must "
                'hold one object such as {"text": "...", "label": "..."}; for one list of objects '
                "set data.format=json."
            ) from error
        records.append(record)
        places.append(number)
    return _objects(path, records, places, "line", key)


def _json(path: Path, text: str, key: str) -> Rows:
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" in line {error.lineno:,}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(
            f"{key}: {path} is no JSON: {_fault(error)}{where}. For one object a "
            "line set data.format=jsonl."
        ) from error
    if not isinstance(records, list):
        raise UserError(
            f"{key}: {path} must hold one list of objects such as "
            '[{"text": "...", "label": "..."}]. '
            f"Received: {type(records).__name__}."
        )
    return _objects(path, records, list(range(1, len(records) + 1)), "row", key)


def _fault(error: Exception) -> str:
    """Say in words what the JSON reader met."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.colno:,}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "a number in it has too many digits"


def _objects(path: Path, records: list, places: list[int], unit: str, key: str) -> Rows:
    wrong = [n for n, record in zip(places, records, strict=True) if not isinstance(record, dict)]
    if wrong:
        raise UserError(
            f"{key}: {path}, {unit} {listing(wrong)}: each {unit} must hold an object such as "
            '{"text": "...", "label": "..."}.'
        )
    names = tuple(dict.fromkeys(name for record in records for name in record))
    cells = {name: [record.get(name) for record in records] for name in names}
    return Rows(path, names, cells, places, unit)


def _parquet(path: Path, key: str) -> Rows:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"{key}: Parquet files are read with pyarrow, which is not installed: pip install "
            "pyarrow"
        ) from error
    try:
        data = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = re.sub(r"\b\w+Exception: ", "", str(error).splitlines()[0]).rstrip(". ")
        raise UserError(
            f"{key}: {path} is no Parquet file, or broken ({reason}). Fetch or write it again."
        ) from error
    names = tuple(data.column_names)
    columns = [column.to_pylist() for column in data.columns]
    return Rows(path, names, _by_name(names, columns), list(range(1, data.num_rows + 1)), "row")
