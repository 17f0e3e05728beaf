"""Files of rows, read a part at a time, so that a long one is never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kerasft.data.current_read import begins
from kerasft.data.tables import arrow, json_lists
from kerasft.data.tables.delimited import Before, delimited_part, lines_of
from kerasft.data.tables.encodings import decoded, mojibake
from kerasft.data.tables.labelled_lines import (
    first_word,
    is_marked,
    labelled_parts,
    lines_to_answer,
)
from kerasft.data.tables.readers import (
    SUFFIXES,
    Twice,
    format_of,
    json_lines,
    names_in,
    no_rows,
    read,
    require_file,
    rows_of_objects,
)
from kerasft.data.tables.reading import Layout, Rows
from kerasft.errors import UserError
from kerasft.system.console import listing

# About so many bytes of a file make up a part.
MOST = 1 << 22
LINES = "lines"
# Formats that may hold images, and are read a few rows at a time.
COLUMNAR = ("parquet", "arrow")


@dataclass
class Parts:
    """The rows of a file, which can be iterated again; labels need not be there.

    What is no file but a pipe, or no list of objects in JSON although it should be one, is held
    whole.

    Args:
        path: The file.
        layout: How it is written, where the suffix says nothing.
        key: The config key behind the path, for messages.
        is_label: Of the format of lines, whether a word is a label. Where the first word of each
            line is one, it is taken so; where none is, each line is a text. By default every line
            must have a label.
        most: About so many bytes make up a part.
    """

    path: Path
    layout: Layout
    key: str
    is_label: Callable[[str], bool] | None = None
    most: int = MOST
    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_file(self.path, self.key)
        self.form = format_of(self.path, self.layout.format, self.key)
        self.names: tuple[str, ...] | None = None  # of all objects of a file of several parts
        self.lines: tuple[bool, bool] | None = None  # whether they are marked, and labelled
        self.held: Rows | None = None
        self.end: str | None = None  # what ends its lines
        self.seen = self._state()

    @property
    def is_lines(self) -> bool:
        """Whether the file is one of lines of text, maybe with labels."""
        return self.form == LINES

    def __iter__(self) -> Iterator[Rows]:
        """Yield the rows, at least one in all.

        Raises:
            UserError: If the file is not what it is said to be, or has changed.
        """
        begins(self.path)
        if self._state() != self.seen:
            raise self._changed()
        count, rows = 0, None
        for rows in self._rows():
            count += len(rows)
            if len(rows) or rows.notices:
                yield rows
        if not count:
            raise no_rows(Rows(self.path, (), {}, ()) if rows is None else rows, self.key)

    def _changed(self) -> UserError:
        return UserError(
            f"{self.key}: {self.path} has changed while it was read. Write it to its end, and "
            "begin again."
        )

    def _state(self) -> tuple[int, int] | None:
        """Return what changes where a file is written; of a pipe nothing."""
        if not self.path.is_file():
            return None
        found = self.path.stat()
        return found.st_size, found.st_mtime_ns

    def _rows(self) -> Iterator[Rows]:
        if self.seen is None:  # a pipe is read once
            yield self._whole()
        elif self.form == "json":
            yield from self._list()
        elif self.form in COLUMNAR:
            yield from arrow.parts(self.path, self.form, self.key, self.most)
        elif self.form == "jsonl":
            yield from self._objects()
        elif self.is_lines:
            yield from self._lines()
        else:
            yield from self._delimited()

    def _whole(self) -> Rows:
        if self.held is None:
            self.held = read(self.path, self.layout, self.key)
        return self.held

    def _texts(self) -> Iterator[tuple[str, int, bool]]:
        """Yield whole lines, how many went before, and whether more may follow."""
        if self.end is None:
            # Where a file has both, a carriage return ends no line.
            self.end = "\n" if any("\n" in text for text, _ in self._decoded()) else "\r"
        rest, before, end = "", 0, self.end
        for text, more in self._decoded():
            rest += text
            cut = rest.rfind(end) + 1 if more else len(rest)
            if not more and end == "\n" and "\r" in rest and end not in rest:
                rest += end  # by itself, it would not show what ends its lines
                cut = len(rest)
            if cut or not more:
                yield rest[:cut], before, more
                before += rest.count(end, 0, cut)
                rest = rest[cut:]

    def _decoded(self) -> Iterator[tuple[str, bool]]:
        return decoded(self.path, self.layout.encoding, self.key, self.most)

    def _objects(self) -> Iterator[Rows]:
        def parts() -> Iterator[Rows]:
            twice = Twice()
            for text, before, more in self._texts():
                yield json_lines(self.path, text, self.key, before, twice=twice, more=more)

        if self.names is None:
            known: dict[str, None] = {}
            for text, _, _ in self._texts():
                known |= dict.fromkeys(names_in(text))
            self.names = tuple(known)
        for rows in parts():
            yield with_columns(rows, self.names)

    def _list(self) -> Iterator[Rows]:
        def parts(twice: Twice) -> Iterator[list[dict[str, Any]]]:
            return json_lists.objects_in(self._decoded(), twice)

        if self.names is None and self.held is None:
            known: dict[str, None] = {}
            try:
                for records in parts(Twice()):
                    known |= dict.fromkeys(name for record in records for name in record)
                self.names = tuple(known)
            except json_lists.NoList:
                self._whole()  # it says what is wrong
        if self.names is None:
            yield self._whole()
            return
        count, twice = 0, Twice()
        try:
            for records in parts(twice):
                places = list(range(count + 1, count + len(records) + 1))
                count += len(records)
                yield with_columns(rows_of_objects(self.path, records, places, "row"), self.names)
        except json_lists.NoList as error:  # it was one a moment ago
            raise self._changed() from error
        twice.place("the file")
        if said := twice.notices(self.path):
            yield with_columns(Rows(self.path, (), {}, (), "row", notices=said), self.names)

    def _lines(self) -> Iterator[Rows]:
        if self.is_label is None:
            yield from labelled_parts(self.path, self._texts(), self.layout, self.key)
            return
        if self.lines is None:
            self.lines = self._form_of_lines(self.is_label)
        marked, labelled = self.lines
        for text, before, _ in self._texts():
            yield lines_to_answer(
                self.path, text, marked=marked, labelled=labelled, before=before
            )

    def _form_of_lines(self, is_label: Callable[[str], bool]) -> tuple[bool, bool]:
        """Find out whether lines have labels of fastText, and whether each begins with a label."""
        labelled: list[str] = []
        bare: list[str] = []
        marked = False
        counts = [0, 0]
        for text, before, _ in self._texts():
            for number, line in enumerate(lines_of(text), before + 1):
                if not line.strip():
                    continue
                marked = marked or is_marked(line)
                found = is_label(first_word(line))
                counts[found] += 1
                kept = labelled if found else bare
                if len(kept) < 3:
                    kept.append(f"{number:,}")
        self.notices += mojibake(self.path, self.layout.encoding)
        if marked:
            return True, False
        if all(counts):
            raise UserError(
                f"{self.key}: of the lines of {self.path} {counts[1]:,} begin with a label of the "
                f"model (line {listing(labelled)}), and {counts[0]:,} do not (line "
                f"{listing(bare)}). Set data.label=null where each line is a text, or "
                "data.label=label where the first word of each is its label."
            )
        if counts[0]:
            self.notices.append(
                f"No line of {self.path} begins with a label of the model, so each line is taken "
                "as a text. Where the first word is a label all the same, set data.label=label."
            )
        return False, bool(counts[1])

    def _delimited(self) -> Iterator[Rows]:
        usual = self.layout.delimiter or ("\t" if self.form == "tsv" else ",")
        before: Before | None = None
        held, wanted = "", 0
        for text, _, more in self._texts():
            held += text
            if more and len(held) < wanted:
                continue
            rows, rest, before = delimited_part(
                self.path, held, self.layout, usual, self.key, before=before, more=more
            )
            # A cell that does not end is not read again and again.
            wanted = 0 if len(rest) < len(held) else 2 * len(held)
            held = rest
            yield rows


def with_columns(rows: Rows, names: tuple[str, ...]) -> Rows:
    """Return rows with all columns of their file, of which a part may have some alone."""
    nothing = [None] * len(rows)
    cells = {name: rows.cells.get(name, nothing) for name in names}
    return replace(rows, names=names, cells=cells)


def parts_of(
    path: Path, layout: Layout, key: str, is_label: Callable[[str], bool], *, told: bool
) -> Parts:
    """Return a file in parts.

    Args:
        path: The file.
        layout: How the table of a run is written, or how the user says that this one is.
        key: The config key behind the path, for messages.
        is_label: See `Parts`.
        told: Whether the user says the format; else a suffix goes before that of the run.
    """
    if not told and path.suffix.lower() in SUFFIXES:
        layout = replace(layout, format="auto")
    return Parts(path, layout, key, is_label)


def holds_bytes(path: Path, layout: Layout, column: object, key: str) -> bool:
    """Whether a file is one of Parquet or Arrow that holds encoded images in a column.

    Args:
        path: The file.
        layout: How it is written, where the suffix says nothing.
        column: The name or the number of the column.
        key: The config key behind the path, for messages.

    Raises:
        UserError: If there is no such file, or nothing can read its format.
    """
    if column is None:
        return False
    require_file(path, key)
    form = format_of(path, layout.format, key)
    return form in COLUMNAR and arrow.is_binary(path, form, column)
