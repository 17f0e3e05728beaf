"""Has a tiny Llama go on with Shakespeare, by kerasft and by what one would take instead.

    KERASFT_DATA=DIR python benchmarks/language.py --hugging-face ENV/bin/python --steps 100
    KERASFT_DATA=DIR python benchmarks/language.py --steps 20 --rounds 1 --only kerasft

kerasft trains `experiment=shakespeare_stories` (stories260k, blocks of 256 tokens that hold whole
documents, 16 a step, float32). The Hugging Face Trainer gets the same blocks in the same order, the
same weights, and AdamW with the same rate at each step; by its own padding-free way positions begin
anew with each document, which keeps documents apart as kerasft does, and once more they see all of
their block, which is less work, and what its example for language models does. KerasHub's
`CausalLM.fit` gets the documents as strings, 16 a step, as its guide has it, at the same length.

A document is a speech (`--join 1`), so that `fit` on strings is not made to cut most of it off; the
experiment joins eight.

Rounds alternate; medians are printed. Tokens are real ones, no padding, counted from the tenth step
on, so that tracing and compiling are in the seconds from the start of the process alone. Bits a
byte are of the same validation tokens for all, each document by itself, before and after these
steps. OpenMP threads that wait for work count as processor time: on a busy machine the clock is
kinder to PyTorch.

`--hugging-face` names the Python of an environment with `peers/requirements.txt`, which
`scripts/benchmark` makes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from race import add_options, clocked, machine, note, peer

from kerasft import compose
from kerasft.rows import joined
from kerasft.steps.preparing import prepare
from kerasft.training.schedules import warmup_cosine

BATCH, BLOCK, RATE = 16, 256, 1e-3
# Steps before tokens are counted.
WARM = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hugging-face", metavar="PYTHON")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--join", type=int, default=1, help="speeches in a document")
    add_options(parser)
    options = parser.parse_args()
    if options.steps <= WARM:
        parser.error(f"--steps must be above {WARM}")
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    contenders: dict[str, Callable[[dict], dict]] = {
        "kerasft": lambda task: kerasft(task, folder),
        "KerasHub, fit on strings": lambda task: peer(
            sys.executable, "keras_hub_language.py", task),
    }  # fmt: skip
    if options.hugging_face:
        for label, apart in {"apart": True, "seen through": False}.items():
            contenders[f"Hugging Face, same blocks, documents {label}"] = (
                lambda task, apart=apart: peer(
                    options.hugging_face, "hugging_face_language.py", {**task, "apart": apart})
            )  # fmt: skip
    if options.only:
        contenders = {k: v for k, v in contenders.items() if k in options.only.split(";")}
    found: dict[str, list[dict]] = {label: [] for label in contenders}
    for seed in range(options.seed, options.seed + options.rounds):
        task = written(options, seed, folder)
        for label, run in contenders.items():
            began = time.time()
            row = figures(run(task), began, task)
            found[label].append(row)
            note(options, {"task": "tiny_shakespeare", "contender": label, "seed": seed,
                           "steps": options.steps, "join": options.join, **row})  # fmt: skip
    print(table(options, found), flush=True)


def overrides(options: argparse.Namespace, seed: int) -> list[str]:
    return [
        "experiment=shakespeare_stories", f"data.join={options.join}", f"seed={seed}",
        f"max_steps={options.steps}", f"batch_size={BATCH}", f"backbone.sequence_length={BLOCK}",
        f"optimizer.learning_rate={RATE}", "precision=float32",
    ]  # fmt: skip


def written(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """Write the blocks, the documents and what is measured, as kerasft has them."""
    chosen = overrides(options, seed)
    cfg = compose([*chosen, f"cache.directory={folder}/prepared", "progress=false"])
    with prepare.runtime(cfg):
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        backbone = prepare.load_backbone(cfg, splits)
        preprocess: Any = backbone.preprocess
        ready = prepare.make_ready(cfg, parts, splits, backbone)
        rates = warmup_cosine(RATE, options.steps)
        order = np.concatenate(ready.batches.order.epoch(0))[: options.steps * BATCH]
        if len(order) < options.steps * BATCH:
            raise SystemExit(f"--steps must be at most {len(order) // BATCH}, one epoch.")
        made = {
            "steps": options.steps, "batch_size": BATCH, "length": BLOCK, "learning_rate": RATE,
            "rates": [float(rates(step)) for step in range(options.steps)],
            "start": preprocess.start, "threads": len(os.sched_getaffinity(0)),
            "seed": seed, "overrides": chosen, "blocks": f"{folder}/blocks-{seed}.npz",
            "validation": f"{folder}/validation-{seed}.npz",
            "documents": f"{folder}/documents-{seed}.json",
            "pretrained": str(Path(os.environ["KERASFT_DATA"]) / "pretrained" / "stories260k"),
        }  # fmt: skip
        for name, rows in (("blocks", order), ("validation", None)):
            split = "train" if name == "blocks" else name
            part, store = ready.splits.parts[split], ready.stores[split]
            rows = np.arange(len(part)) if rows is None else rows
            inputs = joined([store.inputs.take(rows)]).gather(np.arange(len(rows)))
            learned = part.annotations.only(["learned"]).take(rows)
            wide = np.zeros((len(rows), inputs["token_ids"].shape[1]), "uint8")
            given = joined([learned]).gather(np.arange(len(rows)))["learned"]
            wide[:, : given.shape[1]] = given[:, : wide.shape[1]]
            np.savez(
                made[name], ids=inputs["token_ids"], real=inputs["padding_mask"], learned=wide,
                bytes=part.annotations["bytes"][rows].sum(),
            )
    with np.load(made["blocks"]) as file:
        made["tokens"] = int(file["real"][WARM * BATCH :].sum()) / (options.steps - WARM)
    texts = np.random.default_rng(seed).permutation(np.array(splits.train.inputs, object)).tolist()
    texts *= math.ceil(options.steps * BATCH / len(texts))
    Path(made["documents"]).write_text(json.dumps(texts[: options.steps * BATCH]), "utf-8")
    return made


def kerasft(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    made = clocked(task["overrides"], folder)
    before, after = (
        json.loads((Path(made["run"]) / f"{name}.json").read_text("utf-8"))["validation"]
        for name in ("before", "metrics")
    )
    return {"marks": made["marks"], "before": before["loss"], "after": after["loss"],
            "bits": after["bits_per_byte"]}  # fmt: skip


def figures(row: dict[str, Any], began: float, task: dict[str, Any]) -> dict[str, Any]:
    """Return what is compared: seconds, real tokens a second, and what the tokens cost.

    Args:
        row: `marks`, see `peers/step_clock.py`; nats a token `before` and `after`; and `tokens`,
            the real ones of each step, where they are not those of the blocks.
        began: When the process was started.
        task: What it was asked for.
    """
    marks = [mark for mark in row["marks"] if mark[0] <= task["steps"]]
    first = next(mark for mark in marks if mark[0] >= WARM)
    last = next(mark for mark in marks if mark[0] == task["steps"])
    tokens = row.get("tokens", task["tokens"]) * (last[0] - first[0])
    with np.load(task["validation"]) as file:
        per_byte = int((file["learned"][:, 1:] > 0).sum()) / float(file["bytes"]) / math.log(2)
    return {
        "total": last[1] - began, "total_processor": last[2],
        "training": last[1] - first[1], "training_processor": last[2] - first[2],
        "tokens_a_second": tokens / (last[1] - first[1]),
        "tokens_a_processor_second": tokens / (last[2] - first[2]),
        "before": row["before"] * per_byte, "after": row["after"] * per_byte,
        "perplexity": math.exp(row["after"]), "counted_from": first[0],
    }  # fmt: skip


def table(options: argparse.Namespace, found: dict[str, list[dict]]) -> str:
    first, rows = next(iter(found.items()))
    lines = [
        f"\nTiny Shakespeare, {options.steps} steps, {options.join} speech(es) a document, median "
        f"of {len(rows)}, {machine()}\n",
        "| contender | seconds from the start: wall | CPU | of the steps: wall | CPU "
        f"| real tokens a second | times fewer than {first} | a CPU second | times fewer "
        "| bits a byte before | after | perplexity |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    names = ("total", "total_processor", "training", "training_processor", "tokens_a_second",
             "tokens_a_processor_second", "before", "after", "perplexity")  # fmt: skip
    medians = {label: {name: statistics.median(row[name] for row in rows) for name in names}
               for label, rows in found.items()}  # fmt: skip
    ours = medians[first]
    for label, one in medians.items():
        seconds = " | ".join(f"{one[name]:.1f}" for name in names[:4])
        rates = " | ".join(f"{one[n]:,.0f} | {ours[n] / one[n]:.2f}" for n in names[4:6])
        lines.append(f"| {label} | {seconds} | {rates} | {one['before']:.4f} | {one['after']:.4f} "
                     f"| {one['perplexity']:.3f} |")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
