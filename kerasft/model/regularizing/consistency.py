"""R-Drop: two passes with other random numbers, whose answers are to agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kerasft.errors import UserError
from kerasft.model.regularizing.hooks import hook_of
from kerasft.spec import Tensors
from kerasft.system.console import warn


class TwoPasses:
    """Computes the loss of a model over two passes of each batch.

    It is `(loss_1 + loss_2) / 2 + alpha * apart`, where `apart` says how far the answers of both
    passes are from each other, and counts an example as the loss does.

    Args:
        model: The assembled model.
        alpha: What the difference of the answers counts.
        disagreement: How far two outputs are apart, `[batch]`, or `[batch, labels]` where labels
            are weighed each for itself.
    """

    def __init__(self, model: keras.Model, alpha: float, disagreement: Callable[[Any, Any], Any]):
        self.model, self.alpha, self.disagreement = model, alpha, disagreement
        self.told = False

    def compute_loss(
        self, x: Tensors | None = None, y: Tensors | None = None, y_pred: Tensors | None = None,
        sample_weight: tf.Tensor | None = None, training: bool = True,
    ) -> Any:
        """Compute the loss, as `keras.Model.compute_loss` does; in inference, of one pass."""
        model = self.model
        plain = type(model).compute_loss.__get__(model)
        first = plain(x, y, y_pred, sample_weight, training)
        if not training:
            return first
        graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
        before = len(graph.get_operations()) if graph else 0
        again = model(x, training=True)
        if graph and not any("Random" in one.type for one in graph.get_operations()[before:]):
            # What is not used is not computed: the step costs what it did.
            self._tell()
            return first
        second = plain(x, y, again, sample_weight, training)
        apart = _weighed(self.disagreement(y_pred, again), sample_weight)
        return (first + second) / 2 + self.alpha * apart

    def _tell(self) -> None:
        if not self.told:
            warn("regularize.r_drop: what trains here has no dropout, so that both passes are the "
                 "same: one is made. head.dropout=0.1 gives the head some")  # fmt: skip
        self.told = True


def _weighed(apart: tf.Tensor, weights: tf.Tensor | None) -> Any:
    """Return the mean over a batch, weighed as Keras weighs a loss."""
    apart = ops.cast(apart, "float32")
    if weights is not None:
        weights = ops.cast(weights, "float32")
        if len(weights.shape) < len(apart.shape):
            weights = ops.expand_dims(weights, -1)
        apart = apart * weights
    return ops.mean(ops.sum(apart, axis=-1) if len(apart.shape) > 1 else apart)


def require_random(model: keras.Model) -> None:
    """See that a model with R-Drop computes something else in each pass.

    Args:
        model: The model, with all that regularizes and adapts it.

    Raises:
        UserError: If not.
    """
    if two_passes_of(model) is None:
        return
    if not any(map(_is_random, model._flatten_layers(include_self=False))):
        raise UserError(
            "regularize.r_drop compares two passes with different dropout, and this network has no "
            "dropout at all. Set head.dropout=0.1, add regularize.dropout or "
            "regularize.stochastic_depth, or leave it out."
        )


def _is_random(layer: keras.Layer) -> bool:
    """Whether a layer draws random numbers in training."""
    if hook_of(layer) is not None:
        return True
    if isinstance(layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention):
        return False  # the dropout layer within it tells
    return bool(layer._seed_generators and getattr(layer, "rate", 1.0))


def two_passes_of(model: keras.Model) -> TwoPasses | None:
    """Return what computes the loss of a model over two passes, `None` where nothing does."""
    found = getattr(vars(model).get("compute_loss"), "__self__", None)
    return found if isinstance(found, TwoPasses) else None


def compare(model: keras.Model, alpha: float, disagreement: Callable[[Any, Any], Any]) -> None:
    """Have a model compute its loss over two passes; see `TwoPasses`."""
    # Out of sight of Keras' tracking.
    object.__setattr__(model, "compute_loss", TwoPasses(model, alpha, disagreement).compute_loss)
