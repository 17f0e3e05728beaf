"""Rows: named columns with one row an example, of one shape or of lengths of their own.

One type carries all that belongs to examples: what their labels are, what a network takes, what it
learns, what is kept of its outputs, and what each example adds to a figure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

# Ragged rows are padded to whole fours: fewer shapes for the compiled step. With eights a step
# takes 4 % more (sst2, MiniLM: 16 % of the positions are padding then, 9 % with fours).
MULTIPLE = 4


@dataclass(frozen=True)
class Column:
    """One value, or array of values, of each row.

    Args:
        values: `[M, ...]`; of a ragged column `[sum of lengths, ...]`, all rows end to end.
        ends: `int64[M]`, where each row ends in `values`; `None` where all have one shape.
        fill: What pads a ragged row.
        group: Ragged columns of one group share their lengths, and are padded to one width.
        longest: The most positions of a ragged row, which no padding exceeds; 0 for no limit.
        dtype: The type of the values in a batch, where they are kept in a smaller one.
    """

    values: np.ndarray
    ends: np.ndarray | None = None
    fill: float = 0
    group: str = ""
    longest: int = 0
    dtype: str = ""

    @classmethod
    def ragged(
        cls, rows: Sequence[Any], *, group: str, fill: float = 0, dtype: Any = None,
        shape: tuple[int, ...] = (),
    ) -> Column:
        """Return a ragged column of rows given one by one.

        Args:
            rows: An array or list for each row.
            group: See `Column`, as `fill`.
            dtype: The type of the values; by default that of the rows.
            shape: The shape of one position, for where no row has any.

        Example:
            >>> Column.ragged([[1, 2], [], [3]], group="tags").ends.tolist()
            [2, 2, 3]
        """
        parts = [np.asarray(row, dtype) for row in rows if len(row)]
        empty = np.zeros((0, *shape), dtype or "float32")
        values = np.concatenate(parts) if parts else empty
        return cls(values, np.cumsum([len(row) for row in rows], dtype="int64"), fill, group)

    @property
    def is_ragged(self) -> bool:
        return self.ends is not None

    def __len__(self) -> int:
        return len(self.values) if self.ends is None else len(self.ends)

    def taken(self, values: Any) -> Any:
        """Return some of the values in the type that they have in a batch."""
        return values.astype(self.dtype) if self.dtype else values

    def spans(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where rows of a ragged column begin, and how long they are."""
        assert self.ends is not None
        starts = np.where(rows > 0, self.ends[rows - 1], 0)
        return starts, self.ends[rows] - starts


