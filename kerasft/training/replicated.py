"""A training step on several devices: one batch, one loss, one update, as on one device.

Each replica computes the outputs of its share of the batch. Then all of them have all outputs, and
each computes the loss of the whole batch, through its own share: whatever a loss counts in a batch
(words, boxes, pixels), it counts as on one device. Gradients are added up, and only then are rows
of embeddings added up, gradients clipped, and weights updated, by each replica for itself.

What Keras (3.15) does under a strategy is not used: its losses are divided by the number of
replicas, it clips before the sum, weighs the loss by shares of equal size, and cannot accumulate
gradients (keras#20582) or train in several processes (keras#20585).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kerasft.distributed.group import Group
from kerasft.errors import UserError
from kerasft.spec import Tensors
from kerasft.system.console import listing
from kerasft.system.tf_data import untuned

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# What the seeds of two replicas differ by.
APART = 7919


def require_alike(model: keras.Model, group: Group) -> None:
    """Refuse layers with a penalty on their outputs, which several devices would see in parts.

    What a layer adds to the loss counts as much as a replica has examples of the batch, which is
    right for a mean over them. A regularizer sums over a replica's own examples.

    Args:
        model: The assembled model.
        group: The devices of the run.

    Raises:
        UserError: If there are such layers, and more than one replica.
    """
    if group.replicas == 1:
        return
    names = [layer.name for layer in model._flatten_layers(include_self=False)
             if getattr(layer, "activity_regularizer", None) is not None]  # fmt: skip
    if names:
        raise UserError(
            f"distribute: with {group.replicas} devices an activity_regularizer would count "
            f"1/{group.replicas} of what it counts on one device, so it is refused. Received: "
            f"{'layers' if len(names) > 1 else 'layer'} {listing(names)} with one. Train on one "
            "device (distribute=null), or take it out of the network "
            "(layer.activity_regularizer = None)."
        )


def dealt(batches: tf.data.Dataset, group: Group) -> Any:
    """Return batches dealt out to the replicas of a group.

    Example i of a batch goes to replica `i % replicas`, see `Order.shard`. A replica without an
    example takes one that is another one's, whose outputs nobody looks at.

    Args:
        batches: An endless `tf.data.Dataset` of inputs, targets, and weights where there are any.
        group: The group.

    Returns:
        A distributed dataset of a replica's inputs, with targets and weights of the whole batch,
        and its size.
    """
    import tensorflow as tf

    replicas, local = group.replicas, group.local

    def of_replica(number: int, inputs: Tensors, size: tf.Tensor) -> Any:
        mine = rows_of(number, size, replicas)
        return tf.nest.map_structure(lambda one: tf.gather(one, mine), inputs)

    def parts_from(first: int) -> Callable:
        def parts(inputs: Tensors, *rest: Any) -> Any:
            size = tf.shape(tf.nest.flatten(inputs)[0])[0]
            made = [
                tf.data.Dataset.from_tensors((of_replica(first + one, inputs, size), size, *rest))
                for one in range(local)
            ]
            joined = made[0]
            for one in made[1:]:
                joined = joined.concatenate(one)
            return joined

        return tf.autograph.experimental.do_not_convert(parts)

    def of_pipeline(context: tf.distribute.InputContext) -> Any:
        found = batches.flat_map(parts_from(context.input_pipeline_id * local))
        # Or else workers would ask one another before each step whether all have another batch.
        found = found.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return untuned(found.prefetch(2 * local))

    return group.strategy.distribute_datasets_from_function(of_pipeline)


def rows_of(number: tf.Tensor | int, size: tf.Tensor, replicas: int) -> Any:
    """Return which examples of a batch a replica takes: the last one, where none are left."""
    import tensorflow as tf

    return tf.range(tf.minimum(number, size - 1), size, replicas)


def train_function(model: keras.Model, group: Group, steps: int = 1) -> Callable[[Any], Any]:
    """Return what takes the place of a compiled model's `train_function`.

    Args:
        model: The model, made and compiled in the scope of the group; its metrics outside of it.
        group: The group.
        steps: How many steps it does at once.

    Returns:
        A function of an iterator of `dealt` to the model's metrics.
    """
    import tensorflow as tf

    strategy = group.strategy

    def replica(
        inputs: Tensors, size: tf.Tensor, targets: Tensors, weights: tf.Tensor | None = None
    ) -> tuple[Any, Any]:
        return _replica_step(model, group.replicas, inputs, size, targets, weights)

    def step(iterator: Any) -> Any:
        batch = iterator.get_next()
        with _synchronized(model), _undivided():
            losses, outputs = strategy.run(replica, args=batch)
        _, size, *rest = tf.nest.map_structure(
            lambda one: strategy.experimental_local_results(one)[0], batch
        )
        first = tf.nest.map_structure(
            lambda one: strategy.experimental_local_results(one)[0], (losses, outputs)
        )
        # The trackers are this process's own, and count the whole batch: all have the same.
        model._loss_tracker.update_state(first[0], sample_weight=size)
        targets, weights = rest[0], rest[1] if len(rest) > 1 else None
        return model.compute_metrics(None, targets, first[1], weights)

    @tf.function(autograph=False, reduce_retracing=True)
    def execution(iterator: Any) -> Any:
        def one_more(number: Any) -> Any:
            step(iterator)
            return number + 1

        if steps > 1:
            tf.while_loop(
                lambda number: number < steps - 1, one_more, [tf.constant(0)],
                parallel_iterations=1,
            )
        return step(iterator)

    return execution


def _replica_step(
    model: keras.Model, replicas: int, inputs: Tensors, size: tf.Tensor, targets: Tensors,
    weights: tf.Tensor | None,
) -> tuple[Any, Any]:
    """Do a replica's part of a step, and return the loss and the outputs of the whole batch."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    variables = model.trainable_variables
    # R-Drop makes a second pass within the loss, so that it has this replica's examples alone.
    apart = "compute_loss" in vars(model)
    places = _Places(size, replicas, context.replica_id_in_sync_group)
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        # What layers add to the loss lies in the layers, which all replicas of a process have in
        # common: each must take its own before the next one comes to turn, at a collective.
        added = [one for layer in model._flatten_layers() for one in layer._get_own_losses()]
        model._clear_losses()
        whole = places.whole(outputs, context)
        share = tf.cast(places.real, tf.float32) / tf.cast(size, tf.float32)
        if apart:
            y, weights = (None if one is None else places.mine(one) for one in (targets, weights))
            loss = model._compute_loss(
                x=inputs, y=y, y_pred=outputs, sample_weight=weights, training=True
            )
            target = shown = tf.cast(loss, tf.float32) * share
        else:
            target = tf.cast(
                model._compute_loss(
                    x=inputs, y=targets, y_pred=whole, sample_weight=weights, training=True
                ),
                tf.float32,
            )
            shown = target / replicas  # all replicas have the whole loss
            if model.losses:  # of penalties on weights each takes its part
                target -= _sum(model.losses) * (1.0 - 1.0 / replicas)
            if added:  # a mean over its own examples counts as they do
                target, shown = (one + _sum(added) * share for one in (target, shown))
        scaled = model.optimizer.scale_loss(target)
    gradients = tape.gradient(scaled, variables)
    there = [gradient for gradient in gradients if gradient is not None]
    loss, *summed = context.all_reduce(
        tf.distribute.ReduceOp.SUM, [tf.stop_gradient(shown), *there]
    )
    found = iter(summed)
    model.optimizer.apply(
        [None if gradient is None else next(found) for gradient in gradients], variables
    )
    return loss, tf.nest.map_structure(tf.stop_gradient, whole)


