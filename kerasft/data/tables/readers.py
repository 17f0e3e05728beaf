"""Files of rows, read into columns without changing a character."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kerasft.data.current_read import begins
from kerasft.data.tables import arrow
from kerasft.data.tables.delimited import delimited, lines_of
from kerasft.data.tables.encodings import decode
from kerasft.data.tables.labelled_lines import PREFIX, labelled_lines
from kerasft.data.tables.reading import Layout, Rows, shown
from kerasft.errors import UserError, nearest
from kerasft.system.console import listing

SUFFIXES: dict[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_PACKED = dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip"), "Unpack it first.") | (
    dict.fromkeys((".xls", ".xlsx", ".ods"), "Save the sheet as CSV (UTF-8) or Parquet.")
)
_BINARY = {"parquet": arrow.parquet, "arrow": arrow.stream}
FORMATS: tuple[str, ...] = ("csv", "tsv", "jsonl", "json", "parquet", "arrow", "lines")


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
    require_file(path, key)
    form = format_of(path, layout.format, key)
    begins(path)
    if form in _BINARY:
        rows = _BINARY[form](path, key)
    else:
        text = decode(path, layout.encoding, key)
        if form == "jsonl":
            rows = json_lines(path, text, key)
        elif form == "json":
            rows = _json(path, text, key)
        elif form == "lines":
            rows = labelled_lines(path, text, layout, key)
        else:
            delimiter = layout.delimiter or ("\t" if form == "tsv" else ",")
            rows = delimited(path, text, layout, delimiter, key)
    if not len(rows):
        raise no_rows(rows, key)
    return rows


def no_rows(rows: Rows, key: str) -> UserError:
    """Return the error of a file without rows.

    Args:
        rows: What was read of it.
        key: The config key behind the path.
    """
    said = f"{key}: {rows.path} holds no rows."
    if rows.names and rows.unit == "line":
        said += (
            f" Its first line, {shown(rows.names)}, was taken for the names of the columns; if it "
            "is an example, set data.header=false."
        )
    return UserError(said)


def require_file(path: Path, key: str) -> None:
    """Refuse a folder where a file of rows is wanted."""
    if path.is_dir():
        raise UserError(
            f"{key} must be a file of one of the formats {list(FORMATS)}. Received: {path}, a "
            "folder. For a folder of images choose data=image_folder."
        )


def format_of(path: Path, form: str, key: str) -> str:
    """Return how a file is written, as the user or its suffix says."""
    if form == "auto":
        if found := SUFFIXES.get(path.suffix.lower()):
            return found
        if path.suffix.lower() in _PACKED:
            raise UserError(
                f"{key}: {path.name} is compressed, and compressed tables are not supported. "
                f"{_PACKED[path.suffix.lower()]} If only its name is wrong, set data.format."
            )
        with open(path, "rb") as file:
            if file.read(len(PREFIX)) == PREFIX.encode():
                return "lines"
        raise UserError(
            f"{key}: the suffix of {path.name} does not say how the file is written; known are "
            f"{', '.join(SUFFIXES)}. Say it with data.format, one of {list(FORMATS)}; lines "
            "are those of a label and a text, with a blank between them."
        )
    if form not in FORMATS:
        raise UserError(
            f"data.format must be auto or one of {list(FORMATS)}. Received: data.format={form!r}."
            + nearest(form, FORMATS)
        )
    return form


def json_lines(
    path: Path, text: str, key: str, before: int = 0, *, twice: Twice | None = None,
    more: bool = False,
) -> Rows:
    """Read an object a line.

    Args:
        path: The file, for messages.
        text: Whole lines of it.
        key: The config key behind the path.
        before: How many lines of the file went before.
        twice: Remembers names that an object holds twice, for all parts of a file.
        more: Whether more of the file follows.

    Raises:
        UserError: If a line holds something else.
    """
    records, places = [], []
    twice = twice or Twice()
    decode = json.JSONDecoder(object_pairs_hook=twice).decode  # `loads` makes one each time
    for number, line in enumerate(lines_of(text), before + 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line) if line.startswith("\ufeff") else decode(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{key}: {path}, line {number:,} is no JSON: {_fault(error)}. Each line must "
                'hold one object such as {"text": "...", "label": "..."}; for one list of objects '
                "set data.format=json."
            ) from error
        records.append(record)
        places.append(number)
        if twice.names:
            twice.place(f"line {number:,}")
    return _objects(path, records, places, "line", key, () if more else twice.notices(path))


def names_in(text: str) -> Iterator[str]:
    """Yield the names in objects of JSON, one a line; what `json_lines` refuses counts for none."""
    decode = json.JSONDecoder().decode
    before: tuple[str, ...] = ()
    for line in lines_of(text):
        with suppress(ValueError, RecursionError, TypeError):
            names = tuple(decode(line))
            if names != before:
                yield from (name for name in names if isinstance(name, str))
            before = names


def _json(path: Path, text: str, key: str) -> Rows:
    twice = Twice()
    try:
        records = json.loads(text, object_pairs_hook=twice)
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
    twice.place("the file")
    return _objects(
        path, records, list(range(1, len(records) + 1)), "row", key, twice.notices(path)
    )


class Twice:
    """Makes objects of JSON, and remembers names that are in one of them more than once."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.found: list[str] = []

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            self.names += [name for name, count in counts.items() if count > 1]
        return made

    def place(self, where: str) -> None:
        """Note where the last names were found."""
        self.found += [f"{name[:40]!r} in {where}" for name in self.names]
        self.names = []

    def notices(self, path: Path) -> tuple[str, ...]:
        """Return a sentence for the user, where there were any."""
        return (
            f"{path}: objects hold a name more than once, of which the last counts: "
            f"{listing(self.found)}.",
        ) * bool(self.found)


def _fault(error: Exception) -> str:
    """Say in words what the JSON reader met."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.colno:,}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "a number in it has too many digits"


def _objects(
    path: Path, records: list, places: list[int], unit: str, key: str, notices: tuple[str, ...]
) -> Rows:
    wrong = [n for n, record in zip(places, records, strict=True) if not isinstance(record, dict)]
    if wrong:
        raise UserError(
            f"{key}: {path}, {unit} {listing(wrong)}: each {unit} must hold an object such as "
            '{"text": "...", "label": "..."}.'
        )
    return rows_of_objects(path, records, places, unit, notices)


def rows_of_objects(
    path: Path, records: Sequence[Mapping[str, Any]], places: Sequence[int], unit: str,
    notices: tuple[str, ...] = (),
) -> Rows:
    """Return objects by column; a name that one of them has not is `None` there."""
    names = tuple(dict.fromkeys(name for record in records for name in record))
    cells = {name: [record.get(name) for record in records] for name in names}
    return Rows(path, names, cells, places, unit, notices=notices)
