"""Tables: one row an example, with columns of text, or of paths of pictures, and of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerasft.data.annotations.classes import some
from kerasft.data.collection import Collection, to_splits
from kerasft.data.paths import find_path, read_label_names
from kerasft.data.pictures.audit import MAX_PIXELS, POLICIES, audit, check_policy
from kerasft.data.splits import check_ratios
from kerasft.data.tables.columns import (
    check_different,
    column_name,
    doubt_header,
    find_column,
    read_labels,
    read_pictures,
    read_splits,
    read_texts,
)
from kerasft.data.tables.readers import read
from kerasft.data.tables.reading import Layout, Rows
from kerasft.errors import UserError, nearest
from kerasft.spec import Splits
from kerasft.system.console import listing

# Beyond this a text is more likely a slip of a quote than a text.
LONG_TEXT = 100_000


def table(
    path: str,
    *,
    kind: str,
    seed: int,
    label: str | int | list[str],
    text: str | int | None = None,
    text_pair: str | int | None = None,
    image: str | int | None = None,
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
    empty: str = "skip",
    limit: int | None = None,
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
) -> Splits:
    """Read examples from a CSV, TSV, JSONL, JSON or Parquet file.

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
        image: The column of paths of pictures, relative to the folder of the file (in Parquet
            also of encoded pictures); either this or `text`.
        format: `"csv"`, `"tsv"`, `"jsonl"`, `"json"`, `"parquet"`, or `"auto"` for what the
            suffix says.
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
        empty: `"skip"` leaves out rows with an empty text and says how many, `"fail"` stops.
        limit: Train on so many rows only, for a quick try.
        broken: `"skip"` leaves out pictures that cannot be decoded, `"fail"` stops.
        max_pixels: The most pixels (width times height) that a picture may have.

    Returns:
        `Splits` of texts, pairs of texts, or paths of pictures.

    Raises:
        UserError: If a file, a column or a cell is not what it should be.

    Example:

    >>> table("reviews.csv", text="review", label="stars", kind="single", seed=0)  # doctest: +SKIP
    """
    _check_choices(text, text_pair, image, label, header, empty)
    check_policy(broken, max_pixels)
    layout = Layout(format, header, columns, encoding, delimiter, quoting)
    main = find_path(path, "data.path")
    _check_kind(label, kind)
    files = {"train": main}
    for name, value in (("validation", validation), ("test", test)):
        if isinstance(value, str):
            files[name] = find_path(value, f"data.{name}", beside=main.parent)
    asked: dict[str, Any] = {"validation": validation, "test": test}
    ratios = {name: 0.0 if isinstance(part, str) else part for name, part in asked.items()}
    if split_column is None:
        check_ratios(ratios["validation"], ratios["test"], split, list(files))
    elif len(files) > 1:
        raise UserError(
            "data.split_column and another file for validation or test exclude each other: both "
            f"say which row is in which split. Received: data.split_column={split_column}, "
            + ", ".join(f"data.{name}={file}" for name, file in files.items() if name != "train")
            + ". Leave one of them out."
        )
    _check_same(files)
    names = read_label_names(label_names, main.parent)
    found = Collection("text" if image is None else "images", [], [], [], [], notices=[])
    found.groups = None if group is None else []
    chosen = {
        "text": text, "text_pair": text_pair, "image": image, "label": label,
        "split_column": split_column, "group": group,
    }  # fmt: skip
    for name, file in files.items():
        rows = read(file, layout, "data.path" if name == "train" else f"data.{name}")
        # Files of one name in several folders still give their rows names of their own.
        prefix = f"{name}/{file.name}" if len(files) > 1 else file.name
        _collect(rows, name, prefix, found, kind=kind, **chosen)
        if kind == "numbers" and names is None and isinstance(label, (list, tuple)):
            names = [column_name(rows, column, "data.label") for column in label]
    if image is not None:
        kept, said = audit(found.inputs, found.ids, broken=broken, max_pixels=max_pixels)
        found = found.keep(kept)
        found.notices += said
    else:
        found = _audit_texts(found, empty)
    source = {
        "source": "table",
        "files": {name: str(file) for name, file in files.items()},
        "columns": chosen,
    }
    return to_splits(
        found, kind=kind, seed=seed, split=split, label_names=names,
        label_delimiter=label_delimiter, label_key=f"data.label={label}", limit=limit,
        source=source, **ratios,
    )  # fmt: skip


def _check_choices(
    text: object, pair: Any, image: object, label: object, header: object, empty: str
) -> None:
    problems = []
    several = label if isinstance(label, (list, tuple)) else [label]
    if any(isinstance(one, int) and abs(one) >= 2**63 for one in (text, pair, image, *several)):
        raise UserError(  # Python may refuse to write such a number
            "There is no column of such a number: data.text, data.text_pair, data.image and "
            "data.label are names of columns, or numbers from 0."
        )
    if (text is None) == (image is None):
        said = f"data.text={text}, data.image={image}"
        problems.append(
            "Exactly one of data.text and data.image must name a column: what the network reads "
            f"is text or pictures. Received: {said.replace('None', 'null')}."
        )
    if pair is not None and text is None:
        problems.append(
            f"data.text_pair needs data.text, the first text. Received: data.text_pair={pair}."
        )
    chosen = {"text": text, "text_pair": pair, "image": image}
    chosen |= {f"label={column}": column for column in several}
    taken: dict[str, str] = {}
    for key, column in chosen.items():
        if column is None:
            continue
        if str(column) in taken:
            problems.append(
                f"data.{taken[str(column)]} and data.{key} name the same column. Received: "
                f"{column} for both. Choose another one for one of them."
            )
        taken[str(column)] = key
    if not isinstance(header, bool):
        problems.append(f"data.header must be true or false. Received: data.header={header!r}.")
    if empty not in POLICIES:
        problems.append(
            f"data.empty must be one of {list(POLICIES)}. Received: data.empty={empty!r}."
            + nearest(empty, POLICIES)
        )
    if problems:
        raise UserError(problems=problems)


def _check_kind(label: object, kind: str) -> None:
    if isinstance(label, (list, tuple)) and kind not in ("multi", "numbers"):
        raise UserError(
            "data.label may list several columns only where an example may carry several labels "
            "or numbers: set task=multi_label or task=multi_regression. Received: "
            f"data.label={list(label)}."
        )


def _check_same(files: dict[str, Path]) -> None:
    seen: dict[Path, str] = {}
    for name, file in files.items():
        other = seen.setdefault(file.resolve(), name)
        if other != name:
            raise UserError(
                f"{name} and {other} must not be the same file, or the figures say nothing. "
                f"Received: {file} for both. Name another file, or a part such as 0.15."
            )


def _collect(
    rows: Rows, split: str, prefix: str, found: Collection, *, kind: str, label: Any, text: Any,
    text_pair: Any, image: Any, split_column: Any, group: Any,
) -> None:  # fmt: skip
    """Add the rows of one file."""
    ids = [f"{prefix}:{place}" for place in rows.places]
    content = {"text": text, "text_pair": text_pair, "image": image, "label": label}
    values = read_labels(rows, label, ids, numbers=kind == "numbers")
    found.notices.extend(rows.notices)
    several = label if isinstance(label, (list, tuple)) else [label]
    found.notices += doubt_header(rows, [text, text_pair, image, *several])
    inputs: list[Any]
    if image is not None:
        inputs = list(read_pictures(rows, find_column(rows, image, "data.image"), ids))
    else:
        inputs = list(read_texts(find_column(rows, text, "data.text"), ids, "data.text"))
        if text_pair is not None:
            cells = find_column(rows, text_pair, "data.text_pair")
            second = read_texts(cells, ids, "data.text_pair")
            inputs = list(zip(inputs, second, strict=True))
    check_different(rows, content)
    found.inputs.extend(inputs)  # type: ignore[attr-defined]
    found.values.extend(values)
    found.ids.extend(ids)
    if split_column is None:
        found.brought.extend([split] * len(ids))
    else:
        found.brought.extend(read_splits(find_column(rows, split_column, "data.split_column"), ids))
    if group is not None and found.groups is not None:
        cells = find_column(rows, group, "data.group")
        bare = [i for i, cell in zip(ids, cells, strict=True) if cell is None or cell == ""]
        if bare:
            raise UserError(
                f"data.group: {some(len(bare), 'row')} without a group: {listing(bare)}. Give "
                "each row a group, or take those rows out."
            )
        found.groups.extend(str(cell) for cell in cells)


def _audit_texts(found: Collection, empty: str) -> Collection:
    """Leave out or refuse empty texts, and point at absurdly long ones."""
    both = [text if isinstance(text, tuple) else (text,) for text in found.inputs]
    bare = [i for i, texts in enumerate(both) if not all(text.strip() for text in texts)]
    if bare:
        said = f"{some(len(bare), 'text')} {{}}: {listing(found.ids[i] for i in bare)}."
        if empty == "fail":
            raise UserError(
                said.format("empty") + " Correct or remove those rows, or set data.empty=skip to "
                "leave them out."
            )
        found.notices.append(said.format("left out, as empty"))
    gone = set(bare)
    long = [i for i, texts in enumerate(both) if max(map(len, texts)) > LONG_TEXT]
    if long:
        most = max(len(text) for i in long for text in both[i])
        found.notices.append(
            f"{some(len(long), 'text')} of more than {LONG_TEXT:,} characters (the longest has "
            f"{most:,}): {listing(found.ids[i] for i in long)}. The network reads their beginning "
            "only; a quote that is never closed makes such texts, too (data.quoting=false)."
        )
    return found.keep([i for i in range(len(found)) if i not in gone])