def _sum(losses: Sequence[Any]) -> Any:
    import tensorflow as tf

    return tf.add_n([tf.reduce_sum(tf.cast(one, tf.float32)) for one in losses])


class _Places:
    """Where the examples of a batch are among the outputs of all replicas, one after the other.

    Args:
        size: Examples in the batch.
        replicas: How many replicas there are.
        number: The replica.
    """

    def __init__(self, size: Any, replicas: int, number: Any):
        import tensorflow as tf

        every = tf.range(replicas)
        real = (size - every + replicas - 1) // replicas
        counts = tf.maximum(real, 1)  # one that has none has taken one
        starts = tf.cumsum(counts, exclusive=True)
        rows = tf.range(size)
        self.size, self.replicas, self.number = size, replicas, number
        self.order = tf.gather(starts, rows % replicas) + rows // replicas
        self.first, self.last = starts[number], starts[number] + counts[number]
        self.real = real[number]

    def whole(self, outputs: Any, context: Any) -> Any:
        """Return the outputs of all examples, in order; gradients flow to this replica's alone."""
        import tensorflow as tf

        flat = tf.nest.flatten(outputs)
        # Collectives know few types, and each number of half precision is one of float32.
        wide = [tf.cast(one, tf.float32) if one.dtype.size < 4 else one for one in flat]
        others = context.all_gather([tf.stop_gradient(one) for one in wide], axis=0)
        made = [
            tf.cast(
                tf.gather(tf.concat([all_[: self.first], own, all_[self.last :]], 0), self.order),
                given.dtype,
            )
            for all_, own, given in zip(others, wide, flat, strict=True)
        ]
        return tf.nest.pack_sequence_as(outputs, made)

    def mine(self, values: Any) -> Any:
        """Return of a value for each example those of this replica's."""
        import tensorflow as tf

        rows = rows_of(self.number, self.size, self.replicas)
        return tf.nest.map_structure(lambda one: tf.gather(one, rows), values)


