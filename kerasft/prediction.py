"""What `kerasft predict` takes and shows."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasft import record
from kerasft.console import table
from kerasft.errors import UserError
from kerasft.files import at_home, read_json, written_whole

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")


def inputs(model: str, given: Sequence[str]) -> list[Any]:
    """Turn the words of the command line into what a model takes.

    Args:
        model: A run folder or an export; it says whether pictures or texts are meant.
        given: Texts, files, folders, `@FILE`, or `-` for standard input.

    Returns:
        Paths of pictures, texts, or pairs of texts.

    Raises:
        UserError: If a picture is not there, or a pair lacks its tab.
    """
    modality, pair = _wants(model)
    words: list[str] = []
    for word in given:
        if word == "-":
            words += [line.rstrip("\n") for line in sys.stdin]
        elif word.startswith("@"):
            words += _lines(Path(word[1:]))
        else:
            words.append(word)
    if modality == "images":
        return [str(picture) for word in words for picture in _pictures(Path(word))]
    if not pair:
        return words
    pairs = [tuple(word.split("\t")) for word in words]
    for word, found in zip(words, pairs, strict=True):
        if len(found) != 2:
            raise UserError(
                "This model takes pairs of texts, with a tab between the two. "
                f"Received: {word!r}. In a shell: $'first text\\tsecond text'."
            )
    return pairs


def _wants(model: str) -> tuple[str, bool]:
    """Return what a model takes: `images` or `text`, and whether in pairs."""
    place = at_home(model)
    if (place / "config.yaml").is_file():
        folder = record.open_run(model)
        saved = read_json(folder.preprocess / "preprocess.json", "modality")
        return saved["modality"], bool(saved.get("pair"))
    from kerasft.artifact.layout import DEFAULT, find_export, read_signature

    names = list(read_signature(find_export(model))["signatures"][DEFAULT]["inputs"])
    return ("images" if "image_bytes" in names else "text"), "text_pair" in names


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(
            f"The file {str(file)!r} cannot be read: {error.strerror or error}."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"The file {str(file)!r} must be UTF-8 text, one text a line: {error.reason} at byte "
            f"{error.start:,}."
        ) from error


def _pictures(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURES)
        if not found:
            raise UserError(f"There is no picture in the folder {str(path)!r}.")
        return found
    if not path.is_file():
        raise UserError(f"There is no picture {str(path)!r}.")
    return [path]


def check_output(output: str | None) -> None:
    """Refuse a file whose format nobody can guess before anything is computed."""
    if output is not None and not output.endswith((".csv", ".jsonl")):
        raise UserError(f"--output must end in .csv or .jsonl. Received: {output!r}.")


def show(rows: list[dict[str, Any]], *, output: str | None, as_json: bool) -> None:
    """Print answers, or write them to a file."""
    if output is None and not as_json:
        names = [n for n in rows[0] if n != "probabilities"]
        print(table([[_short(row[n]) for n in names] for row in rows], names))
        return
    if output is None:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    with written_whole(output) as part, open(part, "w", newline="", encoding="utf-8") as file:
        if output.endswith(".jsonl"):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            flat = [_flat(row) for row in rows]
            writer = csv.DictWriter(file, list(flat[0]))
            writer.writeheader()
            writer.writerows(flat)
    print(f"{len(rows):,} answers in {output}")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{name}_{key}": number for key, number in value.items()}
        else:
            found[name] = ",".join(value) if isinstance(value, list) else value
    return found


def _short(value: Any) -> Any:
    if isinstance(value, list | tuple):
        value = " | ".join(map(str, value))
    text = " ".join(str(value).split()) if isinstance(value, str) else value
    return f"{text[:57]}..." if isinstance(text, str) and len(text) > 60 else text
