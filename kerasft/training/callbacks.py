"""Callbacks: what every run does at the end of an epoch, and what configs may add."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasft.errors import UserError
from kerasft.system.console import clock
from kerasft.system.files import appending, written_whole
from kerasft.training.signals import Interrupted


class Validation(keras.callbacks.Callback):
    """Adds the validation split's figures to the logs of each epoch.

    They come from the same function as the final metrics, computed over all examples at once, so
    that they are right for any batch size and any last batch.

    Args:
        score: A function from the model to figures by name.
        interrupting: Gives a block in which a signal to stop, or the end of the run's time, raises
            `Interrupted`. What a queue allows may be shorter than a validation.
        begin: Called with the epoch before the validation starts.
        stop: Called with the epoch when the validation is interrupted; writes a checkpoint and
            raises `Stopped`.
            The validation is then done anew.
    """

    def __init__(
        self, score: Callable[[Any], dict[str, float]],
        interrupting: Callable[[], AbstractContextManager[None]] = nullcontext, *,
        begin: Callable[[int], None] = lambda epoch: None,
        stop: Callable[[int], None] = lambda epoch: None,
    ):
        super().__init__()
        self.score, self.interrupting, self.begin, self.stop = score, interrupting, begin, stop

    def on_epoch_end(self, epoch, logs=None):
        self.begin(epoch)
        # Who goes on would not know that a callback had ended the stage in the middle of an epoch.
        ends = self.model.stop_training
        try:
            with nullcontext() if ends else self.interrupting():
                figures = self.score(self.model)
        except Interrupted:
            self.stop(epoch)
            raise
        logs.update({f"val_{name}": value for name, value in figures.items()})


class OnEpoch(keras.callbacks.Callback):
    """Tells a function of each epoch, counted from 1, and of its figures.

    Args:
        tell: The function; training ends there if it raises `Pruned`.
    """

    def __init__(self, tell: Callable[[int, dict[str, float]], None]):
        super().__init__()
        self.tell = tell

    def on_epoch_end(self, epoch, logs=None):
        self.tell(epoch + 1, {name: float(value) for name, value in (logs or {}).items()})


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the best epoch of all stages, in memory and as a file.

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
        self.tops: list[tuple[float, int]] = []  # value and epoch, the best first
        self.best: float | None = None
        self.epoch = 0
        self.stage = ""
        self.weights: list[np.ndarray] | None = None
        self.current_stage = ""
        self.copied_in = ""  # the stage that the weights were copied in
        self.not_before = 0.0
        self.seen = 0  # epochs that the model went through
        self.stale: set[str] = set()

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.monitor)
        if value is None:
            raise UserError(
                f"The monitor {self.monitor!r} is no figure of this run. Allowed: "
                f"{', '.join(sorted(logs or {}))}. Set task.monitor."
            )
        self.seen = epoch + 1
        self.stale.add("last.keras")
        if self._improves(value):
            self.best, self.epoch, self.stage = float(value), epoch + 1, self.current_stage
            self.weights = self._copied()
            self.stale.add("best.keras")
        if time.monotonic() >= self.not_before:
            self._write()
        if self.top and self.directory is not None and not math.isnan(value):
            self._keep_top(float(value), epoch + 1)

    def _keep_top(self, value: float, epoch: int) -> None:
        """Write this epoch's model if it is among the best, and remove the one that it displaces.

        Of equal ones the earlier stays.
        """
        sign = -1.0 if self.mode == "max" else 1.0
        ranked = sorted([*self.tops, (value, epoch)], key=lambda one: (sign * one[0], one[1]))
        self.tops = ranked[: self.top]
        if any(epoch == kept for _, kept in self.tops):
            if "last.keras" in self.stale:
                self._write()
            path = self._of_epoch(epoch)
            with written_whole(path) as part:
                _link(path.with_name("last.keras"), part)
        self._remove_others()

    def _of_epoch(self, epoch: int) -> Path:
        assert self.directory is not None
        return self.directory / f"epoch-{epoch:04d}.keras"

    def _remove_others(self) -> None:
        if self.directory is not None:
            kept = {self._of_epoch(epoch) for _, epoch in self.tops}
            for path in set(self.directory.glob("epoch-*.keras")) - kept:
                path.unlink(missing_ok=True)

    def get_state(self) -> dict[str, Any]:
        """Return the best so far; weights that the model has now are not repeated."""
        now = [_values(v) for v in self.model.weights]
        kept: list[np.ndarray | None] = [
            None if np.array_equal(best, value) else best
            for best, value in zip(self.weights or [], now, strict=bool(self.weights))
        ]
        return {
            "best": self.best, "epoch": self.epoch, "stage": self.stage, "seen": self.seen,
            "weights": kept, "tops": [list(one) for one in self.tops],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave, on a model that has the weights that it had then.

        Raises:
            ValueError: If it is none.
        """
        kinds = {"best": float | int | None, "epoch": int, "stage": str, "seen": int, "tops": list}
        plain = all(isinstance(state[name], kind) for name, kind in kinds.items()) and all(
            len(one) == 2 and isinstance(one[0], float | int) for one in state["tops"]
        )
        if not plain or not all(
            best is None or (best.shape == tuple(v.shape) and best.dtype.kind not in "OSUV")
            for best, v in zip(state["weights"] or [], self.model.weights, strict=False)
        ):
            raise ValueError("it is no best epoch of this model")
        self.best, self.epoch, self.stage = state["best"], state["epoch"], state["stage"]
        self.seen, self.copied_in = state["seen"], ""
        self.weights = [
            _values(v) if best is None else best
            for best, v in zip(state["weights"], self.model.weights, strict=True)
        ] if state["weights"] else None
        self.tops = [(value, epoch) for value, epoch in state["tops"]]
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
            known[id(v)] if id(v) in frozen and id(v) in known else _values(v)
            for v in self.model.weights
        ]

    def _improves(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value > self.best if self.mode == "max" else value < self.best

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

    def close(self, model: Any) -> None:
        """Give the model the best epoch's weights back, and see that the files are there."""
        if self.weights is None:
            raise UserError(
                f"Training gave no usable {self.monitor}: the loss is not a number. Lower "
                "optimizer.learning_rate, or set precision=float32."
            )
        self._write()
        model.set_weights(self.weights)


def _save(model: Any, path: Path) -> None:
    """Write a model alone: Keras keeps the optimizer in a `.keras` file even when told not to."""
    # A run that goes on after its last stage has none.
    optimizer, compiled = getattr(model, "optimizer", None), model.compiled
    model.optimizer, model.compiled = None, False
    try:
        with written_whole(path) as part:
            model.save(part)
    finally:
        model.optimizer, model.compiled = optimizer, compiled


def _link(source: Path, target: Path) -> None:
    """Give a file another name, or copy it where the file system has no second names.

    Files are replaced here, never written into, so that each name keeps what it had.
    """
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class EpochLog(keras.callbacks.Callback):
    """Writes each epoch to `epochs.jsonl` and `epochs.csv`, and says it in one line.

    Args:
        directory: Where the files go; `None` writes none.
        say: Prints a line; `None` prints none (where a progress bar does).
        shown: The figures in that line.
    """

    def __init__(
        self, directory: Path | None, say: Callable[[str], None] | None,
        shown: Sequence[str] = (),
    ):
        super().__init__()
        self.directory, self.say, self.shown = directory, say, shown
        self.rows: list[dict[str, Any]] = []
        self.stage, self.epochs = "", 0

    def get_state(self) -> dict[str, Any]:
        """Return what is in the log."""
        return {"rows": self.rows, "epochs": self.epochs}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the log of an earlier process, whose later epochs are dropped."""
        values = [value for row in state["rows"] for value in row.values()]
        if not all(isinstance(one, float | int | str | None) for one in [*values, state["epochs"]]):
            raise ValueError("it is no log")
        self.rows, self.epochs = state["rows"], state["epochs"]
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            with written_whole(self.directory / "epochs.jsonl") as part:
                part.write_text("".join(json.dumps(row) + "\n" for row in self.rows), "utf-8")
            self._write_csv(self.directory / "epochs.csv")

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        figures = {name: float(value) for name, value in (logs or {}).items()}
        row = {
            "epoch": epoch + 1, "stage": self.stage, **figures,
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(time.perf_counter() - self.started, 3),
        }
        self.rows.append(row)
        if self.directory is not None:
            with appending(self.directory / "epochs.jsonl") as file:
                file.write(json.dumps(row) + "\n")
            self._write_csv(self.directory / "epochs.csv")
        if self.say is not None:
            shown = "  ".join(f"{n} {v:.4f}" for n, v in figures.items() if n in self.shown)
            self.say(f"epoch {epoch + 1}/{self.epochs} [{self.stage}]  {shown}  "
                     f"({row['seconds']:.1f} s)")

    def _write_csv(self, path: Path) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with written_whole(path) as part, \
                open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)


class FirstStep(keras.callbacks.Callback):
    """Proves after the first step that frozen variables stayed and trainable ones moved.

    Args:
        say: Says a sentence to the user.
        reports: Whether it also says how long the run took to come to that step.
    """

    def __init__(self, say: Callable[[str], None], *, reports: bool = False):
        super().__init__()
        self.say, self.reports = say, reports
        self.before: dict[int, np.ndarray] | None = None

    def on_train_batch_begin(self, batch, logs=None):
        if self.before is None:
            self.before = {id(v): _values(v) for v in self._watched()}

    def on_train_batch_end(self, batch, logs=None):
        if not self.before:
            return
        trains = {id(v) for v in self.model.trainable_variables}
        moved = [v for v in self._watched() if not np.array_equal(_values(v), self.before[id(v)])]
        wrong = [v.path for v in moved if id(v) not in trains]
        self.before = {}
        if self.reports:
            self.say(f"first step after {clock.seconds():.1f} s")
        if wrong:
            raise RuntimeError(
                f"Variables that should be frozen changed in the first step: {', '.join(wrong[:5])}"
            )
        still = trains - {id(v) for v in moved}
        if len(still) == len(trains):
            self.say("Nothing moved in the first step: are the gradients zero or not numbers?")

    def _watched(self) -> list[Any]:
        """Weights alone: seeds and statistics of layers that train change by design."""
        trainable_layers = {
            id(v)
            for layer in self.model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            for v in layer.non_trainable_variables
        }
        return [
            v for v in self.model.variables
            if "seed" not in v.path.split("/")[-1] and id(v) not in trainable_layers
        ]


def _values(variable: Any) -> np.ndarray:
    """Return a copy of a variable's values."""
    return variable.value.numpy()


class _Curves(keras.callbacks.TensorBoard):
    """Takes figures that are beyond the range of its files, too."""

    def on_epoch_end(self, epoch, logs=None):
        most = float(np.finfo("float32").max)
        clipped = {n: v if v != v else min(max(v, -most), most) for n, v in (logs or {}).items()}
        super().on_epoch_end(epoch, clipped)


def tensorboard(*, output_dir: str, histogram_freq: int = 0) -> Any:
    """Write the run's curves for TensorBoard into the run folder.

    Args:
        output_dir: The run folder.
        histogram_freq: Every how many epochs histograms of the weights are written; 0 for never.

    Returns:
        A `keras.callbacks.TensorBoard`.
    """
    return _Curves(
        str(Path(output_dir) / "logs" / "tensorboard"), histogram_freq=histogram_freq,
        write_graph=False,
    )
