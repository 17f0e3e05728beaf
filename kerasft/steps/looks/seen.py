"""Training examples as the batches of an epoch have them, and in words what is learned of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kerasft.contracts import Described, Task
from kerasft.data.pipeline import Batches
from kerasft.spec import Labels
from kerasft.steps.preparing.prepare import Ready


@dataclass(frozen=True)
class Seen:
    """An example as the network sees it in an epoch.

    Args:
        inputs: By name.
        targets: By name.
        words: What is learned of it, in words.
        number: See `Order.draws`.
    """

    inputs: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    words: str
    number: int = 0


def first_of(batches: Batches, epoch: int, count: int) -> list[int]:
    """Return the first examples of an epoch, each once, in the order of its batches."""
    made: dict[int, None] = {}
    for step in range(epoch * batches.steps, (epoch + 1) * batches.steps):
        if len(made) >= count:
            break
        made |= dict.fromkeys(map(int, batches.order.batch(step)[1]))
    return list(made)[:count]


def seen(ready: Ready, epoch: int, chosen: Sequence[int]) -> dict[int, Seen]:
    """Return examples as they are in the batches of an epoch, by their numbers.

    Whole batches are made, since MixUp and CutMix mix the images of a batch.
    """
    batches, made = ready.batches, dict[int, Seen]()
    wanted = np.asarray(chosen)
    steps = [
        step for step in range(epoch * batches.steps, (epoch + 1) * batches.steps)
        if np.isin(batches.order.batch(step)[1], wanted).any()
    ]  # fmt: skip
    for inputs, targets, numbers in batches.examples(steps).as_numpy_iterator():
        indices = numbers % len(batches.store)
        words = described(ready.task, targets, ready.splits.labels, len(indices))
        for place in np.flatnonzero(np.isin(indices, wanted)).tolist():
            # Where sampling draws an example several times, the first one is shown.
            made.setdefault(int(indices[place]), Seen(
                _row(inputs, place), _row(targets, place), words[place], int(numbers[place])
            ))
    return made


def _row(batch: Mapping[str, np.ndarray], place: int) -> dict[str, np.ndarray]:
    """Return one row of a batch, copied, so that the batch need not be held."""
    return {name: np.array(value[place]) for name, value in batch.items()}


def described(
    task: Task, targets: Mapping[str, np.ndarray], labels: Labels, count: int
) -> list[str]:
    """Say in words what is learned of each example of a batch, by a task of any kind."""
    if isinstance(task, Described):
        words = task.describe(targets, labels)
    elif "segmentation_masks" in targets:
        words = [_areas(mask, labels.names) for mask in targets["segmentation_masks"]]
    else:
        words = [
            ", ".join(_plain(name, value[place]) for name, value in targets.items()
                      if name != "weight")
            for place in range(count)
        ]  # fmt: skip
    if "weight" in targets:
        return [f"{one}, weight {w:.3g}" for one, w in zip(words, targets["weight"], strict=True)]
    return list(words)


def _areas(mask: np.ndarray, names: Sequence[str]) -> str:
    """Return the share of the pixels that each class has, the largest first."""
    counts = np.bincount(mask.ravel(), minlength=256)
    shares = {name: counts[place] / mask.size for place, name in enumerate(names)}
    shares["ignored"] = counts[255] / mask.size
    there = sorted((item for item in shares.items() if item[1]), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in there)


def _plain(name: str, value: np.ndarray) -> str:
    """Return a target of which nobody says what it means: small ones whole."""
    if value.size > 8:
        return f"{name} [{' x '.join(map(str, value.shape))}]"
    return f"{name} " + " ".join(
        f"{one:.4g}" if isinstance(one, float) else str(one) for one in value.ravel().tolist()
    )
