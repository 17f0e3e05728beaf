"""Lines of a label and a text: `LABEL some text`, or fastText's `__label__LABEL some text`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kerasft.data.tables.delimited import lines_of
from kerasft.data.tables.encodings import mojibake
from kerasft.data.tables.reading import Layout, Rows
from kerasft.errors import UserError, some
from kerasft.system.console import listing

# The names of the columns that such lines have.
LABEL, TEXT = "label", "text"
# What fastText writes before each label.
PREFIX = "__label__"
_BEFORE = re.compile(rf"\s*(?:{PREFIX}\S+(?:\s+|$))*")
_AFTER = re.compile(rf"(?:\s+{PREFIX}\S+)*\s*$")
_MARKED = re.compile(rf"(?<!\S){PREFIX}(\S+)")


def labelled_lines(path: Path, text: str, layout: Layout, key: str) -> Rows:
    """Return the rows of a whole text; see `labelled_parts`."""
    return next(labelled_parts(path, [(text, 0, False)], layout, key))


def labelled_parts(
    path: Path, texts: Iterable[tuple[str, int, bool]], layout: Layout, key: str
) -> Iterator[Rows]:
    """Read lines that begin with a label, a part of them at a time.

    Where the first line begins with `__label__`, all must carry such labels, before the text or
    after it. Elsewhere the label ends at the first blank.

    Args:
        path: The file, for messages.
        texts: Whole lines of it, how many went before, and whether more follow.
        layout: How it is written; `several` allows several labels a line.
        key: The config key behind the path.

    Yields:
        `Rows` with the columns `label` and `text`; lines of blanks are left out.

    Raises:
        UserError: After the last part, if lines have no label, or several where one is allowed.
            What follows the first of them is not yielded.
    """
    marked: bool | None = None
    faults = _Faults()
    notices = mojibake(path, layout.encoding)
    for text, before, more in texts:
        numbered = [(n, line) for n, line in enumerate(lines_of(text), before + 1) if line.strip()]
        if marked is None and numbered:
            marked = is_marked(numbered[0][1])
        cells = [_marked(line) if marked else _plain(line) for _, line in numbered]
        places = [n for n, _ in numbered]
        if marked:
            faults.look(places, cells)
        if not more:
            faults.tell(path, layout, key)
        if faults.are_there(layout):
            continue
        # A comma in a label of fastText parts nothing, so that several are a list.
        labels: list[Any] = [found if marked and layout.several else found[0] for found, _ in cells]
        columns: dict[str, list[Any]] = {LABEL: labels, TEXT: [rest for _, rest in cells]}
        if not places:
            yield Rows(path, (), {}, ())
            continue
        yield Rows(path, (LABEL, TEXT), columns, places, notices=notices)
        notices = ()


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


class _Faults:
    """The lines with labels of fastText that are not as they should be, of all parts of a file."""

    def __init__(self) -> None:
        self.bare: list[int] = []
        self.within: list[int] = []
        self.several: list[int] = []

    def look(self, places: list[int], cells: list[tuple[list[str], str]]) -> None:
        """Look at some lines."""
        for place, (labels, text) in zip(places, cells, strict=True):
            if not labels:
                self.bare.append(place)
            elif len(labels) > 1:
                self.several.append(place)
            if PREFIX in text and _MARKED.search(text):
                self.within.append(place)

    def are_there(self, layout: Layout) -> bool:
        """Whether the file cannot be used."""
        return bool(self.bare or self.within or (self.several and not layout.several))

    def tell(self, path: Path, layout: Layout, key: str) -> None:
        """Refuse a file that has such lines, once all were looked at."""
        problems = []
        if self.bare:
            problems.append(
                f"{key}: {path} has {some(len(self.bare), 'line')} without a label, while the "
                f"first one begins with {PREFIX}: line {_listed(self.bare)}. Put a label before "
                "each, and each text into one line."
            )
        if self.within:
            problems.append(
                f"{key}: {path} has {some(len(self.within), 'line')} with a label inside the text: "
                f"line {_listed(self.within)}. Labels come before the text, or after it."
            )
        if self.several and not layout.several:
            problems.append(
                f"{key}: {path} has {some(len(self.several), 'line')} with more than one label: "
                f"line {_listed(self.several)}. Set task=multi_label."
            )
        if problems:
            raise UserError(problems=problems)


def _listed(lines: list[int]) -> str:
    return listing(f"{n:,}" for n in lines)
