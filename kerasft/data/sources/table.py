"""Tables: one row an example, with columns of text, or of paths of images, and of labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kerasft.data import spool
from kerasft.data.annotations.kinds import are_several_classes
from kerasft.data.images.audit import MAX_PIXELS, check_policy
from kerasft.data.kept_splits import read_from
from kerasft.data.looks import look_at_table as look  # noqa: F401  (for `kerasft check`)
from kerasft.data.paths import find_path, read_label_names, require_apart
from kerasft.data.splits import check_ratios, ratios_of
from kerasft.data.tables.folder import IMAGES, find_tables
from kerasft.data.tables.gathering import Chosen, check_columns, gather, parts_of
from kerasft.data.tables.reading import Layout
from kerasft.errors import UserError
from kerasft.spec import Splits
from kerasft.system.console import listing


def _files(
    path: str, *, text: object = None, validation: float | str = 0.15, test: float | str = 0.15,
    label_names: object = None, **_others: object,
) -> list[Path] | None:
    """Return the files that are read; `None` where these are images."""
    if text is None:
        return None
    found = find_tables(path, {"validation": validation, "test": test})
    files = [file for _, _, file in found.each()]
    if isinstance(label_names, str):
        beside = found.files["train"][0].parent
        files.append(find_path(label_names, "data.label_names", beside=beside))
    return files


@read_from(_files)
def table(
    path: str,
    *,
    kind: str,
    seed: int,
    label: str | int | list[str],
    text: str | int | None = None,
    text_pair: str | int | None = None,
    image: str | int | None = None,
    image_root: str | None = None,
    format: str = "auto",
    header: bool = True,
    columns: list[str] | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    quoting: bool | str = True,
    label_delimiter: str | None = ",",
    label_names: list[str] | str | None = None,
    validation: float | str = 0.15,
    test: float | str = 0.15,
    split: str = "stratified",
    split_column: str | int | None = None,
    group: str | int | None = None,
    slices: Sequence[str | int] = (),
    empty: str = "skip",
    unlabeled: str = "fail",
    limit: int | None = None,
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
) -> Splits:
    """Read examples from a CSV, TSV, JSONL, JSON or Parquet file, or from labelled lines.

    Columns are chosen by name, or by number from 0 (a column that is called by a number needs
    quotes: `"0"`). No text is trimmed or normalized.

    Args:
        path: The file.
        kind: `"single"`, `"multi"`, `"number"` or `"numbers"`.
        seed: Another seed, another split.
        label: The column of labels; for kind `"multi"` also a list of columns, one a label,
            whose cells are 0 or 1, and for `"numbers"` a list of columns, one a number.
        text: The column of texts; either this or `image`.
        text_pair: The column of second texts, where an example is a pair.
        image: The column of paths of images (in Parquet also of encoded images), or a pattern
            with columns in braces, such as `"images/{id}.jpg"`; either this or `text`.
        image_root: The folder that relative paths are looked up under; by default that of the
            file.
        format: `"csv"`, `"tsv"`, `"jsonl"`, `"json"`, `"parquet"`, `"lines"`, or `"auto"` for
            what the suffix says. Each of the lines holds a label, blanks and a text, in the
            columns `"label"` and `"text"`; labels may be written as `__label__NAME`, and are then
            several for kind `"multi"`.
        header: Whether the first line of a CSV or TSV file names the columns.
        columns: The names of the columns, where no header says them.
        encoding: How the characters of the file are written.
        delimiter: What parts the cells of a row; a comma for CSV, a tab for TSV without.
        quoting: Whether cells may be in double quotes. `false` takes each quote as it is;
            `"strict"` believes quotes around what looks like several rows, too.
        label_delimiter: What parts several labels of one example, for kind `"multi"`.
        label_names: The class names in order, as a list or as a file with one a line. Labels
            may then be names, or numbers from 0.
        validation: The part of the rows to validate on, or the path of another file.
        test: The part of the rows for the test, 0 for none, or the path of another file.
        split: `"stratified"` (the same part of each class) or `"hash"` (each row by itself, so
            that rows added later move nothing).
        split_column: The column that says train, validation or test.
        group: The column that names the group of a row (a person, a document); no group stands
            in two splits.
        slices: Columns by whose values figures are told apart; the run hands them in.
        empty: `"skip"` leaves out rows with an empty text and says how many, `"fail"` stops.
        unlabeled: `"skip"` leaves out rows whose label is empty or NaN and says which, `"fail"`
            stops; for kind `"multi"` such a row otherwise has no label, and is learned from.
        limit: Train on so many rows only, for a quick try.
        broken: `"skip"` leaves out images that cannot be decoded, `"fail"` stops.
        max_pixels: The most pixels (width times height) that an image may have.

    Returns:
        `Splits` of texts, pairs of texts, or paths of images.

    Raises:
        UserError: If a file, a column or a cell is not what it should be.

    Example:

    >>> table("reviews.csv", text="review", label="stars", kind="single", seed=0)  # doctest: +SKIP
    """
    check_policy(broken, max_pixels)
    found = find_tables(path, {"validation": validation, "test": test})
    if found.metadata and text is None and image is None:
        image = IMAGES
    several = are_several_classes(kind)
    layout = Layout(format, header, columns, encoding, delimiter, quoting, several)
    known: tuple[str, ...] = ()
    if text is None and image is None:
        with suppress(UserError):  # nothing is chosen, which is told first
            known = next(parts_of(found, layout)).rows.names
    check_columns(
        text, text_pair, image, label, empty, kind, header=header, known=known, root=image_root,
        unlabeled=unlabeled,
    )
    files = found.files
    if split_column is None:
        ratios = ratios_of(validation, test)
        check_ratios(ratios.get("validation"), ratios.get("test"), split, list(files))
    elif len(files) > 1:
        raise UserError(
            "data.split_column and files of validation or test exclude each other: both say which "
            f"row is in which split. Received: data.split_column={split_column}, "
            + ", ".join(f"{name}: {listing(map(str, files[name]), 2)}"
                        for name in files if name != "train")
            + ". Leave one of them out, or name the one file that holds all splits."
        )
    require_apart(files, "Name another file, or a part such as 0.15.")
    beside = files["train"][0].parent
    root = None if image_root is None else find_path(
        image_root, "data.image_root", beside=beside
    )
    chosen = Chosen(label, text, text_pair, image, split_column, group, root, slices)
    names = read_label_names(label_names, beside)
    shown = {name: str(paths[0]) if len(paths) == 1 else [str(file) for file in paths]
             for name, paths in files.items()}  # fmt: skip
    return gather(
        parts_of(found, layout, pieces=spool.folder() is not None, image=image),
        chosen, kind=kind, seed=seed, split=split, label_names=names,
        label_delimiter=label_delimiter, limit=limit, empty=empty, broken=broken,
        unlabeled=unlabeled, max_pixels=max_pixels, ratios={"validation": validation, "test": test},
        named=found.named, notices=found.notices, source={"source": "table", "files": shown},
    )  # fmt: skip
