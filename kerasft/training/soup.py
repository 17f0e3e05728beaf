"""Greedy soup: the weights of the best epochs are averaged as long as validation allows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.catalogue.averages import require_sound
from kerasft.errors import UserError
from kerasft.system.variables import capture_variables
from kerasft.training.checkpoint import Damaged, Position, State, read, write
from kerasft.training.keep_best import KeepBest, Rank, ranked, ranks

if TYPE_CHECKING:
    import keras


class Soup:
    """A greedy soup of a run's best epochs.

    Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy
    without increasing inference time", 2022, <https://arxiv.org/abs/2203.05482>, with the epochs of
    one run in place of several runs: beginning with the best epoch, the next best is taken in if
    the mean of the weights is no worse on the validation split.

    Args:
        size: Of how many epochs the weights are tried. Each takes the room of the model in
            `checkpoints/soup`, and one more look at the validation split.

    Raises:
        UserError: If it is below 2.

    Example:
        On the command line: `kerasft train average=soup average.soup.size=3`.
    """

    def __init__(self, *, size: int = 5):
        require_sound("Soup", size=size)
        self.size = size


@dataclass(frozen=True)
class Made:
    """What became of a soup.

    Args:
        tried: The epochs, the best first.
        taken: The epochs whose mean the weights are now.
        value: The monitor's value of that mean.
    """

    tried: Sequence[Rank]
    taken: Sequence[int]
    value: float


class Ingredients:
    """The weights of a run's best epochs, as files.

    Epochs of stages that have images of another size than the model are not compared.

    Args:
        soup: How many they are.
        keep: Knows monitor, mode, and whether an epoch is to be compared.
        directory: Where the files are.
    """

    def __init__(self, soup: Soup, keep: KeepBest, directory: Path):
        self.soup, self.keep, self.directory = soup, keep, directory
        self.best: list[Rank] = []

    def add(self, model: keras.Model, now: Rank) -> None:
        """Write the weights that a model has if its epoch is among the best.

        Args:
            model: The model.
            now: The epoch.
        """
        if not self.keep.is_comparable or math.isnan(now.value):
            return
        self.best = ranked([*self.best, now], self.keep.mode)[: self.soup.size]
        if now in self.best:
            self.directory.mkdir(exist_ok=True)
            weights, at = capture_variables("model", model.weights), now.epoch
            write(self._file(at), State(Position("", at, at, 0), arrays=weights))
        self._remove_others()

    def _file(self, epoch: int) -> Path:
        return self.directory / f"epoch-{epoch:04d}.npz"

    def _remove_others(self) -> None:
        kept = {self._file(one.epoch) for one in self.best}
        for path in set(self.directory.glob("epoch-*.npz")) - kept:
            path.unlink(missing_ok=True)

    def get_state(self) -> dict[str, Any]:
        return {"best": [list(one) for one in self.best]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave.

        Raises:
            ValueError: If it is none.
        """
        self.best = ranks(state["best"])
        self._remove_others()

    def mixed(self, model: keras.Model, judge: Callable[[keras.Model], float]) -> Made:
        """Have a model hold the greedy mean of the epochs' weights.

        Args:
            model: The model.
            judge: The monitor's value of it.

        Returns:
            What was tried, and taken.

        Raises:
            UserError: If the weights of an epoch are missing, damaged, or of another model.
        """
        sign = 1.0 if self.keep.mode == "max" else -1.0
        mean = self._weights(model, self.best[0].epoch)
        model.set_weights(mean)
        value, taken = judge(model), [self.best[0].epoch]
        for epoch in (one.epoch for one in self.best[1:]):
            share = 1.0 / (len(taken) + 1)
            tried = [
                _between(one, other, share)
                for one, other in zip(mean, self._weights(model, epoch), strict=True)
            ]
            model.set_weights(tried)
            found = judge(model)
            if sign * found >= sign * value:
                mean, value, taken = tried, found, [*taken, epoch]
        model.set_weights(mean)
        return Made(self.best, taken, value)

    def _weights(self, model: keras.Model, epoch: int) -> list[np.ndarray]:
        path, remedy = self._file(epoch), "Set average=none, and begin anew in another folder."
        try:
            arrays = list(read(path).arrays.values())
        except Damaged as error:
            raise UserError(f"The weights of the soup cannot be read: {error}. {remedy}") from error
        if [array.shape for array in arrays] != [tuple(v.shape) for v in model.weights]:
            raise UserError(f"{str(path)!r} has the weights of another network. {remedy}")
        return arrays


def _between(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Return the mean of numbers, `share` of it the other; what is no float stays the first."""
    if not np.issubdtype(one.dtype, np.floating) and one.dtype.name != "bfloat16":
        return one
    wide = one.astype("float64")
    return (wide + share * (other.astype("float64") - wide)).astype(one.dtype)
