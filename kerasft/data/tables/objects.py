"""Rows of what Python holds: frames, arrays, data sets of `datasets` and of `tf.data`.

What is not installed is not imported: an object says by its attributes what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.data.fingerprint import digest
from kerasft.data.images.arrays import is_image
from kerasft.data.splits import split_name, split_words
from kerasft.data.tables.arrow import rows_of
from kerasft.data.tables.asked import IMAGE, LABEL, Asked
from kerasft.data.tables.reading import Rows, by_name
from kerasft.data.tables.short_floats import shortest
from kerasft.data.tables.streamed import PAIRED, columns_of, is_stream
from kerasft.data.tables.streamed_drawn import drawn_columns_of
from kerasft.errors import UserError
from kerasft.spec import SPLIT_NAMES
from kerasft.system.console import listing

# What examples given as a pair are called, beside images and their labels.
TEXT = "text"
_FORMS = (
    "a pandas or polars DataFrame, a pyarrow.Table, a Dataset or DatasetDict of Hugging Face, a "
    "dict of columns, a pair (inputs, labels) of arrays or lists, a finite tf.data.Dataset, or a "
    "dict of these by split (train, validation, test)"
)


def tables_of(data: Any, asked: Asked | None = None) -> tuple[dict[str, Rows], list[str]]:
    """Return the rows of each split of what was given.

    Args:
        data: See `kerasft.train`.
        asked: Which columns are images and masks; where it says nothing, all arrays are images.

    Returns:
        Rows by split, `train` where the data has no splits; and sentences for the user.

    Raises:
        UserError: If it is nothing that can be read so.
    """
    asked = Asked() if asked is None else asked
    if not (isinstance(data, Mapping) and _is_splits(data)):
        return {"train": rows_in(data, "data", asked)}, []
    found: dict[str, Rows] = {}
    left = []
    for name, table in data.items():
        split = split_name(name)
        if split is None:
            left.append(name)
        elif split in found:
            raise UserError(
                f"data: two of its splits mean {split}. Received: {listing(map(str, data))}. Leave "
                "one of them out."
            )
        elif table is not None:
            found[split] = rows_in(table, f"data[{name!r}]", asked)
    _require_one_range(asked.scales)
    if "train" not in found:
        raise UserError(
            f"data: there is no split to train on. Received: {listing(map(str, data), 10)}. Splits "
            f"are called {split_words()}."
        )
    notices = [
        f"What data brings beside {', '.join(found)} was left out: {listing(map(repr, left), 10)}."
    ] * bool(left)
    return {name: found[name] for name in SPLIT_NAMES if name in found}, notices


def _require_one_range(scales: Mapping[str, int]) -> None:
    """Refuse splits of which one has pixels from 0 to 1, and another from 0 to 255."""
    first: dict[str, str] = {}
    for where, scale in scales.items():
        split, _, column = where.rpartition(", column ")
        other = first.setdefault(column, where)
        if scale != scales[other]:
            raise UserError(
                "The pixels of all splits must be in one range, from 0 to 1 or from 0 to 255. "
                f"Received: 0 to {255 // scales[other]} in {other}, and 0 to {255 // scale} in "
                f"{split}."
            )


def _is_splits(data: Mapping[Any, Any]) -> bool:
    named = [name for name in data if isinstance(name, str) and split_name(name)]
    return bool(named) and all(_is_table(table) or table is None for table in data.values())


def _is_table(value: Any) -> bool:
    """Whether a value holds whole examples, and is not one column of them."""
    return (
        isinstance(value, (Mapping, tuple)) or is_stream(value) or _is_hugging_face(value)
        or _is_frame(value) or _is_arrow(value) or _is_records(value)
    )  # fmt: skip


def _is_hugging_face(value: Any) -> bool:
    return hasattr(value, "with_format") and hasattr(value, "features")


def _is_frame(value: Any) -> bool:
    return hasattr(value, "iloc") and hasattr(value, "columns")


def _is_arrow(value: Any) -> bool:
    named = hasattr(value, "column_names") or hasattr(value, "columns")
    return named and hasattr(value, "__arrow_c_stream__")


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def rows_in(data: Any, called: str, asked: Asked) -> Rows:
    """Return the rows of one split.

    Args:
        data: Frame, arrays, or whatever it is.
        called: What it is called in messages, such as `"data['test']"`.
        asked: Which columns are images and masks.

    Raises:
        UserError: If it is none of these, or its columns differ in length.
    """
    if _is_hugging_face(data):
        if not hasattr(data, "__len__"):
            raise UserError(
                f"{called} must know all of its examples. Received: {_kind(data)}, which streams "
                "them. Load it without streaming=True."
            )
        table = data.with_format("arrow")[:] if len(data) else None
        rows = None if table is None else rows_of(table, called, range(len(data)))
    elif _is_frame(data):
        rows = _of_frame(data, called, asked)
    elif _is_arrow(data):
        import pyarrow

        table = pyarrow.table(data)
        rows = rows_of(table, called, range(table.num_rows))
    elif is_stream(data):
        rows = _of_stream(data, called, asked)
    elif _is_records(data):
        names = dict.fromkeys(name for record in data for name in record)
        rows = _of_columns({n: [record.get(n) for record in data] for n in names}, called, asked)
    elif isinstance(data, Mapping):
        rows = _of_columns(data, called, asked)
    elif isinstance(data, tuple):
        rows = _of_pair(data, called, asked)
    else:
        advice = ""
        if isinstance(data, str) or hasattr(data, "__fspath__"):
            advice = ' A file is named in the overrides: ["data=table", "data.path=FILE", ...].'
        raise UserError(f"{called} must be {_FORMS}. Received: {_kind(data)}.{advice}")
    if rows is None or not len(rows):
        raise UserError(f"{called} holds no examples. Received: {_kind(data)}.")
    return rows


def _kind(data: Any) -> str:
    kind = type(data)
    home = kind.__module__.partition(".")[0]
    return kind.__name__ if home == "builtins" else f"{home}.{kind.__name__}"


def _of_frame(frame: Any, called: str, asked: Asked) -> Rows:
    names = tuple(str(name) for name in frame.columns)
    columns = []
    for place, name in enumerate(names):
        column = frame.iloc[:, place]
        missing = column.isna()
        cells = cells_of(column.to_numpy(), f"{called}, column {name!r}")
        columns.append([None if gone else cell for cell, gone in zip(cells, missing, strict=True)])
    # Their labels lead from predictions back to the rows.
    places = [str(label) for label in frame.index]
    if len(set(places)) < len(places):
        places = list(map(str, range(len(places))))
    columns = asked.encoded(names, columns, called)
    return Rows(called, names, by_name(names, columns), places, "row")


def _of_columns(data: Mapping[Any, Any], called: str, asked: Asked) -> Rows:
    data = asked.flat(data)
    names = tuple(data)
    columns = [cells_of(values, f"{called}, column {name!r}") for name, values in data.items()]
    lengths = {name: len(column) for name, column in zip(names, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise UserError(
            f"{called}: all columns must be equally long. Received: "
            f"{listing(f'{name} with {length:,}' for name, length in lengths.items())}."
        )
    count = next(iter(lengths.values()), 0)
    columns = asked.encoded(names, columns, called)
    return Rows(called, names, by_name(names, columns), range(count), "row")


def _of_pair(data: tuple, called: str, asked: Asked) -> Rows:
    if len(data) != 2 or all(isinstance(part, tuple) and len(part) == 2 for part in data):
        raise UserError(
            f"{called}: a tuple must be a pair (inputs, labels). Received: a tuple of {len(data)}"
            + (" tuples" if all(isinstance(part, tuple) for part in data) else "")
            + '. Give splits as {"train": (x, y), "test": (x, y)}; weights of examples are not '
            "taken."
        )
    if asked.drawn:
        return _of_columns(asked.paired(data, called), called, asked)
    cells = cells_of(data[0], f"{called}, inputs")
    known = next((cell for cell in cells if cell is not None), None)
    image = is_image(known) or isinstance(known, bytes)
    if not image and not isinstance(known, (str, tuple)):
        raise UserError(
            f"{called}: inputs must be texts, or images [examples, height, width, channels]. "
            f"Received: {_kind(known)}{_length(known)}."
        )
    columns = {IMAGE if image else TEXT: data[0], LABEL: data[1]}
    return _of_columns(columns, called, asked)


def _length(value: Any) -> str:
    return f" of {len(value):,} values" if isinstance(value, list) else ""


def cells_of(values: Any, called: str) -> list[Any]:
    """Return a column as a list of plain values; images stay arrays.

    Args:
        values: A list, an array, a tensor, or a column of a frame.
        called: What it is called in messages.

    Raises:
        UserError: If it is no column.

    Example:
        >>> cells_of(np.float32([0.1, 0.2]), "data")
        [0.1, 0.2]
    """
    if hasattr(values, "isna") and hasattr(values, "to_numpy"):
        gone = list(values.isna())
        cells = cells_of(values.to_numpy(), called)
        return [None if g else cell for g, cell in zip(gone, cells, strict=True)]
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
        raise UserError(
            f"{called} must be a list or array with an entry for each example. Received: "
            f"{_kind(values)}."
        )
    if not isinstance(values, (list, tuple)):
        values = np.asarray(values)
        if values.ndim == 0:
            raise UserError(f"{called} must have an entry for each example. Received: a scalar.")
        if values.ndim == 2 and values.shape[1] == 1:  # as Keras' own data sets have labels
            values = values[:, 0]
        if values.ndim >= 3:
            return list(values)
        if values.dtype in (np.float32, np.float16):
            return shortest(values.tolist(), str(values.dtype))
        values = values.tolist()
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    """Return a value as Python's own, texts decoded; images stay as they are."""
    if isinstance(value, bytes):
        try:  # no encoded image is UTF-8
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, np.ndarray) and not is_image(value):
        return [_plain(one) for one in value.tolist()]
    if hasattr(value, "numpy") and not isinstance(value, np.ndarray):  # a tensor
        return _plain(value.numpy())
    return str(value) if hasattr(value, "__fspath__") else value


