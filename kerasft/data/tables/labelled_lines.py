"""Lines of a label and a text: `LABEL some text`, or fastText's `__label__LABEL some text`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kerasft.data.annotations.classes import some
from kerasft.data.tables.delimited import lines_of
from kerasft.data.tables.encodings import mojibake
from kerasft.data.tables.reading import Layout, Rows
from kerasft.errors import UserError
from kerasft.system.console import listing

# The names of the columns that such lines have.
LABEL, TEXT = "label", "text"
# What fastText writes before each label.
PREFIX = "__label__"
_BEFORE = re.compile(rf"\s*(?:{PREFIX}\S+(?:\s+|$))*")
_AFTER = re.compile(rf"(?:\s+{PREFIX}\S+)*\s*$")
_MARKED = re.compile(rf"(?<!\S){PREFIX}(\S+)")


def labelled_lines(path: Path, text: str, layout: Layout, key: str) -> Rows:
    """Read lines that begin with a label.

    Where the first line begins with `__label__`, all must carry such labels, before the text or
    after it. Elsewhere the label ends at the first blank.

    Args:
        path: The file, for messages.
        text: What is in it.
        layout: How it is written; `several` allows several labels a line.
        key: The config key behind the path.

    Returns:
        `Rows` with the columns `label` and `text`; lines of blanks are left out.

    Raises:
        UserError: If lines have no label, or several where one is allowed.
    """
    numbered = [(n, line) for n, line in enumerate(lines_of(text), 1) if line.strip()]
    marked = bool(numbered) and numbered[0][1].lstrip().startswith(PREFIX)
    cells = [_marked(line) if marked else _plain(line) for _, line in numbered]
    places = [n for n, _ in numbered]
    if marked:
        _check(path, places, cells, layout, key)
    # A comma in a label of fastText parts nothing, so that several are a list.
    labels: list[Any] = [found if marked and layout.several else found[0] for found, _ in cells]
    columns: dict[str, list[Any]] = {LABEL: labels, TEXT: [rest for _, rest in cells]}
    return Rows(path, (LABEL, TEXT), columns, places, notices=mojibake(path, layout.encoding))


def _plain(line: str) -> tuple[list[str], str]:
    label, *rest = line.split(maxsplit=1)
    return [label], rest[0] if rest else ""


def _marked(line: str) -> tuple[list[str], str]:
    before = _BEFORE.match(line)
    begin = before.end() if before else 0
    after = _AFTER.search(line, begin)
    end = max(after.start(), begin) if after else len(line)
    found = _MARKED.findall(line[:begin]) + _MARKED.findall(line[end:])
    return list(dict.fromkeys(found)), line[begin:end]


def is_marked(line: str) -> bool:
    """Whether a line begins with a label of fastText."""
    return line.lstrip().startswith(PREFIX)


def first_word(line: str) -> str:
    """Return what stands before the first blank."""
    return line.split(maxsplit=1)[0]


def lines_to_answer(
    path: Path, text: str, *, marked: bool, labelled: bool, before: int = 0
) -> Rows:
    """Read lines that are to be answered, and need not have labels.

    Args:
        path: The file, for messages.
        text: Whole lines of it.
        marked: Whether labels are those of fastText, as many as a line has.
        labelled: Whether the first word of others is a label; else each line is a text.
        before: How many lines of the file went before.

    Returns:
        `Rows` with the columns `label`, a list each or `None`, and `text`; lines of blanks are
        left out.
    """
    numbered = [(n, line) for n, line in enumerate(lines_of(text), before + 1) if line.strip()]
    cells = [
        _marked(line) if marked else _plain(line) if labelled else ([], line)
        for _, line in numbered
    ]  # fmt: skip
    columns: dict[str, list[Any]] = {
        LABEL: [found or None for found, _ in cells], TEXT: [rest for _, rest in cells],
    }  # fmt: skip
    return Rows(path, (LABEL, TEXT), columns, [n for n, _ in numbered])


def _check(
    path: Path, places: list[int], cells: list[tuple[list[str], str]], layout: Layout, key: str
) -> None:
    problems, labels = [], [found for found, _ in cells]
    if bare := [n for n, found in zip(places, labels, strict=True) if not found]:
        problems.append(
            f"{key}: {path} has {some(len(bare), 'line')} without a label, while the first one "
            f"begins with {PREFIX}: line {listing(f'{n:,}' for n in bare)}. Put a label before "
            "each, and each text into one line."
        )
    texts = [text for _, text in cells]
    if within := [n for n, text in zip(places, texts, strict=True) if _MARKED.search(text)]:
        problems.append(
            f"{key}: {path} has {some(len(within), 'line')} with a label inside the text: line "
            f"{listing(f'{n:,}' for n in within)}. Labels come before the text, or after it."
        )
    several = [n for n, found in zip(places, labels, strict=True) if len(found) > 1]
    if several and not layout.several:
        problems.append(
            f"{key}: {path} has {some(len(several), 'line')} with more than one label: line "
            f"{listing(f'{n:,}' for n in several)}. Set task=multi_label."
        )
    if problems:
        raise UserError(problems=problems)