@dataclass(frozen=True)
class Rows:
    """Named columns, one row an example.

    Args:
        columns: The columns by name, all with as many rows.
        index: `int64[N]`, which row of the columns each example has; several may share one.

    Example:
        >>> boxes = [np.zeros((2, 4)), np.zeros((1, 4))]
        >>> rows = Rows.of({
        ...     "size": np.array([7, 9]), "boxes": Column.ragged(boxes, group="objects", fill=-1)})
        >>> rows.gather(np.array([1, 0]))["boxes"].shape
        (2, 4, 4)
    """

    columns: Mapping[str, Column]
    index: np.ndarray

    @classmethod
    def of(cls, columns: Mapping[str, Column | np.ndarray], count: int | None = None) -> Rows:
        """Return rows of columns, or of arrays with one row an example.

        Args:
            columns: By name.
            count: The number of rows, where there is no column to tell it.

        Raises:
            ValueError: If they have unlike numbers of rows, or a group has unlike lengths.
        """
        made = {n: c if isinstance(c, Column) else Column(np.asarray(c))
                for n, c in columns.items()}  # fmt: skip
        sizes = {name: len(column) for name, column in made.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"Columns must have as many rows each. Received: {sizes}.")
        groups: dict[str, np.ndarray] = {}
        for name, column in made.items():
            if column.ends is None:
                continue
            first = groups.setdefault(column.group, column.ends)
            if first is not column.ends and not np.array_equal(first, column.ends):
                raise ValueError(
                    f"Ragged columns of one group must have the same lengths. Received: {name!r} "
                    f"with other ones than the rest of {column.group!r}."
                )
        return cls(made, np.arange(next(iter(sizes.values()), count or 0)))

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Any]) -> Rows:
        """Return rows of TensorFlow's tensors, the batch first; ragged columns of ragged ones."""
        columns = {}
        for name, value in tensors.items():
            if hasattr(value, "row_splits"):
                ends = value.row_splits.numpy()[1:].astype("int64")
                columns[name] = Column(value.flat_values.numpy(), ends, group=name)
            else:
                columns[name] = Column(value.numpy())
        return cls.of(columns)

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column of one shape as an array, `[N, ...]`."""
        column = self.columns[name]
        if column.ends is not None:
            raise ValueError(f"{name!r} is ragged: take its rows by `row` or `gather`.")
        whole = len(self.index) == len(column.values)
        if whole and np.array_equal(self.index, np.arange(len(self.index))):
            return column.taken(column.values)
        return column.taken(column.values[self.index])

    def take(self, indices: np.ndarray | Sequence[int]) -> Rows:
        """Return the rows at `indices`, in that order; the columns are shared."""
        return replace(self, index=self.index[np.asarray(indices, "int64")])

    def only(self, names: Sequence[str]) -> Rows:
        """Return some of the columns."""
        return replace(self, columns={name: self.columns[name] for name in names})

    def lengths(self, group: str) -> np.ndarray | None:
        """Return how long each row of a group is, `int64[N]`; `None` where there is none such."""
        for column in self.columns.values():
            if column.ends is not None and column.group == group:
                return column.spans(self.index)[1]
        return None

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows as one batch.

        Args:
            indices: `int64[batch]`.

        Returns:
            An array by name; ragged rows are padded to the next multiple of 4 positions above the
            longest of their group.
        """
        return self.at(self.index[indices])

    def at(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows of the columns as one batch, whatever `index` says; see `gather`."""
        grids: dict[str, _Grid] = {}
        made = {}
        for name, column in self.columns.items():
            if column.ends is None:
                made[name] = column.taken(column.values[rows])
                continue
            if column.group not in grids:
                grids[column.group] = _Grid.of(column, rows)
            made[name] = grids[column.group].padded(column)
        return made

    def row(self, i: int) -> dict[str, np.ndarray]:
        """Return one row as an array by name, without padding."""
        number = np.asarray([self.index[i]])
        made = {}
        for name, column in self.columns.items():
            if column.ends is None:
                made[name] = column.taken(column.values[number[0]])
            else:
                (start,), (length,) = column.spans(number)
                made[name] = column.taken(column.values[start : start + length])
        return made

    def digest(self, i: int) -> str:
        """Return the SHA-256 of what a row holds."""
        together = hashlib.sha256()
        for name, value in sorted(self.row(i).items()):
            array = np.asarray(value)
            plain = repr(array.tolist()) if array.dtype.hasobject else None
            together.update(f"{name} {array.dtype} {array.shape} ".encode())
            together.update(plain.encode() if plain is not None else array.tobytes())
        return together.hexdigest()

    def specs(self) -> dict[str, tuple[np.dtype, list[int | None]]]:
        """Return type and shape of each array of a batch, `None` where a side is open."""
        return {
            name: (
                np.dtype(column.dtype or column.values.dtype),
                [None, *([None] if column.is_ragged else []), *column.values.shape[1:]],
            )
            for name, column in self.columns.items()
        }

    @property
    def nbytes(self) -> int:
        """The bytes of the columns."""
        return sum(
            column.values[:1].nbytes if is_constant(column.values) else column.values.nbytes
            for column in self.columns.values()
        )


def constant(value: Any, count: int, dtype: Any) -> np.ndarray:
    """Return an array of one value that takes no room, however long.

    Args:
        value: The value.
        count: How often it comes.
        dtype: Its type.

    Example:
        >>> constant(1, 1_000_000, "int32").strides
        (0,)
    """
    return np.broadcast_to(np.array(value, dtype), (count,))


def is_constant(values: np.ndarray) -> bool:
    """Whether an array is one that `constant` returns."""
    return values.ndim == 1 and values.strides == (0,)


def joined(parts: Sequence[Rows], order: np.ndarray | None = None) -> Rows:
    """Return rows one behind the other.

    Args:
        parts: Rows with the same columns.
        order: `int64[N]`, the place that each of them has in the result; by default as they come.

    Example:
        >>> ones, twos = Rows.of({"n": np.array([1, 1])}), Rows.of({"n": np.array([2])})
        >>> joined([ones, twos], np.array([2, 0, 1]))["n"].tolist()
        [1, 2, 1]
    """
    count = sum(map(len, parts))
    made = {}
    for name, column in parts[0].columns.items():
        if column.ends is None:
            made[name] = Column(np.concatenate([part[name] for part in parts]))
            continue
        pieces, lengths = [], []
        for part in parts:
            starts, sizes = part.columns[name].spans(part.index)
            values = part.columns[name].values
            # Row by row only where rows were taken out or moved.
            in_line = bool(np.array_equal(part.index, np.arange(len(part.columns[name]))))
            pieces += [values] if in_line else [
                values[start : start + size] for start, size in zip(starts, sizes, strict=True)
            ]  # fmt: skip
            lengths.append(sizes)
        ends = np.cumsum(np.concatenate(lengths), dtype="int64")
        made[name] = replace(column, values=_end_to_end(pieces), ends=ends)
    index = np.arange(count)
    if order is not None:
        index[order] = np.arange(count)
    return Rows(made, index)


def _end_to_end(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays as one; of one value everywhere it stays one that takes no room."""
    there = [piece for piece in pieces if len(piece)]
    if there and all(is_constant(one) and one[0] == there[0][0] for one in there):
        return constant(there[0][0], sum(map(len, there)), there[0].dtype)
    return np.concatenate(pieces)


def as_table(rows: Rows, prefix: str) -> tuple[dict[str, np.ndarray], dict[str, list[Any]]]:
    """Return rows as plain arrays by name, and what else the columns are, for a file.

    Args:
        rows: The rows.
        prefix: What the names begin with.

    Returns:
        `PREFIX/NAME`, of ragged columns also `PREFIX/NAME/ends`; and for each ragged column what
        pads it and its group.
    """
    arrays, ragged = {}, {}
    for name, column in joined([rows]).columns.items():
        arrays[f"{prefix}/{name}"] = column.taken(column.values)
        if column.ends is not None:
            arrays[f"{prefix}/{name}/ends"] = column.ends
            ragged[f"{prefix}/{name}"] = [column.fill, column.group]
    return arrays, ragged


def of_table(
    table: Mapping[str, np.ndarray], ragged: Mapping[str, Sequence[Any]], prefix: str
) -> Rows:
    """Return what `as_table` took apart.

    Raises:
        ValueError: If columns do not belong together.
    """
    columns = {}
    for name, values in table.items():
        if not name.startswith(f"{prefix}/") or (
            name.endswith("/ends") and name.removesuffix("/ends") in ragged
        ):
            continue
        key = name.removeprefix(f"{prefix}/")
        if name not in ragged:
            columns[key] = Column(values)
            continue
        ends = table[f"{name}/ends"]
        whole = ends.ndim == 1 and ends.dtype == np.int64
        rising = whole and bool((np.diff(ends, prepend=0) >= 0).all())
        if not rising or (ends[-1] if len(ends) else 0) != len(values):
            raise ValueError(f"the rows of {name} do not fit its values")
        fill, group = ragged[name]
        columns[key] = Column(values, ends, float(fill), str(group))
    return Rows.of(columns)


def padded(lengths: np.ndarray, longest: int = 0) -> np.ndarray:
    """Return how many positions each of some lengths takes with its padding.

    Args:
        lengths: `int64[N]`.
        longest: The most positions; 0 for no limit.

    Example:
        >>> padded(np.array([3, 8, 9, 18]), longest=20)
        array([ 4,  8, 12, 20])
    """
    whole = -(-lengths // MULTIPLE) * MULTIPLE
    return np.minimum(whole, longest) if longest else whole


def padded_width(lengths: np.ndarray, longest: int = 0) -> int:
    """Return the width of a batch whose rows have these lengths."""
    return int(padded(np.maximum(lengths.max(), 1), longest))


@dataclass(frozen=True)
class _Grid:
    """Where the positions of a batch's rows stand, in all columns of a group."""

    starts: np.ndarray
    lengths: np.ndarray
    width: int
    where: np.ndarray
    real: np.ndarray

    @classmethod
    def of(cls, column: Column, rows: np.ndarray) -> _Grid:
        starts, lengths = column.spans(rows)
        width = padded_width(lengths, column.longest) if len(rows) else 0
        places = np.arange(width)[None]
        real = places < lengths[:, None]
        return cls(starts, lengths, width, np.where(real, starts[:, None] + places, 0), real)

    def padded(self, column: Column) -> np.ndarray:
        if column.values.ndim == 1 and len(column.values):
            fill = column.values.dtype.type(column.fill)
            one = is_constant(column.values)
            found = column.values[0] if one else column.values[self.where]
            return column.taken(np.where(self.real, found, fill))
        # Wide rows are copied piece by piece: to look up each position would read the padding too.
        made = np.full(
            (len(self.starts), self.width, *column.values.shape[1:]), column.fill,
            column.values.dtype,
        )  # fmt: skip
        for row, (start, length) in enumerate(zip(self.starts, self.lengths, strict=True)):
            made[row, :length] = column.values[start : start + length]
        return column.taken(made)
