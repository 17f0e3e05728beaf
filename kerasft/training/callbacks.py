"""Callbacks: what every run does at the end of an epoch, and what configs may add."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

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
        as_kept: Gives a block in which the model holds the weights that are kept.
    """

    def __init__(
        self, score: Callable[[Any], dict[str, float]],
        interrupting: Callable[[], AbstractContextManager[None]] = nullcontext, *,
        begin: Callable[[int], None] = lambda epoch: None,
        stop: Callable[[int], None] = lambda epoch: None,
        as_kept: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        super().__init__()
        self.score, self.interrupting, self.begin, self.stop = score, interrupting, begin, stop
        self.as_kept = as_kept

    def on_epoch_end(self, epoch, logs=None):
        self.begin(epoch)
        # Who goes on would not know that a callback had ended the stage in the middle of an epoch.
        ends = self.model.stop_training
        try:
            # What puts the weights back is not interrupted.
            with self.as_kept(), nullcontext() if ends else self.interrupting():
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
