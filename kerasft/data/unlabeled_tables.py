"""Tables to be answered, with the columns of training: looked through once, read in parts."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.annotations.truths import by_column, truths
from kerasft.data.tables.class_numbers import with_names
from kerasft.data.tables.columns import (
    column_name,
    doubt_no_header,
    find_column,
    is_encodable,
    read_labels,
)
from kerasft.data.tables.gathering import notices_of_folder
from kerasft.data.tables.image_cells import (
    Cells,
    fields,
    image_cells,
    is_pattern,
    leading_out,
    located,
    place,
    require_any,
)
from kerasft.data.tables.labelled_lines import LABEL, TEXT
from kerasft.data.tables.parts import Parts
from kerasft.data.tables.reading import Rows
from kerasft.data.unlabeled import Questions, Unlabeled
from kerasft.errors import UserError, some
from kerasft.spec import Labels
from kerasft.system.console import listing

NO_TEXT = "the text is empty"
# So many are named in a message.
_NAMED = 5


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what; see `kerasft.data.sources.table.table` for each."""

    text: str | int | None = None
    text_pair: str | int | None = None
    image: str | int | None = None
    label: Any = None
    id: str | int | None = None


@dataclass(frozen=True)
class Wanted:
    """What is read of tables to be answered.

    Args:
        columns: Which columns hold what. That of labels need not be there. Without one of ids it
            is the column called id, or the only one of a pattern of paths, or the row's place.
        labels: What the model's labels mean.
        delimiter: What parts the labels of one example.
        root: The folder that relative paths of images are looked up under; by default that of
            each table.
        once: Whether rows with the same image are about one example, as those of boxes are.
        inside: Whether the tables describe the images of their folders: paths must stay there,
            and are the ids.
        truths: Whether the labels of the tables are read, too.
    """

    columns: Columns
    labels: Labels
    delimiter: str | None = ","
    root: Path | None = None
    once: bool = False
    inside: bool = False
    truths: bool = True


@dataclass
class _Look:
    """What is found on the way through all rows."""

    count: int = 0
    failed: int = 0
    labelled: bool = False
    known: bool = True  # whether the model knows all labels
    problems: list[str] = field(default_factory=list)
    notices: dict[str, None] = field(default_factory=dict)
    bare: list[str] = field(default_factory=list)
    bare_count: int = 0
    ids: array[int] = field(default_factory=lambda: array("q"))
    said: str = ""  # where ids are from
    nowhere: tuple[Cells, list[Any], Path, list[str]] | None = None
    found: bool = False  # whether any image is there
    listed: list[Any] = field(default_factory=list)  # the images of the table that is read


def from_tables(
    files: Sequence[tuple[str, Parts]], wanted: Wanted, notices: Sequence[str] = ()
) -> Questions:
    """Look through tables that are to be answered.

    A row that cannot be answered is noted, and the others are read.

    Args:
        files: What names of the examples of each table begin with, and its rows.
        wanted: What is read of them.
        notices: Sentences for the user.

    Returns:
        The rows, each with its text, pair of texts, path of an image or encoded image.

    Raises:
        UserError: If a file or a column is not what it should be, or no row can be answered.
    """
    look = _Look(notices=dict.fromkeys(notices))
    for part in _parts(files, wanted, look):
        look.count += len(part)
        look.failed += len(part.problems)
        for i, why in sorted(part.problems.items())[: _NAMED - len(look.problems)]:
            look.problems.append(f"{part.places[i]}: {why}")
        look.labelled = look.labelled or any(one is not None for one in part.true)
        look.notices |= dict.fromkeys(part.notices)
    if look.nowhere is not None and not look.found:
        cells, images, home, rowed = look.nowhere
        require_any(cells, images, home, rowed)
    if look.failed == look.count:
        more = look.failed - len(look.problems)
        said = ", ".join(look.problems) + (f" and {more:,} more" if more else "")
        where = files[0][1].path if len(files) == 1 else "the tables"
        raise UserError(f"No row of {where} can be answered: {said}.")
    labelled = look.labelled and look.known
    final = replace(wanted, truths=labelled)
    notices = [*look.notices, *(line for _, file in files for line in file.notices)]
    return Questions(
        "text" if wanted.columns.image is None else "images", look.count, labelled,
        [*notices, *_about_ids(files, final, look)], lambda: _parts(files, final, None),
    )  # fmt: skip


