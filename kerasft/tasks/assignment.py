"""What a detector's places learn: which of them answer for which object, and the loss of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerasft.model.vision import boxes as geometry
from kerasft.tasks.sliced import over_objects

if TYPE_CHECKING:
    import tensorflow as tf

# The columns of what is compared with the network's outputs.
BOX, CLASS, IGNORED = slice(0, 4), 4, 5
# What every detection head puts out for each place: a box, the place itself as a box too (the
# anchor, the cell of a head without anchors, the whole image for a query), and a logit a class.
# So what decodes outputs need not know which head they are of.
PLACE, LOGITS = slice(4, 8), slice(8, None)


def task_aligned(
    y: tf.Tensor, outputs: tf.Tensor, *, places: int = 10, sharpness: float = 6.0
) -> Any:
    """Assign places to objects by how well they answer already.

    Feng et al., "TOOD: Task-aligned One-stage Object Detection", 2021: of the places inside of an
    object those learn it whose score and overlap together are highest.

    Args:
        y: `float32[batch, G, 6]`: a box, its class (-1 pads), and whether it is ignored.
        outputs: `float32[batch, P, 8 + classes]`, see `anchor_free`.
        places: How many places learn an object.
        sharpness: The power of the overlap, against that of the score, which is 1.

    Returns:
        The box that each place learns, `[batch, P, 4]`; the probability of each class that it
        learns, `[batch, P, classes]`, 0 for places that learn that nothing is there; and the places
        in ignored regions, `[batch, P]`, that learn nothing.
    """
    import tensorflow as tf

    outputs = tf.stop_gradient(outputs)
    found, likely = outputs[..., BOX], tf.sigmoid(outputs[..., LOGITS])
    points = (outputs[..., PLACE][..., :2] + outputs[..., PLACE][..., 2:]) / 2
    by_class = tf.transpose(likely, [0, 2, 1])

    def wish(some: tf.Tensor, first: tf.Tensor, *state: tf.Tensor) -> tuple[Any, ...]:
        owner, highest, left_out = state
        true, label = some[..., BOX], tf.cast(some[..., CLASS], tf.int32)
        ignored = (some[..., IGNORED] > 0) & (label >= 0)
        corners = tf.concat([points[:, None] - true[:, :, None, :2],
                             true[:, :, None, 2:] - points[:, None]], -1)  # fmt: skip
        within = tf.reduce_min(corners, -1) > 0  # [batch, objects, P]
        inside = within & ((label >= 0) & ~ignored)[..., None]
        overlap = geometry.overlaps(true, found)
        scores = tf.gather(by_class, tf.maximum(label, 0), batch_dims=1)
        value = _value(scores, overlap, inside, sharpness)
        best, _ = tf.math.top_k(value, min(places, outputs.shape[1]))
        wanted = tf.where((value >= best[..., -1:]) & inside, overlap, -1.0)
        top = tf.reduce_max(wanted, 1)
        chosen = first + tf.argmax(wanted, axis=1, output_type=tf.int32)
        return (
            tf.where(top > highest, chosen, owner), tf.maximum(top, highest),
            left_out | tf.reduce_any(within & ignored[..., None], 1),
        )  # fmt: skip

    # A place that several objects want goes to the one that it overlaps most.
    none = tf.zeros_like(found[..., 0])
    start = (tf.cast(none, tf.int32), none - 1.0, none > 0)
    owner, highest, left_out = over_objects(y, outputs, wish, start)
    mine = tf.gather(y, owner, batch_dims=1)  # [batch, P, 6]
    true, label = mine[..., BOX], tf.maximum(tf.cast(mine[..., CLASS], tf.int32), 0)
    overlap, owned = geometry.overlap(true, found), highest >= 0
    scores = tf.gather(likely, label, batch_dims=2)
    value = _value(scores, overlap, owned, sharpness)

    def peak(some: tf.Tensor, first: tf.Tensor, *state: tf.Tensor) -> tuple[Any, ...]:
        numbers = first + tf.range(tf.shape(some)[1])
        whose = (owner[:, None] == numbers[:, None]) & owned[:, None]  # [batch, objects, P]
        found = []
        for of_place, now in zip((value, overlap), state, strict=True):
            most = tf.reduce_max(tf.where(whose, of_place[:, None], 0.0), -1, keepdims=True)
            found.append(tf.maximum(now, tf.reduce_max(tf.where(whose, most, 0.0), 1)))
        return tuple(found)

    # The best place of an object learns its overlap; the others, their share of that.
    most, furthest = over_objects(y, outputs, peak, (none, none))
    wanted = value / tf.maximum(most, 1e-12) * furthest
    targets = tf.one_hot(label, likely.shape[-1]) * wanted[..., None]
    # An object that several ignore would else teach that nothing is there.
    left_out &= wanted <= 0
    return tf.stop_gradient(true), tf.stop_gradient(targets), left_out


def _value(scores: tf.Tensor, overlap: tf.Tensor, inside: tf.Tensor, sharpness: float) -> Any:
    """Return how well places answer objects, 0 for those that are not inside."""
    import tensorflow as tf

    # Where all are 0 yet, the smallest part keeps to places inside.
    return (scores * overlap**sharpness + 1e-12) * tf.cast(inside, tf.float32)


def detection_loss(
    y: tf.Tensor, outputs: tf.Tensor, *, box: float = 2.0, focus: float = 1.5
) -> Any:
    """Return how far a detector is from what is there.

    Binary cross-entropy against the overlap (Li et al., "Generalized Focal Loss", 2020), in which
    places that are right already count little, and the generalized overlap of the boxes.

    Args:
        y: `float32[batch, G, 6]`, see `task_aligned`.
        outputs: `float32[batch, P, 8 + classes]`.
        box: The weight of the boxes against the classes.
        focus: The power by which easy places without an object count less.

    Returns:
        A scalar: the sum over the batch, divided by how much is to be learned in it. A batch
        without objects has a loss, too: what is seen where nothing is.
    """
    import tensorflow as tf

    outputs = tf.cast(outputs, tf.float32)
    boxes, targets, left_out = task_aligned(y, outputs)
    logits = outputs[..., LOGITS]
    amount = tf.maximum(tf.reduce_sum(targets), 1.0)
    apart = tf.abs(targets - tf.sigmoid(logits))
    weight = tf.stop_gradient(tf.where(targets > 0, tf.ones_like(apart), apart**focus))
    weight *= tf.cast(~left_out, tf.float32)[..., None]
    seen = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits) * weight
    wrong = 1.0 - geometry.generalized_overlap(boxes, outputs[..., BOX])
    placed = wrong * tf.reduce_sum(targets, -1)
    return (tf.reduce_sum(seen) + box * tf.reduce_sum(placed)) / amount
