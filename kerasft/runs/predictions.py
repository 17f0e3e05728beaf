"""Prints and writes the answers of `kerasft predict`."""

from __future__ import annotations

import base64
import csv
import json
import sys
from typing import Any

from kerasft.errors import UserError
from kerasft.system.console import printable, table
from kerasft.system.files import written_whole

SIDES = ("left", "top", "right", "bottom")


def check_output(output: str | None) -> None:
    """Refuse a file whose format nobody can guess before anything is computed."""
    if output is not None and not output.endswith((".csv", ".jsonl")):
        raise UserError(f"--output must end in .csv or .jsonl. Received: {output!r}.")


def show(
    rows: list[dict[str, Any]], *, output: str | None, as_json: bool, draw: str | None = None
) -> None:
    """Print answers, or write them to a file; tables have a line for each object of a picture.

    Args:
        rows: An answer each.
        output: The file, if any.
        as_json: Whether they are printed as JSON.
        draw: The folder for the pictures with what was found in them, if any.
    """
    if draw is not None:
        _draw(rows, draw)
    if output is None and not as_json:
        rows = [_without_bytes(row) for row in _by_object(rows)]
        names = [n for n in rows[0] if n != "probabilities"]
        print(table([[_short(row[n]) for n in names] for row in rows], names))
        return
    if output is None:
        for row in rows:
            print(_json(row, sys.stdout.encoding))
        return
    # A path may hold bytes that are no UTF-8; they are spelled out.
    with written_whole(output) as part, open(
        part, "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        if output.endswith(".jsonl"):
            file.writelines(_json(row, "utf-8") + "\n" for row in rows)
        else:
            flat = [_flat(_without_bytes(row)) for row in _by_object(rows)]
            writer = csv.DictWriter(file, list(flat[0]))
            writer.writeheader()
            writer.writerows(flat)
    print(printable(f"{len(rows):,} {'answer' if len(rows) == 1 else 'answers'} in {output}"))


def _json(row: dict[str, Any], encoding: str | None) -> str:
    """Return a row as JSON; what an encoding lacks is escaped as JSON has it.

    Bytes are written as TensorFlow Serving writes them.
    """
    row = {name: {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
           for name, value in row.items()}  # fmt: skip
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return json.dumps(row)
    return line


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{name}_{key}": number for key, number in value.items()}
        else:
            found[name] = ",".join(value) if isinstance(value, list) else value
    return found


def _without_bytes(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without encoded pictures, which no table shows."""
    return {name: value for name, value in row.items() if not isinstance(value, bytes)}


def _draw(rows: list[dict[str, Any]], folder: str) -> None:
    """Write the pictures with what was found in them."""
    if any("objects" not in row and "png_bytes" not in row for row in rows):
        raise UserError(
            "--draw draws the objects or masks that were found in pictures, and these answers have "
            "none: "
            f"they are {', '.join(name for name in rows[0] if name != 'input')}. Leave it out."
        )
    from kerasft.evaluation.pictures import write_each

    made = write_each(rows, [row["input"] for row in rows], folder)
    print(printable(f"{len(made):,} {'picture' if len(made) == 1 else 'pictures'} in {folder}"),
          file=sys.stderr)  # fmt: skip


def _by_object(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each object of an answer, and one for an answer without any."""
    columns = dict.fromkeys(key for row in rows for one in row.get("objects", ()) for key in one)
    made: list[dict[str, Any]] = []
    for row in rows:
        if "objects" not in row:
            made.append(row)
            continue
        others = {name: value for name, value in row.items() if name != "objects"}
        made += [{**others, **_sides(dict.fromkeys(columns, "") | one)}
                 for one in row["objects"] or [{}]]  # fmt: skip
    return made


def _sides(found: dict[str, Any]) -> dict[str, Any]:
    """Return an object with a column for each side of its box."""
    if "box" not in found:
        return found
    box = found.pop("box") or [""] * len(SIDES)
    return {**found, **dict(zip(SIDES, box, strict=True))}


def _short(value: object) -> Any:
    if isinstance(value, dict):
        value = ", ".join(f"{name} {_short(one)}" for name, one in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        value = " | ".join(map(str, value))
    text = " ".join(str(value).split()) if isinstance(value, str) else value
    return f"{text[:57]}..." if isinstance(text, str) and len(text) > 60 else text
