"""The figures of each epoch: a line on the console, a row in the logs."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kerasft.system.files import appending, written_whole
from kerasft.system.terminal import Styled, columns, is_terminal
from kerasft.system.variables import scalar


class EpochLog(keras.callbacks.Callback):
    """Writes each epoch to `epochs.jsonl` and `epochs.csv`, and says it in one line.

    Args:
        directory: Where the files go; `None` writes none.
        say: Prints a line; `None` prints none.
        shown: The figures in that line. On a narrow terminal the monitor and the losses stay
            longest; all are in the files.
        monitor: The figure that chooses the best epoch.
        best: Gives the number of the best epoch so far, counted from 1.
    """

    def __init__(
        self, directory: Path | None, say: Callable[[str], None] | None,
        shown: Sequence[str] = (), *, monitor: str = "", best: Callable[[], int] = lambda: 0,
    ):
        super().__init__()
        self.directory, self.say, self.shown = directory, say, shown
        self.monitor, self.best = monitor, best
        self.rows: list[dict[str, Any]] = []
        self.stage, self.epochs = "", 0
        self.image_size: tuple[int, int] | None = None  # where it is not the model's own

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
            **({"image_size": "x".join(map(str, self.image_size))} if self.image_size else {}),
            "learning_rate": float(scalar(self.model.optimizer.learning_rate)),
            "seconds": round(time.perf_counter() - self.started, 3),
        }
        self.rows.append(row)
        if self.directory is not None:
            with appending(self.directory / "epochs.jsonl") as file:
                file.write(json.dumps(row) + "\n")
            self._write_csv(self.directory / "epochs.csv")
        if self.say is not None:
            self.say(self._line(epoch + 1, figures, row["seconds"]))

    @property
    def running(self) -> tuple[str, ...]:
        """The figures that are known while an epoch runs, the loss first."""
        names = dict.fromkeys(("loss", *self.shown))
        return tuple(name for name in names if not name.startswith("val_"))

    def _line(self, epoch: int, figures: Mapping[str, float], seconds: float) -> Styled:
        # Of one width while the numbers grow, so that the figures stand below each other.
        widest = len(f"epoch {self.epochs}/{self.epochs} [{self.stage}]")
        head = f"epoch {epoch}/{self.epochs} [{self.stage}]".ljust(widest)
        tail = f"  ({seconds:.1f} s)"
        texts = {n: f"  {n} {v:.4f}" for n, v in figures.items() if n in self.shown}
        if is_terminal(sys.stdout):
            least = [n for n in texts if n not in (self.monitor, "val_loss", "loss")]
            for name in [*reversed(least), "loss", "val_loss"]:
                if len(head) + len(tail) + sum(map(len, texts.values())) < columns():
                    break
                texts.pop(name, None)
        is_best = self.best() == epoch
        return Styled.of(
            head, *((text, "green" if is_best and name == self.monitor else "")
                    for name, text in texts.items()), (tail, "dim"),
        )  # fmt: skip

    def _write_csv(self, path: Path) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with written_whole(path) as part, \
                open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)
