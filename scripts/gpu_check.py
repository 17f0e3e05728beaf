"""Tries a GPU once: the same figures as the processor, and what each switch does to a step's time.

    python scripts/gpu_check.py

It takes about a quarter of an hour, needs no data and no network, and writes gpu_check.md: a page
that can be sent in, with what is known so far, should it be broken off. Each case is a process of
its own. `--device cpu --tiny` tries the script where there is no GPU. Ends with 1 where figures
differ by more than rounding, or a case failed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras

WORDS = [
    "the", "film", "was", "a", "good", "bad", "fine", "dull", "warm", "cold", "long", "short",
    "great", "poor", "story", "with", "an", "end", "that", "nobody", "saw", "before", "and",
    "everybody", "knew", "from", "its", "first", "scene", "on", "or", "not", "at", "all",
]  # fmt: skip
# Precision, and how far losses may be apart relatively. A product is right to 2^-11 in float16 and
# in TensorFloat-32, which GPUs take for float32, and to 2^-8 in bfloat16; some steps later that has
# grown to a few times as much.
TOLERANCE = {"float32": 2**-8, "mixed_bfloat16": 2**-5, "mixed_float16": 2**-8}
STEPS_COMPARED = 8
# What is timed, each beside the first: a name and its overrides.
SWITCHES: dict[str, list[str]] = {
    "as it is": [],
    "faults.lag=0": ["faults.lag=0"],
    "prefetch_to_device=true": ["prefetch_to_device=true"],
    "deterministic=false": ["deterministic=false"],
    "jit_compile=true": ["jit_compile=true", "deterministic=false"],
    "precision=mixed_bfloat16": ["precision=mixed_bfloat16"],
    "precision=mixed_float16": ["precision=mixed_float16"],
    "precision=mixed_bfloat16 jit_compile=true": [
        "precision=mixed_bfloat16", "jit_compile=true", "deterministic=false",
    ],
    "fast=false": ["fast=false"],
}
PLAIN = [
    "callbacks=none", "floor=none", "baseline=null", "training_sample=0", "checkpoint=none",
    "progress=false", "finetune=full", "augment=none", "schedule=constant", "seed=1",
    "optimizer.learning_rate=1e-4",
]  # fmt: skip


class Losses(keras.callbacks.Callback):
    """Writes the mean loss of the epoch after each of its steps."""

    def __init__(self, *, output_dir: str):
        super().__init__()
        self.file = Path(output_dir) / "noted.json"
        self.losses: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))

    def on_train_end(self, logs=None):
        self.file.write_text(json.dumps({"losses": self.losses}))


class Times(keras.callbacks.Callback):
    """Writes how long a step took in each epoch, and looks at no loss, for which a GPU would wait.

    Steps are told where they begin, which may be some steps before the GPU has come so far; but an
    epoch's last ones have it waited for.
    """

    def __init__(self, *, output_dir: str):
        super().__init__()
        self.file = Path(output_dir) / "noted.json"
        self.begins: list[float] = []
        self.seconds: list[float] = []
        self.first = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.begins = []

    def on_train_batch_begin(self, batch, logs=None):
        self.begins.append(time.perf_counter())
        if len(self.begins) == 2 and not self.first:
            self.first = self.begins[1] - self.begins[0]

    def on_epoch_end(self, epoch, logs=None):
        # Those of the first epoch trace and compile each width.
        if epoch and len(self.begins) > 2:
            self.seconds.append((self.begins[-1] - self.begins[1]) / (len(self.begins) - 2))

    def on_train_end(self, logs=None):
        self.file.write_text(json.dumps({"seconds": self.seconds, "first": self.first}))


def bert(
    *, sequence_length: int = 128, layers: int = 12, width: int = 768, pretrained: bool = True
) -> Any:
    """Return a random BERT of the size of BERT base, with a small vocabulary."""
    import keras_hub

    from kerasft.model.backbones import text_backbone

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=[*marks, *dict.fromkeys(WORDS)])
    network = keras_hub.models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size(), num_layers=layers, num_heads=width // 64,
        hidden_dim=width, intermediate_dim=4 * width, max_sequence_length=sequence_length,
    )
    return text_backbone(
        network, tokenizer, name="bert", sequence_length=sequence_length, pretrained=False
    )


def make_data(folder: Path, *, tiny: bool) -> None:
    """Write texts and images, the same ones each time."""
    import numpy as np
    import tensorflow as tf

    chance = random.Random(0)
    with open(folder / "texts.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(80 if tiny else 1280):
            words = chance.choices(WORDS, k=chance.randint(4, 12 if tiny else 120))
            writer.writerow([" ".join([*words, str(row)]), "ab"[row % 2]])
    side, numbers = (32, 40) if tiny else (224, 640)
    shades = np.random.default_rng(0)
    for row in range(numbers):
        place = folder / "images" / "ab"[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = shades.integers(0, 256, (side, side, 3), dtype="uint8")
        (place / f"{row:03}.png").write_bytes(tf.io.encode_png(pixels).numpy())


def networks(data: Path, *, tiny: bool) -> dict[str, list[str]]:
    """Return the overrides of the two runs."""
    text = [
        "data=table", f"data.path={data / 'texts.csv'}", "data.text=text", "data.label=label",
        "data.validation=0.1", "data.test=0",
    ]  # fmt: skip
    images = [
        "data=image_folder", f"data.path={data / 'images'}", "data.validation=0.1", "data.test=0",
    ]  # fmt: skip
    if tiny:
        return {
            "text": [*text, "backbone=tiny_bert", "backbone.layers=1", "batch_size=8"],
            "images": [
                *images, "backbone=tiny_resnet", "backbone.image_size=16", "batch_size=8",
            ],
        }  # fmt: skip
    return {
        "text": [*text, "~backbone", "+backbone._target_=gpu_check.bert", "batch_size=32"],
        "images": [
            *images, "backbone=applications", "backbone.name=ResNet50", "backbone.weights=null",
            "batch_size=32",
        ],
    }  # fmt: skip


def case(told: dict[str, Any]) -> dict[str, Any]:
    """Train one after the other in this process, and return what was noted of each run."""
    import tensorflow as tf

    import kerasft

    found: dict[str, Any] = {}
    for name, words in told["runs"].items():
        folder = Path(told["folder"]) / name
        kerasft.train(
            [*PLAIN, *words, f"+callbacks.noted._target_=gpu_check.{told['notes']}",
             f"output_dir={folder}", f"cache.directory={told['folder']}/cache"],
            trusted=["gpu_check"],
        )  # fmt: skip
        found[name] = json.loads((folder / "noted.json").read_text())
        found[name]["memory"] = peak()
        keras.utils.clear_session()
    found["devices"] = [
        tf.config.experimental.get_device_details(gpu)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    build = tf.sysconfig.get_build_info()
    found["build"] = {key: build.get(key) for key in ("cuda_version", "cudnn_version")}
    return found


def peak() -> float:
    """Return the most memory in GB that was held: of the first GPU where there is one."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    most = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e9
    tf.config.experimental.reset_memory_stats("GPU:0")
    return most


