"""Semantic segmentation: the class of each pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kerasft.artifact.comparison import PADDING, Output
from kerasft.errors import UserError, some
from kerasft.evaluation import masks as figures
from kerasft.evaluation import plots
from kerasft.evaluation.metrics import direction
from kerasft.model.vision import masks
from kerasft.rows import Rows
from kerasft.spec import IGNORED, Decision, Kind, Labels, Modality, Mode, Tensors
from kerasft.tasks import shared

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Segmentation:
    """Each pixel of an image belongs to one class.

    Args:
        dice_weight: The weight of the Dice loss (Milletari et al., "V-Net", 2016) beside that of
            cross-entropy, which is 1: it counts small classes as much as large ones. 0 for none.
        monitor: The figure by which the best epoch is chosen.

    Example:
        >>> Segmentation().head(Labels("masks", ("ground", "cell")))
        {'channels': 2}
    """

    dice_weight: float = 1.0
    monitor: str = "val_mean_iou"

    kind: ClassVar[Kind] = "masks"
    modalities: ClassVar[tuple[Modality, ...]] = ("images",)
    follows_pixels: ClassVar[bool] = True
    headlines: ClassVar[tuple[str, ...]] = (
        "mean_iou", "mean_dice", "boundary_f1", "pixel_accuracy",
    )  # fmt: skip
    each_epoch: ClassVar[tuple[str, ...]] = ("val_mean_iou", "val_boundary_f1")
    forms: ClassVar[tuple[str, ...]] = ("class_map",)

    def __post_init__(self) -> None:
        if not self.dice_weight >= 0:
            raise UserError(
                f"task.dice_weight must be 0 or above. Received: {self.dice_weight}."
            )

    @property
    def mode(self) -> Mode:
        return direction(self.monitor)

    def head(self, labels: Labels) -> dict[str, Any]:
        return {"channels": len(labels.names)}

    def adapt(self, annotations: Rows) -> Segmentation:
        return self

    def check_validation(self, annotations: Rows) -> None:
        """Raise `UserError` where no pixel of the masks counts."""
        if self.monitor in ("loss", "val_loss") or annotations["pixels"].any():
            return
        raise UserError(
            f"Every pixel of the {some(len(annotations), 'validation mask')} is ignored "
            f"(data.ignore), so there is no {self.monitor} to choose the best epoch by. Validate "
            "on other images, or set task.monitor=val_loss. Received: "
            f"task.monitor={self.monitor}."
        )

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        """Return masks as the network sees them; to measure by, also the original ones."""
        names = ("segmentation_masks", *(() if training else ("mask", "frame")))
        return annotations.only([name for name in names if name in annotations])

    def batch(self, inputs: Tensors, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        return targets["segmentation_masks"][..., 0], None

    def compile(self) -> dict[str, Any]:
        weight = self.dice_weight
        return {"loss": lambda y, outputs: segmentation_loss(y, outputs, dice=weight)}

    def keep(
        self, outputs: tf.Tensor, inputs: Tensors, targets: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Keep what was counted in each image, pixel by pixel at its original size."""
        import tensorflow as tf

        classes = outputs.shape[-1]

        def one(values: tuple[Any, Any, Any]) -> tuple[Any, Any]:
            probabilities, png, frame = values
            true = tf.io.decode_png(png, channels=1)[..., 0]
            predicted = masks.class_map(probabilities, frame)
            return (figures.confusion(true, predicted, classes),
                    figures.borders_near(true, predicted, classes))  # fmt: skip

        pixels, borders = masks.each(
            one, (_softmax(outputs), targets["mask"], targets["frame"]),
            (tf.TensorSpec([classes, classes]), tf.TensorSpec([classes, 4])),
        )  # fmt: skip
        return {"pixels": pixels, "borders": borders}

    def answers(
        self, outputs: tf.Tensor, labels: Labels, decision: Decision | None = None
    ) -> dict[str, Any]:
        """Return how likely each class is for each pixel that the network sees.

        Returns:
            `probabilities` `float32[B, height, width, classes]`.
        """
        return {"probabilities": _softmax(outputs)}

    def rule(self, labels: Labels, *, chosen: bool = True) -> dict[str, Any]:
        return {
            "rule": "each pixel has the label with the largest of probabilities; for a mask as "
                    "large as the image these are resampled first (bilinear, pixel centres at "
                    "one half)"
        }  # fmt: skip

    def in_image(
        self, answers: Mapping[str, Any], frames: tf.Tensor, labels: Labels
    ) -> dict[str, Any]:
        """Return the likeliest class of each pixel of the original images.

        Returns:
            `png_bytes` `string[B]`, a grey PNG of the size of each image with the number of each
            pixel's class; `shares` `float32[B, classes]`, the part of the pixels that each has.
        """
        import tensorflow as tf

        count = len(labels.names)

        def one(values: tuple[Any, Any]) -> tuple[Any, Any]:
            found = masks.class_map(*values)
            pixels = tf.math.bincount(
                tf.cast(tf.reshape(found, [-1]), tf.int32), minlength=count, maxlength=count,
                dtype=tf.float32,
            )  # fmt: skip
            shares = pixels / tf.cast(tf.size(found), tf.float32)
            return tf.io.encode_png(found[..., None]), shares

        pngs, shares = masks.each(
            one, (answers["probabilities"], frames),
            (tf.TensorSpec([], tf.string), tf.TensorSpec([count])),
        )  # fmt: skip
        return {"png_bytes": pngs, "shares": shares}

    def rephrased(
        self, form: str, answers: Mapping[str, Any], frames: tf.Tensor, labels: Labels
    ) -> dict[str, Any]:
        """Return the class of each pixel as numbers: large in JSON, and read without a PNG decoder.

        Returns:
            `class_map` `int32[B, rows, columns]`, as large as the largest image of the batch and
            -1 beyond the others; `size` `int32[B, 2]`, the rows and columns of each.
        """
        import tensorflow as tf

        sizes = tf.cast(tf.round(frames[:, :2]), tf.int32)
        whole = tf.reduce_max(sizes, axis=0)

        def one(values: tuple[Any, Any]) -> Any:
            png, size = values
            found = tf.cast(tf.io.decode_png(png, channels=1)[..., 0], tf.int32)
            return tf.pad(found, [[0, whole[0] - size[0]], [0, whole[1] - size[1]]],
                          constant_values=PADDING)  # fmt: skip

        maps = masks.each(
            one, (answers["png_bytes"], sizes), tf.TensorSpec([None, None], tf.int32)
        )
        return {"class_map": maps, "size": sizes}

    def outputs(self, labels: Labels, decision: Decision | None = None) -> dict[str, Output]:
        return {"png_bytes": Output("pixels"), "shares": Output(each=True),
                "class_map": Output(padded=True)}

    def statistics(
        self, annotations: Rows, kept: Rows, labels: Labels, decision: Decision | None = None
    ) -> dict[str, np.ndarray]:
        return {name: np.asarray(kept[name], "float64") for name in ("pixels", "borders")}

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        """Return intersection over union, Dice and the like, of all pixels together."""
        pixels, borders = (statistics[name].sum(axis=0) for name in ("pixels", "borders"))
        return figures.summary(pixels, borders, labels.names)

    def sums(
        self, metric: str, statistics: Mapping[str, np.ndarray], labels: Labels
    ) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
        if metric == "pixel_accuracy":
            return statistics["pixels"], lambda sums, _: float(np.trace(sums) / sums.sum())
        if metric == "boundary_f1":
            return statistics["borders"], lambda sums, _: figures.mean(figures.of_borders(sums))
        if metric in ("mean_iou", "mean_dice"):
            one = metric.removeprefix("mean_")
            return statistics["pixels"], lambda sums, _: figures.mean(
                figures.of_confusion(sums)[one]
            )
        return None

    def samples(self, labels: Labels) -> dict[str, np.ndarray]:
        count = len(labels.names)
        return {"pixels": np.ones((2, count, count)), "borders": np.ones((2, count, 4))}

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: str | Path, *,
        split: str,
    ) -> list[Path]:
        """Draw which class was taken for which, and the intersection over union of each."""
        found = self.figures(statistics, labels)
        made = [plots.confusion_matrix(
            np.array(found["confusion_matrix"]), labels.names,
            Path(directory) / f"{split}_confusion.png", counted="pixels",
        )]  # fmt: skip
        by_class = {
            name: (row["iou"], f"{row['iou']:.3f}  ({row['pixels']:.1%})")
            for name, row in found["per_class"].items() if "iou" in row
        }
        if by_class:
            made.append(plots.bars(
                by_class, Path(directory) / f"{split}_iou_by_class.png",
                label="intersection over union (share of the true pixels)", mean="mean",
            ))  # fmt: skip
        return made

    def to_dict(self) -> dict[str, Any]:
        return shared.to_dict(self)


