"""Prompts with answers, and conversations, in tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerasft.data.annotations.language import KIND, SAID, TURN, require_task
from kerasft.data.collection import Collection, to_splits
from kerasft.data.looks import Look
from kerasft.data.near_copies import told
from kerasft.data.paths import require_apart
from kerasft.data.slices import extend
from kerasft.data.splits import check_ratios, ratios_of
from kerasft.data.tables.columns import find_column, splits_of
from kerasft.data.tables.folder import find_tables
from kerasft.data.tables.gathering import parts_of
from kerasft.data.tables.reading import Layout, Rows
from kerasft.data.tables.slice_cells import slice_cells
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing

ROLES = ("system", "user", "assistant")
# What other programs call them: ShareGPT, Gemma.
_ALSO = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant",
         "prompter": "user"}  # fmt: skip
_MARKS = re.compile("[\x1c\x1e\x1f]")
_FIELD = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Columns:
    """Which columns are what; see `chat` for each."""

    text: str | None
    prompt: str | None
    answer: str | None
    system: str | None
    messages: str | None

    def check(self) -> None:
        """Raise `UserError` unless exactly one kind of example is chosen."""
        chosen = [name for name in ("text", "messages", "prompt") if getattr(self, name)]
        if len(chosen) != 1:
            raise UserError(
                "Exactly one of data.text (documents), data.prompt with data.answer, and "
                "data.messages (conversations) must be set. Received: "
                + (", ".join(f"data.{one}={getattr(self, one)}" for one in chosen) or "none") + "."
            )
        if bool(self.prompt) != bool(self.answer):
            raise UserError(
                "data.prompt and data.answer belong together. Received: "
                f"data.prompt={self.prompt}, data.answer={self.answer}."
            )
        if self.system and not self.prompt:
            raise UserError(
                "data.system stands before data.prompt; conversations bring a message of the role "
                f"system. Received: data.system={self.system}."
            )


def chat(
    path: str,
    *,
    kind: str,
    seed: int,
    prompt: str | None = None,
    answer: str | None = None,
    system: str | None = None,
    messages: str | None = None,
    text: str | None = None,
    format: str = "auto",
    header: bool = True,
    columns: list[str] | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    quoting: bool | str = True,
    validation: float | str = 0.1,
    test: float | str = 0.1,
    split: str = "stratified",
    split_column: str | None = None,
    group: str | None = None,
    slices: Sequence[str | int] = (),
    limit: int | None = None,
) -> Splits:
    """Read prompts with answers, conversations or documents from a table.

    Args:
        path: A CSV, TSV, JSONL, JSON or Parquet file, a pattern, or a folder of them.
        kind: `"language"`, what `task=causal_lm` learns.
        seed: Another seed, another split.
        prompt: The column of prompts, or several in a pattern, such as
            `"{instruction}\\n{input}"`; empty lines that an empty cell leaves are taken out.
        answer: The column of answers.
        system: What is said before each prompt: a column, or a text where there is no such column.
        messages: The column of conversations: lists of objects with `role` (system, user or
            assistant) and `content`; or with `from` and `value`, as ShareGPT has them.
        text: The column of documents, where there are neither prompts nor conversations.
        format: See `table`, as `header`, `columns`, `encoding`, `delimiter` and `quoting`.
        validation: The part of the rows to validate on, or the path of another file.
        test: The part for the test, 0 for none, or the path of another file.
        split: `"stratified"` (so many, to one) or `"hash"` (each row by its content, so that rows
            added later move nothing).
        split_column: The column that says train, validation or test.
        group: The column that names the group of a row; no group stands in two splits.
        slices: Columns by whose values figures are told apart; the run hands them in.
        limit: Train on so many rows only, for a quick try.

    Returns:
        `Splits` of texts; conversations are one text each, see `kerasft.model.text.language`.

    Raises:
        UserError: If a column or a message is not what it should be.

    Example:
        >>> chat("faq.csv", kind="language", seed=0, prompt="question",
        ...      answer="reply")  # doctest: +SKIP
    """
    require_task(kind, "chat")
    chosen = Columns(text, prompt, answer, system, messages)
    chosen.check()
    tables = find_tables(path, {"validation": validation, "test": test})
    require_apart(tables.files, "Name another file, or a part such as 0.1.")
    tables.require_one_word(split_column, path)
    ratios = {name: part for name, part in ratios_of(validation, test).items()
              if name not in tables.files}  # fmt: skip
    if split_column is None:
        check_ratios(ratios.get("validation"), ratios.get("test"), split, list(tables.files))
    layout = Layout(format, header, columns, encoding, delimiter, quoting)
    found = Collection("text", [], [], [], [], notices=list(tables.notices))
    found.groups = None if group is None else []
    bare: list[str] = []
    for part in parts_of(tables, layout):
        ids = [f"{part.name}:{place}" for place in part.rows.places]
        brought = splits_of(part.rows, split_column, ids, part.split)
        groups = None if group is None else find_column(part.rows, group, "data.group")
        sliced = slice_cells(part.rows, slices, texts=True)
        kept: list[int] = []
        for i, one in enumerate(_examples(part.rows, chosen, ids)):
            if one is None:
                bare.append(ids[i])
                continue
            kept.append(i)
            whole, teaches = one
            found.inputs.append(whole)  # type: ignore[attr-defined]
            found.values.append(len(teaches.encode()))
            found.ids.append(ids[i])
            found.brought.append(brought[i])
            if groups is not None and found.groups is not None:
                found.groups.append(str(groups[i]))
        cells = {name: [column[i] for i in kept] for name, column in sliced.items()}
        extend(found.slices, cells, len(kept), before=len(found.ids) - len(kept))
    if bare:
        found.notices.append(
            f"{some(len(bare), 'row')} left out, as nothing is to be learned of them (no text, or "
            f"no answer, or a message without content): {listing(bare)}."
        )
    return told(to_splits(
        found, kind=kind, seed=seed, split=split, limit=limit,
        source={"source": "chat", "columns": vars(chosen), "files": {
            name: [str(one) for one in paths] for name, paths in tables.files.items()
        }}, **ratios,
    ))  # fmt: skip


def look(settings: Mapping[str, Any]) -> Look:
    """Look whether the files are there and what is chosen fits, for `kerasft check`."""
    Columns(*(settings.get(name) for name in ("text", "prompt", "answer", "system",
                                              "messages"))).check()  # fmt: skip
    tables = find_tables(settings["path"], {n: settings.get(n) for n in ("validation", "test")})
    tables.require_one_word(settings.get("split_column"), settings["path"])
    return Look("text", tuple(
        f"data.path: {file} is there" for files in tables.files.values() for file in files
    ), ("the rows of the table",), (KIND,), conversations=settings.get("text") is None)  # fmt: skip


def _examples(
    rows: Rows, chosen: Columns, ids: Sequence[str]
) -> list[tuple[str, str] | None]:
    """Return each row as one text, and what of it is to be learned; `None` where there is none."""
    if chosen.messages:
        cells = find_column(rows, chosen.messages, "data.messages")
        return [_conversation(cell, one) for cell, one in zip(cells, ids, strict=True)]
    if chosen.text:
        made = [_text(cell, "data.text", one) for cell, one in
                zip(find_column(rows, chosen.text, "data.text"), ids, strict=True)]  # fmt: skip
        return [(one, one) if one.strip() else None for one in made]
    assert chosen.prompt and chosen.answer
    prompts = _filled(rows, chosen.prompt, "data.prompt", ids)
    systems = [""] * len(ids)
    if chosen.system:
        there = chosen.system in rows.cells or _FIELD.search(chosen.system)
        systems = (_filled(rows, chosen.system, "data.system", ids) if there
                   else [chosen.system] * len(ids))  # fmt: skip
    answers = [_text(cell, "data.answer", one) for cell, one in
               zip(find_column(rows, chosen.answer, "data.answer"), ids, strict=True)]  # fmt: skip
    found: list[tuple[str, str] | None] = []
    for system, prompt, answer in zip(systems, prompts, answers, strict=True):
        turns = [("system", system)] * bool(system.strip())
        turns += [("user", prompt), ("assistant", answer)]
        found.append((_joined(turns), answer) if answer.strip() else None)
    return found


def _filled(rows: Rows, pattern: str, key: str, ids: Sequence[str]) -> list[str]:
    """Return a column, or a pattern of several, for each row."""
    if pattern in rows.cells or not (names := _FIELD.findall(pattern)):
        return [_text(cell, key, one) for cell, one in
                zip(find_column(rows, pattern, key), ids, strict=True)]  # fmt: skip
    columns = {name: find_column(rows, name, key) for name in names}
    pattern = pattern.replace("\\n", "\n")  # as it comes from a command line
    made = []
    for i, one in enumerate(ids):
        cells = {name: _text(columns[name][i], key, one) for name in names}
        filled = re.sub(_FIELD, lambda found, cells=cells: cells[found[1]], pattern)  # type: ignore
        bare = any(not cell.strip() for cell in cells.values())
        made.append(re.sub(r"\n{2,}", "\n", filled).strip("\n") if bare else filled)
    return made


def _text(cell: Any, key: str, one: str) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str):
        raise UserError(
            f"{key} must be a column of texts. Received: {one} has {str(cell)[:60]!r}, "
            f"{type(cell).__name__}."
        )
    return _MARKS.sub(" ", cell)


def _conversation(cell: Any, one: str) -> tuple[str, str] | None:
    """Return a conversation as one text, and what its assistant says; `None` where it is empty."""
    if cell is None:
        return None
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            cell = None
    if not isinstance(cell, list) or not all(isinstance(turn, Mapping) for turn in cell):
        raise UserError(
            "data.messages must hold lists of messages, each with role and content, such as "
            '[{"role": "user", "content": "Hello"}, ...]. Received: '
            f"{one} has {str(cell)[:60]!r}."
        )
    turns: list[tuple[str, str]] = []
    for number, turn in enumerate(cell):
        role = turn.get("role", turn.get("from"))
        said = turn.get("content", turn.get("value"))
        role = _ALSO.get(str(role), role)
        if role not in ROLES:
            raise UserError(
                f"data.messages: roles are {', '.join(ROLES)}. Received: {one} has the role "
                f"{role!r} in message {number + 1}."
            )
        if said is None:  # an assistant that calls a tool, say: nobody knows what was said
            return None
        if not isinstance(said, str):
            raise UserError(
                f"data.messages: the content of a message must be a text. Received: {one} has "
                f"{str(said)[:60]!r} in message {number + 1}."
            )
        if role == "system" and number:
            raise UserError(
                "data.messages: a message of the role system may stand first, and only there. "
                f"Received: {one} has one as message {number + 1}."
            )
        turns.append((str(role), _MARKS.sub(" ", said)))
    while turns and turns[-1][0] != "assistant":  # what nobody answers teaches nothing
        turns.pop()
    answers = "".join(said for role, said in turns if role == "assistant")
    return (_joined(turns), answers) if answers.strip() else None


def _joined(turns: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{TURN}{role}{SAID}{said}" for role, said in turns)