def _parts(
    files: Sequence[tuple[str, Parts]], wanted: Wanted, look: _Look | None
) -> Iterator[Unlabeled]:
    """Read all rows a part at a time; what is found on the way is noted in `look`."""
    seen: set[Any] = set()
    for name, file in files:
        begun = False
        for rows in file:
            part = _read(rows, name, file, wanted, look)
            if look is not None and not begun:
                part = replace(part, notices=[*part.notices, *doubt_no_header(rows)])
            begun = True
            yield _first_of_each(part, seen) if wanted.once else part
        if look is not None and wanted.inside:
            look.notices |= dict.fromkeys(notices_of_folder(rows, look.listed))
            look.listed = []


def _read(
    rows: Rows, name: str, file: Parts, wanted: Wanted, look: _Look | None
) -> Unlabeled:
    """Return rows of a table as examples."""
    columns = wanted.columns
    if file.is_lines:  # their columns have names of their own
        columns = replace(columns, text=TEXT, label=LABEL)
    rowed = [f"{name}:{line}" for line in rows.places]
    problems: dict[int, str] = {}
    places, notices = rowed, list(rows.notices)
    inputs: list[Any]
    paths: list[Any] | None = None
    if columns.image is not None:
        home = wanted.root or rows.home
        cells = image_cells(rows, columns.image)
        inputs = [one if one is None else located(one, home) for one in cells.values]
        for i in leading_out(cells, everywhere=wanted.inside):
            problems[i] = f"the path {cells.values[i]!r} leads out of the folder of {rows.path}"
            inputs[i] = None
        if look is not None:
            _look_for(cells, inputs, home, rowed, look)
            look.listed += inputs if wanted.inside else []
        for i, one in enumerate(inputs):
            if one is None:
                problems.setdefault(i, f"no path of an image: {cells.raw[i]!r}")
            elif isinstance(one, str) and not os.path.lexists(one):
                problems[i] = "there is no such file"
        places = [place(row, cells.said, b"" if one is None else one)
                  for row, one in zip(rowed, inputs, strict=True)]  # fmt: skip
        paths = cells.values if wanted.inside else None
    else:
        assert columns.text is not None
        inputs = _texts(rows, columns.text, "data.text", problems)
        if columns.text_pair is not None:
            second = _texts(rows, columns.text_pair, "data.text_pair", problems)
            inputs = list(zip(inputs, second, strict=True))
    true, said = _truths(rows, columns, rowed, wanted, look)
    if look is None and wanted.truths and by_column(wanted.labels):  # a column each, also if empty
        true = [dict.fromkeys(wanted.labels.names) if one is None else one for one in true]
    ids = _ids(rows, columns, rowed, name, paths, wanted.once, look)
    return Unlabeled(inputs, ids, places, problems, true, [*notices, *said])


def _look_for(
    cells: Cells, inputs: list[Any], home: Path, rowed: list[str], look: _Look
) -> None:
    """Note whether any image is there: where none is, the paths are meant otherwise."""
    if look.found:
        return
    look.found = any(
        isinstance(one, bytes) or (one is not None and os.path.lexists(one)) for one in inputs
    )
    if look.nowhere is None and not look.found:
        look.nowhere = cells, inputs, home, rowed


def _first_of_each(part: Unlabeled, seen: set[Any]) -> Unlabeled:
    """Return each image once, as its first row has it."""
    kept = []
    for i, one in enumerate(part.inputs):
        mark = blake2b(one, digest_size=16).digest() if isinstance(one, bytes) else one
        if one is None or mark not in seen:
            kept.append(i)
            seen.add(mark)
    return replace(
        part, inputs=[part.inputs[i] for i in kept], ids=[part.ids[i] for i in kept],
        places=[part.places[i] for i in kept], true=[None] * len(kept),
        problems={new: part.problems[i] for new, i in enumerate(kept) if i in part.problems},
    )  # fmt: skip


def _texts(
    rows: Rows, choice: str | int, key: str, problems: dict[int, str]
) -> list[str]:
    """Return the texts of a column, and note rows without one."""
    name = column_name(rows, choice, key)
    texts = []
    for i, cell in enumerate(rows.cells[name]):
        texts.append(cell if isinstance(cell, str) else "")
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            problems.setdefault(i, f"{NO_TEXT} (column {name!r})")
        elif not isinstance(cell, str):
            problems.setdefault(i, f"no text but {type(cell).__name__} (column {name!r})")
        elif not is_encodable(cell):
            problems.setdefault(
                i, f"the text holds half a character, which UTF-8 cannot write (column {name!r})"
            )
    return texts


