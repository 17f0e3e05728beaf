"""Answers as records, the same from run folders, exports and `kerasft predict`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.comparison import Output
from kerasft.system.files import written_whole

# What tells most of an answer comes first: a signature gives its outputs in an order of its own.
FIRST = ("label", "labels", "score", "value")
# Files name the probability of each label up to so many of them.
MOST_LABELS = 100


def records(
    outputs: Mapping[str, Any], labels: Sequence[str], rules: Mapping[str, Output]
) -> Iterator[dict[str, Any]]:
    """Yield answers as one plain dict an example.

    Args:
        outputs: Output name to array or list, an element an example.
        labels: The names of the labels.
        rules: What each output is, see `Output`.

    Yields:
        By output name a text, number or list; of an output with a value for each label a dict of
        these, or of true and false the labels that are true. Outputs whose rows are those of
        objects become one list `objects`, with a dict for each. Encoded pictures, whose names end
        in `_bytes` as TensorFlow Serving wants it, stay bytes.

    Example:
        >>> rules = {"probabilities": Output(each=True)}
        >>> list(records({"probabilities": np.array([[0.25, 0.75]])}, ["no", "yes"], rules))
        [{'probabilities': {'no': 0.25, 'yes': 0.75}}]
    """
    # The likeliest labels of a served answer, `top_...`, are in its probabilities, too.
    names = [
        name for name in dict.fromkeys((*FIRST, *outputs))
        if name in outputs and not name.startswith("top_")
    ]  # fmt: skip
    each = {name for name, rule in rules.items() if rule.each}
    items = {name: rule for name, rule in rules.items() if rule.item and name in outputs}
    # Of objects their number is known, and the number of their class is behind its name.
    gone = {name for name, rule in rules.items() if rule.among} if items else set()
    names = [name for name in names if name not in items and name not in gone]
    for i in range(len(next(iter(outputs.values()))) if outputs else 0):
        found = {
            name: outputs[name][i] if name.endswith("_bytes")
            else _named(outputs[name][i], labels) if name in each else plain(outputs[name][i])
            for name in names
        }
        yield {**found, **({"objects": list(_objects(outputs, items, i))} if items else {})}


def _objects(
    outputs: Mapping[str, Any], items: Mapping[str, Output], i: int
) -> Iterator[dict[str, Any]]:
    """Yield the objects of an example."""
    among = next(rule.among for rule in items.values() if rule.among)
    for row, number in enumerate(outputs[among][i]):
        if number > 0:
            # Six digits are what float32 holds.
            yield {rule.item: _rounded(plain(outputs[name][i][row]))
                   for name, rule in items.items()}  # fmt: skip


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _named(value: Any, labels: Sequence[str]) -> Any:
    if np.asarray(value).dtype.kind == "b":
        return [label for label, on in zip(labels, value, strict=True) if on]
    return {label: plain(one) for label, one in zip(labels, value, strict=True)}


def plain(value: Any) -> Any:
    """Return a value or an array as plain Python, bytes as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | tuple | np.ndarray) and np.ndim(value):
        return [plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def write(
    folder: Path, split: str, ids: Sequence[str], truths: Sequence[Any],
    answers: Iterator[dict[str, Any]],
) -> None:
    """Write what was predicted of a split beside what is true, a record an example.

    Encoded pictures are not written.

    Args:
        folder: Where `SPLIT.jsonl` goes and, where true values and answers are flat, `SPLIT.csv`.
        split: Its name.
        ids: The names of the examples.
        truths: What is true of each, as plain values.
        answers: See `records`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[list[Any]] = []
    columns: list[str] | None = None
    with written_whole(folder / f"{split}.jsonl") as part, open(part, "w", encoding="utf-8") as out:
        for name, true, answer in zip(ids, truths, answers, strict=True):
            answer = {key: value for key, value in answer.items() if not isinstance(value, bytes)}
            held = {key: value for key, value in answer.items()
                    if not (isinstance(value, dict) and len(value) > MOST_LABELS)}  # fmt: skip
            out.write(json.dumps({"id": name, "true": true, "predicted": held},
                                 ensure_ascii=False) + "\n")  # fmt: skip
            if columns is None:
                columns = [key for key, value in answer.items() if _is_flat(value)]
            said = ",".join(map(str, true)) if isinstance(true, list) else true
            rows.append([name, said, *(answer[key] for key in columns)])
            if isinstance(true, dict):
                columns = []
    file = folder / f"{split}.csv"
    if not columns:
        file.unlink(missing_ok=True)
        return
    with written_whole(file) as part, open(part, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "true", *(f"predicted_{name}" for name in columns)])
        writer.writerows(rows)


def _is_flat(value: object) -> bool:
    return isinstance(value, str | int | float)


def read(folder: Path, split: str) -> list[dict[str, Any]]:
    """Return the records of a split that `write` wrote; none where there are none."""
    file = folder / f"{split}.jsonl"
    if not file.is_file():
        return []
    # Not `splitlines`: a name may hold one of the other signs that it takes for the end of a line.
    return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]