def asked(told: dict[str, Any], device: str) -> dict[str, Any]:
    """Return what a process of its own found, or why it failed."""
    here = os.environ | {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_CPP_MIN_LOG_LEVEL": "2"}
    if device == "cpu":
        here["CUDA_VISIBLE_DEVICES"] = "-1"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--case", json.dumps(told | {"folder": folder})],
            capture_output=True, text=True, env=here,
        )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return {"failed": lines[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def compared(
    runs: dict[str, list[str]], device: str, precisions: list[str]
) -> Iterator[tuple[list[str], bool]]:
    """Yield the table of losses on the processor and on the device, and whether they agree."""
    # Keras' own layers: kerasft's dropout for processors draws other random numbers.
    runs = {name: [*words, "fast=false", f"max_steps={STEPS_COMPARED}", "epochs=1"]
            for name, words in runs.items()}  # fmt: skip
    rows, sound = [], True
    for precision in precisions:
        told = {
            "notes": "Losses",
            "runs": {name: [*words, f"precision={precision}"] for name, words in runs.items()},
        }
        with ThreadPoolExecutor() as pool:  # nothing is timed here
            both = list(pool.map(asked, [told, told], ["cpu", device]))
        for name in runs:
            failed = next((one["failed"] for one in both if "failed" in one), None)
            if failed:
                rows.append(f"| {name} | {precision} | failed: {failed} | | | |")
                sound = False
                continue
            first, second = (one[name]["losses"] for one in both)
            apart = max(abs(a - b) / abs(a) for a, b in zip(first, second, strict=True))
            agrees = apart <= TOLERANCE[precision]  # False for a NaN
            sound = sound and agrees
            rows.append(
                f"| {name} | {precision} | {first[-1]:.6f} | {second[-1]:.6f} | {apart:.1e} of "
                f"{TOLERANCE[precision]:.1e} | {'yes' if agrees else '**no**'} |"
            )
        yield [
            f"## Figures: {STEPS_COMPARED} steps on the processor and on the {device}", "",
            "| run | precision | processor | device | largest distance, relative | agrees |",
            "|---|---|---|---|---|---|", *rows, "",
        ], sound  # fmt: skip


def timed(
    runs: dict[str, list[str]], device: str, switches: dict[str, list[str]], epochs: int
) -> Iterator[tuple[list[str], dict[str, Any], bool]]:
    """Yield the table of switches, what the device is, and whether all cases ran."""
    rows: dict[str, list[str]] = {name: [] for name in runs}
    base: dict[str, float] = {}
    about: dict[str, Any] = {}
    sound = True
    for switch, words in switches.items():
        told = {
            "notes": "Times",
            "runs": {name: [*own, f"epochs={epochs}", *words] for name, own in runs.items()},
        }
        found = asked(told, device)
        for name in runs:
            if "failed" in found:
                rows[name].append(f"| {name} | `{switch}` | failed: {found['failed']} | | | |")
                sound = False
                continue
            about = {key: found[key] for key in ("devices", "build")}
            one = found[name]
            step = statistics.median(one["seconds"])
            base.setdefault(name, step)
            rows[name].append(
                f"| {name} | {f'`{switch}`' if words else switch} | {step * 1e3:.2f} "
                f"({min(one['seconds']) * 1e3:.2f} to {max(one['seconds']) * 1e3:.2f}) | "
                f"{base[name] / step:.2f} | {one['first']:.1f} | {one['memory']:.2f} |"
            )
        yield [
            f"## A step on the {device}, median of {epochs - 1} epochs", "",
            "| run | with | ms a step | times as fast | s for the first step | GB at most |",
            "|---|---|---|---|---|---|", *[row for name in runs for row in rows[name]], "",
        ], about, sound  # fmt: skip


def page_of(
    options: argparse.Namespace, figures: list[str], times: list[str], about: dict[str, Any],
    facts: dict[str, Any],
) -> str:
    """Return the page, with what is known so far."""
    facts |= {
        f"{options.device} {number}": ", ".join(f"{key} {value}" for key, value in one.items())
        for number, one in enumerate(about.get("devices", []))
    } | {key: value for key, value in about.get("build", {}).items() if value}  # fmt: skip
    sizes = "tiny networks, whose times say nothing" if options.tiny else (
        "a random BERT base (128 tokens at most) and a random ResNet50 (224 pixels), batches of 32"
    )
    return "\n".join([
        "# kerasft on this device", "",
        f"`python scripts/gpu_check.py {' '.join(sys.argv[1:])}`".replace(" `", "`"), "",
        f"Trained were {sizes}.", "",
        "| | |", "|---|---|", *[f"| {key} | {value} |" for key, value in facts.items()], "",
        *figures, *times,
    ])  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, of no use for times")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of a timed run")
    parser.add_argument("--only", help="switches that are timed, separated by commas")
    parser.add_argument(
        "--precisions", default=",".join(TOLERANCE), help="those compared; '' for none"
    )
    parser.add_argument("--output", type=Path, default=Path("gpu_check.md"))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(case(json.loads(options.case))))
        return 0
    wanted = [one for one in (options.only or "").split(",") if one]
    if strange := [one for one in wanted if one not in SWITCHES]:
        parser.error(f"--only takes {', '.join(SWITCHES)}. Received: {', '.join(strange)}.")
    precisions = [one for one in options.precisions.split(",") if one]
    if strange := [one for one in precisions if one not in TOLERANCE]:
        parser.error(
            f"--precisions takes {', '.join(TOLERANCE)}. Received: {', '.join(strange)}."
        )
    switches = {
        name: words for name, words in SWITCHES.items()
        if not wanted or name in wanted or not words
    }
    if options.epochs < 2:
        parser.error("--epochs must be at least 2: the first one compiles.")
    import tensorflow as tf

    if options.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        parser.error("TensorFlow sees no GPU here (docs/install.md); --device cpu tries it out.")
    tf.config.set_visible_devices([], "GPU")  # this process leaves its memory to the others

    from kerasft.system.provenance import machine, versions

    figures: list[str] = []
    times: list[str] = []
    about: dict[str, Any] = {}
    agree = ran = True

    def write() -> None:
        page = page_of(options, figures, times, about, machine() | versions())
        new = options.output.with_name(f".new-{options.output.name}")
        new.write_text(page, encoding="utf-8")
        new.replace(options.output)
        print(f"{time.perf_counter() - began:.0f} s: {options.output}", flush=True)

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        data = Path(place)
        make_data(data, tiny=options.tiny)
        runs = networks(data, tiny=options.tiny)
        for found in compared(runs, options.device, precisions):
            figures, agree = found
            write()
        for told in timed(runs, options.device, switches, options.epochs):
            times, about, ran = told
            write()
    print(f"{options.output}: {'figures agree' if agree else 'FIGURES DIFFER OR FAILED'}; "
          f"{'all switches ran' if ran else 'SOME SWITCHES FAILED'}")  # fmt: skip
    return 0 if agree and ran else 1


if __name__ == "__main__":
    sys.exit(main())