def _ids(
    rows: Rows, columns: Columns, rowed: list[str], name: str, paths: list[Any] | None,
    once: bool, look: _Look | None,
) -> list[str]:
    """Return the name of each row."""
    cells: Sequence[Any] | None = None
    before = ""
    if columns.id is not None:
        cells = find_column(rows, columns.id, "--id")
        said = f"--id {columns.id}"
    elif once:  # an id is maybe one of a box
        return rowed
    else:
        own = [one for one in rows.names if one.strip().casefold() == "id"]
        if not own and is_pattern(columns.image) and columns.image not in rows.cells:
            own = list(dict.fromkeys(fields(str(columns.image))))
        if len(own) == 1:
            cells = find_column(rows, own[0], "--id")
        elif paths is not None:  # below the folder of all splits
            cells, before = paths, f"{os.path.dirname(name)}/".lstrip("/")  # noqa: PTH120
        said = f"column {own[0]!r}" if own else "paths"
    if cells is None:
        return rowed
    bare = {i for i, cell in enumerate(cells) if cell is None or not str(cell).strip()}
    ids = [rowed[i] if i in bare else f"{before}{cell}" for i, cell in enumerate(cells)]
    if look is not None:
        look.bare += [rowed[i] for i in sorted(bare)[: _NAMED - len(look.bare)]]
        look.bare_count += len(bare)
        look.said = said
        look.ids.extend(map(hash, ids))
    return ids


def _about_ids(
    files: Sequence[tuple[str, Parts]], wanted: Wanted, look: _Look
) -> list[str]:
    """Return sentences on ids that are missing, or that several rows have."""
    notices = []
    if look.bare_count:
        more = look.bare_count - len(look.bare)
        named = ", ".join(look.bare) + (f" and {more:,} more" if more else "")
        notices.append(
            f"{some(look.bare_count, 'row')} without an id ({look.said}), named by the place: "
            f"{named}."
        )
    found, counts = np.unique(np.asarray(look.ids, np.int64), return_counts=True)
    if wanted.once or not (counts > 1).any():
        return notices
    # Hashes alone are kept of the ids: their names are read again where they are asked for.
    twice = set(found[counts > 1].tolist())
    seen: set[str] = set()
    named_twice: dict[str, None] = {}
    for part in _parts(files, wanted, None):
        for one in part.ids:
            if hash(one) in twice:
                if one in seen:
                    named_twice[one] = None
                seen.add(one)
    return [
        *notices,
        f"ids that more than one row has ({look.said}): {listing(map(repr, named_twice))}.",
    ]


def _truths(
    rows: Rows, columns: Columns, rowed: list[str], wanted: Wanted, look: _Look | None
) -> tuple[list[Any], list[str]]:
    """Return what is true of each row, where the table has labels that the model knows."""
    nothing: list[Any] = [None] * len(rows)
    choice, labels = columns.label, wanted.labels
    unknown = look is not None and not look.known
    if choice is None or wanted.once or unknown or not wanted.truths:
        return nothing, []
    try:
        # A table to be answered has none, most of the time.
        values = read_labels(rows, choice, rowed, numbers=by_column(labels))
    except UserError:
        return nothing, []
    empty = [v is None or v != v or (isinstance(v, str) and not v.strip()) for v in values]
    if by_column(labels):
        empty = [bare or not any(_is_there(one) for one in value) for bare, value in
                 zip(empty, values, strict=True)]  # fmt: skip
    values = [None if bare else v for bare, v in zip(empty, values, strict=True)]
    try:
        if labels.names and not by_column(labels) and not isinstance(choice, (list, tuple)):
            classes = rows.classes.get(column_name(rows, choice, "data.label"))
            values = with_names(values, rowed, classes) if classes else values
    except UserError as error:
        made, said = nothing, [f"the labels of the data are not shown beside the answers: {error}"]
    else:
        made, said = truths(values, rowed, labels, delimiter=wanted.delimiter)
    if said and look is not None:
        look.known = False
    return made, said


def _is_there(cell: Any) -> bool:
    return cell is not None and cell == cell and str(cell).strip() != ""
