"""Files of answers, written row by row: JSON Lines, CSV and Parquet."""

from __future__ import annotations

import base64
import csv
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasft.errors import UserError
from kerasft.system.files import written_whole

SUFFIXES = (".csv", ".jsonl", ".parquet")
SIDES = ("left", "top", "right", "bottom")
# A column of reasons, which is empty where all is well.
ERROR = "error"

Row = Mapping[str, Any]


def check_output(output: str | None) -> None:
    """Refuse a file whose format nobody can guess, or needs what is not there."""
    if output is None:
        return
    if not output.endswith(SUFFIXES):
        raise UserError(f"--output must end in .csv, .jsonl or .parquet. Received: {output!r}.")
    if output.endswith(".parquet"):
        _pyarrow()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet files are written with pyarrow, which is not installed: pip install pyarrow. "
            "Or write .csv or .jsonl."
        ) from error
    return pyarrow


@contextmanager
def written(
    path: str | Path, items: Sequence[str] = ()
) -> Iterator[Callable[[Sequence[Row]], None]]:
    """Write rows to a file beside its place, and rename it into place at the end.

    Args:
        path: The file; its suffix says the form. A CSV file has a row for each object of an
            image. Bytes are in JSON as TensorFlow Serving writes them, in Parquet as they are,
            and not in CSV.
        items: What is known of each object, where rows have `objects`.

    Yields:
        A function that writes rows. Those of one file have the same columns; a value that a row
        lacks is empty.

    Raises:
        UserError: If it cannot be written.

    Example:
        >>> with written("answers.jsonl") as write:
        ...     write([{"input": "a", "label": "good"}])
    """
    form = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}[Path(path).suffix]
    with written_whole(path) as part, form(part, items) as write:
        yield write


@contextmanager
def _json_lines(part: Path, items: Sequence[str]) -> Iterator[Callable[[Sequence[Row]], None]]:
    # A path may hold bytes that are no UTF-8; they are spelled out.
    with open(part, "w", encoding="utf-8", errors="backslashreplace") as file:
        yield lambda rows: file.writelines(as_json(row) + "\n" for row in rows)


def as_json(row: Row, encoding: str | None = "utf-8") -> str:
    """Return a row as JSON; what an encoding lacks is escaped as JSON has it.

    Args:
        row: The row. Bytes are written as TensorFlow Serving writes them.
        encoding: Of where it is written to.
    """
    plain = {name: {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
             for name, value in row.items()}  # fmt: skip
    line = json.dumps(plain, ensure_ascii=False)
    try:
        line.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return json.dumps(plain)
    return line


@contextmanager
def _csv(part: Path, items: Sequence[str]) -> Iterator[Callable[[Sequence[Row]], None]]:
    with open(part, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer: csv.DictWriter | None = None
        # Rows without an answer do not say which columns there are.
        waiting: list[dict[str, Any]] = []

        def write(rows: Sequence[Row]) -> None:
            nonlocal writer
            for row in rows:
                for one in by_object([row], items):
                    waiting.append(flat({k: v for k, v in one.items() if not isinstance(v, bytes)}))
                if writer is None and row.get(ERROR):
                    continue
                if writer is None:
                    writer = csv.DictWriter(file, list(waiting[-1]))
                    writer.writeheader()
                for made in waiting:
                    writer.writerow({name: made.get(name) for name in writer.fieldnames})
                waiting.clear()

        yield write


def flat(row: Row) -> dict[str, Any]:
    """Return a row of single values: a column for each value of a dict, lists joined by commas.

    Example:
        >>> flat({"input": ["a", "b"], "labels": ["x", "y"], "probabilities": {"x": 0.5}})
        {'input': 'a', 'input_pair': 'b', 'labels': 'x,y', 'probabilities_x': 0.5}
    """
    return {name: ",".join("" if one is None else str(one) for one in value)
            if isinstance(value, list | tuple) else value
            for name, value in unfolded(row).items()}  # fmt: skip


def unfolded(row: Row) -> dict[str, Any]:
    """Return a row with a column for each value of a dict, and for each text of a pair."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{name}_{key}": number for key, number in value.items()}
        elif name == "input" and isinstance(value, list | tuple) and len(value) == 2:
            found[name], found[f"{name}_pair"] = value
        else:
            found[name] = value
    return found


def by_object(rows: Sequence[Row], items: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return a row for each object of an answer, and one for an answer without any.

    Args:
        rows: The rows.
        items: What is known of each object; by default what the rows say.
    """
    columns = dict.fromkeys(items or (k for row in rows for one in row.get("objects") or ()
                                      for k in one))  # fmt: skip
    made: list[dict[str, Any]] = []
    for row in rows:
        if "objects" not in row:
            made.append(dict(row))
            continue
        # Where the list was, its columns are.
        names = list(row)
        cut = names.index("objects")
        before, behind = ({n: row[n] for n in part} for part in (names[:cut], names[cut + 1 :]))
        made += [{**before, **_sides(dict.fromkeys(columns, "") | dict(one)), **behind}
                 for one in row["objects"] or [{}]]  # fmt: skip
    return made


def _sides(found: dict[str, Any]) -> dict[str, Any]:
    """Return an object with a column for each side of its box."""
    if "box" not in found:
        return found
    box = found.pop("box") or [""] * len(SIDES)
    return {**found, **dict(zip(SIDES, box, strict=True))}


@contextmanager
def _parquet(part: Path, items: Sequence[str]) -> Iterator[Callable[[Sequence[Row]], None]]:
    """Write rows to Parquet by way of pieces: types are known when all rows have been seen."""
    pyarrow = _pyarrow()
    schemas: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="kerasft-") as folder:

        def piece(number: int) -> Path:
            return Path(folder, f"{number}.parquet")

        def write(rows: Sequence[Row]) -> None:
            if not rows:
                return
            plain = [{name: _encodable(value) for name, value in unfolded(row).items()}
                     for row in rows]  # fmt: skip
            # `from_pylist` takes the columns of the first row alone.
            names = dict.fromkeys(name for row in plain for name in row)
            made = pyarrow.table({name: [row.get(name) for row in plain] for name in names})
            schemas.append(made.schema)
            pyarrow.parquet.write_table(made, piece(len(schemas) - 1))

        yield write
        if not schemas:
            pyarrow.parquet.write_table(pyarrow.table({}), part)
            return
        schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
        schema = pyarrow.schema([_typed(pyarrow, one, items) for one in _error_last(schema)])
        with pyarrow.parquet.ParquetWriter(part, schema) as writer:
            for number in range(len(schemas)):
                rows = pyarrow.parquet.read_table(piece(number)).to_pylist()
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def _error_last(schema: Any) -> list[Any]:
    return sorted(schema, key=lambda one: one.name == ERROR)


def _typed(pyarrow: Any, one: Any, items: Sequence[str]) -> Any:
    """Return a field with a type also where no row had a value."""
    kind = one.type
    if pyarrow.types.is_null(kind):
        kind = pyarrow.string()
    elif pyarrow.types.is_list(kind) and pyarrow.types.is_null(kind.value_type):
        number = pyarrow.float64()
        of = {"score": number, "box": pyarrow.list_(number)}
        parts = [(name, of.get(name, pyarrow.string())) for name in items]
        objects = one.name == "objects" and parts
        kind = pyarrow.list_(pyarrow.struct(parts) if objects else pyarrow.string())
    return pyarrow.field(one.name, kind)


def _encodable(value: Any) -> Any:
    """Return a text without half characters, which Parquet does not hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