def _of_stream(data: Any, called: str, asked: Asked) -> Rows:
    read, found = drawn_columns_of(data, called, asked) if asked.drawn else columns_of(data, called)
    asked.scales.update(
        {f"{called}, column {name!r}": scale for name, scale in found.items()}
    )
    columns = {name: list(map(_plain, cells)) for name, cells in read.items()}
    if PAIRED in columns:
        paired = columns.pop(PAIRED)
        columns = {TEXT if isinstance(paired[0], str) else IMAGE: paired, **columns}
    marks = [_mark(row) for row in zip(*columns.values(), strict=True)]
    # A data set may come in another order each time: an example is known by what it holds.
    order = sorted(range(len(marks)), key=marks.__getitem__)
    places: list[str] = []
    times: dict[str, int] = {}
    for i in order:
        times[marks[i]] = times.get(marks[i], 0) + 1
        places.append(marks[i][:16] + (f"-{times[marks[i]]}" if times[marks[i]] > 1 else ""))
    cells = {name: [column[i] for i in order] for name, column in columns.items()}
    # As `keras.utils.image_dataset_from_directory` says them.
    names = getattr(data, "class_names", None)
    classes = {LABEL: tuple(map(str, names))} if names and LABEL in columns else {}
    return Rows(called, tuple(columns), cells, places, "row", classes=classes)


def _mark(row: Sequence[Any]) -> str:
    return digest(*(one.hex() if isinstance(one, bytes) else repr(one) for one in row))
