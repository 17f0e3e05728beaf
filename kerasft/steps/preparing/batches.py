"""Training batches: examples as the model takes them, with targets and augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kerasft.abilities import Spread
from kerasft.config.auto_batch import accumulated
from kerasft.contracts import Mixable, Task
from kerasft.data.annotations.kinds import are_boxes, are_drawn
from kerasft.data.astray import require_mixable, require_moving
from kerasft.rows import Rows
from kerasft.spec import Labels, Preprocess, Splits, placed, takes_images, takes_texts

if TYPE_CHECKING:
    from kerasft.data.store import Store


def make_batches(
    cfg: DictConfig, train: Store, targets: Rows, order: Any, *, task: Task, labels: Labels,
    preprocess: Preprocess, texts: Sequence[Any], augment: Mapping[str, Any],
    stages: Mapping[str, Any],
) -> Any:
    """Return the training batches, of examples as a preprocessing made and placed them.

    Args:
        cfg: The config.
        train: The training examples.
        targets: What is learned of them, see `training_targets`.
        order: Their order.
        task: The task, as it fits the data.
        labels: What the labels mean.
        preprocess: What made the examples ready.
        texts: The training texts as they were before; not looked at where there are images.
        augment: Steps of augmentation by name.
        stages: All stages by name.

    Returns:
        `kerasft.data.pipeline.Batches`.
    """
    from kerasft.data import pipeline
    from kerasft.data.augment import MOVING, augmenter
    from kerasft.data.changed_texts import TextAugmenter
    from kerasft.training.recipe import planned

    augmented: Any = None
    # The order counts the epochs of all stages in one row, as they are planned.
    epochs = sum(planned(stages, order.steps, cfg.max_steps)[1].values())
    if augment and takes_texts(preprocess):
        augmented = TextAugmenter(augment, texts, preprocess, cfg.seed, epochs)
    elif augment:
        size = size_of(preprocess)
        assert size is not None
        augmented = augmenter(
            augment, seed=cfg.seed, size=size, channels=int(train.specs()["images"][1][-1] or 3),
            shares=partial(task.shares, labels=labels) if isinstance(task, Mixable) else None,
            moving=[name for name in MOVING if name in targets], epochs=epochs,
        )
    if isinstance(task, Spread):
        alone = not cfg.batch_tokens and accumulated(cfg) == 1
        task = task.batched(len(train) / order.steps, alone)
    return pipeline.Batches(
        train, targets, batch=partial(task.batch, labels=labels), order=order, augment=augmented
    )


def require_augmentable(augment: Mapping[str, Any], task: Task) -> None:
    """Refuse, before data is read, the steps that labels of the task's kind cannot have.

    What else a task learns shows in its targets, see `augmenter`.

    Raises:
        UserError: If there is one, with its name.
    """
    moving = ["boxes"] if are_boxes(task.kind) else ["segmentation_masks"]
    require_moving(augment, moving if are_drawn(task.kind) else ())
    require_mixable(augment, mixable=isinstance(task, Mixable))


def training_targets(task: Task, splits: Splits, preprocess: Preprocess) -> Rows:
    """Return what is learned of the training examples, as a preprocessing places them."""
    annotations = placed(splits.train.annotations, preprocess)
    return task.targets(annotations, splits.labels, training=True)


def size_of(preprocess: Preprocess) -> tuple[int, int] | None:
    """Return the rows and columns that images get, `None` for texts."""
    return (preprocess.height, preprocess.width) if takes_images(preprocess) else None