@contextmanager
def _undivided() -> Iterator[None]:
    """Have Keras divide no loss by the number of replicas, in what is traced in the block.

    It divides what its losses average, and leaves losses that are one number as they are.
    """
    from keras.src.losses import loss

    names = ("scale_loss_for_distribution", "unscale_loss_for_distribution")
    before = {name: getattr(loss, name) for name in names}
    for name in names:
        setattr(loss, name, lambda value: value)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(loss, name, function)


@contextmanager
def _synchronized(model: keras.Model) -> Iterator[None]:
    """Have batch normalization that trains see the whole batch, in what is traced in the block.

    Keras' own keeps the statistics of the first replica's share. Files of the model must not say
    that it trained on several devices.
    """
    import keras

    norms = [
        layer for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized
    ]
    for layer in norms:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer in norms:
            layer.synchronized = False


def update_locally(optimizer: keras.Optimizer, group: Group) -> None:
    """Have each replica update its own copy of the weights, by gradients that are added up already.

    All of them do the same. Keras' own would add the gradients up once more, and merge replicas
    within the condition of an accumulation, which TensorFlow does not allow.

    Args:
        optimizer: The optimizer that moves weights; it is changed in place.
        group: The group.
    """
    if group.strategy is None:
        return

    def update(gradients: Sequence[Any], variables: Sequence[Any], rate: tf.Tensor) -> None:
        for gradient, variable in zip(gradients, variables, strict=True):
            optimizer.update_step(gradient, variable, rate)

    def decay(variables: Sequence[Any]) -> None:
        import tensorflow as tf

        if optimizer.weight_decay is None:
            return
        for variable in variables:
            if optimizer._use_weight_decay(variable):
                rate = tf.cast(optimizer.learning_rate, variable.dtype)
                amount = tf.cast(optimizer.weight_decay, variable.dtype)
                optimizer.assign_sub(variable, variable * (amount * rate))

    def accumulate(gradients: Sequence[Any], sums: Sequence[Any]) -> None:
        for gradient, total in zip(gradients, sums, strict=True):
            total.assign(total + gradient)

    optimizer._backend_update_step = update
    optimizer._apply_weight_decay = decay
    optimizer._backend_increment_gradient_accumulators = accumulate


def loss_scaled(optimizer: keras.Optimizer, model: keras.Model, group: Group) -> Any:
    """Return an optimizer within the one that Keras puts around it for `mixed_float16`.

    `compile` would make the scale outside of the group's scope.
    """
    import keras

    if group.strategy is None or model.dtype_policy.name != "mixed_float16":
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


def spread_seeds(model: keras.Model, group: Group) -> None:
    """Let each replica draw other random numbers: Keras gives all of them the same.

    The first replica keeps its own, so that a checkpoint holds what one device would have.

    Args:
        model: The model, its seeds as a checkpoint or the first replica has them.
        group: The group.
    """
    if group.strategy is None:
        return
    bases = vars(model).get("_kerasft_seeds")
    if bases is None:
        bases = {}
        object.__setattr__(model, "_kerasft_seeds", bases)
    for variable in model.variables:
        if "seed" not in variable.path.split("/")[-1]:
            continue
        copies = group.strategy.experimental_local_results(variable.value)
        state = copies[0].numpy()
        base = bases.setdefault(id(variable), int(state[0]))
        for place, copy in enumerate(copies):
            changed = state.copy()
            number = group.rank * group.local + place
            changed[0] = (base + APART * number) % 2**31 if number else base
            copy.assign(changed)
