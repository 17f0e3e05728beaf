"""Tables that describe images: found, and read row by row with names, splits and folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kerasft.data.paths import find_path
from kerasft.data.tables.boxed_rows import BoxRows
from kerasft.data.tables.columns import splits_of
from kerasft.data.tables.folder import Tables, find_tables
from kerasft.data.tables.gathering import parts_of
from kerasft.data.tables.reading import Layout
from kerasft.data.tables.slice_cells import slice_cells


def described(
    path: str, *, images: str | None, delimiter: str | None, split_column: str | None,
    check: Callable[[Sequence[str]], None], slices: Sequence[str | int] = (),
) -> tuple[Tables, Callable[[bool], Iterator[BoxRows]]]:
    """Return tables of images, and what reads their rows file by file.

    Parquet and Arrow files, which may hold the images themselves, are read a part at a time where
    what reads is given `True`, and the file is not one that describes a folder of images.

    Args:
        path: The file, or a folder of a table a split.
        images: The folder that relative paths are looked up under; by default that of each file.
        delimiter: What parts the cells, where that is not to be told from the file.
        split_column: The column that says the split of each row, if any.
        check: Told the splits that the files bring, where no column says them.
        slices: The columns by which figures are told apart.

    Raises:
        UserError: If there is no such file or folder, or two things say the split of a row; while
            rows are read, for what is wrong with them.
    """
    tables = find_tables(path, {})
    beside = tables.files["train"][0].parent
    home = None if images is None else find_path(images, "data.images", beside=beside)
    tables.require_one_word(split_column, path)
    if split_column is None:
        check(list(tables.files))

    def rows(in_parts: bool) -> Iterator[BoxRows]:
        for part in parts_of(tables, Layout(delimiter=delimiter), columnar_in_pieces=in_parts):
            ids = [f"{part.name}:{place}" for place in part.rows.places]
            splits = splits_of(part.rows, split_column, ids, part.split)
            yield BoxRows(part, ids, splits, home, slices=slice_cells(part.rows, slices))

    return tables, rows
