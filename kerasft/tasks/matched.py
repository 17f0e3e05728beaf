"""What the queries of a detector learn: one query an object, in each layer of its decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.model.vision import boxes as geometry
from kerasft.tasks.anchored import left_out
from kerasft.tasks.assignment import BOX, CLASS, IGNORED, LOGITS, PLACE
from kerasft.tasks.sliced import over_images

if TYPE_CHECKING:
    import tensorflow as tf

# How much the sides of a box count, as the L1 distance in parts of the image and as the
# generalized overlap: in the choice of queries and in the loss.
DISTANCE, OVERLAP = 5.0, 2.0


def one_to_one(y: tf.Tensor, outputs: tf.Tensor) -> Any:
    """Assign to each object the query that answers it best, and no query to two objects.

    Carion et al., "End-to-End Object Detection with Transformers", 2020, with the focal cost of the
    classes as in Deformable DETR (Zhu et al. 2021). SciPy solves it: KerasHub's own in TensorFlow
    (0.32) takes as many steps as the square of the queries, one by one.

    Args:
        y: `float32[batch, G, 6]`: a box, its class (-1 pads), and whether it is ignored.
        outputs: `float32[batch, Q, 8 + classes]`, whose places are whole images.

    Returns:
        `int32[batch, Q]`: which object each query learns, -1 for none.
    """
    return over_images(y, outputs, _matched)


def _matched(y: tf.Tensor, outputs: tf.Tensor) -> Any:
    import tensorflow as tf

    true, label = y[..., BOX], tf.cast(y[..., CLASS], tf.int32)
    real = (label >= 0) & ~(y[..., IGNORED] > 0)
    found, size = outputs[..., BOX], _size(outputs)
    likely = tf.gather(
        tf.transpose(tf.sigmoid(outputs[..., LOGITS]), [0, 2, 1]), tf.maximum(label, 0),
        batch_dims=1,
    )  # [batch, G, Q]
    cost = 2.0 * (0.25 * (1 - likely) ** 2 * -tf.math.log(likely + 1e-8)
                  - 0.75 * likely**2 * -tf.math.log(1 - likely + 1e-8))  # fmt: skip
    apart = _centered(true, size)[:, :, None] - _centered(found, size)[:, None]
    cost += DISTANCE * tf.reduce_sum(tf.abs(apart), -1)
    cost -= OVERLAP * geometry.generalized_overlap(true[:, :, None], found[:, None])
    return tf.numpy_function(_assigned, [cost, real], tf.int32, stateful=False)


def _assigned(costs: np.ndarray, real: np.ndarray) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    owner = np.full((len(costs), costs.shape[2]), -1, "int32")
    # Outputs that are no numbers have a loss that is none, which stops the run elsewhere.
    costs = np.nan_to_num(costs, nan=1e6, posinf=1e6, neginf=-1e6)
    for i, (cost, rows) in enumerate(zip(costs, real, strict=True)):
        objects = np.flatnonzero(rows)
        mine, queries = linear_sum_assignment(cost[objects])
        owner[i, queries] = objects[mine]
    return owner


def _size(outputs: tf.Tensor) -> Any:
    """Return width and height of the images twice, of places that are whole images."""
    import tensorflow as tf

    return tf.tile(outputs[:, :1, PLACE][..., 2:], [1, 1, 2])


def _centered(boxes: tf.Tensor, size: tf.Tensor) -> Any:
    """Return centers and sides of boxes in parts of the image."""
    import tensorflow as tf

    low, high = tf.split(boxes / size, 2, axis=-1)
    return tf.concat([(low + high) / 2, high - low], -1)


def query_loss(y: tf.Tensor, outputs: tf.Tensor, *, box: float = 1.0) -> Any:
    """Return how far a detector with queries is from what is there.

    Peng et al., "D-FINE", 2024 (arXiv:2410.13842), with the weights of its authors. Each layer is
    matched with the objects by itself. Theirs also learns boxes of the matches of all layers, and
    has queries of noisy objects (contrastive denoising); neither is done here.

    It is not KerasHub's (`DFineObjectDetector.compute_loss`, 0.32): there all images of a batch
    have as many objects, padding included, and are compared with the boxes of the first one.

    Args:
        y: `float32[batch, G, 6]`, see `one_to_one`.
        outputs: What `DFineHead` puts out; outside of training that is the last layer alone, whose
            loss is then the smaller part of the whole.
        box: The weight of the boxes against the classes.

    Returns:
        A scalar: the sum over layers and batch, divided by the number of objects, at least 1. A
        batch without objects has a loss, too: what is seen where nothing is.
    """
    import tensorflow as tf

    from kerasft.model.vision.d_fine import REFERENCE, SIDES

    outputs = tf.cast(outputs, tf.float32)
    training = outputs.shape.rank == 4
    if not training:
        outputs = outputs[:, None]
    layers, queries, width = outputs.shape[1:]
    said = tf.reshape(outputs, [-1, queries, width])
    seen = said[..., : width - SIDES - REFERENCE] if training else said
    there = tf.repeat(y, layers, axis=0)
    owner = one_to_one(there, tf.stop_gradient(seen))
    chosen, target = owner >= 0, tf.gather(there, tf.maximum(owner, 0), batch_dims=1)
    true, learns = target[..., BOX], tf.cast(chosen, tf.float32)
    amount = tf.maximum(tf.reduce_sum(learns) / layers, 1.0)
    found, size = seen[..., BOX], _size(seen)
    overlap = tf.stop_gradient(geometry.overlap(true, found)) * learns
    loss = _classes(seen[..., LOGITS], target[..., CLASS], overlap, chosen,
                    left_out(there, tf.stop_gradient(found)) & ~chosen)  # fmt: skip
    apart = tf.reduce_sum(tf.abs(_centered(true, size) - _centered(found, size)), -1)
    placed = DISTANCE * apart + OVERLAP * (1 - geometry.generalized_overlap(true, found))
    loss += box * tf.reduce_sum(placed * learns)
    if training:
        sides, reference = tf.split(said[..., -SIDES - REFERENCE :], [SIDES, REFERENCE], -1)
        parts = [tf.reshape(x, [-1, layers, queries, *x.shape[2:]])[:, 2:] for x in
                 (sides, reference, true / size, overlap, chosen)]  # fmt: skip
        sides, reference, true, overlap, chosen = parts
        sides = tf.reshape(sides, [-1, layers - 2, queries, 4, SIDES // 4])
        loss += box * 0.15 * _distributions(sides, reference, true, overlap)
        sure = tf.reduce_max(tf.sigmoid(outputs[:, -1, :, 8 : width - SIDES - REFERENCE]), -1)
        # Averages, not sums over objects.
        return loss / amount + box * 1.5 * _refinement(sides, sure, overlap, chosen)
    return loss / amount


def _classes(
    logits: tf.Tensor, classes: tf.Tensor, overlap: tf.Tensor, chosen: tf.Tensor,
    left_out: tf.Tensor,
) -> Any:
    """Return the varifocal loss (Zhang et al. 2021): a query learns how well its box lies."""
    import tensorflow as tf

    one = tf.one_hot(tf.where(chosen, tf.cast(classes, tf.int32), -1), logits.shape[-1])
    target = one * overlap[..., None]
    weight = 0.75 * tf.stop_gradient(tf.sigmoid(logits)) ** 2 * (1 - one) + target
    weight *= tf.cast(~left_out, tf.float32)[..., None]
    wrong = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)
    return tf.reduce_sum(wrong * weight)


def bins() -> np.ndarray:
    """Return which distance each bin of a side stands for, from the inside out.

    Fine around 0 and coarse far from it, as `W(n)` of the paper.
    """
    from kerasft.model.vision.d_fine import BINS, REACH, SCALE

    near = REACH * SCALE
    steps = (near + 1) ** (2 / (BINS - 2) * np.arange(1, BINS // 2)) - 1
    return np.array([-2 * near, *-steps[::-1], 0, *steps, 2 * near], "float32")


def _distributions(
    sides: tf.Tensor, reference: tf.Tensor, true: tf.Tensor, overlap: tf.Tensor
) -> Any:
    """Return the fine-grained localization loss: of the two bins next to where a side is.

    Args:
        sides: `float32[batch, layers, Q, 4, bins]`, logits.
        reference: The box that distances are counted from, center and sides, `[..., 4]`.
        true: The boxes to be learned, `[..., 4]`, in parts of the image.
        overlap: How well the query's box lies, 0 for queries that learn no object.
    """
    import tensorflow as tf

    from kerasft.model.vision.d_fine import SCALE

    values = bins()
    center, extent = tf.split(tf.stop_gradient(reference), 2, axis=-1)
    unit = extent / SCALE + 1e-16
    away = tf.concat([center - true[..., :2], true[..., 2:] - center], -1)
    away = away / tf.concat([unit, unit], -1) - SCALE / 2
    away = tf.clip_by_value(away, values[0], values[-1])
    left = tf.reduce_sum(tf.cast(values[1:-1] <= away[..., None], tf.int32), -1)
    low, high = tf.gather(values, left), tf.gather(values, left + 1)
    share = (away - low) / (high - low)
    wrong = [
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=bin, logits=sides) * weight
        for bin, weight in ((left, 1 - share), (left + 1, share))
    ]
    return tf.reduce_sum((wrong[0] + wrong[1]) * overlap[..., None])


def _refinement(sides: tf.Tensor, sure: tf.Tensor, overlap: tf.Tensor, chosen: tf.Tensor) -> Any:
    """Return how far the distributions of the earlier layers are from those of the last one.

    Args:
        sides: `float32[batch, layers, Q, 4, bins]`, logits.
        sure: The highest probability of a class that the last layer gives each query, `[batch, Q]`.
        overlap: `float32[batch, layers, Q]`, see `_distributions`.
        chosen: Which queries learn an object, likewise.
    """
    import tensorflow as tf

    heat = 5.0
    teacher = tf.stop_gradient(sides[:, -1:]) / heat
    student, chosen = sides[:, :-1] / heat, chosen[:, :-1]
    surely = tf.stop_gradient(sure)[:, None]
    weight = tf.where(chosen, overlap[:, :-1], surely + tf.zeros_like(overlap[:, :-1]))
    apart = tf.reduce_sum(
        tf.nn.softmax(teacher) * (tf.nn.log_softmax(teacher) - tf.nn.log_softmax(student)), -1
    )  # [batch, layers, Q, 4]
    apart = tf.reduce_mean(apart, -1) * weight * heat**2
    total, roots = 0.0, 0.0
    for part in (chosen, ~chosen):
        some = tf.cast(part, tf.float32)
        count = tf.reduce_sum(some, [0, 2])
        mean = tf.math.divide_no_nan(tf.reduce_sum(apart * some, [0, 2]), count)
        total += mean * tf.sqrt(count)
        roots += tf.sqrt(count)
    return tf.reduce_sum(total / roots)
