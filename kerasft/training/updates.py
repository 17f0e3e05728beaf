"""How far weights move in an epoch, against how large they are, part by part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasft.system.files import appending, written_whole
from kerasft.training.depth import depth_of
from kerasft.training.proof import SAMPLE, sampled

# What the head alone has; no part of a backbone is called so.
HEAD = "head"
FILE = "updates.jsonl"


class Updates(keras.callbacks.Callback):
    """Writes to `updates.jsonl` by how much the weights of each part have changed in each epoch.

    Both norms of a variable with more than 16,384 numbers are estimated from as many of them,
    evenly spread, so that neither time nor memory grows with the network. Nothing is added to the
    training step: weights are looked at before the first step of an epoch and after its last one.

    Args:
        directory: Where the file goes; `None` writes none.
    """

    def __init__(self, directory: Path | None):
        super().__init__()
        self.directory = directory
        self.rows: list[dict[str, Any]] = []
        self.stage, self.peak = "", 0.0
        self.before: list[np.ndarray] = []  # of the variables that train, as the epoch began
        self.parts: list[str] = []

    def get_state(self) -> dict[str, Any]:
        """Return what was written, and the weights that the epoch began with."""
        return {"rows": self.rows, "before": self.before}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the rows of an earlier process, whose later epochs are dropped."""
        rows, before = state["rows"], state["before"]
        plain = all(
            isinstance(row["epoch"], int) and isinstance(row["stage"], str)
            and isinstance(row["peak"], float) and all(
                isinstance(norm, float) for part in row["parts"].values() for norm in part.values()
            ) for row in rows
        )
        if not plain or not all(isinstance(one, np.ndarray) for one in before):
            raise ValueError("they are no updates")
        self.rows, self.before = rows, before
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            with written_whole(self.directory / FILE) as part:
                part.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    def on_train_begin(self, logs=None):
        self.parts = parts_of(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self.before = self._now()

    def on_epoch_end(self, epoch, logs=None):
        sums: dict[str, np.ndarray] = {}
        variables = self.model.trainable_variables
        for name, variable, then, now in zip(
            self.parts, variables, self.before, self._now(), strict=True
        ):
            share = int(np.prod(variable.shape)) / max(then.size, 1)
            then, now = then.astype(np.float64), now.astype(np.float64)
            both = sums.setdefault(name, np.zeros(2))
            both += share * np.array([(then**2).sum(), ((now - then) ** 2).sum()])
        row = {
            "epoch": epoch + 1, "stage": self.stage, "peak": float(self.peak),
            "parts": {
                name: {"weights": float(np.sqrt(size)), "moved": float(np.sqrt(move))}
                for name, (size, move) in sums.items()
            },
        }
        self.rows, self.before = [*self.rows, row], []
        if self.directory is not None:
            with appending(self.directory / FILE) as file:
                file.write(json.dumps(row) + "\n")

    def _now(self) -> list[np.ndarray]:
        return [_some(variable) for variable in self.model.trainable_variables]


def parts_of(model: keras.Model) -> list[str]:
    """Return for each variable that trains the part that it belongs to.

    Args:
        model: The assembled model, with the variables of a stage selected.

    Returns:
        `"head"` for what is of the head alone, else what the level of the backbone holds, see
        `depth_of`.

    Example:
        >>> from kerasft.model import tiny
        >>> parts_of(tiny.text("bert").network)[0]
        'token_embedding .. embeddings_layer_norm'
    """
    depth = depth_of(model)
    return [
        depth.names[level] if (level := depth.of(variable)) else HEAD
        for variable in model.trainable_variables
    ]


def _some(variable: keras.Variable) -> np.ndarray:
    """Return numbers of a variable: all of them, or some of a large one."""
    value = variable.value
    large = np.prod(variable.shape) > SAMPLE
    return np.asarray(sampled(value) if large else value.numpy()).reshape(-1)
