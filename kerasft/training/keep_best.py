"""The weights of the best epoch of all stages, in memory and as files."""

from __future__ import annotations

import math
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasft.errors import UserError
from kerasft.system.files import written_whole


class Rank(NamedTuple):
    """How good an epoch was.

    Args:
        value: The monitor's value.
        loss: The validation loss.
        epoch: The epoch, counted from 1.
    """

    value: float
    loss: float
    epoch: int


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the best epoch of all stages, in memory and as a file.

    Of epochs with the same value that with the lowest validation loss is the best. Epochs of
    stages that have images of another size than the model are not compared.

    Files are written at the end of an epoch unless writing the last ones took more than a
    hundredth of the time since, and in any case by `close`.

    Args:
        monitor: The figure that decides.
        mode: `"max"` or `"min"`.
        directory: Where `best.keras` and `last.keras` are written.
        top: Of how many of the best epochs the model is written too, as `epoch-NNNN.keras`.
    """

    TIMES = 100.0

    def __init__(self, monitor: str, mode: str, directory: Path | None, top: int = 0):
        super().__init__()
        self.monitor, self.mode, self.directory, self.top = monitor, mode, directory, top
        self.tops: list[Rank] = []  # the best first
        self.best: float | None = None
        self.loss = math.inf  # that of the best epoch
        self.epoch = 0
        self.stage = ""
        self.weights: list[np.ndarray] | None = None
        self.current_stage = ""
        # Has the model hold what is kept: averages of the weights, where there are any.
        self.as_kept: Callable[[], AbstractContextManager[None]] = nullcontext
        self.ingredients: Any = None  # keeps the weights of the best epochs for a soup of them
        self.is_comparable = True  # the stage's metrics are of images of the model's own size
        self.copied_in = ""  # the stage that the weights were copied in
        self.not_before = 0.0
        self.seen = 0  # epochs that the model went through
        self.stale: set[str] = set()

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.monitor)
        if value is None:
            raise UserError(
                f"The monitor {self.monitor!r} is no metric of this run. Allowed: "
                f"{', '.join(sorted(logs or {}))}. Set task.monitor."
            )
        self.seen = epoch + 1
        self.stale.add("last.keras")
        with self.as_kept():
            self._keep(Rank(float(value), float((logs or {}).get("val_loss", math.inf)), epoch + 1))

    def _keep(self, now: Rank) -> None:
        if self.is_comparable and self._improves(now):
            self.best, self.loss, self.epoch = now
            self.stage = self.current_stage
            self.weights = self._copied()
            self.stale.add("best.keras")
        if time.monotonic() >= self.not_before:
            self._write()
        if self.is_comparable and self.top and self.directory and not math.isnan(now.value):
            self._keep_top(now)
        if self.ingredients is not None:
            self.ingredients.add(self.model, now)

    def _keep_top(self, now: Rank) -> None:
        """Write this epoch's model if it is among the best, and remove what it displaces."""
        self.tops = ranked([*self.tops, now], self.mode)[: self.top]
        if now in self.tops:
            if "last.keras" in self.stale:
                self._write()
            path = self._of_epoch(now.epoch)
            with written_whole(path) as part:
                _link(path.with_name("last.keras"), part)
        self._remove_others()

    def _of_epoch(self, epoch: int) -> Path:
        assert self.directory is not None
        return self.directory / f"epoch-{epoch:04d}.keras"

    def _remove_others(self) -> None:
        if self.directory is not None:
            kept = {self._of_epoch(one.epoch) for one in self.tops}
            for path in set(self.directory.glob("epoch-*.keras")) - kept:
                path.unlink(missing_ok=True)

    def get_state(self) -> dict[str, Any]:
        """Return the best so far; weights that the model has now are not repeated."""
        now = [values_of(v) for v in self.model.weights]
        kept: list[np.ndarray | None] = [
            None if np.array_equal(best, value) else best
            for best, value in zip(self.weights or [], now, strict=bool(self.weights))
        ]
        state = {
            "best": self.best, "loss": self.loss, "epoch": self.epoch, "stage": self.stage,
            "seen": self.seen, "weights": kept, "tops": [list(one) for one in self.tops],
        }
        soup = {"soup": self.ingredients.get_state()} if self.ingredients is not None else {}
        return state | soup

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave, on a model that has the weights that it had then.

        Raises:
            ValueError: If it is none.
        """
        kinds = {"best": float | int | None, "epoch": int, "stage": str, "seen": int, "tops": list}
        if not all(isinstance(state[name], kind) for name, kind in kinds.items()) or not all(
            best is None or (best.shape == tuple(v.shape) and best.dtype.kind not in "OSUV")
            for best, v in zip(state["weights"] or [], self.model.weights, strict=False)
        ):
            raise ValueError("it is no best epoch of this model")
        self.best, self.epoch, self.stage = state["best"], state["epoch"], state["stage"]
        self.seen, self.copied_in = state["seen"], ""
        self.weights = [
            values_of(v) if best is None else best
            for best, v in zip(state["weights"], self.model.weights, strict=True)
        ] if state["weights"] else None
        self.tops, self.loss = ranks(state["tops"]), float(state.get("loss", math.inf))
        if self.ingredients is not None:
            self.ingredients.set_state(state["soup"])
        # The files may be of later epochs, or not be there.
        self._remove_others()
        self.stale = {"last.keras", "best.keras"} if self.weights else set()

    def _copied(self) -> list[np.ndarray]:
        """Return the weights; frozen ones, which are as they were, are not copied again."""
        frozen = {
            id(v) for layer in self.model._flatten_layers() for v in layer._trainable_variables
            if not v.trainable
        }
        known = dict(zip(map(id, self.model.weights), self.weights or [], strict=False))
        if self.copied_in != self.current_stage:
            known, self.copied_in = {}, self.current_stage
        return [
            known[id(v)] if id(v) in frozen and id(v) in known else values_of(v)
            for v in self.model.weights
        ]

    def _improves(self, now: Rank) -> bool:
        if math.isnan(now.value) or self.best is None:
            return not math.isnan(now.value)
        # Not by epochs: two of them are equal where nothing else tells them apart.
        best = Rank(self.best, self.loss, now.epoch)
        return ranked([best, now], self.mode)[0] != best

    def _write(self) -> None:
        """Write what is older than what is in memory."""
        began = time.monotonic()
        if self.directory is None:
            return
        if "last.keras" in self.stale:
            _save(self.model, self.directory / "last.keras")
        if "best.keras" in self.stale:
            if self.epoch == self.seen:
                with written_whole(self.directory / "best.keras") as part:
                    _link(self.directory / "last.keras", part)
            else:
                now = self.model.get_weights()
                self.model.set_weights(self.weights)
                _save(self.model, self.directory / "best.keras")
                self.model.set_weights(now)
        self.stale.clear()
        ended = time.monotonic()
        self.not_before = ended + self.TIMES * (ended - began)

    def close(self, model: keras.Model) -> None:
        """Give the model the best epoch's weights back, and see that the files are there."""
        if self.weights is None:
            raise UserError(
                f"Training gave no usable {self.monitor}: the loss is not a number. Lower "
                "optimizer.learning_rate, or set precision=float32."
            )
        self._write()
        model.set_weights(self.weights)

    def replace(self, model: keras.Model) -> None:
        """Have the model's weights be the best ones, in memory and as a file, after `close`."""
        self.weights = [values_of(v) for v in model.weights]
        if self.directory is not None:
            _save(model, self.directory / "best.keras")


