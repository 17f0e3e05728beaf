"""Exports a run in every format, and measures each on more of its test examples than prove it.

    python benchmarks/export_formats.py RUN --count 300

Prints a row a format: size of what holds the weights, accuracy and other labels than the network in
memory on the same examples, largest difference of a probability, milliseconds an example (batches
of 8, preprocessing not counted; one process after another on this machine), and what the export's
own proof on the run's examples said. A format that refuses the network says why.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.fresh import ExportError
from kerasft.config import composition
from kerasft.errors import UserError
from kerasft.exporters import keras_file, litert, onnx_file, preset, quantized, tensors
from kerasft.raw_input import as_raw
from kerasft.runs import evidence, finetuned, run_folder
from kerasft.system.files import read_json

LITERT = {f"`litert`, {q or 'float32'}": functools.partial(litert.litert, quantize=q)
          for q in (None, "float16", "dynamic", "int8")}  # fmt: skip
FORMS = {
    "`keras`": keras_file.keras_file, "`preset`": preset.preset, "`onnx`": onnx_file.onnx_file,
    **LITERT,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    folder, cfg = run_folder.open_run(options.run)
    made = finetuned.load(folder, cfg)
    splits = composition.build(cfg.data, kind=composition.build(cfg.task).kind, seed=cfg.seed)
    chosen = np.linspace(0, len(splits.test) - 1, options.count).astype(int)
    raw = as_raw([splits.test.inputs[i] for i in chosen], splits.test.modality)
    y = np.asarray(splits.test.labels)[chosen]
    batches = tensors.feeds(made.preprocess, raw)[: -tensors.SINGLY]
    kept = evidence.read(folder).examples
    given = {"preprocess": made.preprocess, "task": made.task, "labels": made.labels,
             "examples": as_raw(kept.inputs, kept.modality)}  # fmt: skip
    print(f"{made.model.count_params():,} weights, {len(raw)} test examples\n")
    print("| format | MB | accuracy | other labels | largest difference | ms an example | its own "
          "proof |\n|---|---|---|---|---|---|---|")  # fmt: skip
    called = functools.partial(in_memory, made.model, made.task, made.labels)
    expected, took = timed(called, batches)
    row("network in memory", tensors.bytes_of_weights(made.model), expected, expected, y, took, "")
    for weights in quantized.WEIGHTS:
        with reported(f"`saved_model_small`, {weights}"):
            smaller = quantized.quantized(made.model, weights)
            called = functools.partial(in_memory, smaller, made.task, made.labels)
            answers, took = timed(called, batches)
            size = tensors.bytes_of_weights(smaller)
            row(f"`saved_model_small`, {weights}", size, answers, expected, y, took, "")
    for name, export in FORMS.items():
        with reported(name), tempfile.TemporaryDirectory() as place:
            folder = export(made.model, Path(place, "made"), **given)
            run = runner(folder, made)
            answers, took = timed(run, batches)
            proof = read_json(folder / "parity.json")
            said = f"{max(proof['largest_difference'].values()):.1e}, {proof['label_flips']} labels"
            sizes = {k: v for k, v in proof["sizes"].items() if k != "weights_in_memory"}
            row(name, next(iter(sizes.values())), answers, expected, y, took, said)


class reported:
    """Says why a format refuses the network, and goes on."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if isinstance(error, UserError | ExportError):
            print(f"| {self.name} | refused: {error} | | | | | |", flush=True)
            return True
        return False


def runner(folder: Path, made: Any) -> Callable[[list], np.ndarray]:
    """Return what answers batches from what was exported."""
    if (folder / "model.tflite").is_file():
        from ai_edge_litert.interpreter import Interpreter

        model = Interpreter(model_path=str(folder / "model.tflite"))
        call = model.get_signature_runner("serving_default")
        return lambda feeds: [call(**feed)["probabilities"] for feed in feeds]
    if (folder / "model.onnx").is_file():
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx")
        return lambda feeds: [session.run(["probabilities"], feed)[0] for feed in feeds]
    form = read_json(folder / "parity.json")

    def fresh(feeds: list) -> list:
        modules = [p.stem for p in sorted(folder.glob("kerasft_*.py"))]
        logits = keras_file.reloaded(
            folder, form["format"], feeds, modules=modules, task=form.get("task")
        )["logits"]
        found = made.task.answers(logits, made.labels)
        return [np.asarray(found["probabilities"])]

    return fresh


def in_memory(model: Any, task: Any, labels: Any, feeds: list) -> list:
    import tensorflow as tf

    plain = tensors.answerer(model, task, labels, list(feeds[0]))
    answer = tf.function(plain, reduce_retracing=True)
    return [answer(*map(tf.constant, feed.values()))["probabilities"].numpy() for feed in feeds]


def timed(call: Callable[[list], list], batches: list) -> tuple[np.ndarray, float]:
    call(batches)
    began = time.perf_counter()
    answers = call(batches)
    return np.concatenate(answers), (time.perf_counter() - began) * 1e3 / sum(
        len(next(iter(feed.values()))) for feed in batches
    )


def row(name: str, size: int, answers: Any, expected: Any, y: Any, took: float, said: str) -> None:
    labels, wanted = answers.argmax(-1), expected.argmax(-1)
    print(
        f"| {name} | {size / 1e6:.1f} | {(labels == y).mean():.4f} | {(labels != wanted).sum()} | "
        f"{np.abs(answers - expected).max():.1e} | {took:.1f} | {said} |", flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
