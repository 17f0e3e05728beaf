"""Parquet and Arrow: columns converted when they are asked for, and the classes' names in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasft.data.tables.reading import Rows, by_name
from kerasft.data.tables.short_floats import shortest
from kerasft.errors import UserError

# Under this key of a schema the library `datasets` describes the columns.
_DESCRIBED = b"huggingface"
# A description is small; of a longer one the names of classes are not worth their reading.
_MOST_BYTES = 16_000_000


def parquet(path: Path, key: str) -> Rows:
    """Read a Parquet file.

    Args:
        path: The file.
        key: The config key behind the path, for messages.

    Raises:
        UserError: If it is none.
    """
    pyarrow = _library("Parquet", key)

    try:
        table = pyarrow.parquet.read_table(path)
        table.validate(full=True)  # texts need not be UTF-8
        return rows_of(table, path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _broken(path, "Parquet", key, error) from error


def stream(path: Path, key: str) -> Rows:
    """Read a file of Arrow's IPC formats, as `save_to_disk` of the library `datasets` writes them.

    Args:
        path: The file.
        key: The config key behind the path, for messages.

    Raises:
        UserError: If it is none.
    """
    pyarrow = _library("Arrow", key)

    try:
        # Mapped, not read: images that a split does not use stay on the disk.
        with pyarrow.memory_map(str(path)) as file:
            try:
                table = pyarrow.ipc.open_stream(file).read_all()
            except pyarrow.ArrowInvalid:  # with a footer, as Feather has it
                file.seek(0)
                table = pyarrow.ipc.open_file(file).read_all()
            table.validate(full=True)  # offsets may point anywhere
            return rows_of(table, path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _broken(path, "Arrow", key, error) from error


def parts(path: Path, form: str, key: str, most: int) -> Iterator[Rows]:
    """Read a Parquet or Arrow file a part at a time.

    Args:
        path: The file.
        form: `"parquet"` or `"arrow"`.
        key: The config key behind the path, for messages.
        most: About so many bytes of cells make up a part.

    Raises:
        UserError: If it is none.
    """
    pyarrow = _library(form.capitalize(), key)
    read, before = _parquet_tables if form == "parquet" else _arrow_tables, 0
    try:
        for table in read(pyarrow, path, most):
            table.validate(full=True)  # texts need not be UTF-8, and offsets may point anywhere
            places = range(before + 1, before + 1 + table.num_rows)
            before += table.num_rows
            yield rows_of(table, path, places)
    except (pyarrow.ArrowException, OSError) as error:
        raise _broken(path, form.capitalize(), key, error) from error


def _parquet_tables(pyarrow: Any, path: Path, most: int) -> Iterator[Any]:
    with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
        groups = range(file.metadata.num_row_groups)
        size = sum(file.metadata.row_group(one).total_byte_size for one in groups)
        rows = max(file.metadata.num_rows, 1)
        if size <= most:
            yield file.read()
            return
        for batch in file.iter_batches(batch_size=max(most * rows // size, 1)):
            yield pyarrow.Table.from_batches([batch]).replace_schema_metadata(
                file.schema_arrow.metadata
            )


def _arrow_tables(pyarrow: Any, path: Path, most: int) -> Iterator[Any]:
    with pyarrow.memory_map(str(path)) as file:
        try:
            reader: Any = pyarrow.ipc.open_stream(file)
            batches: Iterator[Any] = iter(reader)
        except pyarrow.ArrowInvalid:  # with a footer, as Feather has it
            file.seek(0)
            reader = pyarrow.ipc.open_file(file)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        none = True
        for batch in batches:
            none = False
            step = max(most * batch.num_rows // max(batch.nbytes, 1), 1)
            for start in range(0, batch.num_rows, step):
                yield pyarrow.Table.from_batches([batch.slice(start, step)])
        if none:
            yield reader.schema.empty_table()


def is_binary(path: Path, form: str, column: object) -> bool:
    """Whether a column holds bytes, or objects with some, as the library `datasets` has images.

    Args:
        path: The file.
        form: `"parquet"` or `"arrow"`.
        column: The name of the column, or its number.

    Returns:
        Whether it does; `False` also for a file that cannot be read, which its reader tells.
    """
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        return False
    try:
        if form == "parquet":
            schema = pyarrow.parquet.read_schema(path)
        else:
            with pyarrow.memory_map(str(path)) as file:
                try:
                    schema = pyarrow.ipc.open_stream(file).schema
                except pyarrow.ArrowInvalid:
                    file.seek(0)
                    schema = pyarrow.ipc.open_file(file).schema
        kinds = [field.type for field in schema if field.name == column]
        if isinstance(column, int) and not kinds and 0 <= column < len(schema):
            kinds = [schema.field(column).type]
    except (pyarrow.ArrowException, OSError):
        return False
    wide = [kind.field("bytes").type if pyarrow.types.is_struct(kind) and
            kind.get_field_index("bytes") >= 0 else kind for kind in kinds]  # fmt: skip
    return any(map(pyarrow.types.is_binary, wide)) or any(map(pyarrow.types.is_large_binary, wide))


def _library(form: str, key: str) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"{key}: {form} files are read with pyarrow, which is not installed: pip install "
            "pyarrow"
        ) from error
    return pyarrow


def rows_of(table: Any, path: Path | str, places: Sequence[Any] | None = None) -> Rows:
    """Return a `pyarrow.Table` as rows.

    Args:
        table: The table.
        path: The file that it was read from, or what it is called in messages.
        places: What each row is called; its number from 1 without.
    """
    names = tuple(table.column_names)
    return Rows(
        path, names, _Columns(by_name(names, table.columns)),
        list(range(1, table.num_rows + 1)) if places is None else places, "row",
        classes=described_classes(table.schema.metadata),
    )  # fmt: skip


class _Columns(Mapping[str, list[Any]]):
    """The cells of each column, as Python's values once they are asked for."""

    def __init__(self, columns: Mapping[str, Any]):
        self.columns = columns
        self.read: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self.read:
            self.read[name] = _cells(self.columns[name])
        return self.read[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


def _cells(column: Any) -> list[Any]:
    kind, cells = column.type, column.to_pylist()
    while hasattr(kind, "value_type"):  # lists, and dictionaries of values
        kind = kind.value_type
    narrow = {"float": "float32", "halffloat": "float16"}.get(str(kind))
    return shortest(cells, narrow) if narrow else cells


def described_classes(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes that a schema describes, by column.

    Args:
        metadata: What the schema says beside its columns. It may come from anywhere: what is no
            such description counts as none.

    Returns:
        The names in the order of their numbers. Columns within others are joined by dots, such as
        `"objects.category"`.

    Example:
        >>> described_classes({b"huggingface": b'''{"info": {"features": {
        ...     "label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}}}'''})
        {'label': ('ant', 'bee')}
    """
    written = (metadata or {}).get(_DESCRIBED, b"")
    if not written or len(written) > _MOST_BYTES:
        return {}
    try:
        features = json.loads(written)["info"]["features"]
        return dict(_classes("", features))
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _classes(name: str, feature: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    if isinstance(feature, list) and len(feature) == 1:  # how lists were once written
        yield from _classes(name, feature[0])
    elif isinstance(feature, dict):
        kind = feature.get("_type")
        names = feature.get("names")
        if kind == "ClassLabel" and isinstance(names, list):
            if names and all(isinstance(one, str) for one in names):
                yield name, tuple(names)
        elif isinstance(kind, str):
            yield from _classes(name, feature.get("feature"))
        else:
            for inner, one in feature.items():
                yield from _classes(f"{name}.{inner}" if name else inner, one)


def _broken(path: Path, form: str, key: str, error: Exception) -> UserError:
    lines = str(error).splitlines() or [type(error).__name__]
    reason = re.sub(r"\b\w+Exception: ", "", lines[0]).rstrip(". ")
    return UserError(
        f"{key}: {path} is no {form} file, or broken ({reason}). Fetch or write it again."
    )
