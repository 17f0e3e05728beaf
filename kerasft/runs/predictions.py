"""Prints and writes the answers of `kerasft predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from kerasft.errors import UserError
from kerasft.runs.answer_files import ERROR, as_json, by_object, check_output, written
from kerasft.system.console import printable, table, warn
from kerasft.system.progress import Counted
from kerasft.system.terminal import status

Row = dict[str, Any]
# Rows without an answer that the console names; a file of answers has the reason of each.
MOST_NAMED = 20


class Answers(Protocol):
    """Answers that are made while they are taken; see `steps.answers.predicting.Answering`."""

    @property
    def items(self) -> list[str]: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def batches(self) -> Iterator[tuple[list[Row], list[Any], list[str]]]: ...


def check_asked(
    output: str | None, inputs: Sequence[str], data: str | None, id_column: str | None
) -> None:
    """Refuse a command before anything is computed that names no input, or an odd file.

    Args:
        output: The file for the answers, if any.
        inputs: The words of the command line.
        data: The table or folder, if any.
        id_column: The column of ids, if any.

    Raises:
        UserError: If they do not go together.
    """
    check_output(output)
    if data is not None and not data.strip():
        raise UserError(f"--data must be a table, or a folder of images. Received: {data!r}.")
    if data is None and id_column is not None:
        raise UserError(
            f"--id names a column of the table of --data. Received: --id {id_column} without it."
        )
    if data is None and not inputs:
        raise UserError("the following arguments are required: INPUT, or --data FILE")


def show(
    rows: Sequence[Row], *, output: str | None, as_json: bool, draw: str | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Print answers, or write them to a file; see `shown`."""
    items = dict.fromkeys(key for row in rows for one in row.get("objects", ()) for key in one)
    with shown(
        output=output, as_json_lines=as_json, draw=draw, items=list(items), labels=labels
    ) as take:
        take(rows, [row["input"] for row in rows])


@contextmanager
def shown(
    *, output: str | None, as_json_lines: bool = False, draw: str | None = None,
    items: Sequence[str] = (), labels: Sequence[str] = (), noun: str = "answer",
) -> Iterator[Callable[[Sequence[Row], Sequence[Any]], None]]:
    """Print answers as they come, or write them to a file that is whole at the end.

    Args:
        output: The file, if any; see `answer_files.written`.
        as_json_lines: Whether they are printed as JSON.
        draw: The folder for the images with what was found in them, if any.
        items: What is known of each object of an image; by default what the rows say.
        labels: The classes, each of which has its colour; by default those of the rows.
        noun: What a row is called.

    Yields:
        A function that takes some rows, and the inputs that they answer.
    """
    count, drawn, taken = 0, 0, set[str]()
    with written(output, items) if output else _printed(as_json_lines, items) as write:

        def take(rows: Sequence[Row], inputs: Sequence[Any]) -> None:
            nonlocal count, drawn
            if draw is not None:
                drawn += _draw(rows, inputs, draw, labels, taken, count)
            write(rows)
            count += len(rows)

        yield take
    if draw is not None:
        print(printable(f"{drawn:,} {'image' if drawn == 1 else 'images'} in {draw}"),
              file=sys.stderr)  # fmt: skip
    if output is not None:
        print(printable(f"{count:,} {noun if count == 1 else f'{noun}s'} in {output}"))


def show_all(
    answers: Answers, *, output: str | None, as_json: bool, draw: str | None = None
) -> int:
    """Print all answers, or write them to a file; return how many rows have none.

    The first of these are named on the error stream, on which it is shown how far the work is.
    """
    failed: list[str] = []
    count = 0
    progress = Counted("answering", len(answers))
    with shown(
        output=output, as_json_lines=as_json, draw=draw, items=answers.items, labels=answers.labels,
        noun="row",
    ) as take:
        status.show(progress.text())
        for rows, inputs, places in answers.batches():
            with status.aside():
                take(rows, inputs)
            wrong = [f"{place}: {row[ERROR]}" for row, place in zip(rows, places, strict=True)
                     if row[ERROR]]  # fmt: skip
            failed += wrong[: MOST_NAMED - len(failed)]
            count += len(wrong)
            progress.add(len(rows))
        status.show("")
    name_broken(failed, count, progress.done, "rows", output)
    return count


def name_broken(
    named: Sequence[str], count: int, of: int, noun: str, output: str | None = None
) -> None:
    """Name on the error stream what was not answered, and say how many there are."""
    for one in named:
        warn(f"not answered: {one}")
    if count:
        more = f"; {output} says why each" if output else ""
        warn(f"{count:,} of {of:,} {noun} were not answered{more}")


@contextmanager
def _printed(
    as_json_lines: bool, items: Sequence[str]
) -> Iterator[Callable[[Sequence[Row]], None]]:
    names: list[str] = []

    def as_table(rows: Sequence[Row]) -> None:
        found = [{n: v for n, v in row.items() if not isinstance(v, bytes)}
                 for row in by_object(rows, items)]  # fmt: skip
        first = not names
        if first:
            hidden = {"probabilities", ERROR}
            names.extend(n for n in dict.fromkeys(n for row in found for n in row)
                         if n not in hidden)  # fmt: skip
        lines = table([[_short(row.get(n, "")) for n in names] for row in found], names)
        print(lines if first else lines.partition("\n")[2])

    def as_lines(rows: Sequence[Row]) -> None:
        for row in rows:
            print(as_json(row, sys.stdout.encoding))

    yield as_lines if as_json_lines else as_table


def _draw(
    rows: Sequence[Row], inputs: Sequence[Any], folder: str, labels: Sequence[str],
    taken: set[str], first: int,
) -> int:
    """Write the images with what was found in them; return how many."""
    answered = [(row, one) for row, one in zip(rows, inputs, strict=True) if not row.get(ERROR)]
    # Objects without a box are entities of texts.
    if any("png_bytes" not in row and not all("box" in one for one in row.get("objects", [{}]))
           for row, _ in answered):
        names = (name for name in answered[0][0] if name != "input")
        raise UserError(
            "--draw draws the objects or masks that were found in images, and these answers have "
            f"none: they are {', '.join(names)}. Leave it out."
        )
    from kerasft.evaluation.images import write_each

    return len(write_each(
        [row for row, _ in answered], [one for _, one in answered], folder, names=labels,
        taken=taken, first=first,
    ))  # fmt: skip


def _short(value: object) -> Any:
    if isinstance(value, dict):
        value = ", ".join(f"{name} {_short(one)}" for name, one in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        value = " | ".join(map(str, value))
    text = " ".join(str(value).split()) if isinstance(value, str) else value
    return f"{text[:57]}..." if isinstance(text, str) and len(text) > 60 else text
