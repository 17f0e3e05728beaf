"""Running text: files and folders of plain text, each cut into documents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasft.data.annotations.classes import natural
from kerasft.data.annotations.language import KIND, require_task
from kerasft.data.collection import Collection, to_splits
from kerasft.data.looks import Look
from kerasft.data.near_copies import told
from kerasft.data.paths import find_files, find_path, require_apart
from kerasft.data.splits import check_ratios, split_name
from kerasft.data.tables.encodings import decode
from kerasft.errors import UserError, nearest, some
from kerasft.spec import Splits
from kerasft.system.console import listing

WAYS = ("file", "blank_line", "line")
ENDINGS = (".txt", ".md", ".text")


def text_files(
    path: str,
    *,
    kind: str,
    seed: int,
    documents: str = "file",
    join: int = 1,
    encoding: str = "utf-8",
    validation: float | str = 0.1,
    test: float | str = 0.1,
    split: str = "stratified",
    limit: int | None = None,
) -> Splits:
    """Read documents from plain text.

    Args:
        path: A file, a pattern or a folder, whose files that end in `.txt`, `.text` or `.md` are
            read; folders below it may be called train, validation and test.
        kind: `"language"`, what `task=causal_lm` learns.
        seed: Another seed, another split.
        documents: What a document is: `"file"`, `"blank_line"` (what stands between empty lines)
            or `"line"`. Documents are what is split, and what packing keeps apart.
        join: How many documents that follow each other make one.
        encoding: How the characters of the files are written.
        validation: The part of the documents to validate on, or the path of other files.
        test: The part for the test, 0 for none, or the path of other files.
        split: `"stratified"` (so many, to one) or `"hash"` (each document by itself, so that those
            added later move nothing).
        limit: Train on so many documents only, for a quick try.

    Returns:
        `Splits` of texts. Documents of the same content are never in two splits.

    Raises:
        UserError: If a file cannot be read, or there are too few documents.

    Example:
        >>> text_files("novel.txt", kind="language", seed=0,
        ...            documents="blank_line")  # doctest: +SKIP
    """
    require_task(kind, "text_files")
    _check(documents, join)
    files = _files(path, "data.path")
    home = next(iter(files.values()))[0].parent
    for name, value in (("validation", validation), ("test", test)):
        if isinstance(value, str):
            files[name] = [file for part in _files(value, f"data.{name}", beside=home).values()
                           for file in part]  # fmt: skip
    require_apart(files, "Name other files, or a part such as 0.1.")
    check_ratios(validation, test, split, list(files))
    found = Collection("text", [], [], [], [])
    bare: list[str] = []
    for name, paths in files.items():
        for file in paths:
            text = decode(file, encoding, "data.path").replace("\r\n", "\n")
            whole = f"{file.parent.name}/{file.name}" if len(paths) > 1 else file.name
            parts = [one for one in _parts(text, documents) if one.strip()]
            if not parts:
                bare.append(whole)
            for place in range(0, len(parts), join):
                one = _seam(documents).join(parts[place : place + join])
                found.inputs.append(one)  # type: ignore[attr-defined]
                found.values.append(len(one.encode()))
                found.ids.append(
                    f"{name}/{whole}:{place + 1}" if documents != "file" else f"{name}/{whole}"
                )
                found.brought.append(name)
    if bare:
        found.notices.append(f"{some(len(bare), 'file')} left out, as empty: {listing(bare)}.")
    _require_several(found, documents, files)
    return told(to_splits(
        found, kind=kind, seed=seed, split=split, limit=limit,
        validation=0.0 if isinstance(validation, str) else validation,
        test=0.0 if isinstance(test, str) else test,
        source={"source": "text_files", "documents": documents, "join": join,
                "files": {name: [str(one) for one in paths] for name, paths in files.items()}},
    ))  # fmt: skip


def look(settings: Mapping[str, Any]) -> Look:
    """Look whether the files are there, for `kerasft check`."""
    _check(settings.get("documents", "file"), settings.get("join", 1))
    files = [file for part in _files(settings["path"], "data.path").values() for file in part]
    there = f"data.path: {files[0]} is there" if len(files) == 1 else (
        f"data.path: {len(files)} files are there"
    )
    return Look("text", (there,), ("what is in the files",), (KIND,), conversations=False)


def _check(documents: object, join: object) -> None:
    if documents not in WAYS:
        raise UserError(
            f"data.documents must be one of {', '.join(WAYS)}. Received: "
            f"data.documents={documents}." + nearest(str(documents), WAYS)
        )
    if isinstance(join, bool) or not isinstance(join, int) or join < 1:
        raise UserError(
            f"data.join must be a number of documents, 1 or more. Received: data.join={join}."
        )
    if documents == "file" and join > 1:
        raise UserError(
            "data.join puts documents of one file together, and data.documents=file makes one of "
            f"each file. Set data.documents=blank_line or line. Received: data.join={join}."
        )


def _files(path: Any, key: str, beside: Path | None = None) -> dict[str, list[Path]]:
    """Return the files by split; all are of `train` where folders do not say."""
    if (several := find_files(path, key, beside=beside)) is not None:
        return {"train": several}
    found = find_path(path, key, beside=beside)
    if found.is_file():
        return {"train": [found]}
    files = sorted((one for one in found.rglob("*") if one.suffix.lower() in ENDINGS
                    and one.is_file()), key=lambda one: natural(str(one)))  # fmt: skip
    if not files:
        raise UserError(
            f"{key}: the folder {found} holds no file that ends in {', '.join(ENDINGS)}. Name a "
            f"pattern: {key}='{path}/*.log'."
        )
    made: dict[str, list[Path]] = {}
    named = [split_name(file.relative_to(found).parts[0]) for file in files]
    whole = all(name and len(f.relative_to(found).parts) > 1
                for name, f in zip(named, files, strict=True))  # fmt: skip
    for name, file in zip(named, files, strict=True):
        made.setdefault(str(name) if whole and "train" in named else "train", []).append(file)
    return made


def _parts(text: str, documents: str) -> Sequence[str]:
    if documents == "line":
        return text.split("\n")
    if documents == "blank_line":
        return [one.strip("\n") for one in re.split(r"\n[ \t]*\n", text)]
    return [text]


def _seam(documents: str) -> str:
    return "\n" if documents == "line" else "\n\n"


def _require_several(
    found: Collection, documents: str, files: Mapping[str, Sequence[Path]]
) -> None:
    """See that there are documents for each split."""
    wanted = 3 - len(set(files) - {"train"})
    if len(found) >= wanted:
        return
    how = "" if documents == "line" else (
        " Set data.documents=" + ("blank_line or line" if documents == "file" else "line")
        + ", so that a file holds several, or"
    )
    raise UserError(
        f"{some(len(found), 'document')} cannot be split into train, validation and test.{how} "
        "name files for data.validation and data.test. Received: "
        f"{listing(str(one) for paths in files.values() for one in paths)} with "
        f"data.documents={documents}."
    )
