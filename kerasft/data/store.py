"""Examples as arrays, in memory or mapped from a file, from which batches are gathered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.rows import Column, Rows, constant
from kerasft.system.files import read_json, write_json

# The group of columns with a value for each token of a text.
TOKENS = "tokens"
# Values that are written in one go.
AT_ONCE = 1 << 20


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
        kept: The type that whole numbers are kept in, where a smaller one holds them all.
    """

    dtype: str
    shape: tuple[int, ...]
    ragged: bool = False
    fill: float = 0
    kept: str = ""

    @property
    def may_be_constant(self) -> bool:
        """Whether the values may all be the same: masks, and segments of single texts, are."""
        return self.ragged and not self.shape and np.dtype(np_dtype(self.dtype)).kind in "iu"

    @property
    def stored(self) -> str:
        """The type that the values are kept in."""
        return self.kept or self.dtype

    def fitted(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return values in the type that they are kept in.

        Raises:
            ValueError: If it does not hold them.
        """
        if self.kept and values.size:
            limits = np.iinfo(self.kept)
            if values.min() < limits.min or values.max() > limits.max:
                raise ValueError(
                    f"{name!r} must hold numbers from {limits.min} to {limits.max}. Received: "
                    f"{values.min()} to {values.max()}."
                )
        return values.astype(np_dtype(self.stored), copy=False)


def smallest(most: int) -> str:
    """Return the smallest type that holds whole numbers from 0 on.

    Args:
        most: The largest of them.

    Example:
        >>> smallest(255), smallest(30_521), smallest(250_000)
        ('uint8', 'uint16', 'int32')
    """
    return next(one for one in ("uint8", "uint16", "int32", "int64") if most <= np.iinfo(one).max)


# A piece of rows: an array by column, and for ragged columns the length of each row.
Piece = tuple[Mapping[str, np.ndarray], np.ndarray | None]


def collect(forms: Mapping[str, Form], pieces: Iterable[Piece], longest: int = 0) -> Store:
    """Return a store in memory of rows that come in pieces."""
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in forms}
    lengths: list[np.ndarray] = []
    for values, widths in pieces:
        for name, array in values.items():
            arrays[name].append(forms[name].fitted(name, array))
        if widths is not None:
            lengths.append(widths)
    ends = np.cumsum(np.concatenate(lengths), dtype="int64") if lengths else None
    return Store.of({
        name: _column(_short(np.concatenate(arrays.pop(name)), form), form, ends, longest)
        for name, form in forms.items()
    })  # fmt: skip


def _short(values: np.ndarray, form: Form) -> np.ndarray:
    """Return values, those that are all the same as an array that takes no room."""
    if form.may_be_constant and len(values) and (values == values[0]).all():
        return constant(values[0], len(values), values.dtype)
    return values


def write(
    folder: Path, forms: Mapping[str, Form], pieces: Iterable[Piece], longest: int = 0
) -> None:
    """Write rows that come in pieces into a folder, never holding more than one piece.

    They are appended, not mapped: a full disk is an error here, and would end the process there.
    """
    files = {name: _File(folder / f"{name}.bin", form) for name, form in forms.items()}
    lengths: list[np.ndarray] = []
    try:
        for values, widths in pieces:
            for name, array in values.items():
                files[name].append(forms[name].fitted(name, array))
            if widths is not None:
                lengths.append(widths)
    finally:
        for file in files.values():
            file.close()
    if lengths:
        whole = np.concatenate(lengths)
        np.save(folder / "lengths.npy", whole.astype(smallest(whole.max(initial=0))))
    columns = {n: [f.dtype, list(f.shape), f.ragged, f.fill, f.stored] for n, f in forms.items()}
    same = {name: [int(one), file.count] for name, file in files.items()
            if (one := file.same) is not None}  # fmt: skip
    write_json(folder / "store.json", {"longest": longest, "columns": columns, "constant": same})


class _File:
    """The values of a column, appended; nothing is written while they are all the same."""

    def __init__(self, path: Path, form: Form) -> None:
        self.file, self.form = open(path, "wb"), form  # noqa: SIM115
        self.count = 0
        self.same: Any = None  # the one value that there is so far
        self.begun = not form.may_be_constant

    def append(self, values: np.ndarray) -> None:
        if not self.begun and len(values):
            first = values[0] if self.same is None else self.same
            if (values == first).all():
                self.same = first
            else:
                self.begun, self.same = True, None
                for start in range(0, self.count, AT_ONCE):
                    self._write(np.full(min(AT_ONCE, self.count - start), first, values.dtype))
        self.count += len(values)
        if self.begun:
            self._write(values)

    def _write(self, values: np.ndarray) -> None:
        np.ascontiguousarray(values).view("uint8").tofile(self.file)

    def close(self) -> None:
        self.file.close()
        if self.same is not None:
            Path(self.file.name).unlink()


def read(folder: Path) -> Store:
    """Open what `write` wrote; its arrays are mapped into memory as they are read."""
    about = read_json(folder / "store.json")
    file = folder / "lengths.npy"
    ends = np.cumsum(np.load(file), dtype="int64") if file.exists() else None
    columns = {}
    for name, (dtype, shape, ragged, fill, stored) in about["columns"].items():
        kind = np_dtype(stored)
        form = Form(dtype, tuple(shape), ragged, fill, stored if stored != dtype else "")
        if name in about["constant"]:
            value, count = about["constant"][name]
            values = constant(value, count, kind)
            columns[name] = _column(values, form, ends, about["longest"])
            continue
        flat = np.memmap(folder / f"{name}.bin", "uint8", "r")
        # Without the class of maps, which costs time at each look-up.
        values = np.asarray(flat).view(kind).reshape([-1, *shape])
        columns[name] = _column(values, form, ends, about["longest"])
    return Store.of(columns)


def _column(values: np.ndarray, form: Form, ends: np.ndarray | None, longest: int) -> Column:
    if not form.ragged:
        return Column(values)
    if ends is None:  # there is no row
        ends = np.zeros(0, "int64")
    return Column(values, ends, form.fill, TOKENS, longest, form.dtype if form.kept else "")


def np_dtype(name: str) -> np.dtype:
    """Return a NumPy type by name, those of half precision too."""
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, name))