def _softmax(outputs: tf.Tensor) -> Any:
    import tensorflow as tf

    return tf.nn.softmax(tf.cast(outputs, tf.float32))


def segmentation_loss(y: tf.Tensor, outputs: tf.Tensor, *, dice: float = 1.0) -> Any:
    """Return how far masks are from what is there: cross-entropy, and the Dice loss beside it.

    Args:
        y: `uint8[batch, height, width]`, the class of each pixel; `IGNORED` counts nowhere.
        outputs: Logits, `float32[batch, height, width, classes]`.
        dice: The weight of the Dice loss.

    Returns:
        A scalar: the mean over all pixels that count, plus `dice` times the mean over the classes
        that the batch has.

    Example:
        >>> import tensorflow as tf
        >>> right = tf.constant([[[[9.0, -9.0], [-9.0, 9.0]]]])
        >>> float(segmentation_loss(tf.constant([[[0, 1]]], tf.uint8), right)) < 1e-3
        True
    """
    import tensorflow as tf

    outputs = tf.cast(outputs, tf.float32)
    classes = outputs.shape[-1]
    y = tf.cast(y, tf.int32)
    counted = tf.cast(y != IGNORED, tf.float32)
    y = tf.where(y == IGNORED, 0, y)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=outputs)
    loss = tf.reduce_sum(entropy * counted) / tf.maximum(tf.reduce_sum(counted), 1.0)
    if not dice:
        return loss
    found = tf.nn.softmax(outputs) * counted[..., None]
    true = tf.one_hot(y, classes) * counted[..., None]
    # Over the batch, since an image may have but a few pixels of a class. One that is not there
    # would ask for no pixel at all, and shout over the others.
    both, all_found, all_true = (
        tf.reduce_sum(value, [0, 1, 2]) for value in (found * true, found, true)
    )
    apart = 1.0 - (2.0 * both + 1.0) / (all_found + all_true + 1.0)
    there = tf.cast(all_true > 0, tf.float32)
    return loss + dice * tf.reduce_sum(apart * there) / tf.maximum(tf.reduce_sum(there), 1.0)
