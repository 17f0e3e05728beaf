"""What the anchors of a detector learn, and the focal loss of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerasft.model.vision import boxes as geometry
from kerasft.tasks.assignment import BOX, CLASS, IGNORED, LOGITS, PLACE
from kerasft.tasks.sliced import over_objects

if TYPE_CHECKING:
    import tensorflow as tf


def by_overlap(y: tf.Tensor, anchors: tf.Tensor, *, least: float = 0.5, most: float = 0.4) -> Any:
    """Assign anchors to objects by their overlap alone, whatever the network answers.

    Lin et al., "Focal Loss for Dense Object Detection", 2017. An object that no anchor overlaps by
    `least` goes to the one that fits it best, as in Detectron2 and torchvision: it would never be
    learned else, and small objects are most often such.

    Args:
        y: `float32[batch, G, 6]`: a box, its class (-1 pads), and whether it is ignored.
        anchors: `float32[batch, P, 4]`.
        least: The overlap (intersection over union) from which on an anchor learns an object.
        most: The overlap below which an anchor learns that nothing is there; in between, nothing.

    Returns:
        The box that each anchor learns, `[batch, P, 4]`; its class, `int32[batch, P]`, -1 for
        nothing; and the anchors that learn nothing, `[batch, P]`: those in between, and those that
        lie at least half in an ignored region.
    """
    import tensorflow as tf


    def best(some: tf.Tensor, first: tf.Tensor, *state: tf.Tensor) -> tuple[Any, ...]:
        owner, highest, reach, fitting, covered = state
        true, label = some[..., BOX], tf.cast(some[..., CLASS], tf.int32)
        ignored = (some[..., IGNORED] > 0) & (label >= 0)
        real = (label >= 0) & ~ignored
        # Padded boxes have no area, but a real one may overlap nothing, too.
        overlap = tf.where(real[..., None], geometry.overlaps(true, anchors), 0.0)
        most = tf.reduce_max(overlap, -1, keepdims=True)  # [batch, objects, 1]
        fits = (overlap >= most) & (most > 0)
        # What fits an object best goes before objects that overlap it more.
        wanted = overlap + tf.cast(fits, tf.float32)
        top = tf.reduce_max(wanted, 1)
        chosen = first + tf.argmax(wanted, axis=1, output_type=tf.int32)
        return (
            tf.where(top > reach, chosen, owner),
            tf.maximum(highest, tf.reduce_max(overlap, 1)), tf.maximum(reach, top),
            fitting | tf.reduce_any(fits, 1), covered | _covered(true, ignored, anchors),
        )  # fmt: skip

    none = tf.zeros_like(anchors[..., 0])
    start = (tf.cast(none, tf.int32), none, none - 1.0, none > 0, none > 0)
    owner, highest, _, fitting, covered = over_objects(y, anchors, best, start)
    learns = (highest >= least) | fitting
    mine = tf.gather(y, owner, batch_dims=1)  # [batch, P, 6]
    classes = tf.where(learns, tf.cast(mine[..., CLASS], tf.int32), -1)
    return mine[..., BOX], classes, ~learns & ((highest >= most) | covered)


def left_out(y: tf.Tensor, boxes: tf.Tensor) -> Any:
    """Return the boxes that lie at least half in an ignored region, `[batch, P]`.

    Args:
        y: `float32[batch, G, 6]`, see `by_overlap`.
        boxes: `float32[batch, P, 4]`.
    """
    import tensorflow as tf

    def more(some: tf.Tensor, first: tf.Tensor, known: tf.Tensor) -> tuple[Any]:
        ignored = (some[..., IGNORED] > 0) & (some[..., CLASS] >= 0)
        return (known | _covered(some[..., BOX], ignored, boxes),)

    return over_objects(y, boxes, more, (tf.zeros_like(boxes[..., 0]) > 0,))[0]


def _covered(regions: tf.Tensor, ignored: tf.Tensor, boxes: tf.Tensor) -> Any:
    import tensorflow as tf

    within = geometry.shared(regions[:, :, None], boxes[:, None])
    within /= tf.maximum(geometry.area(boxes)[:, None], 1e-6)
    return tf.reduce_any((within >= 0.5) & ignored[..., None], 1)


def focal_loss(
    y: tf.Tensor, outputs: tf.Tensor, *, box: float = 1.0, alpha: float = 0.25, focus: float = 2.0,
    bend: float = 1 / 9,
) -> Any:
    """Return how far a detector with anchors is from what is there.

    Lin et al. 2017: the focal loss of the classes, and the smooth L1 loss of the boxes as seen from
    their anchors.

    Args:
        y: `float32[batch, G, 6]`, see `by_overlap`.
        outputs: `float32[batch, P, 8 + classes]`, see `retinanet`.
        box: The weight of the boxes against the classes.
        alpha: The weight of what is there; what is not has the rest to 1.
        focus: The power by which classes that are right already count less.
        bend: Where the loss of a box turns from square to straight (Detectron's).

    Returns:
        A scalar: the sum over the batch, divided by the number of anchors that learn an object, at
        least 1. A batch without objects has a loss, too; KerasHub's RetinaNet learns nothing of it.
    """
    import tensorflow as tf

    outputs = tf.cast(outputs, tf.float32)
    logits, anchors = outputs[..., LOGITS], tf.stop_gradient(outputs[..., PLACE])
    boxes, classes, left_out = by_overlap(y, anchors)
    targets = tf.one_hot(classes, logits.shape[-1])  # all 0 for -1
    learns = tf.cast(classes >= 0, tf.float32)
    amount = tf.maximum(tf.reduce_sum(learns), 1.0)
    wrong = tf.abs(targets - tf.sigmoid(logits))
    weight = (targets * alpha + (1 - targets) * (1 - alpha)) * wrong**focus
    weight *= tf.cast(~left_out, tf.float32)[..., None]
    seen = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits) * weight
    # Anchors that learn no object are compared with themselves: any box would do.
    wanted = tf.where(classes[..., None] >= 0, boxes, anchors)
    apart = tf.abs(geometry.encoded(wanted, anchors) - geometry.encoded(outputs[..., BOX], anchors))
    placed = tf.where(apart < bend, apart**2 / (2 * bend), apart - bend / 2) * learns[..., None]
    return (tf.reduce_sum(seen) + box * tf.reduce_sum(placed)) / amount
