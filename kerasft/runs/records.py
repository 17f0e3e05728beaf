"""Answers as records, the same from run folders, exports and `kerasft predict`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.comparison import Output
from kerasft.runs.answer_files import written
from kerasft.spec import Examples

# What tells most of an answer comes first: a signature gives its outputs in an order of its own.
FIRST = ("label", "labels", "score", "value")
# Run folders hold the probabilities of at most so many labels an example, the likeliest.
MOST_LABELS = 100


def shown_inputs(part: Examples) -> Sequence[Any] | None:
    """Return what stands beside answers; `None` where inputs are images read out of files of many.

    Those are in a file of their own form, one by one.
    """
    return None if part.modality == "images" and hasattr(part.inputs, "choose") else part.inputs


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
        objects become one list `objects`, with a dict for each. Encoded images, whose names end
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


def of_pieces(
    pieces: Iterable[Mapping[str, Any]], labels: Sequence[str], rules: Mapping[str, Output]
) -> Iterator[dict[str, Any]]:
    """Yield what `records` does, of answers that come in pieces."""
    for outputs in pieces:
        yield from records(outputs, labels, rules)


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


def about(
    given: Any, true: Any, answer: Mapping[str, Any], known: bool = False
) -> dict[str, Any]:
    """Return what stands before the answer in a record: what was asked about, and what is true.

    Args:
        given: The input. Texts, pairs of texts and paths are shown as they are; encoded images
            and arrays are not.
        true: What is true as a plain value, `None` where that is not known.
        answer: The answer.
        known: Whether it is known of other examples, so that an empty value stands here.

    Returns:
        `input`, `true`, and `true_probability`: what the model gave the true label, or each of
        several. What there is not is left out.

    Example:
        >>> about("good", "pos", {"label": "neg", "probabilities": {"neg": 0.75, "pos": 0.25}})
        {'input': 'good', 'true': 'pos', 'true_probability': 0.25}
    """
    found: dict[str, Any] = {}
    if isinstance(given, str):
        found["input"] = given
    elif isinstance(given, tuple | list) and all(isinstance(one, str) for one in given):
        found["input"] = list(given)
    if true is None and not known:
        return found
    found["true"] = true
    by_label = answer.get("probabilities")
    if isinstance(by_label, Mapping):
        if true is None:
            found["true_probability"] = None
        elif isinstance(true, str) and true in by_label:
            found["true_probability"] = by_label[true]
        elif isinstance(true, list) and all(isinstance(one, str) for one in true):
            found["true_probability"] = [by_label.get(one) for one in true]
    return found


def write(
    folder: Path, split: str, ids: Sequence[str], truths: Iterable[Any],
    answers: Iterator[dict[str, Any]], inputs: Iterable[Any] | None = None,
    further: Iterable[Mapping[str, str]] | None = None,
) -> None:
    """Write what was predicted of a split beside what is true, a record an example.

    Encoded images are not written, and of very many labels only the likeliest.

    Args:
        folder: Where `SPLIT.jsonl` goes and, where true values and answers are flat, `SPLIT.csv`.
        split: Its name.
        ids: The names of the examples.
        truths: What is true of each, as plain values.
        answers: See `records`.
        inputs: The examples, see `about`; `None` where they are not shown.
        further: What else is known of each, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{split}.csv"
    flat = True
    with (
        written(folder / f"{split}.jsonl") as write_json_lines,
        ExitStack() as opened,
    ):
        table: Callable[[Sequence[Mapping[str, Any]]], None] | None = None
        shown = repeat(None, len(ids)) if inputs is None else inputs
        known = repeat({}, len(ids)) if further is None else further
        every = zip(ids, shown, truths, answers, known, strict=True)
        for name, given, true, answer, more in every:
            answer = {key: value for key, value in answer.items() if not isinstance(value, bytes)}
            first = {"id": name, **about(given, true, answer), **more}
            # Beyond so many labels they would be most of the file.
            answer = {key: kept for key, value in answer.items()
                      if (kept := _bounded(key, value)) is not None}  # fmt: skip
            write_json_lines([{**first, "predicted": answer}])
            row = _flat_row(first, answer) if flat else None
            if row is None:
                flat = False
            else:
                table = table or opened.enter_context(written(file))
                table([row])
    if not flat or table is None:
        file.unlink(missing_ok=True)


def _bounded(key: str, value: Any) -> Any:
    """Return a value with one number for each label, where these are not too many."""
    if not isinstance(value, dict) or len(value) <= MOST_LABELS:
        return value
    if key != "probabilities":
        return None
    return dict(sorted(value.items(), key=lambda one: -one[1])[:MOST_LABELS])


def _flat_row(first: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a record as a row of a table, `None` where it is none."""
    columns = {
        f"predicted_{key}": value for key, value in answer.items()
        if isinstance(value, str | int | float)
        or (isinstance(value, dict) and len(value) < MOST_LABELS
            and all(isinstance(one, str | int | float) for one in value.values()))
    }  # fmt: skip
    true = first.get("true")
    # True values by name are compared with answers by the same names, or with nothing.
    alike = [value for value in answer.values() if isinstance(value, dict)]
    if not columns or (isinstance(true, dict) and not any(set(true) == set(a) for a in alike)):
        return None
    return {**first, **columns}


def read(folder: Path, split: str) -> list[dict[str, Any]]:
    """Return the records of a split that `write` wrote; none where there are none."""
    return list(each(folder, split))


def each(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a split that `write` wrote; none where there are none."""
    file = folder / f"{split}.jsonl"
    if not file.is_file():
        return
    # A name may hold one of the other signs that `splitlines` takes for the end of a line.
    with open(file, encoding="utf-8", newline="\n") as lines:
        yield from (json.loads(line) for line in lines if line != "\n")


def at(folder: Path, split: str, places: Iterable[int]) -> list[dict[str, Any]]:
    """Return the records at some places, from 0 on, never holding all of them."""
    wanted = [int(place) for place in places]
    found: dict[int, dict[str, Any]] = {place: {} for place in wanted}
    for i, row in enumerate(each(folder, split)):
        if i in found:
            found[i] = row
    return [found[place] for place in wanted]


def hold_objects(folder: Path, split: str) -> bool:
    """Whether the answers of a split are objects."""
    return "objects" in next(each(folder, split), {"predicted": {}})["predicted"]
