"""Examples as arrays, in memory or mapped from a file, from which batches are gathered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.rows import Column, Rows
from kerasft.system.files import read_json, write_json

# The group of columns with a value for each token of a text.
TOKENS = "tokens"


@dataclass(frozen=True)
class Store:
    """What a network takes of examples, and where that is kept.

    Args:
        inputs: The examples, a column for each input of the network.
        key: A digest of the content, or `""` where it is not kept.
        views: How many variants of each example there are; variant `v` of an example stands
            `v * M / views` rows after the first.

    Example:
        >>> Store.of({"images": np.zeros((3, 8, 8, 3), "uint8")}).gather(np.array([2, 0])).keys()
        dict_keys(['images'])
    """

    inputs: Rows
    key: str = ""
    views: int = 1

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Store:
        """Return a store in memory of columns, or of arrays with one row an example."""
        return cls(Rows.of(columns))

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> np.ndarray | None:
        """How many tokens each example has, `int64[N]`, where it has any."""
        return self.inputs.lengths(TOKENS)

    @property
    def longest(self) -> int:
        """The most tokens that the network takes; 0 where there are none."""
        return max((column.longest for column in self.inputs.columns.values()), default=0)

    def take(self, indices: np.ndarray, key: str = "") -> Store:
        """Return the examples at `indices` of this store."""
        return replace(self, inputs=self.inputs.take(indices), key=key)

    def gather(self, indices: np.ndarray, view: int | np.ndarray = 0) -> dict[str, np.ndarray]:
        """Return examples as one batch.

        Args:
            indices: `int64[batch]`.
            view: Which variant of them, or of each of them, counted on for ever.

        Returns:
            An array by name, see `Rows.gather`.
        """
        rows = self.inputs.index[indices]
        if self.views > 1:
            each = len(next(iter(self.inputs.columns.values()))) // self.views
            rows = rows + view % self.views * each
        return self.inputs.at(rows)

    def specs(self) -> dict[str, tuple[np.dtype, list[int | None]]]:
        """Return type and shape of each array of a batch."""
        return self.inputs.specs()


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
    ends = np.cumsum(np.concatenate(lengths), dtype="int64") if lengths else None
    return Store.of({
        name: _column(np.concatenate(arrays[name]), form, ends, longest)
        for name, form in forms.items()
    })  # fmt: skip


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
    ends = np.cumsum(np.load(file), dtype="int64") if file.exists() else None
    columns = {}
    for name, (dtype, shape, ragged, fill) in about["columns"].items():
        kind = np_dtype(dtype)
        flat = np.memmap(folder / f"{name}.bin", "uint8", "r")
        # Without the class of maps, which costs time at each look-up.
        values = np.asarray(flat).view(kind).reshape([-1, *shape])
        form = Form(dtype, tuple(shape), ragged, fill)
        columns[name] = _column(values, form, ends, about["longest"])
    return Store.of(columns)


def _column(values: np.ndarray, form: Form, ends: np.ndarray | None, longest: int) -> Column:
    if not form.ragged:
        return Column(values)
    if ends is None:  # there is no row
        ends = np.zeros(0, "int64")
    return Column(values, ends, form.fill, TOKENS, longest)


def np_dtype(name: str) -> np.dtype:
    """Return a NumPy type by name, those of half precision too."""
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, name))
