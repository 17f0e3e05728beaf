"""Examples to be answered: a table with the columns of training, or a folder of images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kerasft.data.annotations.classes import some
from kerasft.data.images import archive
from kerasft.data.images.annotated import masks_among
from kerasft.data.images.files import spelled, walk_images
from kerasft.data.tables.columns import (
    column_name,
    doubt_no_header,
    find_column,
    read_labels,
)
from kerasft.data.tables.image_cells import (
    fields,
    image_cells,
    is_pattern,
    located,
    place,
    require_any,
)
from kerasft.data.tables.readers import read
from kerasft.data.tables.reading import Layout, Rows
from kerasft.errors import UserError
from kerasft.spec import Modality
from kerasft.system.console import listing

NO_TEXT = "the text is empty"


@dataclass(frozen=True)
class Unlabeled:
    """Examples without labels, or with some; in the order of their file or folder.

    Args:
        modality: `"images"` or `"text"`.
        inputs: As in `Examples`; `None` where there is a problem.
        ids: The user's name of each example, or where it stands. They need not differ.
        places: How messages name each example.
        problems: Why examples cannot be answered, by their index.
        values: The raw labels, `None` for those without; `None` where there are none at all.
        notices: Sentences for the user.
    """

    modality: Modality
    inputs: Sequence[Any]
    ids: Sequence[str]
    places: Sequence[str]
    problems: Mapping[int, str] = field(default_factory=dict)
    values: Sequence[Any] | None = None
    notices: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what; see `kerasft.data.sources.table.table` for each."""

    text: str | int | None = None
    text_pair: str | int | None = None
    image: str | int | None = None
    label: Any = None
    id: str | int | None = None


def from_table(
    file: Path, columns: Columns, layout: Layout, *, root: Path | None = None,
    numbers: bool = False, once: bool = False, key: str = "--data",
) -> Unlabeled:
    """Read the rows of a table that are to be answered.

    A row that cannot be answered is noted, and the others are read.

    Args:
        file: The table.
        columns: Which columns hold what. That of labels need not be there. Without one of ids it
            is the column called id, or the only one of a pattern of paths, or the row's place.
        layout: How it is written.
        root: The folder that relative paths of images are looked up under; by default that of
            the table.
        numbers: Whether a list of columns of labels is one of numbers.
        once: Whether rows with the same image are about one example, as those of boxes are.
        key: Where the file was named, for messages.

    Returns:
        The rows, each with its text, pair of texts, path of an image or encoded image.

    Raises:
        UserError: If the file or a column is not what it should be, or no row can be answered.

    Example:

    >>> from_table(Path("new.csv"), Columns(text="review"), Layout()).ids  # doctest: +SKIP
    ['new.csv:2', 'new.csv:3']
    """
    rows = read(file, layout, key)
    rowed = [f"{file.name}:{line}" for line in rows.places]
    problems: dict[int, str] = {}
    places = rowed
    inputs: list[Any]
    if columns.image is not None:
        home = root or file.parent
        cells = image_cells(rows, columns.image)
        inputs = [one if one is None else located(one, home) for one in cells.values]
        require_any(cells, inputs, home, rowed)
        for i, one in enumerate(inputs):
            if one is None:
                problems[i] = f"no path of an image: {cells.raw[i]!r}"
            elif isinstance(one, str) and not os.path.lexists(one):
                problems[i] = "there is no such file"
        places = [place(row, cells.said, b"" if one is None else one)
                  for row, one in zip(rowed, inputs, strict=True)]  # fmt: skip
    else:
        assert columns.text is not None
        inputs = _texts(rows, columns.text, "data.text", problems)
        if columns.text_pair is not None:
            second = _texts(rows, columns.text_pair, "data.text_pair", problems)
            inputs = list(zip(inputs, second, strict=True))
    if len(problems) == len(rows):
        said = listing(f"{places[i]}: {why}" for i, why in sorted(problems.items()))
        raise UserError(f"No row of {file} can be answered: {said}.")
    ids, notices = _ids(rows, columns, rowed, once)
    found = Unlabeled(
        "text" if columns.image is None else "images", inputs, ids, places, problems,
        _labels(rows, columns, rowed, numbers), [*rows.notices, *doubt_no_header(rows), *notices],
    )  # fmt: skip
    return _first_of_each(found) if once else found


