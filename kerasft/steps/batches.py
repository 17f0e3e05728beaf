"""Training batches: examples as the model takes them, with targets and augmentation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kerasft.contracts import Mixable, Task
from kerasft.rows import Rows
from kerasft.spec import Labels, Preprocess, Splits, placed, takes_pictures

if TYPE_CHECKING:
    from kerasft.data.store import Store
    from kerasft.steps.prepare import Parts


def make_batches(
    cfg: DictConfig, parts: Parts, task: Task, labels: Labels, preprocess: Preprocess,
    train: Store, targets: Rows, order: Any,
) -> Any:
    """Return the training batches, of examples as a preprocessing makes and places them.

    Args:
        cfg: The config.
        parts: The cheap parts, among them the augmentation.
        task: The task, as it fits the data.
        labels: What the labels mean.
        preprocess: The preprocessing.
        train: What it made of the training examples.
        targets: What is learned of them, see `training_targets`.
        order: The order of the examples.

    Returns:
        `kerasft.data.pipeline.Batches`.
    """
    from kerasft.data import augment, pipeline
    from kerasft.training.recipe import planned

    augmented = None
    if parts.augment:
        size = size_of(preprocess)
        assert size is not None, "Texts with augmentation are refused before."
        augmented = augment.augmenter(
            parts.augment, seed=cfg.seed, size=size,
            shares=partial(task.shares, labels=labels) if isinstance(task, Mixable) else None,
            moving=[name for name in augment.MOVING if name in targets],
            # The order counts the epochs of all stages in one row, as they are planned.
            epochs=sum(planned(parts.stages, order.steps, cfg.max_steps)[1].values()),
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
    return (preprocess.height, preprocess.width) if takes_pictures(preprocess) else None
