"""Texts with the places of their entities, or with words and tags, in JSON Lines and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasft.data.annotations.drawn import require_drawn
from kerasft.data.looks import Look
from kerasft.data.paths import read_label_names, require_apart
from kerasft.data.splits import check_ratios, ratios_of
from kerasft.data.tables.columns import find_column, read_texts, splits_of
from kerasft.data.tables.folder import find_tables
from kerasft.data.tables.gathering import Part, parts_of
from kerasft.data.tables.reading import Layout, Rows
from kerasft.data.tables.slice_cells import slice_cells
from kerasft.data.texts import forms, schemes
from kerasft.data.texts.marking import Found, check_empty, marked_splits
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing

# What columns are called where the user does not say it.
TEXT = ("text", "data", "sentence", "content")
ENTITIES = ("label", "labels", "entities", "spans", "annotations")
TOKENS = ("tokens", "words")
TAGS = ("ner_tags", "tags", "labels", "ner")


def spans(
    path: str,
    *,
    kind: str,
    seed: int,
    text: str | None = None,
    entities: str | None = None,
    tokens: str | None = None,
    tags: str | None = None,
    tag_names: list[str] | None = None,
    scheme: str = "auto",
    joined_by: str = " ",
    offsets: str = "characters",
    validation: float | str = 0.15,
    test: float | str = 0.15,
    split: str = "stratified",
    split_column: str | None = None,
    group: str | None = None,
    slices: Sequence[str | int] = (),
    label_names: list[str] | str | None = None,
    empty: str = "skip",
    limit: int | None = None,
) -> Splits:
    """Read texts whose entities stand beside them: doccano, Prodigy, Label Studio, the Hub.

    Args:
        path: A file of the formats that `table` reads (JSON Lines, JSON, Parquet), a pattern, or
            a folder with a file for each split, as there.
        kind: `"spans"`.
        seed: Another seed, another split.
        text: The column of texts; by default the first of `text`, `data`, `sentence`, `content`.
        entities: The column of entities: `[[start, end, type], ...]`, objects with `start`, `end`
            and `label`, or Label Studio's annotations; by default the first of `label`, `labels`,
            `entities`, `spans`, `annotations`.
        tokens: The column of lists of words, where texts come as such; by default `tokens` or
            `words`, where there is no column of texts.
        tags: The column with a tag for each of these words; by default `ner_tags`, `tags`,
            `labels` or `ner`.
        tag_names: What numbers of tags mean, in order; by default what the data says.
        scheme: How tags are written, see `conll`.
        joined_by: What stands between the words of a text.
        offsets: What start and end count: `"characters"`, `"utf16"` (as JavaScript and Java do),
            or `"bytes"` of UTF-8. The end is the one behind the last.
        validation: The part of the texts to validate on, where the data brings no such file, or
            the path of one.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest type of a text, or `"hash"`.
        split_column: The column that says the split of a row.
        group: The column that names the group of a row; no group stands in two splits.
        slices: Columns by whose values figures are told apart; the run hands them in.
        label_names: The types in the order that the outputs shall have, as a list or as a file
            with one a line; sorted by name without.
        empty: `"skip"` leaves out empty texts and says which, `"fail"` stops.
        limit: Train on so many texts only, for a quick try.

    Returns:
        `Splits` of texts.

    Raises:
        UserError: If there is no such file or column, or if entities are wrong.

    Example:

    >>> spans("all.jsonl", kind="spans", seed=0)  # doctest: +SKIP
    """
    require_drawn("spans", kind, "spans")
    schemes.check_scheme(scheme)
    forms.check_offsets(offsets)
    check_empty(empty)
    tables = find_tables(path, {"validation": validation, "test": test})
    require_apart(tables.files, "Name another file, or a part such as 0.15.")
    ratios = ratios_of(validation, test)
    tables.require_one_word(split_column, path)
    if split_column is None:
        check_ratios(ratios.get("validation"), ratios.get("test"), split, list(tables.files))
    found, notices, other, half = [], list(tables.notices), list[str](), list[str]()
    for part in parts_of(tables, Layout()):
        columns = _columns(part.rows, text, entities, tokens, tags)
        made, wrong, within = _read(part, columns, tag_names, joined_by, offsets)
        sliced = slice_cells(part.rows, slices, texts=True)
        found += _placed(part, made, split_column, group, sliced)
        other += wrong
        half += within
        notices += part.rows.notices
    if other:
        notices.append(
            f"{some(len(other), 'entity')} left out, whose own text is not what stands at their "
            f"place: {listing(other)}. If texts hold emoji, set data.offsets=utf16."
        )
    if half:
        notices.append(
            f"{some(len(half), 'entity')} beginning or ending within a character (of "
            f"data.offsets={offsets}), which was taken whole: {listing(half)}."
        )
    return marked_splits(
        found, notices, kind=kind, seed=seed, split=split, scheme=scheme, empty=empty,
        key="data=spans (data.offsets)", tag_key="data.tags", limit=limit,
        label_names=read_label_names(label_names, tables.files["train"][0].parent),
        source={
            "source": "spans", "offsets": offsets,
            "files": {n: [str(file) for file in files] for n, files in tables.files.items()},
        }, **ratios,
    )  # fmt: skip


def look(settings: Mapping[str, Any]) -> Look:
    """Look whether the files are there, for `kerasft check`."""
    forms.check_offsets(settings.get("offsets", "characters"))
    tables = find_tables(settings["path"], {n: settings.get(n) for n in ("validation", "test")})
    return Look("text", tuple(
        f"data.path: {file} is there" for files in tables.files.values() for file in files
    ), ("the texts and their entities",), ("spans",))  # fmt: skip


def _columns(
    rows: Rows, text: str | None, entities: str | None, tokens: str | None, tags: str | None
) -> dict[str, str | None]:
    """Return the columns that are named, or those that are called as usual."""

    def usual(names: Sequence[str]) -> str | None:
        return next((name for name in names if name in rows.names), None)

    chosen = {"text": text, "entities": entities, "tokens": tokens, "tags": tags}
    if tokens is None and (text is not None or (tags is None and usual(TEXT))):
        chosen |= {"text": text or usual(TEXT), "entities": entities or usual(ENTITIES)}
        key, needed = "data.entities", ("text", "entities")
    else:
        chosen |= {"tokens": tokens or usual(TOKENS), "tags": tags or usual(TAGS), "text": None}
        key, needed = "data.tags", ("tokens", "tags")
    if missing := [name for name in needed if chosen[name] is None]:
        raise UserError(
            f"{key}: {rows.path} has no column of {missing[0]} that is called as usual. Its "
            f"columns: {listing(rows.names, 30)}. Name them: data.text and data.entities, or "
            "data.tokens and data.tags for lists of words."
        )
    return chosen


def _read(
    part: Part, columns: Mapping[str, str | None], tag_names: Sequence[str] | None,
    joined_by: str, offsets: str,
) -> tuple[list[Found], list[str], list[str]]:  # fmt: skip
    """Return the texts of a file, and which entities are wrong, see `forms.spans_of`."""
    rows = part.rows
    ids = [f"{part.name}:{place}" for place in rows.places]
    if columns["text"] is None:
        return _of_words(rows, ids, columns, tag_names, joined_by), [], []
    cells = [forms.text_of(cell) for cell in find_column(rows, columns["text"], "data.text")]
    made, other, half = [], list[str](), list[str]()
    texts = read_texts(cells, ids, "data.text")
    assert columns["entities"] is not None
    marked = find_column(rows, columns["entities"], "data.entities")
    for name, text, cell in zip(ids, texts, marked, strict=True):
        found, wrong, within = forms.spans_of(cell, text, offsets, name)
        made.append(Found(text, name, spans=found))
        other += wrong
        half += within
    return made, other, half


def _of_words(
    rows: Rows, ids: Sequence[str], columns: Mapping[str, str | None],
    tag_names: Sequence[str] | None, joined_by: str,
) -> list[Found]:  # fmt: skip
    assert columns["tokens"] is not None and columns["tags"] is not None
    names = tag_names or rows.classes.get(columns["tags"])
    words = find_column(rows, columns["tokens"], "data.tokens")
    made = []
    for name, own, given in zip(
        ids, words, find_column(rows, columns["tags"], "data.tags"), strict=True
    ):
        own, given = ([] if cell is None else cell for cell in (own, given))
        if isinstance(own, str) or isinstance(given, str) or len(own) != len(given):
            raise UserError(
                f"{name}: data.tokens and data.tags must be lists of the same length. Received: "
                f"{str(own)[:60]} and {str(given)[:60]}."
            )
        tags = [_tag(tag, names, name) for tag in given]
        text, places = schemes.laid_end_to_end(map(str, own), joined_by)
        made.append(Found(text, name, tags=tags, places=places))
    return made


def _tag(tag: Any, names: Sequence[str] | None, where: str) -> str:
    if isinstance(tag, str):
        return tag
    if names is None:
        raise UserError(
            f"{where}: tags are numbers, and nothing says what they mean. Received: {tag}. Set "
            "data.tag_names=[O,B-PER,I-PER,...] in the order of the numbers."
        )
    if isinstance(tag, bool) or not 0 <= int(tag) < len(names):
        raise UserError(
            f"{where}: data.tag_names has {len(names)} tags, from 0 to {len(names) - 1}. Received: "
            f"{tag}."
        )
    return names[int(tag)]


def _placed(
    part: Part, found: Sequence[Found], split_column: str | None, group: str | None,
    sliced: Mapping[str, Sequence[Any]],
) -> list[Found]:
    """Return texts with the split, the group and the slices that they belong to."""
    ids = [one.name for one in found]
    splits = splits_of(part.rows, split_column, ids, part.split)
    groups: Sequence[Any] = [None] * len(found)
    if group is not None:
        groups = find_column(part.rows, group, "data.group")
    for one, split, of in zip(found, splits, groups, strict=True):
        one.split, one.group = split, None if of is None else str(of)
    for i, one in enumerate(found):
        one.slices = {name: cells[i] for name, cells in sliced.items()}
    return list(found)
