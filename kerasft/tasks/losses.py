"""Losses that a config names: by a name of Keras, or as a node with a `_target_`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.config.building import as_config, build, build_function, plain, target_of
from kerasft.errors import UserError, nearest
from kerasft.tasks import focal

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_OF_NUMBERS = (
    "CosineSimilarity", "Huber", "LogCosh", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredError", "MeanSquaredLogarithmicError", "Poisson",
)  # fmt: skip
# Those of `keras.losses` that compare what a task of a kind learns with what its network puts out.
NAMES: dict[str, tuple[str, ...]] = {
    "single": (
        "BinaryCrossentropy", "BinaryFocalCrossentropy", "CategoricalCrossentropy",
        "CategoricalFocalCrossentropy", "CategoricalHinge", "Dice", "KLDivergence",
        "MeanAbsoluteError", "MeanSquaredError", "SquaredHinge", "Tversky",
    ),
    "multi": (
        "BinaryCrossentropy", "BinaryFocalCrossentropy", "Dice", "Hinge", "MeanAbsoluteError",
        "MeanSquaredError", "SquaredHinge", "Tversky",
    ),
    "number": _OF_NUMBERS, "numbers": _OF_NUMBERS,
}  # fmt: skip
_SHORT = {
    "bce": "binary_crossentropy", "kld": "kl_divergence", "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error", "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
}  # fmt: skip
# Those that are of labels above 0, which standardized labels are not.
POSITIVE = ("MeanAbsolutePercentageError", "MeanSquaredLogarithmicError", "Poisson")
_FOCAL = {"single": "CategoricalFocalCrossentropy", "multi": "BinaryFocalCrossentropy"}
_BINARY = ("BinaryCrossentropy", "BinaryFocalCrossentropy")


def check(loss: str | Mapping[str, Any] | None, kind: str) -> None:
    """Refuse what is neither the name of a loss nor a node.

    Args:
        loss: The value of `task.loss`.
        kind: What the labels are, see `Labels`.

    Raises:
        UserError: With the names that there are.

    Example:
        >>> check("categorical_focal_crossentropy", "single")
        >>> check("mse", "number")
    """
    if isinstance(loss, str):
        class_of(loss, kind)
    elif loss is not None and "_target_" not in loss:
        raise UserError(
            "task.loss must be the name of a loss or a mapping with a `_target_`, such as "
            f"'task.loss={{_target_: keras.losses.Huber, delta: 2}}'. Received: {dict(loss)}."
        )


def class_of(name: str, kind: str) -> str:
    """Return the class in `keras.losses` of a loss of that name.

    Example:
        >>> class_of("categorical_focal_crossentropy", "single"), class_of("mse", "number")
        ('CategoricalFocalCrossentropy', 'MeanSquaredError')
    """
    by_name = {_plainly(one): one for one in NAMES[kind]}
    if kind in _FOCAL:
        by_name["focal"] = _FOCAL[kind]
    wanted = _plainly(_SHORT.get(name.lower(), name))
    if wanted in by_name:
        return by_name[wanted]
    allowed = [*(["focal"] if kind in _FOCAL else []), *map(_snake, NAMES[kind])]
    meant = nearest(name, allowed)
    if wanted.startswith("sparse") and wanted.removeprefix("sparse") in by_name:
        meant = f" Did you mean '{_snake(by_name[wanted.removeprefix('sparse')])}'?"
    raise UserError(
        f"task.loss must be one of {', '.join(allowed)}, or a mapping with a `_target_`. "
        f"Received: {name!r}.{meant}"
    )


def _plainly(name: str) -> str:
    return name.replace("_", "").lower()


def _snake(name: str) -> str:
    name = name.replace("KLD", "Kl_D")
    made = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    return made.replace("__", "_").lstrip("_")


def made(
    loss: str | Mapping[str, Any], kind: str, *, activation: Callable[[Any], Any] | None = None,
    label_smoothing: float = 0.0,
) -> Any:
    """Return a loss of what a task learns and what its network puts out.

    A loss with an argument `from_logits` is handed logits, and that they are such; any other one is
    handed probabilities, as are metrics.

    Args:
        loss: The value of `task.loss`.
        kind: What the labels are, see `Labels`.
        activation: Makes probabilities of logits; `None` where the network puts out numbers.
        label_smoothing: Handed to the loss where it is above 0.

    Raises:
        UserError: If it is no loss, or does not take what it is handed.

    Example:
        >>> loss = made("mae", "number")
        >>> float(loss(np.array([[1.0]]), np.array([[3.0]])))
        2.0
    """
    import keras

    path = f"keras.losses.{class_of(loss, kind)}" if isinstance(loss, str) else ""
    node = as_config({"_target_": path} if path else {**plain(loss)})
    node._set_parent(as_config({"task": {"loss": None}}).task)
    node._set_key("loss")
    takes = inspect.signature(target_of(node)).parameters
    if label_smoothing and "label_smoothing" not in takes:
        raise UserError(
            f"task.label_smoothing cannot be handed to {node['_target_']}, which has no such "
            f"argument. Received: label_smoothing={label_smoothing}. Set task.label_smoothing=0, "
            "or choose a crossentropy."
        )
    of_logits = "from_logits" in takes and node.get("from_logits") is not False
    given = {
        **({"from_logits": True} if of_logits and activation is not None else {}),
        **({"label_smoothing": label_smoothing} if label_smoothing else {}),
    }
    found = build_function(node, **given) or build(node, **given)
    if not callable(found) or isinstance(found, keras.Layer | keras.metrics.Metric):
        raise UserError(
            "task.loss must be a keras.losses.Loss, or a function of labels and outputs. Received: "
            f"{node['_target_']}, which gives a {type(found).__name__}."
        )
    found = focal.exact(found)
    if activation is None or of_logits:
        return found if isinstance(found, keras.losses.Loss) else _loss(found, lambda same: same)
    return _loss(found, activation)


def _loss(
    found: keras.losses.Loss | Callable[[Any, Any], Any], activation: Callable[[Any], Any]
) -> Any:
    """Return a loss of what an activation makes of outputs, from a loss or a function."""
    import keras

    class Activated(keras.losses.Loss):
        def call(self, y_true, y_pred):
            call = found.call if isinstance(found, keras.losses.Loss) else found
            return call(y_true, activation(y_pred))

    return Activated(reduction=getattr(found, "reduction", "sum_over_batch_size"))


def is_binary(loss: str | Mapping[str, Any] | None) -> bool:
    """Whether a loss of several labels is an average over them, each for itself.

    Example:
        >>> is_binary(None), is_binary("binary_focal_crossentropy"), is_binary("dice")
        (True, True, False)
    """
    if loss is None:
        return True
    if isinstance(loss, str):
        return class_of(loss, "multi") in _BINARY
    return loss["_target_"] in {f"keras.losses.{name}" for name in _BINARY}


def summed_over_labels(found: keras.losses.Loss | Callable[[Any, Any], Any], *, apart: bool) -> Any:
    """Return a binary loss summed over the labels of an example, where Keras takes their mean.

    Args:
        found: A binary loss of Keras, or a function.
        apart: Whether there is a weight a label, and not one an example.
    """
    import keras

    call = found.call if isinstance(found, keras.losses.Loss) else found

    class SummedOverLabels(keras.losses.Loss):
        def call(self, y_true, y_pred):
            labels = y_pred.shape[-1]
            if apart:  # [B, labels], whose mean Keras takes once they are weighted
                y_true, y_pred = y_true[..., None], y_pred[..., None]
            return call(y_true, y_pred) * labels

    return SummedOverLabels()


def require_finite(
    loss: keras.losses.Loss | Callable[[Any, Any], Any], y: np.ndarray, outputs: np.ndarray
) -> None:
    """See on a few examples that a loss gives a number.

    Args:
        loss: A loss, or a function of labels and outputs.
        y: What is learned, `float32[N, ...]`.
        outputs: What a network could put out for it.

    Raises:
        UserError: If it raises, or gives something else.

    Example:
        >>> require_finite(lambda y, p: 0.5, np.zeros((2, 1)), np.zeros((2, 1)))
    """
    try:
        found = np.asarray(loss(y, outputs), np.float64)
    except Exception as error:  # whatever code of the user's own raises
        raise UserError(
            f"task.loss cannot be computed of labels and outputs of the shape {list(y.shape)}: "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        ) from error
    if found.size == 0 or not np.isfinite(found.mean()):
        raise UserError(
            f"task.loss must give a finite number. Received: {found.tolist()} for labels "
            f"{y[0].tolist()} and outputs {outputs[0].tolist()}."
        )


def at_words(outputs: tf.Tensor, place: tf.Tensor) -> Any:
    """Return the outputs of the tokens that words begin with.

    Args:
        outputs: `[batch, positions, tags]`.
        place: `int32[batch, words]`, -1 behind the last word.

    Returns:
        `float32[batch, words, tags]`.
    """
    import tensorflow as tf

    return tf.gather(tf.cast(outputs, tf.float32), tf.maximum(place, 0), batch_dims=1)


def tagging_loss(y: tf.Tensor, outputs: tf.Tensor) -> Any:
    """Return the cross-entropy of the tags of words, each by its weight.

    Args:
        y: `float32[batch, words, 3]`: the token that each word begins with, its tag, and its
            weight; -1, -1 and 0 behind the last word. Or `float32[batch, words, 4]`: the third is
            the weight with which a word is shown, divided by what those of a text sum up to on
            average, and the fourth the one with which it moves weights.
        outputs: Logits, `float32[batch, positions, tags]`.

    Returns:
        `float32[batch]`, of which Keras takes the mean. With three columns that is the weighted
        mean over the words of the batch; with four the sum over the words of each text.

    Example:
        >>> import tensorflow as tf
        >>> right = tf.constant([[[0.0, 0.0], [-9.0, 9.0], [9.0, -9.0]]])
        >>> float(tagging_loss(tf.constant([[[1, 1, 1], [2, 0, 1], [-1, -1, 0]]]), right)[0]) < 1e-3
        True
    """
    import tensorflow as tf

    place, tag = (tf.cast(one, tf.int32) for one in (y[..., 0], y[..., 1]))
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.maximum(tag, 0), logits=at_words(outputs, place)
    )
    summed = [tf.reduce_sum(entropy * tf.cast(one, tf.float32), axis=1)
              for one in tf.unstack(y[..., 2:], axis=-1)]  # fmt: skip
    if len(summed) == 1:
        count = tf.cast(tf.shape(y)[0], tf.float32)
        total = tf.reduce_sum(tf.cast(y[..., 2], tf.float32))
        return summed[0] * count / tf.maximum(total, 1e-6)
    shown, moves = summed
    return moves + tf.stop_gradient(shown - moves)
