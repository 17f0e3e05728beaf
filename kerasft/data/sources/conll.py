"""Files of the CoNLL tasks: a word with its tag a line, and an empty line behind each sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasft.data.annotations.drawn import require_drawn
from kerasft.data.current_read import begins
from kerasft.data.looks import Look
from kerasft.data.paths import find_path, read_label_names, require_apart
from kerasft.data.splits import check_ratios, ratios_of, split_name
from kerasft.data.tables.encodings import decode
from kerasft.data.texts import schemes
from kerasft.data.texts.marking import Found, check_empty, marked_splits
from kerasft.errors import UserError
from kerasft.spec import SPLIT_NAMES, Splits
from kerasft.system.console import listing

# What a file begins a document with; it is no word.
DOCUMENT = "-DOCSTART-"
# Files beside the data that are none.
_OTHERS = (".md", ".json", ".jsonl", ".py", ".zip", ".gz", ".csv", ".parquet", ".html", ".pdf")
# CoNLL-2003's own names.
_OLD = {"testa": "validation", "testb": "test"}


def conll(
    path: str,
    *,
    kind: str,
    seed: int,
    token: int = 0,
    tag: int = -1,
    scheme: str = "auto",
    delimiter: str | None = None,
    joined_by: str = " ",
    encoding: str = "utf-8",
    validation: float | str = 0.15,
    test: float | str = 0.15,
    split: str = "stratified",
    label_names: list[str] | str | None = None,
    empty: str = "skip",
    limit: int | None = None,
) -> Splits:
    """Read sentences of tagged words, as the CoNLL tasks and most sets of entities bring them.

    Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 Shared Task", 2003,
    https://aclanthology.org/W03-0419/

    Args:
        path: A folder with a file for each split (`train.conll`, `dev.conll`, `eng.testb`, ...),
            or one file.
        kind: `"spans"`.
        seed: Another seed, another split.
        token: The column of words, counted from 0; from the last one with -1.
        tag: The column of tags.
        scheme: How tags are written: `"iob1"`, `"iob2"`, `"bioes"` (or BILOU), `"io"` for types
            alone, or `"auto"` for what they look like.
        delimiter: What parts the columns; a tab where lines have one, else blanks.
        joined_by: What stands between the words of a text: nothing (`""`) for Chinese, say.
        encoding: How the characters of the files are written.
        validation: The part of the sentences to validate on, where the data brings no such file,
            or the path of one.
        test: The same for the test; 0 for none.
        split: `"stratified"` by the rarest type of a sentence, or `"hash"`. Sentences of one
            document (-DOCSTART-) stay together.
        label_names: The types in the order that the outputs shall have, as a list or as a file
            with one a line; sorted by name without.
        empty: `"skip"` leaves out sentences without characters and says which, `"fail"` stops.
        limit: Train on so many sentences only, for a quick try.

    Returns:
        `Splits` of texts.

    Raises:
        UserError: If there is no such file, or if lines, tags or types are wrong.

    Example:

    >>> conll("wnut17", kind="spans", seed=0)  # doctest: +SKIP
    """
    require_drawn("spans", kind, "conll")
    schemes.check_scheme(scheme)
    check_empty(empty)
    files, notices = _files(path, {"validation": validation, "test": test})
    check_ratios(validation, test, split, list(files))
    columns = _Columns(token, tag, delimiter, joined_by)
    found = []
    for name, file in files.items():
        found += list(_sentences(file, name, columns, encoding, notices))
    ratios = ratios_of(validation, test)
    return marked_splits(
        found, notices, kind=kind, seed=seed, split=split, scheme=scheme, empty=empty,
        key="data=conll", label_names=read_label_names(label_names, files["train"].parent),
        limit=limit, source={
            "source": "conll", "files": {name: str(file) for name, file in files.items()},
        }, **ratios,
    )  # fmt: skip


def look(settings: Mapping[str, Any]) -> Look:
    """Look whether the files are there, for `kerasft check`."""
    files, _ = _files(settings["path"], {n: settings.get(n) for n in ("validation", "test")})
    schemes.check_scheme(settings.get("scheme", "auto"))
    return Look("text", tuple(f"data.path: {file} is there" for file in files.values()),
                ("the sentences and their tags",), ("spans",))  # fmt: skip


def _files(path: str, others: Mapping[str, Any]) -> tuple[dict[str, Path], list[str]]:
    """Return the file of each split, and sentences on those that are left out."""
    given = find_path(path, "data.path")
    files, notices = {"train": given}, list[str]()
    if given.is_dir():
        files, notices = _in_folder(given)
    home = files["train"].parent
    for name, value in others.items():
        if isinstance(value, str):
            files[name] = find_path(value, f"data.{name}", beside=home)
    require_apart({n: [file] for n, file in files.items()},
                  "Name another file, or a part such as 0.15.")  # fmt: skip
    return {name: files[name] for name in SPLIT_NAMES if name in files}, notices


def _in_folder(folder: Path) -> tuple[dict[str, Path], list[str]]:
    named: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if not file.is_file() or file.name.startswith(".") or file.suffix.lower() in _OTHERS:
            continue
        words = [word for word in re.split(r"[\W\d_]+", file.name.casefold()) if word]
        splits = [_OLD.get(word) or split_name(word) for word in words]
        named.setdefault(next((one for one in splits if one), ""), []).append(file)
    left = named.pop("", [])
    if not named and len(left) == 1:
        return {"train": left[0]}, []
    if twice := {name: files for name, files in named.items() if len(files) > 1}:
        name, files = next(iter(twice.items()))
        raise UserError(
            f"data.path: {folder} holds several files of {name}: "
            f"{listing(file.name for file in files)}. Name the one to train on by data.path, and "
            "the others by data.validation and data.test."
        )
    if "train" not in named:
        raise UserError(
            f"data.path: {folder} holds no file to train on, such as train.conll. Received: "
            f"{listing([file.name for files in (*named.values(), left) for file in files], 10)}. "
            "Name the file: data.path=FILE."
        )
    notices = [
        f"Files of {folder} that are called after no split were left out: "
        f"{listing(file.name for file in left)}."
    ] * bool(left)
    return {name: files[0] for name, files in named.items()}, notices


@dataclass(frozen=True)
class _Columns:
    token: int
    tag: int
    delimiter: str | None
    joined_by: str


def _sentences(
    file: Path, split: str, columns: _Columns, encoding: str, notices: list[str]
) -> Iterator[Found]:
    """Yield the sentences of a file."""
    begins(file)
    words: list[str] = []
    tags: list[str] = []
    first, document, documents, wrong, bare = 0, 0, False, [], []
    text = decode(file, encoding, "data.path")
    delimiter = "\t" if columns.delimiter in (None, "\\t") and "\t" in text else columns.delimiter

    def sentence() -> Found:
        whole, places = schemes.laid_end_to_end(words, columns.joined_by)
        return Found(whole, f"{file.name}:{first}", split, tags=list(tags), places=places,
                     group=f"{file.name} {document}" if documents else None)  # fmt: skip

    # A BOM is gone; no other sign ends a line than these, whatever `splitlines` takes for one.
    lines = re.split(r"\r\n|\n|\r", text)
    most = 0
    for number, line in enumerate([*lines, ""], 1):
        if not line.strip():
            if words:
                yield sentence()
            words, tags = [], []
            continue
        cells = line.split(delimiter) if delimiter else line.split()
        if line.startswith("#") and not _is_row(cells, columns):
            continue
        if cells[0] == DOCUMENT:
            document, documents = document + 1, True
            continue
        try:
            word, tag = cells[columns.token], cells[columns.tag].strip()
            if len(cells) < 2 or (len(cells) < most and columns.tag < 0):
                raise IndexError
        except IndexError:
            wrong.append(f"line {number} ({line[:40]!r})")
            continue
        most = max(most, len(cells))
        if not word.strip():
            bare.append(f"line {number}")
            continue
        first = number if not words else first
        words.append(word)
        tags.append(tag)
    if wrong:
        raise UserError(
            f"data.path: {file} has lines with fewer columns than the others, or without a tag: "
            f"{listing(wrong)}. Each line holds a word and its tag (columns "
            f"data.token={columns.token} and data.tag={columns.tag}), an empty line ends a "
            "sentence. Correct them, or set data.delimiter."
        )
    if bare:
        notices.append(f"{file}: {len(bare):,} lines without a word, left out: {listing(bare)}.")


def _is_row(cells: list[str], columns: _Columns) -> bool:
    """Whether a line that begins with # is a word with its tag, and no comment."""
    if len(cells) < 2 or not -len(cells) <= columns.tag < len(cells):
        return False
    return cells[0] == "#" or schemes.is_tag(cells[columns.tag].strip())