def ranked(epochs: Sequence[Rank], mode: str) -> list[Rank]:
    """Return epochs, the best first: by value, then by the lower loss, then the earlier.

    Example:
        >>> best, *_ = ranked([Rank(0.5, 0.1, 1), Rank(0.7, 0.4, 2), Rank(0.7, 0.3, 3)], "max")
        >>> best.epoch
        3
    """
    sign = -1.0 if mode == "max" else 1.0
    # A loss that is no number is the worst.
    return sorted(
        epochs,
        key=lambda one: (sign * one.value, math.isnan(one.loss), one.loss, one.epoch),
    )


def ranks(held: Any) -> list[Rank]:
    """Return epochs as a checkpoint holds them; those of earlier versions have no loss.

    Raises:
        ValueError: If they are none.
    """
    found = [(one[0], math.inf, one[1]) if len(one) == 2 else tuple(one) for one in held]
    if not all(
        len(one) == 3 and isinstance(one[2], int) and all(isinstance(n, float | int) for n in one)
        for one in found
    ):
        raise ValueError("it is no list of epochs")
    return [Rank(float(value), float(loss), epoch) for value, loss, epoch in found]


def _save(model: keras.Model, path: Path) -> None:
    """Write a model alone: Keras keeps the optimizer in a `.keras` file even when told not to."""
    # A run that goes on after its last stage has none.
    optimizer, compiled = getattr(model, "optimizer", None), model.compiled
    model.optimizer, model.compiled = None, False
    try:
        with written_whole(path) as part:
            _save_by_disk(model, part)
    finally:
        model.optimizer, model.compiled = optimizer, compiled


def _save_by_disk(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file as Keras does, but for the copy of all weights that it makes in memory.

    The weights are written beside it first, and copied into the archive in pieces.
    """
    folder = path.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was ended here
    try:
        model.save(folder, zipped=False)
        with zipfile.ZipFile(path, "w") as archive:  # nothing is compressed, as in Keras' own
            for file in sorted(one for one in folder.rglob("*") if one.is_file()):
                archive.write(file, file.relative_to(folder))
                file.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """Give a file another name, or copy it where the file system has no second names.

    Files are replaced here, never written into, so that each name keeps what it had.
    """
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def values_of(variable: keras.Variable) -> np.ndarray:
    """Return a copy of a variable's values."""
    return variable.value.numpy()
