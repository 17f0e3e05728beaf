"""Examples as arrays, in memory or mapped from a file, from which batches are gathered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kerasft.data.order import padded
from kerasft.files import read_json, write_json


@dataclass(frozen=True)
class Column:
    """What one input of a network gets.

    Args:
        values: `[M, ...]`; of texts `[sum of lengths, ...]`, all rows end to end.
        ragged: Whether rows have lengths of their own.
        fill: What pads a ragged row.
    """

    values: np.ndarray
    ragged: bool = False
    fill: float = 0


@dataclass(frozen=True)
class Store:
    """Preprocessed examples.

    Args:
        columns: By the name of the network's input.
        rows: `int64[N]`, where each example stands; several may share a row.
        key: What it holds, in one short word, or `""` where it is not kept.
        lengths_of_rows: `int64[M]`, how many positions each row has; `None` without ragged columns.
        longest: The most positions that the network takes.
        views: How many variants of each example there are; variant `v` of an example stands
            `v * M / views` rows after the first.

    Example:
        >>> Store.of({"images": np.zeros((3, 8, 8, 3), "uint8")}).gather(np.array([2, 0])).keys()
        dict_keys(['images'])
    """

    columns: Mapping[str, Column]
    rows: np.ndarray
    key: str = ""
    lengths_of_rows: np.ndarray | None = None
    longest: int = 0
    views: int = 1

    def __post_init__(self) -> None:
        lengths = self.lengths_of_rows
        starts = None if lengths is None else np.concatenate([[0], np.cumsum(lengths)[:-1]])
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def of(cls, values: Mapping[str, np.ndarray]) -> Store:
        """Return a store of arrays with one row an example."""
        count = len(next(iter(values.values())))
        return cls({name: Column(array) for name, array in values.items()}, np.arange(count))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray | None:
        """The length of each example, `int64[N]`, where they have any."""
        return None if self.lengths_of_rows is None else self.lengths_of_rows[self.rows]

    def take(self, rows: np.ndarray, key: str = "") -> Store:
        """Return the examples that stand at `rows` of this store."""
        return replace(self, rows=self.rows[rows], key=key)

    def gather(self, indices: np.ndarray, view: int = 0) -> dict[str, np.ndarray]:
        """Return examples as one batch.

        Args:
            indices: `int64[batch]`.
            view: Which variant of them, counted on for ever.

        Returns:
            An array by name, padded to the next multiple of 4 positions above the longest row.
        """
        rows = self.rows[indices]
        if self.views > 1:
            rows = rows + view % self.views * self._count_of_one_view()
        if self.lengths_of_rows is None:
            return {name: column.values[rows] for name, column in self.columns.items()}
        lengths, starts = self.lengths_of_rows[rows], self._starts[rows]  # type: ignore[attr-defined]
        width = padded_width(lengths, self.longest)
        places = np.arange(width)[None]
        real = places < lengths[:, None]
        where = np.where(real, starts[:, None] + places, 0)
        return {
            name: _padded(column, starts, lengths, width, where, real)
            if column.ragged else column.values[rows]
            for name, column in self.columns.items()
        }

    def _count_of_one_view(self) -> int:
        if self.lengths_of_rows is not None:
            return len(self.lengths_of_rows) // self.views
        return len(next(iter(self.columns.values())).values) // self.views

    def specs(self) -> dict[str, tuple[np.dtype, list[int | None]]]:
        """Return type and shape of each array of a batch."""
        return {
            name: (
                column.values.dtype,
                [None, *([None] if column.ragged else []), *column.values.shape[1:]],
            )
            for name, column in self.columns.items()
        }


def padded_width(lengths: np.ndarray, longest: int) -> int:
    """Return the width of a batch whose rows have these lengths."""
    return int(padded(lengths.max(), longest))


def _padded(
    column: Column, starts: np.ndarray, lengths: np.ndarray, width: int,
    where: np.ndarray, real: np.ndarray,
) -> np.ndarray:
    if column.values.ndim == 1:
        return np.where(real, column.values[where], column.values.dtype.type(column.fill))
    # Wide rows are copied piece by piece: to look up each position would read the padding too.
    made = np.full(
        (len(starts), width, *column.values.shape[1:]), column.fill, column.values.dtype
    )
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        made[row, :length] = column.values[start : start + length]
    return made


@dataclass(frozen=True)
class Form:
    """What a writer must know of a column before its first row.

    Args:
        dtype: A NumPy type by name.
        shape: The shape of a row, of a ragged column that of one position.
        ragged: See `Column`.
        fill: See `Column`.
    """

    dtype: str
    shape: tuple[int, ...]
    ragged: bool = False
    fill: float = 0


# A piece of rows: an array by column, and for ragged columns the length of each row.
Piece = tuple[Mapping[str, np.ndarray], np.ndarray | None]


def collect(forms: Mapping[str, Form], pieces: Iterable[Piece], longest: int = 0) -> Store:
    """Return a store in memory of rows that come in pieces."""
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in forms}
    lengths: list[np.ndarray] = []
    for values, widths in pieces:
        for name, array in values.items():
            arrays[name].append(array.astype(forms[name].dtype, copy=False))
        if widths is not None:
            lengths.append(widths)
    columns = {
        name: Column(np.concatenate(arrays[name]), form.ragged, form.fill)
        for name, form in forms.items()
    }
    return _joined(columns, np.concatenate(lengths) if lengths else None, longest)


def write(
    folder: Path, forms: Mapping[str, Form], pieces: Iterable[Piece], longest: int = 0
) -> None:
    """Write rows that come in pieces into a folder, never holding more than one piece.

    They are appended, not mapped: a full disk is an error here, and would end the process there.
    """
    files = {name: open(folder / f"{name}.bin", "wb") for name in forms}  # noqa: SIM115
    lengths: list[np.ndarray] = []
    try:
        for values, widths in pieces:
            for name, array in values.items():
                form = forms[name]
                np.ascontiguousarray(array.astype(form.dtype, copy=False)).view("uint8").tofile(
                    files[name]
                )
            if widths is not None:
                lengths.append(widths)
    finally:
        for file in files.values():
            file.close()
    if lengths:
        np.save(folder / "lengths.npy", np.concatenate(lengths).astype("int64"))
    columns = {n: [f.dtype, list(f.shape), f.ragged, f.fill] for n, f in forms.items()}
    write_json(folder / "store.json", {"longest": longest, "columns": columns})


def read(folder: Path) -> Store:
    """Open what `write` wrote; its arrays are mapped into memory as they are read."""
    about = read_json(folder / "store.json")
    file = folder / "lengths.npy"
    columns = {}
    for name, (dtype, shape, ragged, fill) in about["columns"].items():
        kind = np_dtype(dtype)
        flat = np.memmap(folder / f"{name}.bin", "uint8", "r")
        # Without the class of maps, which costs time at each look-up.
        values = np.asarray(flat).view(kind).reshape([-1, *shape])
        columns[name] = Column(values, ragged, fill)
    return _joined(columns, np.load(file) if file.exists() else None, about["longest"])


def _joined(columns: Mapping[str, Column], lengths: np.ndarray | None, longest: int) -> Store:
    fixed = [len(c.values) for c in columns.values() if not c.ragged]
    count = fixed[0] if fixed else 0 if lengths is None else len(lengths)
    lengths = None if lengths is None else lengths.astype("int64")
    return Store(columns, np.arange(count), lengths_of_rows=lengths, longest=longest)


def np_dtype(name: str) -> np.dtype:
    """Return a NumPy type by name, those of half precision too."""
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, name))
