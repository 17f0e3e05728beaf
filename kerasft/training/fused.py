"""The optimizer's update: right for embeddings, and Adam's in one pass over memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kerasft.training.rates import Factors

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Compiling the update takes a second or two; so many steps win it back.
STEPS_WORTH = 300
# What is smaller costs nothing to update, but would cost its share of compiling.
LARGE = 2**16


def add_up_rows(optimizer: keras.Optimizer) -> None:
    """Let an optimizer see one gradient for each row of an embedding.

    TensorFlow lists a row's gradient once for each time that the row was read. Keras (3.15) squares
    the entries of that list one by one, for Adam's second moment and for the norm that clipping
    looks at, where the square of their sum is meant: a token that stands in a batch often would be
    moved by another formula than all other weights.

    Args:
        optimizer: A Keras optimizer; it is changed in place.

    Example:
        >>> add_up_rows(keras.optimizers.Adam(1e-3))
    """
    apply = optimizer.apply

    def apply_added_up(
        gradients: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> Any:
        return apply([_summed(gradient) for gradient in gradients], trainable_variables)

    optimizer.apply = apply_added_up


def ask_schedule_once(optimizer: keras.Optimizer) -> None:
    """Let an optimizer ask its schedule once an update, not once for each variable that decays.

    Keras does the latter, and each time adds some twenty operations to the graph, which take
    longer to trace than the layer that the variable belongs to.

    Args:
        optimizer: A Keras optimizer; it is changed in place.

    Example:
        >>> ask_schedule_once(keras.optimizers.AdamW(1e-3))
    """
    optimizer._get_current_learning_rate = _once_an_update(
        optimizer, optimizer._get_current_learning_rate
    )


def _once_an_update(optimizer: keras.Optimizer, compute: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function that computes once for all variables of an update, from the step alone."""
    import tensorflow as tf

    if tf.distribute.has_strategy():
        return compute  # replicas are traced side by side, each on its own device
    apply = optimizer.apply
    known: dict[Any, Any] | None = None

    def apply_knowing(
        gradients: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> Any:
        nonlocal known
        known = {}
        try:
            return apply(gradients, trainable_variables)
        finally:
            known = None

    def computed() -> Any:
        if known is None:  # between updates
            return compute()
        # The branch of a condition is a graph of its own, whose tensors no other one may use.
        graph = tf.compat.v1.get_default_graph()
        if graph not in known:
            known[graph] = compute()
        return known[graph]

    optimizer.apply = apply_knowing
    return computed


def fuse(
    optimizer: keras.Optimizer, *, steps: int = 0, factors: Sequence[Factors] | None = None
) -> bool:
    """Let an optimizer update each variable with one fused operation, where TensorFlow has it.

    A variable, its two moments and its gradient are then read once instead of about twenty times;
    and the gradient of an embedding stays a list of rows until then, so that clipping it costs
    what its rows cost. Where many steps are to come, clipping and weight decay of large variables
    are part of the same pass, compiled for the processor. The formula is that of Keras, up to the
    order of rounding: `m += (1 - b1) (g - m)`, `v += (1 - b2) (g^2 - v)`,
    `w -= rate decay w + rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon)` (Kingma and Ba
    2014, the formulation before section 2.1; the decay of Loshchilov and Hutter 2019).

    Args:
        optimizer: An optimizer; it is changed in place.
        steps: How many steps are to come.
        factors: Those of the variables, in the order that the optimizer is built with. What is
            compiled for large variables decays them by itself; for the others `scale_decay` must
            have been called before.

    Returns:
        Whether it was changed: `Adam` and `AdamW` are, without `amsgrad`.

    Example:
        >>> fuse(keras.optimizers.AdamW(1e-3)), fuse(keras.optimizers.SGD(1e-3))
        (True, False)
    """
    import keras
    import tensorflow as tf

    if type(optimizer) not in (keras.optimizers.Adam, keras.optimizers.AdamW):
        return False
    if optimizer.amsgrad:
        return False

    def shared_now() -> dict[str, tf.Tensor]:
        step = tf.cast(optimizer.iterations + 1, tf.float32)
        betas = [tf.constant(float(beta)) for beta in (optimizer.beta_1, optimizer.beta_2)]
        return {
            "beta1_power": tf.pow(betas[0], step), "beta2_power": tf.pow(betas[1], step),
            "beta1": betas[0], "beta2": betas[1], "epsilon": tf.constant(float(optimizer.epsilon)),
        }  # fmt: skip

    # Of each variable alone, they would be most operations of an update.
    shared = _once_an_update(optimizer, shared_now)

    def update_step(gradient: tf.Tensor, variable: keras.Variable, learning_rate: object) -> None:
        _update(optimizer, gradient, variable, learning_rate, shared(), factors)

    optimizer.update_step = update_step
    alone = not tf.config.list_physical_devices("GPU") and not tf.distribute.has_strategy()
    if steps >= STEPS_WORTH and alone:
        _compile_large(optimizer, factors)
    elif optimizer.global_clipnorm:
        optimizer._clip_gradients = lambda gradients: clip(gradients, optimizer.global_clipnorm)
    return True


def _update(
    optimizer: keras.Optimizer, gradient: tf.Tensor, variable: keras.Variable,
    learning_rate: tf.Tensor, shared: Mapping[str, tf.Tensor], factors: Sequence[Factors] | None,
) -> None:
    import tensorflow as tf

    index = optimizer._get_variable_index(variable)
    rate = tf.cast(learning_rate, tf.float32)
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(optimizer._momentums[index]),
        v=_handle(optimizer._velocities[index]),
        lr=rate * factors[index].rate if factors else rate,
        grad=dense(gradient, variable),
        **shared,
    )