def _first_of_each(found: Unlabeled) -> Unlabeled:
    """Return each image once, as its first row has it."""
    seen: dict[Any, int] = {}
    for i, one in enumerate(found.inputs):
        seen.setdefault(i if one is None else one, i)
    kept = list(seen.values())
    return replace(
        found, inputs=[found.inputs[i] for i in kept], ids=[found.ids[i] for i in kept],
        places=[found.places[i] for i in kept], values=None,
        problems={new: found.problems[i] for new, i in enumerate(kept) if i in found.problems},
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
        elif any("\ud800" <= sign <= "\udfff" for sign in cell):
            problems.setdefault(
                i, f"the text holds half a character, which UTF-8 cannot write (column {name!r})"
            )
    return texts


def _ids(
    rows: Rows, columns: Columns, rowed: list[str], once: bool
) -> tuple[list[str], list[str]]:
    """Return the name of each row, and sentences for the user."""
    cells: Sequence[Any] | None = None
    if columns.id is not None:
        cells = find_column(rows, columns.id, "--id")
        said = f"--id {columns.id}"
    elif once:  # an id is maybe one of a box
        return rowed, []
    else:
        own = [name for name in rows.names if name.strip().casefold() == "id"]
        if not own and is_pattern(columns.image) and columns.image not in rows.cells:
            own = list(dict.fromkeys(fields(str(columns.image))))
        if len(own) == 1:
            cells = find_column(rows, own[0], "--id")
        said = f"column {own[0]!r}" if own else ""
    if cells is None:
        return rowed, []
    bare = [i for i, cell in enumerate(cells) if cell is None or not str(cell).strip()]
    ids = [rowed[i] if cell is None or not str(cell).strip() else str(cell)
           for i, cell in enumerate(cells)]  # fmt: skip
    notices = []
    if bare:
        notices.append(
            f"{some(len(bare), 'row')} without an id ({said}), named by the place: "
            f"{listing(rowed[i] for i in bare)}."
        )
    twice = [one for one, count in Counter(ids).items() if count > 1]
    if twice and not once:
        notices.append(f"ids that more than one row has ({said}): {listing(map(repr, twice))}.")
    return ids, notices


def _labels(
    rows: Rows, columns: Columns, ids: Sequence[str], numbers: bool
) -> list[Any] | None:
    """Return the raw labels of a table that has some."""
    choice = columns.label
    if choice is None:
        return None
    try:
        # A table to be answered has none, most of the time.
        values = read_labels(rows, choice, ids, numbers=numbers)
    except UserError:
        return None
    empty = [v is None or v != v or (isinstance(v, str) and not v.strip()) for v in values]
    if all(empty):
        return None
    return [None if bare else v for bare, v in zip(empty, values, strict=True)]


def from_folder(
    given: Path, *, key: str = "--data", names: Sequence[str] = (), masks: str | None = None,
) -> Unlabeled:
    """Find the images in a folder, or in a zip of one, that are to be answered.

    Args:
        given: The folder or the zip.
        key: Where it was named, for messages.
        names: The classes, where folders may say them: the first folder on the way to an image
            that is called like one is its label.
        masks: How the names of folders with masks begin, which are left out, and with them
            images that are named like a mask of another one; `None` where nothing is a mask.

    Returns:
        The images, each named by its path in the folder.

    Raises:
        UserError: If there is no image.

    Example:

    >>> from_folder(Path("photos")).ids  # doctest: +SKIP
    ['cats/1.jpg', 'dogs/1.jpg']
    """
    root = archive.unpack(given) if given.is_file() else given
    others: Counter[str] = Counter()
    paths = list(walk_images(root, others, key=key))
    notices = []
    if masks is not None:
        apart = set(masks_among(paths))
        apart |= {one for one in paths
                  if any(part.startswith(masks) for part in one.relative_to(root).parts[:-1])}
        paths = [one for one in paths if one not in apart]
        if apart:
            notices.append(f"{some(len(apart), 'mask')} left out, which are no images to answer.")
    if not paths:
        raise UserError(f"{key}: there is no image in {str(given)!r}.")
    if others:
        said = listing(f"{count:,} {suffix}" for suffix, count in others.most_common())
        notices.append(f"files in {given} that are no images left out: {said}.")
    ids = [spelled(one.relative_to(root).as_posix()) for one in paths]
    known = set(names)
    values = [next((part for part in one.relative_to(root).parts[:-1] if part in known), None)
              for one in paths]  # fmt: skip
    return Unlabeled(
        "images", [str(one) for one in paths], ids, ids, {},
        values if any(value is not None for value in values) else None, notices,
    )
