"""The objects of a batch some at a time, so that what compares them with places has a bound.

All images of a batch are padded to the objects of the one that has the most. A matrix of 10,000
objects, the 2,730 places of 320 x 416 pixels and 8 images takes 0.9 GB, and a loss needs a dozen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

# The most pairs of an object and a place that are held at a time: 16 MB a matrix.
MOST = 2**22


def over_objects(
    y: tf.Tensor, places: tf.Tensor, step: Callable[..., tuple[Any, ...]], state: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Return what all objects of a batch make of a state, one slice of them after the other.

    Args:
        y: `float32[batch, G, 6]`: a box, its class (-1 pads), and whether it is ignored.
        places: Anything of shape `[batch, P, ...]`: what the objects are compared with.
        step: A function of a slice of `y`, the number of its first object and the state as it is
            by then, to the state.
        state: Tensors `[batch, P]` to begin with. No gradient comes through.
    """
    import tensorflow as tf

    shape = tf.shape(places)
    objects = tf.shape(y)[1]
    most = tf.maximum(MOST // (shape[0] * shape[1]), 1)
    # Slices of one length, as XLA wants them.
    count = -(-objects // most)
    size = -(-objects // tf.maximum(count, 1))
    missing = count * size - objects
    padded = tf.pad(y, [[0, 0], [0, missing], [0, 0]], constant_values=-1.0)
    _, *made = tf.while_loop(
        lambda i, *_: i < count,
        lambda i, *now: (
            i + 1,
            *step(tf.slice(padded, [0, i * size, 0], [-1, size, -1]), i * size, *now),
        ),
        (0, *map(tf.stop_gradient, state)),
        shape_invariants=(tf.TensorShape([]), *(tf.TensorShape([None, None]) for _ in state)),
        parallel_iterations=1,
    )
    return tuple(tf.ensure_shape(one, places.shape[:2]) for one in made)


def over_images(
    y: tf.Tensor, places: tf.Tensor, step: Callable[[tf.Tensor, tf.Tensor], Any]
) -> Any:
    """Return what is made of the images of a batch, some of them at a time.

    Args:
        y: See `over_objects`, as `places`.
        step: A function of some rows of `y` and of `places` to `int32[rows, P]`.
    """
    import tensorflow as tf

    shape = tf.shape(places)
    size = tf.maximum(MOST // tf.maximum(shape[1] * tf.shape(y)[1], 1), 1)
    _, made = tf.while_loop(
        lambda start, _: start < shape[0],
        lambda start, made: (
            start + size,
            tf.concat([made, step(y[start : start + size], places[start : start + size])], 0),
        ),
        (0, tf.zeros([0, shape[1]], tf.int32)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
        parallel_iterations=1,
    )  # fmt: skip
    return tf.ensure_shape(made, places.shape[:2])
