"""Examples made ready: as the data holds them, or as a task reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kerasft.abilities import Reading
from kerasft.contracts import Task
from kerasft.runs.finetuned import FineTuned
from kerasft.runs.run_folder import RunFolder
from kerasft.spec import Preprocess, Splits
from kerasft.system.console import say
from kerasft.system.files import write_json

if TYPE_CHECKING:
    import keras

    from kerasft.steps.prepare import Ready


def read_stores(
    cfg: DictConfig, task: Task, splits: Splits, preprocess: Preprocess, cache: Any,
    wanted: Sequence[str] | None = None,
) -> tuple[Splits, Mapping[str, Any]]:
    """Return the examples that are trained on and measured, each made ready once.

    Args:
        cfg: The config.
        task: The task.
        splits: The data.
        preprocess: The backbone's preprocessing.
        cache: Where what is made ready is kept.
        wanted: The splits that are needed; all by default.
    """
    from kerasft.data.preprocessing import prepare_splits

    if isinstance(task, Reading):
        return task.read(
            splits, preprocess, lambda parts, made: prepare_splits(parts, made, cache),
            seed=cfg.seed,
        )
    return splits, prepare_splits(splits.parts, preprocess, cache, wanted)


def tell_before(ready: Ready, model: keras.Model, folder: RunFolder, batch_size: int) -> None:
    """Say what the network makes of validation before it learns, and write it.

    Args:
        ready: The data.
        model: The model, which nothing has trained yet.
        folder: Where `before.json` is written.
        batch_size: Examples in a prediction step.
    """
    labels, part = ready.splits.labels, ready.splits.validation
    now = FineTuned(model, ready.preprocess, ready.task, labels, batch_size)
    kept = now.measure(ready.stores["validation"], now.targets(part.annotations)).rows
    figures = now.figures(part.annotations, kept)
    write_json(folder.path / "before.json", {"validation": figures})
    shown = (f"{name} {figures[name]:.4f}" for name in ready.task.headlines if name in figures)
    say(f"before training: validation {', '.join(shown)}")
