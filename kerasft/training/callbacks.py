"""Callbacks: what every run does at the end of an epoch, and what configs may add."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasft.system.console import clock
from kerasft.training.keep_best import values_of
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
            self.before = {id(v): values_of(v) for v in self._watched()}

    def on_train_batch_end(self, batch, logs=None):
        if not self.before:
            return
        trains = {id(v) for v in self.model.trainable_variables}
        moved = [v for v in self._watched() if not np.array_equal(values_of(v), self.before[id(v)])]
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
