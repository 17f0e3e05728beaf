"""Runs shipped experiments over several seeds and prints the table of docs/results.md.

    KERASFT_DATA=DIR python scripts/results.py sst2_minilm trashnet_mobilenet --seeds 3

Runs that are there already are not repeated, so that the table can grow over several days.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

# The figure that each kind of data is judged by, in the order in which it is looked for.
FIGURES = {
    "sms_spam_minilm": ("F1 of spam", ("per_class", "spam", "f1")),
    "bengali_sentiment_minilm": ("macro F1", ("f1_macro",)),
    "goemotions_minilm": ("micro F1", ("f1_micro",)),
    "stsb_minilm": ("Pearson", ("pearson",)),
    "wnut17_minilm": ("F1 by entity", ("f1",)),
    "shakespeare_stories": ("bits a byte", ("bits_per_byte",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    parser.add_argument("--output", type=Path, default=Path("outputs/results"))
    options = parser.parse_args()
    print("| experiment | metric | validation | test | runs | minutes a run |")
    print("|---|---|---|---|---|---|")
    for experiment in options.experiments:
        rows = [run(experiment, seed, options.output) for seed in range(options.seeds)]
        print(line(experiment, [row for row in rows if row]), flush=True)


def run(experiment: str, seed: int, output: Path) -> tuple[dict, dict] | None:
    """Train unless the run is there, and return its metrics and facts; `None` if it failed."""
    folder = output / f"{experiment}-{seed}"
    if not (folder / "metrics.json").is_file():
        command = [
            sys.executable, "-m", "kerasft", "train", f"experiment={experiment}",
            f"seed={seed}", f"output_dir={folder}",
        ]  # fmt: skip
        if subprocess.run(command, stdout=sys.stderr).returncode:
            return None
    epochs = (folder / "logs" / "epochs.jsonl").read_text().splitlines()
    seconds = sum(json.loads(epoch)["seconds"] for epoch in epochs)
    return json.loads((folder / "metrics.json").read_text()), {"seconds": seconds}


def line(experiment: str, rows: list[tuple[dict, dict]]) -> str:
    """Return a row of the table: mean and standard deviation over the seeds."""
    name, path = FIGURES.get(experiment, ("accuracy", ("accuracy",)))

    def spread(split: str) -> str:
        values = []
        for metrics, _ in rows:
            value = metrics.get(split, {})
            for key in path:
                value = value[key]
            values.append(value)
        if not values:
            return "failed"
        deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.4f}{deviation}"

    minutes = f"{statistics.median(f['seconds'] for _, f in rows) / 60:.1f}" if rows else "-"
    return (
        f"| {experiment} | {name} | {spread('validation')} | {spread('test')} | {len(rows)} "
        f"| {minutes} |"
    )


if __name__ == "__main__":
    main()
