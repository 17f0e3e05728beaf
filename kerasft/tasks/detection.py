"""Object detection: boxes around objects, each with its class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from kerasft.artifact.comparison import Output
from kerasft.errors import UserError, some
from kerasft.evaluation import box_curves, box_errors
from kerasft.evaluation import boxes as figures
from kerasft.evaluation.metrics import direction
from kerasft.model.vision import geometry
from kerasft.rows import Column, Rows
from kerasft.spec import Decision, Kind, Labels, Modality, Mode, Tensors
from kerasft.system.console import warn
from kerasft.tasks import anchored, assignment, matched, shared

if TYPE_CHECKING:
    import tensorflow as tf

# The score from which on a box is measured: mean average precision looks at unsure ones, too.
LEAST = 0.01
# The score from which on a box is answered, before that is tuned on validation.
ANSWERED = 0.3
# The losses, each with the usual weight of the boxes in it.
LOSSES = {
    "task_aligned": (assignment.detection_loss, 2.0),
    "focal": (anchored.focal_loss, 1.0),
    "queries": (matched.query_loss, 1.0),
}
# Why a loss trains some heads alone.
NEEDS = {
    "task_aligned": "it looks for the places within an object, and a query of the head has none",
    "focal": "it compares objects with anchors, and the head has none",
    "queries": "it gives each object to one query, and the head has places of feature maps",
}


@dataclass(frozen=True)
class Detection:
    """Each image has any number of objects, each with a box and a class.

    Args:
        loss: `"task_aligned"`: those places of an object learn it that answer it best already
            (Feng et al. 2021). `"focal"`: the anchors that overlap it by half (Lin et al. 2017).
            `"queries"`: one query an object (Peng et al. 2024). By default the one that the head is
            made for.
        box_weight: The weight of the boxes in the loss, against the classes; by default 2 for
            `"task_aligned"` and 1 for the others.
        overlap: Of two boxes of a class that overlap by more than this (intersection over union),
            the one with the lower score is left out. By default 0.6, and 1 for `"queries"`: none
            is left out, as each object has one query.
        max_detections: The most boxes that are answered of an image.
        monitor: The figure by which the best epoch is chosen.
        thresholds: The score of each class from which on a box is answered; tuned on validation to
            the best F1 at an overlap of 0.5.

    Example:
        >>> Detection().head(Labels("boxes", ("cat", "dog")))
        {'classes': 2}
    """

    loss: Literal["task_aligned", "focal", "queries"] | None = None
    box_weight: float | None = None
    overlap: float | None = None
    max_detections: int = 100
    monitor: str = "val_map"
    thresholds: tuple[float, ...] = ()

    kind: ClassVar[Kind] = "boxes"
    modalities: ClassVar[tuple[Modality, ...]] = ("images",)
    follows_pixels: ClassVar[bool] = True
    headlines: ClassVar[tuple[str, ...]] = ("map", "map_50", "map_75", "f1", "precision", "recall")
    each_epoch: ClassVar[tuple[str, ...]] = ("val_map", "val_map_50")
    forms: ClassVar[tuple[str, ...]] = ("object_detection_api",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", tuple(map(float, self.thresholds)))
        problems = []
        if self.loss not in (None, *LOSSES):
            problems.append(
                f"task.loss must be one of {', '.join(LOSSES)}. Received: {self.loss!r}."
            )
        if self.box_weight is not None and not self.box_weight > 0:
            problems.append(f"task.box_weight must be above 0. Received: {self.box_weight}.")
        if self.overlap is not None and not 0 < self.overlap <= 1:
            problems.append(
                f"task.overlap must be above 0 and at most 1. Received: {self.overlap}."
            )
        if self.max_detections < 1:
            problems.append(
                f"task.max_detections must be at least 1. Received: {self.max_detections}."
            )
        if problems:
            raise UserError(problems=problems)

    @property
    def mode(self) -> Mode:
        return direction(self.monitor)

    def head(self, labels: Labels) -> dict[str, Any]:
        return {"classes": len(labels.names)}

    def adapt(self, annotations: Rows) -> Detection:
        return self

    def check_validation(self, annotations: Rows) -> None:
        """Raise `UserError` where there is no object to measure the mean average precision by.

        Where images have more objects than are answered of one, a warning says so.
        """
        counts = annotations.lengths("objects")
        if counts is not None and (above := int((counts > self.max_detections).sum())):
            warn(
                f"{some(above, 'validation image')} with more objects, up to {counts.max():,}, "
                f"than are answered of one: task.max_detections={self.max_detections}. The others "
                "are not found, and count as missed; a higher number takes longer to answer"
            )
        if self.monitor in ("loss", "val_loss"):
            return
        ignored = [np.asarray(annotations.row(i)["ignored"]) for i in range(len(annotations))]
        if not all(one.all() for one in ignored):
            return
        regions = any(len(one) for one in ignored)
        what = "no object but regions that are ignored" if regions else "no object"
        raise UserError(
            f"The validation split has {what} in its {some(len(annotations), 'image')}, so there "
            f"is no {self.monitor} to choose the best epoch by. Validate on other images "
            "(data.validation), or set task.monitor=val_loss. Received: "
            f"task.monitor={self.monitor}."
        )

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        """Return boxes where the network sees them, and how each image was placed."""
        names = ("boxes", "labels", "ignored", "frame")
        return annotations.only([name for name in names if name in annotations])

    def batch(self, inputs: Tensors, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        import tensorflow as tf

        further = [tf.cast(targets[name], tf.float32)[..., None] for name in ("labels", "ignored")]
        return tf.concat([tf.cast(targets["boxes"], tf.float32), *further], axis=-1), None

    def describe(self, targets: Mapping[str, np.ndarray], labels: Labels) -> list[str]:
        """Count the objects of each class that are learned, and the regions that are ignored."""
        made = []
        for classes, ignored in zip(targets["labels"], targets["ignored"], strict=True):
            real, left_out = classes >= 0, np.asarray(ignored).astype(bool)
            counts = np.bincount(classes[real & ~left_out], minlength=len(labels.names))
            words = [f"{name} {n}" for name, n in zip(labels.names, counts, strict=True) if n]
            if (real & left_out).any():
                words.append(f"{int((real & left_out).sum())} ignored")
            made.append(", ".join(words) or "no objects")
        return made

    def for_losses(self, losses: Sequence[str]) -> Detection:
        """Return a copy with the loss that a head is made for, see `contracts.Following`."""
        if self.loss is None:
            usual: Any = losses[0] if losses else None
            return dataclasses.replace(self, loss=usual)
        if losses and self.loss not in losses:
            raise UserError(
                f"task.loss={self.loss} does not train this head: {NEEDS[self.loss]}. Choose "
                f"task.loss={' or '.join(losses)}, leave it out, or choose another head."
            )
        return self

    @property
    def suppressed(self) -> float:
        """The overlap from which on the less likely of two boxes is left out."""
        return (1.0 if self.loss == "queries" else 0.6) if self.overlap is None else self.overlap

    def compile(self) -> dict[str, Any]:
        loss, usual = LOSSES[self.loss or "task_aligned"]
        weight = usual if self.box_weight is None else self.box_weight
        return {"loss": lambda y, outputs: loss(y, outputs, box=weight)}

    def keep(
        self, outputs: tf.Tensor, inputs: Tensors, targets: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Keep the boxes that were found, in the pixels of the original image."""
        import tensorflow as tf

        boxes, scores, classes, count = self._found(outputs, LEAST)
        if "frame" in targets:
            boxes = geometry.to_image(boxes, targets["frame"])
            boxes = geometry.clipped(boxes, targets["frame"])
        found = {"boxes": boxes, "scores": scores, "classes": classes}
        return {n: tf.RaggedTensor.from_tensor(v, lengths=count) for n, v in found.items()}

    def _found(
        self, outputs: tf.Tensor, least: float | Sequence[float]
    ) -> tuple[Any, Any, Any, Any]:
        import tensorflow as tf

        from kerasft.model.vision.boxes import detected

        outputs = tf.cast(outputs, tf.float32)
        return detected(
            outputs[..., assignment.BOX], tf.sigmoid(outputs[..., assignment.LOGITS]),
            least=least, overlap=self.suppressed, most=self.max_detections,
        )  # fmt: skip

    def answers(
        self, outputs: tf.Tensor, labels: Labels, decision: Decision | None = None
    ) -> dict[str, Any]:
        """Turn the head's outputs into the boxes of each image, the likeliest first.

        Returns:
            `boxes` `float32[B, max_detections, 4]` (left, top, right, bottom), `scores`,
            `classes` (-1 where there is no box) and `labels` (their names) `[B, max_detections]`,
            `num_detections` `[B]`.
        """
        import tensorflow as tf

        boxes, scores, classes, count = self._found(outputs, self.thresholds or ANSWERED)
        real = tf.sequence_mask(count, self.max_detections)
        return {
            "boxes": boxes, "scores": scores, "classes": tf.where(real, classes, -1),
            "labels": tf.where(real, tf.gather(tf.constant(labels.names), classes), ""),
            "num_detections": count,
        }  # fmt: skip

    def candidates(self, outputs: tf.Tensor, labels: Labels) -> dict[str, Any]:
        """Return the box of each place, and how likely it holds each class.

        Returns:
            `boxes` `float32[B, places, 4]`, `scores` `float32[B, places, classes]`.
        """
        import tensorflow as tf

        outputs = tf.cast(outputs, tf.float32)
        return {"boxes": outputs[..., assignment.BOX],
                "scores": tf.sigmoid(outputs[..., assignment.LOGITS])}  # fmt: skip

    def rule(self, labels: Labels, *, chosen: bool = True) -> dict[str, Any]:
        where = "boxes are left, top, right and bottom in pixels"
        words = (
            f"{where}, the likeliest first; classes are the numbers of labels, -1 where there is "
            "no box; of each label those were taken whose score reached its threshold, without "
            "those that overlapped a likelier one by more than overlap (intersection over union)"
        ) if chosen else (
            f"{where} of the input; for each label take the boxes whose score reaches its "
            "threshold, the likeliest first, and leave out those that overlap one that was taken "
            "by more than overlap (intersection over union); of all labels together keep the "
            "max_detections likeliest"
        )  # fmt: skip
        least = self._least(len(labels.names)).tolist()
        return {
            "rule": words, "threshold": dict(zip(labels.names, least, strict=True)),
            "overlap": self.suppressed, "max_detections": self.max_detections,
        }  # fmt: skip

    def in_image(
        self, answers: Mapping[str, Any], frames: tf.Tensor, labels: Labels
    ) -> dict[str, Any]:
        import tensorflow as tf

        boxes = geometry.to_image(answers["boxes"], frames)
        boxes = geometry.clipped(boxes, frames)
        # What pads the boxes was moved, too.
        real = (answers["classes"] >= 0)[..., None]
        return {**answers, "boxes": tf.where(real, boxes, 0.0)}

    def rephrased(
        self, form: str, answers: Mapping[str, Any], frames: tf.Tensor, labels: Labels
    ) -> dict[str, Any]:
        """Return boxes as TensorFlow's Object Detection API does, for clients that expect these.

        Returns:
            `detection_boxes` `float32[B, max_detections, 4]` (top, left, bottom, right, in parts of
            the image's height and width), `detection_scores`, `detection_classes` (float32,
            counted from 1) and `num_detections` (float32).
        """
        import tensorflow as tf

        sides = tf.concat([frames[:, :2], frames[:, :2]], axis=-1)[:, None]
        boxes = tf.gather(answers["boxes"], [1, 0, 3, 2], axis=-1) / sides
        return {
            "detection_boxes": boxes, "detection_scores": answers["scores"],
            "detection_classes": tf.cast(answers["classes"] + 1, tf.float32),
            "num_detections": tf.cast(answers["num_detections"], tf.float32),
        }  # fmt: skip

    def outputs(self, labels: Labels, decision: Decision | None = None) -> dict[str, Output]:
        # Two boxes as good as equally likely may stand in either order.
        return {
            "labels": Output("exact", among="scores", item="label"),
            "scores": Output(item="score"),
            "boxes": Output(among="scores", item="box"),
            "classes": Output("exact", among="scores"),
            "num_detections": Output("exact", among="scores"),
            "detection_boxes": Output(among="detection_scores"),
            "detection_classes": Output("exact", among="detection_scores"),
        }

    def statistics(
        self, annotations: Rows, kept: Rows, labels: Labels, decision: Decision | None = None
    ) -> dict[str, np.ndarray]:
        found = [kept.row(i) for i in range(len(kept))]
        true = [annotations.row(i) for i in range(len(annotations))]
        made = figures.matched(found, true, len(labels.names), self.max_detections)
        least = np.append(self._least(len(labels.names)), np.inf)  # the last one for no class
        return {
            **made, "answered": made["scores"] >= least[made["classes"]],
            "errors": box_errors.kinds(found, true, len(labels.names), least),
        }  # fmt: skip

    def _least(self, classes: int) -> np.ndarray:
        """Return the score of each class from which on a box is answered."""
        return np.array(self.thresholds or [ANSWERED] * classes, "float64")

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        """Return COCO's figures, and precision, recall and F1 of what is answered."""
        made: dict[str, Any] = dict(figures.coco(statistics))
        decided = figures.decided(statistics)
        made |= figures.averaged(decided)
        made["errors"] = box_errors.named(statistics["errors"].sum(axis=0), labels.names)
        precisions, _ = figures.average_precision(statistics)
        made["per_class"] = {
            name: {
                **figures.of_class(precisions[i]),
                **{key: float(values[i]) for key, values in decided.items()
                   if np.isfinite(values[i])},
                "boxes": int(statistics["there"][:, 0, i].sum()),
            }
            for i, name in enumerate(labels.names)
        }  # fmt: skip
        return made

    def samples(self, labels: Labels) -> dict[str, np.ndarray]:
        """Return the statistics of boxes, small, medium and large, that were all found."""
        boxes = np.array([[0.0, 0.0, side, side] for side in (10.0, 50.0, 200.0)])
        units = np.arange(len(boxes)) % len(labels.names)

        def column(values: np.ndarray, group: str) -> Column:
            return Column.ragged([values], group=group)

        there = Rows.of({
            "boxes": column(boxes, "there"), "labels": column(units, "there"),
            "ignored": column(units < 0, "there"), "size": np.array([[200, 200]]),
        })  # fmt: skip
        kept = Rows.of({
            "boxes": column(boxes, "kept"), "classes": column(units, "kept"),
            "scores": column(np.full(len(boxes), 0.9), "kept"),
        })  # fmt: skip
        return self.statistics(there, kept, labels)

    def tune(self, annotations: Rows, kept: Rows, labels: Labels) -> Detection:
        """Return a copy that answers from the scores on that give each class its best F1."""
        statistics = self.statistics(annotations, kept, labels)
        best = figures.best_scores(statistics, default=ANSWERED)
        return dataclasses.replace(self, thresholds=tuple(best))

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: str | Path, *,
        split: str,
    ) -> list[Path]:
        """Draw precision against recall, and F1 against the score, of classes with any box."""
        found = box_curves.curves(statistics, self._least(len(labels.names)))
        if not found:
            return []
        path = Path(directory) / f"{split}_precision_recall.png"
        return [box_curves.draw_curves(found, labels.names, path)]

    def to_dict(self) -> dict[str, Any]:
        return shared.to_dict(self)
