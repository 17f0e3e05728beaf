"""The training sample: measured at the end as validation is, so that the gap is a measured one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from kerasft.abilities import Reading
from kerasft.config.composition import build
from kerasft.contracts import Recalling
from kerasft.errors import UserError
from kerasft.evaluation.diagnosis.chance import chance
from kerasft.rows import Rows
from kerasft.runs import records
from kerasft.runs.finetuned import FineTuned
from kerasft.runs.run_folder import RunFolder
from kerasft.spec import Examples, Splits
from kerasft.steps.measuring import reopening
from kerasft.steps.preparing import in_memory
from kerasft.steps.preparing.prepare import Ready, runtime
from kerasft.steps.preparing.reading import read_stores
from kerasft.system.console import warn
from kerasft.system.files import write_json
from kerasft.system.terminal import status

if TYPE_CHECKING:
    from kerasft.data.store import Store

# Its files are called so, below `logs/`.
SAMPLE = "training_sample"
# A name for its draws, so that they are those of nothing else that the seed decides.
_DRAW = 0x5A3B1E


def sample_of(count: int, wanted: int, seed: int) -> np.ndarray:
    """Return the places of the training sample: a function of the seed, in order.

    Args:
        count: How many training examples there are.
        wanted: How many are wanted.
        seed: The seed of the run.

    Example:
        >>> sample_of(5, 3, 0).tolist() == sample_of(5, 3, 0).tolist()
        True
    """
    drawn = np.random.default_rng([_DRAW, seed]).permutation(count)
    return np.sort(drawn[: min(wanted, count)])


def sample_size(cfg: DictConfig, splits: Splits) -> int:
    """Return how many examples the training sample has: at most as many as validation."""
    return min(cfg.training_sample, len(splits.train), len(splits.validation))


@status.showing("measuring a training sample ...")
def keep_sample(
    cfg: DictConfig, finetuned: FineTuned, ready: Ready, folder: RunFolder
) -> None:
    """Measure the training sample as validation is measured, and write what came out."""
    places = sample_of(
        len(ready.splits.train), sample_size(cfg, ready.splits), cfg.seed
    )
    store = ready.stores["train"].take(places)
    _write_sample(cfg, finetuned, ready.splits, places, store, folder.path / "logs")


def _write_sample(
    cfg: DictConfig, finetuned: FineTuned, splits: Splits, places: np.ndarray, store: Store,
    logs: Path | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from kerasft.data.annotations.plain import counts, plain

    part, task = splits.train.take(places), finetuned.task
    figures: dict[str, Any] = {}
    answered: list[dict[str, Any]] = []
    if len(places):
        kept = finetuned.measure(store, finetuned.targets(part.annotations)).rows
        figures = finetuned.figures(part.annotations, kept)
        answered = _records(finetuned, part, kept, logs)
    counted = counts(splits.train, splits.labels)
    facts = {
        "examples": len(places), "seed": cfg.seed, "figures": figures,
        "train": len(splits.train), "validation": len(splits.validation),
        "classes": {n.removeprefix("label "): c for n, c in counted.items() if n != "examples"},
        "floor": chance(plain(splits.validation, splits.labels)),
        "monitor": task.monitor, "mode": task.mode, "modality": splits.train.modality,
    }
    if logs is not None:
        logs.mkdir(exist_ok=True)
        write_json(logs / f"{SAMPLE}.json", facts)
    return facts, answered


def _records(
    finetuned: FineTuned, part: Examples, kept: Rows, logs: Path | None
) -> list[dict[str, Any]]:
    """Write the answers to the training sample, where they follow from what was kept of it."""
    from kerasft.data.annotations.plain import plain

    task, labels = finetuned.task, finetuned.labels
    if not isinstance(task, Recalling):
        return []
    made = records.records(task.answer(kept, labels), labels.names, finetuned.rules)
    shown = records.shown_inputs(part)
    with tempfile.TemporaryDirectory() as place:
        where = Path(place) if logs is None else logs
        where.mkdir(exist_ok=True)
        records.write(where, SAMPLE, part.ids, plain(part, labels), made, shown)
        return records.read(where, SAMPLE)


@status.showing("measuring a training sample ...")
def measure_again(run: str, data: Any, trusted: Sequence[str]) -> None:
    """Measure the training sample of an earlier run, or say why that cannot be done."""
    from kerasft.data.preprocessing import prepare

    try:
        folder, finetuned, cfg = reopening.reopen(run, trusted)
        with folder.at_its_command(), runtime(cfg), in_memory.holding(cfg, data):
            splits = reopening.read_data(cfg, folder)
            if isinstance(finetuned.task, Reading):
                splits, stores = read_stores(
                    cfg, finetuned.task, splits, finetuned.preprocess, build(cfg.cache)
                )
            places = sample_of(len(splits.train), sample_size(cfg, splits), cfg.seed)
            store = stores["train"].take(places) if isinstance(finetuned.task, Reading) else \
                prepare(splits.train.take(places), finetuned.preprocess)
            _write_sample(cfg, finetuned, splits, places, store, folder.path / "logs")
    except UserError as error:
        warn(f"the gap is not measured, what was logged in training stands in for it: {error}")
