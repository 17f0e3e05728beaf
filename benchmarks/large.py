"""Trains on many made-up texts or images, and tells processor time and memory of each stage.

    python benchmarks/large.py --rows 1000000
    python benchmarks/large.py --rows 200000 --format images cache.limit_gb=1

A first run with an empty cache takes 50 steps and is stopped there; `kerasft resume` then goes on
for 50 more. Processor seconds are those of all threads, up to the end of each stage since the one
before. Memory is what the process holds beside what it held when TensorFlow was loaded: at the
stage's end, without pages of files, which the system may take back at any time; and the peak of
the same, looked at fifty times a second.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 50
STOPPED = 128 + signal.SIGTERM  # the status of a run that was told to stop
WORDS = (
    "the film is good bad fine dull warm cold at once a quick brown fox jumps over lazy dog pack "
    "my box with five dozen liquor jugs how vexingly they are story actor plot scene time life "
    "love world comic drama never quite almost really"
)
HEADING = f"{'stage':<22}{'CPU s':>8}{'wall s':>8}{'memory MB':>11}{'peak MB':>9}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--format", choices=("csv", "jsonl", "parquet", "images"),
                        default="csv")
    parser.add_argument("--work", help="a folder for the data, the cache and the runs; kept")
    parser.add_argument("--again", action="store_true", help="only the restart, in a kept folder")
    parser.add_argument("--child", choices=("first", "restart"), help=argparse.SUPPRESS)
    options, overrides = parser.parse_known_args()
    if options.child:
        import large  # under the name that the config gives, see `Stop`

        large.child(options.child, overrides)
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(options.work or name)
        work.mkdir(parents=True, exist_ok=True)
        data = work / f"texts-{int(options.rows)}.{options.format}"
        if not data.exists():
            (draw if options.format == "images" else write)(data, int(options.rows))
        print(f"{int(options.rows):,} rows of {options.format}", flush=True)
        for which in ("restart",) if options.again else ("first", "restart"):
            command = [sys.executable, __file__, "--child", which, str(data), str(work),
                       *overrides]  # fmt: skip
            status = subprocess.run(command, check=False).returncode
            if status != STOPPED:
                raise SystemExit(f"the {which} run ended with status {status}")
        tell_sizes(work)


def write(path: Path, rows: int) -> None:
    """Write made-up texts, 110 bytes each on average, and labels; no two texts are the same."""
    rng = np.random.default_rng(0)
    texts: list[str] = []
    part = path.with_suffix(".part")
    with open(part, "w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("text,label\n")
        known = np.array(WORDS.split())
        for start in range(0, rows, 10_000):
            lengths = rng.integers(5, 35, 10_000)
            words = known[rng.integers(0, len(known), (10_000, 35))]
            for i in range(min(10_000, rows - start)):
                text, label = f"{' '.join(words[i, : lengths[i]])} n{start + i}", (start + i) % 2
                if path.suffix == ".csv":
                    file.write(f"{text},{label}\n")
                elif path.suffix == ".jsonl":
                    file.write(f'{{"text": "{text}", "label": {label}}}\n')
                else:
                    texts.append(text)
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table({"text": texts, "label": np.arange(rows) % 2})
        parquet.write_table(table, part, row_group_size=100_000)
    part.replace(path)


def draw(folder: Path, count: int) -> None:
    """Write made-up JPEG files of 224 pixels in two folders of classes.

    There are 200 different images. Each file has a few bytes of its own behind the end of the
    image, so that none has the content of another.
    """
    from io import BytesIO

    from PIL import Image

    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(200):
        file = BytesIO()
        small = Image.fromarray(rng.integers(0, 256, (14, 14, 3), "uint8"))
        small.resize((224, 224), Image.Resampling.BICUBIC).save(file, "JPEG")
        encoded.append(file.getvalue())
    part = folder.with_suffix(".part")
    for name in ("cats", "dogs"):
        (part / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        place = part / ("cats", "dogs")[number % 2] / f"{number:07}.jpg"
        place.write_bytes(encoded[number % 200] + number.to_bytes(8, "big"))
    part.replace(folder)


def given(data: str) -> list[str]:
    """Return what the config says of the data and the network."""
    if data.endswith(".images"):
        return ["data=image_folder", f"data.path={data}", "backbone=tiny_resnet",
                "backbone.image_size=224"]  # fmt: skip
    return ["data=table", f"data.path={data}", "data.text=text", "data.label=label",
            "backbone=tiny_bert"]  # fmt: skip


def child(which: str, words: list[str]) -> None:
    """Train, or go on, and print a line for each stage."""
    data, work, *overrides = words
    run = f"{work}/run"
    import kerasft
    import kerasft.errors
    from kerasft.data import manifest, preprocessing
    from kerasft.steps.preparing import prepare

    print(f"\n{which} run\n{HEADING}", flush=True)
    marks = Marks()
    load = prepare._require_one_device

    def loaded() -> None:
        load()
        if "tensorflow" in sys.modules and not marks.base:
            marks.mark("TensorFlow", base=True)

    prepare._require_one_device = loaded
    marks.wrap(prepare, "read_source", "read and split")
    marks.wrap(manifest, "write_manifest", "manifest written")
    marks.wrap(manifest, "diff_manifest", "manifest compared")
    marks.wrap(prepare, "load_backbone", "backbone")
    marks.wrap(preprocessing, "prepare_splits", "tokens")
    marks.wrap(prepare, "make_ready", "order, targets")
    Stop.marks = marks
    try:
        if which == "restart":
            kerasft.resume(run, trusted=["large"])
        else:
            kerasft.train([
                *given(data), "epochs=1", "floor=none", "training_sample=0",
                "progress=false", "callbacks=none", "+callbacks.stop._target_=large.Stop",
                f"output_dir={run}", f"cache.directory={work}/cache", *overrides,
            ], trusted=["large"])  # fmt: skip
    except kerasft.errors.Stopped:
        marks.total()
        raise SystemExit(STOPPED) from None


class Marks:
    """Prints what has been used since the last mark."""

    def __init__(self) -> None:
        self.cpu, self.wall = 0.0, time.perf_counter()
        self.base = 0.0
        self.until = 0.0  # the first step
        self.steps = 0
        self.most = 0.0
        threading.Thread(target=self.look, daemon=True).start()

    def look(self) -> None:
        """Look at the memory again and again."""
        while True:
            self.most = max(self.most, memory("RssAnon"))
            time.sleep(0.02)

    def mark(self, name: str, *, base: bool = False) -> None:
        cpu, wall, now = time.process_time(), time.perf_counter(), memory("RssAnon")
        if base:
            self.base = self.most = now
        print(f"{name:<22}{cpu - self.cpu:8.1f}{wall - self.wall:8.1f}"
              f"{now - self.base:11,.0f}{max(self.most, now) - self.base:9,.0f}",
              flush=True)  # fmt: skip
        self.most = now
        self.cpu, self.wall = cpu, wall

    def after(self, name: str, act: Callable, *args: Any, **kwargs: Any) -> Any:
        made = act(*args, **kwargs)
        if name:
            self.mark(name)
        return made

    def wrap(self, home: Any, attribute: str, name: str) -> None:
        act = getattr(home, attribute)
        setattr(home, attribute, lambda *args, **kwargs: self.after(name, act, *args, **kwargs))

    def total(self) -> None:
        print(f"{'to the first step':<22}{self.until:8.1f}", flush=True)


class Stop:
    """Marks the first step and the last, and asks the run to stop after it.

    It is a `keras.callbacks.Callback` in all but its class, which importing Keras would need.
    """

    marks: Marks

    def __new__(cls) -> Any:
        import keras

        marks = cls.marks

        class Stopping(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                # Counted there: a run that goes on gives a callback its numbers back.
                marks.steps += 1
                if marks.steps == 1:
                    marks.mark("first step")
                    marks.until = time.process_time()
                if marks.steps == STEPS:
                    marks.mark(f"step {STEPS}")
                    os.kill(os.getpid(), signal.SIGTERM)

        return Stopping()


def memory(field: str) -> float:
    """Return a line of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(field))


def tell_sizes(work: Path) -> None:
    sizes = {
        "cache": sum(file.stat().st_size for file in (work / "cache").rglob("*") if file.is_file()),
        "manifest": sum(f.stat().st_size for f in (work / "run").glob("manifest*")),
    }
    print("\non the disk: " + ", ".join(f"{n} {size / 1e6:,.1f} MB" for n, size in sizes.items()))


if __name__ == "__main__":
    main()