def _compile_large(optimizer: keras.Optimizer, factors: Sequence[Factors] | None) -> None:
    """Clip, decay and update large variables in one pass over each; all others as before."""
    import tensorflow as tf

    plainly, decay = optimizer._backend_update_step, optimizer._apply_weight_decay
    most = optimizer.global_clipnorm

    def is_large(variable: keras.Variable) -> bool:
        return math.prod(variable.shape) >= LARGE and variable.dtype == "float32"

    def decay_others(variables: Sequence[Any]) -> None:
        decay([variable for variable in variables if not is_large(variable)])

    def update(gradients: Sequence[Any], variables: Sequence[Any], rate: tf.Tensor) -> None:
        factor = shrinkage(gradients, most) if most else tf.constant(1.0)
        pairs = list(zip(gradients, variables, strict=True))
        others = [(g, v) for g, v in pairs if not is_large(v)]
        if others:
            plainly([scaled(g, factor) for g, _ in others], [v for _, v in others], rate)
        large = [(dense(g, v), v) for g, v in pairs if is_large(v)]
        if large:
            step = tf.cast(optimizer.iterations + 1, tf.float32)
            in_one_pass = _compiled(optimizer, [v for _, v in large], factors)
            in_one_pass([g for g, _ in large], factor, tf.cast(rate, tf.float32), step)

    optimizer._backend_update_step, optimizer._apply_weight_decay = update, decay_others
    if most:
        optimizer._clip_gradients = lambda gradients: gradients


def _compiled(
    optimizer: keras.Optimizer, variables: Sequence[Any], factors: Sequence[Factors] | None = None
) -> Any:
    """Return the update of some variables as a function that is compiled for them."""
    import tensorflow as tf

    places = [optimizer._get_variable_index(variable) for variable in variables]
    groups = [factors[place] if factors else Factors() for place in places]
    decays = [
        optimizer.weight_decay * group.decay
        if optimizer.weight_decay and optimizer._use_weight_decay(variable) else 0.0
        for variable, group in zip(variables, groups, strict=True)
    ]

    @tf.function(jit_compile=True, autograph=False)
    def update(
        gradients: Sequence[Any], factor: tf.Tensor, rate: tf.Tensor, step: tf.Tensor
    ) -> None:
        unbiased = tf.sqrt(1.0 - tf.pow(float(optimizer.beta_2), step)) / (
            1.0 - tf.pow(float(optimizer.beta_1), step)
        )
        for variable, gradient, place, decay, group in zip(
            variables, gradients, places, decays, groups, strict=True
        ):
            first, second = optimizer._momentums[place].value, optimizer._velocities[place].value
            gradient = gradient * factor
            mean = first + (gradient - first) * (1.0 - optimizer.beta_1)
            square = second + (gradient * gradient - second) * (1.0 - optimizer.beta_2)
            own = rate if group.rate == 1 else rate * group.rate
            moved = own * unbiased * mean / (tf.sqrt(square) + optimizer.epsilon)
            variable.value.assign(variable.value - variable.value * (decay * own) - moved)
            first.assign(mean)
            second.assign(square)

    return update


def dense(gradient: tf.Tensor, variable: keras.Variable) -> Any:
    """Return the gradient of all rows: Adam moves those without a gradient too."""
    import tensorflow as tf

    if isinstance(gradient, tf.IndexedSlices):
        gradient = tf.scatter_nd(gradient.indices[:, None], gradient.values, variable.shape)
    return tf.cast(gradient, tf.float32)


def _handle(variable: keras.Variable) -> Any:
    return variable.handle if hasattr(variable, "handle") else variable.value.handle


def clip(gradients: Sequence[Any], most: float) -> list[Any]:
    """Scale gradients down together where their global norm exceeds a limit.

    Args:
        gradients: Tensors, or `tf.IndexedSlices` of embeddings with each row once, which stay
            such; or `None`.
        most: The norm that is allowed.

    Returns:
        The scaled gradients. Where the norm is no number, none of them is.
    """
    factor = shrinkage(gradients, most)
    return [scaled(gradient, factor) for gradient in gradients]


def shrinkage(gradients: Sequence[Any], most: float) -> Any:
    """Return what gradients are multiplied with, so that their global norm is within a limit."""
    import tensorflow as tf

    halves = [
        tf.nn.l2_loss(tf.cast(_values(gradient), tf.float32))
        for gradient in gradients if gradient is not None
    ]
    norm = tf.sqrt(2.0 * tf.add_n(halves))
    return most / tf.maximum(norm, most) + (norm - norm)


def scaled(gradient: tf.Tensor, factor: object) -> Any:
    """Return a gradient times a number."""
    import tensorflow as tf

    if gradient is None:
        return None
    values = _values(gradient) * tf.cast(factor, _values(gradient).dtype)
    if not isinstance(gradient, tf.IndexedSlices):
        return values
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)


def _values(gradient: tf.Tensor) -> Any:
    import tensorflow as tf

    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _summed(gradient: tf.Tensor) -> Any:
    """Add up the rows of an embedding's gradient that belong to the same entry."""
    import tensorflow as tf

    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(
        tf.cast(gradient.values, tf.float32), places, tf.size(rows)
    )
    return tf.IndexedSlices(values, rows, gradient.dense_shape)
