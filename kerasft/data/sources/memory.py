"""Data that Python hands over: `kerasft.train([...], data=frame)`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasft.data.annotations.kinds import are_masks
from kerasft.data.given import current_data
from kerasft.data.images.audit import MAX_PIXELS, check_policy
from kerasft.data.paths import read_label_names
from kerasft.data.sources import memory_annotated
from kerasft.data.sources.memory_annotated import check_settings
from kerasft.data.splits import check_ratios
from kerasft.data.tables.asked import IMAGE, LABEL, Asked
from kerasft.data.tables.columns import column_name
from kerasft.data.tables.gathering import Chosen, Part, check_columns, gather
from kerasft.data.tables.objects import TEXT, tables_of
from kerasft.data.tables.reading import Rows
from kerasft.errors import UserError
from kerasft.spec import Splits
from kerasft.system.console import listing
from kerasft.system.files import current


def memory(
    *,
    kind: str,
    seed: int,
    label: str | int | list[str] = LABEL,
    text: str | int | None = None,
    text_pair: str | int | None = None,
    image: str | int | None = None,
    box: Sequence[str] | str | None = None,
    box_format: str | None = None,
    relative: bool | None = None,
    masks: str | int | None = None,
    classes: list[str] | dict[Any, str] | str | None = None,
    ignore: int | str | list[Any] | None = None,
    label_delimiter: str | None = None,
    label_names: list[str] | str | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    split: str = "stratified",
    split_column: str | int | None = None,
    group: str | int | None = None,
    slices: Sequence[str | int] = (),
    empty: str = "skip",
    unlabeled: str = "fail",
    limit: int | None = None,
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
    orientation: str = "auto",
) -> Splits:
    """Read the examples that were given to `kerasft.train`, `evaluate` or `resume` as `data`.

    Args:
        kind: `"single"`, `"multi"`, `"number"`, `"numbers"`, `"boxes"` or `"masks"`.
        seed: Another seed, another split.
        label: The column of labels, or several as for `table`. For boxes that of their classes;
            by default the one beside them.
        text: The column of texts. Where neither this nor `image` is set, the column called `text`
            or `image` is read, or the only one of texts or images that is left.
        text_pair: The column of second texts, where an example is a pair.
        image: The column of images: paths, encoded bytes, arrays of pixels (8 bits, or floats
            from 0 to 1 or 255), or images of Pillow.
        box: The column with the boxes of each image, such as `"objects.bbox"`, or the four columns
            of a box where each row has one; found by itself where one fits.
        box_format: What four numbers mean, as for `boxes_csv`; without, the one form in which the
            boxes lie in their images.
        relative: Whether boxes are in parts of width and height; told from the numbers without.
        masks: The column of masks: arrays `[height, width]`, encoded images, paths or images of
            Pillow; found by itself where it has a usual name.
        classes: What values of masks mean, as for `mask_folder`.
        ignore: A value of masks, or several, that is neither learned nor counted.
        label_delimiter: What parts several labels within one text, if anything does.
        label_names: The class names in order, as a list or as a file with one a line.
        validation: The part of the rows to validate on, where no such split is given.
        test: The same for the test; 0 for none.
        split: `"stratified"` or `"hash"`, where a split is made by ratio.
        split_column: The column that says train, validation or test.
        group: The column that names the group of a row; no group stands in two splits.
        slices: Columns by whose values figures are told apart; the run hands them in.
        empty: `"skip"` leaves out rows with an empty text and says how many, `"fail"` stops.
        unlabeled: `"skip"` leaves out rows whose label is empty or NaN and says which, `"fail"`
            stops; for kind `"multi"` such a row otherwise has no label, and is learned from.
        limit: Train on so many rows only, for a quick try.
        broken: `"skip"` leaves out images that cannot be decoded, `"fail"` stops.
        max_pixels: The most pixels (width times height) that an image may have.
        orientation: What boxes and masks of images with an EXIF orientation are drawn on, as for
            `boxes_csv`.

    Returns:
        `Splits` of texts, pairs of texts, or images.

    Raises:
        UserError: If nothing was given, or a column or cell is not what it should be.

    Example:

    >>> from kerasft.data.given import given
    >>> with given((["fine", "dull", "good", "bad", "great", "poor"], [1, 0] * 3)):
    ...     len(memory(kind="single", seed=0, test=0).train)
    4
    """
    check_policy(broken, max_pixels)
    check_settings(
        kind, {"box": box, "box_format": box_format, "relative": relative},
        {"masks": masks, "classes": classes, "ignore": ignore},
        {"text": text, "text_pair": text_pair, "label_delimiter": label_delimiter}
        | ({"label_names": label_names, "label": None if label == LABEL else label}
           if are_masks(kind) else {}),
    )  # fmt: skip
    data, asked = current_data(), Asked(kind, image, masks)
    tables, notices = tables_of(data, asked)
    if split_column is None:
        check_ratios(validation, test, split, list(tables))
    elif len(tables) > 1:
        raise UserError(
            "data.split_column says which row is in which split, and so do the splits that were "
            f"given: {', '.join(tables)}. Leave one of them out. Received: "
            f"data.split_column={split_column}."
        )
    ratios = {"validation": validation, "test": test}
    names = read_label_names(label_names, current() or Path())
    if asked.drawn:
        settings = {"kind": kind, "seed": seed, "split": split, "broken": broken, "limit": limit,
                    "orientation": orientation}  # fmt: skip
        given = memory_annotated.Tables(
            tables, asked, split_column, group, ratios, notices, settings, slices
        )
        if are_masks(kind):
            return memory_annotated.masked(
                given, classes=classes, ignore=ignore, max_pixels=max_pixels
            )
        settings["max_pixels"] = max_pixels
        return memory_annotated.boxed(
            given, box=box, box_format=box_format, relative=relative, label=label,
            label_names=names, is_streamed=memory_annotated.is_streamed(data),
        )
    for column in label if isinstance(label, (list, tuple)) else [label]:
        column_name(tables["train"], column, "data.label")
    if text is None and image is None:
        others = (label, text_pair, split_column, group, *slices)
        text, image = _content(tables["train"], others)
    check_columns(text, text_pair, image, label, empty, kind, unlabeled=unlabeled)
    return gather(
        [Part(name, name if len(tables) > 1 else "data", rows) for name, rows in tables.items()],
        Chosen(label, text, text_pair, image, split_column, group, slices=slices), kind=kind,
        seed=seed, split=split, label_names=names, label_delimiter=label_delimiter, limit=limit,
        empty=empty, broken=broken, unlabeled=unlabeled, max_pixels=max_pixels,
        ratios=ratios, notices=notices,
        source={"source": "memory", "given": {
            name: {"rows": len(rows), "columns": list(rows.names)} for name, rows in tables.items()
        }},
    )  # fmt: skip


def _content(rows: Rows, others: Sequence[Any]) -> tuple[str | None, str | None]:
    """Return the column of texts or that of images, where the user names none."""
    taken = {str(c) for one in others for c in (one if isinstance(one, (list, tuple)) else [one])}
    left = [name for name in rows.names if name not in taken]
    images = [name for name in left if _is_shown(rows.cells[name])]
    texts = [name for name in left if _first(rows.cells[name], str)]
    for usual, fitting in ((IMAGE, images), (TEXT, texts)):
        if usual in fitting:
            fitting[:] = [usual]
    if IMAGE in texts and not images:  # paths
        images, texts = [IMAGE], []
    if len(images) == 1:
        return None, images[0]
    if len(texts) == 1 and not images:
        return texts[0], None
    fitting = images or texts
    raise UserError(
        "data.text or data.image must name the column that the network reads; "
        + (f"several fit: {listing(map(repr, fitting), 20)}." if fitting else "none fits.")
        + f" The columns: {listing(map(repr, rows.names), 30)}."
    )


def _is_shown(cells: Sequence[Any]) -> bool:
    return _first(cells, bytes) or (
        _first(cells, dict) and all(one is None or set(one) <= {"bytes", "path"} for one in cells)
    )


def _first(cells: Sequence[Any], kind: type) -> bool:
    """Whether the first cell that holds anything is of a kind."""
    return isinstance(next((one for one in cells if one is not None), None), kind)
