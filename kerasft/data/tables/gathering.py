"""From rows of tables to splits: the columns that are chosen, checked, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kerasft.data import spool
from kerasft.data.annotations.kinds import are_several_classes, are_several_numbers
from kerasft.data.collection import Collection, to_splits
from kerasft.data.hidden import shown_splits, substituted, without_label
from kerasft.data.images.audit import audit
from kerasft.data.images.files import outside, walk_images
from kerasft.data.images.held import HeldImages
from kerasft.data.late_columns import Coded
from kerasft.data.policies import policy_problem
from kerasft.data.slices import extend
from kerasft.data.splits import split_name
from kerasft.data.spool import Spool
from kerasft.data.tables.class_numbers import named_classes, with_names
from kerasft.data.tables.columns import (
    HeaderDoubt,
    check_different,
    column_name,
    doubt_header,
    find_column,
    read_labels,
    read_splits,
    read_texts,
)
from kerasft.data.tables.folder import Tables
from kerasft.data.tables.image_cells import image_cells, is_pattern, read_images
from kerasft.data.tables.parts import COLUMNAR, Parts, holds_bytes
from kerasft.data.tables.readers import format_of, read
from kerasft.data.tables.reading import Layout, Rows
from kerasft.data.tables.row_audit import audit_texts, labeled
from kerasft.data.tables.slice_cells import slice_cells
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing


@dataclass(frozen=True)
class Part:
    """The rows of a file.

    Args:
        split: The split that the file belongs to.
        name: What names of its examples begin with.
        rows: The rows.
        inside: Whether paths of images must stay in the folder of the file.
    """

    split: str
    name: str
    rows: Rows
    inside: bool = False


def parts_of(
    tables: Tables, layout: Layout, *, pieces: bool = False, image: object = None,
    columnar_in_pieces: bool = False,
) -> Iterator[Part]:
    """Read tables file by file.

    Args:
        tables: The files.
        layout: How they are written.
        pieces: Whether a file may come in several parts, one behind the other.
        image: The column of images; a file that holds them itself comes in parts.
        columnar_in_pieces: Whether all files of Parquet and Arrow come in parts.
    """
    for split, name, file in tables.each():
        key = f"data.{split}" if split in tables.named else "data.path"
        in_parts = pieces
        # What is said of a folder of images is said of all rows of its table together.
        if not pieces and not tables.metadata:
            in_parts = holds_bytes(file, layout, image, key) or (
                columnar_in_pieces and format_of(file, layout.format, key) in COLUMNAR
            )
        for rows in Parts(file, layout, key) if in_parts else [read(file, layout, key)]:
            yield Part(split, name, rows, tables.metadata)


@dataclass(frozen=True)
class Chosen:
    """The columns that are chosen, by name or number; see `table` for each."""

    label: Any
    text: Any = None
    text_pair: Any = None
    image: Any = None
    split_column: Any = None
    group: Any = None
    root: Path | None = None  # where relative paths of images start; else the table's folder
    slices: Sequence[str | int] = ()  # by which figures are told apart

    def described(self) -> dict[str, Any]:
        """Return the choice as plain values, for the manifest."""
        columns = asdict(self)
        root, _ = columns.pop("root"), columns.pop("slices")
        return {"columns": columns} | ({} if root is None else {"image_root": str(root)})


def check_columns(
    text: object, pair: Any, image: object, label: object, empty: str, kind: str, *,
    header: object = True, known: Sequence[str] = (), root: object = None,
    unlabeled: str = "fail",
) -> None:
    """Check which columns are chosen, all at once, before anything is read.

    Args:
        text: See `table`, as all others.
        pair: The column of second texts.
        image: The column of images.
        label: The column of labels.
        empty: What is done with empty texts.
        kind: What the task learns.
        header: Whether the first line names the columns.
        known: The columns that there are, for messages.
        root: The folder that relative paths of images are looked up under.
        unlabeled: What is done with rows without a label.

    Raises:
        UserError: If two are the same, one is missing, or a setting is none of those there are.
    """
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
            f"is text or images. Received: {said.replace('None', 'null')}."
            + (f" The columns: {listing(map(repr, known), 30)}." if known else "")
        )
    if pair is not None and text is None:
        problems.append(
            f"data.text_pair needs data.text, the first text. Received: data.text_pair={pair}."
        )
    if root is not None and image is None:
        problems.append(
            "data.image_root is the folder of the images that data.image names. Received: "
            f"data.image_root={root} without data.image."
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
    for key, policy in (("data.empty", empty), ("data.unlabeled", unlabeled)):
        if said := policy_problem(key, policy):
            problems.append(said)
    if problems:
        raise UserError(problems=problems)
    several_each = are_several_classes(kind) or are_several_numbers(kind)
    if isinstance(label, (list, tuple)) and not several_each:
        raise UserError(
            "data.label may list several columns only where an example may carry several labels "
            "or numbers: set task=multi_label or task=multi_regression. Received: "
            f"data.label={list(label)}."
        )


def gather(
    parts: Iterable[Part], chosen: Chosen, *, kind: str, label_names: list[str] | None,
    ratios: Mapping[str, Any], named: Sequence[str] = (), empty: str, broken: str,
    unlabeled: str, max_pixels: int, notices: Sequence[str] = (), source: Mapping[str, Any],
    **settings: Any,
) -> Splits:
    """Return the examples of rows as splits.

    Args:
        parts: The rows.
        chosen: Their columns.
        kind: `"single"`, `"multi"`, `"number"` or `"numbers"`.
        label_names: The class names that the user gives, in order.
        ratios: What `data.validation` and `data.test` say: a part, or a file.
        named: The splits that the user has named himself, of which none is left out.
        empty: `"skip"` or `"fail"`, as `broken`.
        broken: See `table`, as `unlabeled` and `max_pixels`.
        notices: Sentences for the user.
        source: Plain values for the manifest.
        **settings: Others of `to_splits`.
    """
    modality: Any = "text" if chosen.image is None else "images"
    place = spool.folder() if modality == "text" else None
    into = None if place is None else Spool(place, pair=chosen.text_pair is not None)
    if into is None:
        inputs: Any = [] if modality == "text" else HeldImages()
        found = Collection(modality, inputs, [], [], [], notices=list(notices))
        found.groups = None if chosen.group is None else []
    else:
        values = into.column("labels", kind)
        found = Collection(modality, [], values, [], Coded(), notices=list(notices))
        found.groups = None if chosen.group is None else Coded()
    classes: dict[str, tuple[str, ...]] = {}
    places: dict[str, str] = {}
    doubt = None if into is None else HeaderDoubt()
    with nullcontext() if into is None else into:
        for part in parts:
            places |= _collect(part, chosen, found, kind, into, doubt)
            if label_names is None:
                classes |= named_classes(part.rows, chosen.label, kind)
                if are_several_numbers(kind) and isinstance(chosen.label, (list, tuple)):
                    label_names = [column_name(part.rows, c, "data.label") for c in chosen.label]
            del part  # the cells of columns that are not chosen go
        if isinstance(found.inputs, HeldImages):
            found.inputs = found.inputs.settled()
        if into is not None and doubt is not None:
            doubt.settle()
            found = replace(found, **into.columns())
    if len(set(classes.values())) > 1:
        (one, first), (other, second) = list(classes.items())[:2]
        raise UserError(
            f"data.label: {one} and {other} name other classes: {listing(first, 10)}, and "
            f"{listing(second, 10)}. Say which ones hold with data.label_names."
        )
    if classes:
        label_names = list(next(iter(classes.values())))
        found.values = _named(found.values, found.ids, label_names, kind)
    # Training examples without labels are told row by row.
    shown = shown_splits(found.brought, found.values, kind) | {"train"}
    brought = set(found.brought)
    left, said = substituted(
        found.brought, shown, brought, ratios, "a label (all -1 or empty)", named
    )
    if not brought <= shown:
        found = found.keep([i for i, name in enumerate(found.brought) if name in shown])
    found.notices += said
    label_key = f"data.label={chosen.label}"
    if unlabeled == "skip":
        found = labeled(found, label_key)
    if chosen.image is not None:
        kept, said = audit(
            found.inputs, found.ids, broken=broken, max_pixels=max_pixels,
            places=[places[one] for one in found.ids],
        )  # fmt: skip
        found = found.keep(kept)
        found.notices += said
    else:
        found = audit_texts(found, empty)
    try:
        return to_splits(
            found, kind=kind, label_names=label_names, label_key=label_key,
            source={**source, **chosen.described()}, **left, **settings,
        )  # fmt: skip
    except UserError as error:
        is_loose = unlabeled == "skip" or are_several_classes(kind)
        if not is_loose and len(bare := without_label(found.values)):
            raise UserError(
                f"{error} data.unlabeled=skip leaves out rows without a label "
                f"({some(len(bare), 'row')})."
            ) from error
        raise


def _named(values: Any, ids: Any, names: list[str], kind: str) -> Any:
    """Return labels whose numbers have become the names of classes."""
    if isinstance(values, Coded):
        with suppress(UserError):  # which examples have a wrong number is told below
            return values.replaced(_named(values.distinct, values.distinct, names, kind))
    values = with_names(values, ids, names)
    if not are_several_classes(kind):
        return values
    lists = [[] if v is None else v for v in values]  # no delimiter is looked for in a name
    return [v if isinstance(v, list) else [v] for v in lists]


def _collect(
    part: Part, chosen: Chosen, found: Collection, kind: str, into: Spool | None,
    doubt: HeaderDoubt | None,
) -> dict[str, str]:
    """Add the rows of one file; return how messages name the image of each, if there are any."""
    rows = part.rows
    ids = [f"{part.name}:{place}" for place in rows.places]
    values = read_labels(rows, chosen.label, ids, numbers=are_several_numbers(kind), doubt=doubt)
    found.notices.extend(rows.notices)
    several = chosen.label if isinstance(chosen.label, (list, tuple)) else [chosen.label]
    said = doubt_header(rows, [chosen.text, chosen.text_pair, chosen.image, *several])
    found.notices += [one for one in said if one not in found.notices]
    inputs: list[Any]
    places = ids
    splits = [part.split] * len(ids)
    if chosen.image is not None:
        cells = image_cells(rows, chosen.image)
        images, places = read_images(
            rows, cells, chosen.root or rows.home, ids, inside=part.inside
        )
        inputs = list(images)
        if part.inside:
            found.notices += notices_of_folder(rows, inputs)
            splits = _folders_of_splits(cells.raw) or splits
    else:
        inputs = list(read_texts(find_column(rows, chosen.text, "data.text"), ids, "data.text"))
        if chosen.text_pair is not None:
            column = find_column(rows, chosen.text_pair, "data.text_pair")
            second = read_texts(column, ids, "data.text_pair")
            inputs = list(zip(inputs, second, strict=True))
    # A pattern of paths may well name the column of labels, too.
    content = ("text", "text_pair", "label", *([] if is_pattern(chosen.image) else ["image"]))
    check_different(rows, {name: getattr(chosen, name) for name in content})
    if into is None:
        found.inputs.extend(inputs)  # type: ignore[attr-defined]
        found.ids.extend(ids)
    else:
        into.add(part.name, rows.places, inputs)
    found.values.extend(values)
    if chosen.split_column is not None:
        splits = read_splits(find_column(rows, chosen.split_column, "data.split_column"), ids)
    found.brought.extend(splits)
    if chosen.group is not None and found.groups is not None:
        groups = find_column(rows, chosen.group, "data.group")
        bare = [i for i, cell in zip(ids, groups, strict=True) if cell is None or cell == ""]
        if bare:
            raise UserError(
                f"data.group: {some(len(bare), 'row')} without a group: {listing(bare)}. Give "
                "each row a group, or take those rows out."
            )
        found.groups.extend(str(cell) for cell in groups)
    sliced = slice_cells(rows, chosen.slices, several, texts=chosen.image is None)
    extend(found.slices, sliced, len(ids), before=len(found.brought) - len(ids))
    return {} if chosen.image is None else dict(zip(ids, places, strict=True))


def _folders_of_splits(cells: Sequence[Any]) -> list[str]:
    """Return the split of each image where all lie in folders of splits, `train/1.jpg`."""
    folders = [Path(cell).parts[0] if isinstance(cell, str) and cell else "" for cell in cells]
    splits = [split_name(folder) for folder in folders]
    found = [one for one in splits if one]
    return found if len(found) == len(splits) and "train" in found else []


def notices_of_folder(rows: Rows, images: Sequence[Any]) -> list[str]:
    """Say which images in the folder of a table are links, or in no row of it.

    Args:
        rows: The table.
        images: The paths in its rows.
    """
    return [*_links(rows.home, images), *_unlisted(rows, images)]


def _links(home: Path, images: Sequence[Any]) -> list[str]:
    links = outside(home, [Path(one) for one in images if isinstance(one, str)])
    said = listing(f"{link.relative_to(home).as_posix()} -> {real}" for link, real in links)
    return [
        f"{some(len(links), 'link')} out of {home}, whose images are learned: {said}. Take out "
        "the links to images that do not belong to the data."
    ] * bool(links)


def _unlisted(rows: Rows, images: Sequence[Any]) -> list[str]:
    """Say which images of a folder its table says nothing of."""
    listed = {Path(one) for one in images if isinstance(one, str)}
    bare = [one for one in walk_images(rows.home) if one not in listed]
    return [
        f"{some(len(bare), 'image')} in no row of {rows.path}, left out: "
        f"{listing(one.relative_to(rows.home).as_posix() for one in bare)}."
    ] * bool(bare)
