"""Training batches: examples as the model takes them, with targets and augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kerasft.contracts import Mixable, Task
from kerasft.rows import Rows
from kerasft.spec import Labels, Preprocess, Splits, placed, takes_images

if TYPE_CHECKING:
    from kerasft.data.store import Store


def make_batches(
    cfg: DictConfig, train: Store, targets: Rows, order: Any, *, task: Task, labels: Labels,
    size: tuple[int, int] | None, augment: Mapping[str, Any], stages: Mapping[str, Any],
) -> Any:
    """Return the training batches, of examples as a preprocessing made and placed them.

    Args:
        cfg: The config.
        train: The training examples.
        targets: What is learned of them, see `training_targets`.
        order: Their order.
        task: The task, as it fits the data.
        labels: What the labels mean.
        size: Rows and columns of images; `None` for texts.
        augment: Steps of augmentation by name.
        stages: All stages by name.

    Returns:
        `kerasft.data.pipeline.Batches`.
    """
    from kerasft.data import pipeline
    from kerasft.data.augment import MOVING, augmenter
    from kerasft.training.recipe import planned

    augmented = None
    if augment:
        assert size is not None, "Texts with augmentation are refused before."
        augmented = augmenter(
            augment, seed=cfg.seed, size=size, channels=int(train.specs()["images"][1][-1] or 3),
            shares=partial(task.shares, labels=labels) if isinstance(task, Mixable) else None,
            moving=[name for name in MOVING if name in targets],
            # The order counts the epochs of all stages in one row, as they are planned.
            epochs=sum(planned(stages, order.steps, cfg.max_steps)[1].values()),
        )
    return pipeline.Batches(
        train, targets, batch=partial(task.batch, labels=labels), order=order, augment=augmented
    )


def training_targets(task: Task, splits: Splits, preprocess: Preprocess) -> Rows:
    """Return what is learned of the training examples, as a preprocessing places them."""
    annotations = placed(splits.train.annotations, preprocess)
    return task.targets(annotations, splits.labels, training=True)


def size_of(preprocess: Preprocess) -> tuple[int, int] | None:
    """Return the rows and columns that images get, `None` for texts."""
    return (preprocess.height, preprocess.width) if takes_images(preprocess) else None
