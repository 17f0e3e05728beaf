"""What a training run gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """What a training run gave.

    Args:
        output_dir: The run folder.
        metrics: Figures by split: `{"validation": {"accuracy": ...}, "test": {...}}`.
        history: What training went through, epoch by epoch.
        finetuned: The model, ready to answer raw input.
        baseline: Figures of the same network from random weights, where `baseline=scratch`.
        exports: The folders of what was exported, by name.
        floor: What linear models without training came to, see `floor` in the config.
    """

    output_dir: Path
    metrics: dict[str, dict[str, Any]]
    history: Any
    finetuned: Any
    baseline: dict[str, dict[str, Any]] | None = None
    exports: dict[str, Path] | None = None
    floor: dict[str, Any] | None = None
