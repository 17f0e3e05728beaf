"""What a language model makes of its data before it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kerasft.runs.finetuned import FineTuned
from kerasft.runs.run_folder import RunFolder
from kerasft.steps.preparing.prepare import Ready
from kerasft.system.console import say
from kerasft.system.files import write_json

if TYPE_CHECKING:
    import keras


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
