"""Regularizers: functions on an assembled model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerasft.abilities import Comparing
from kerasft.catalogue import regularizers
from kerasft.errors import UserError

if TYPE_CHECKING:
    import keras

    from kerasft.contracts import Task


def l2(model: keras.Model, *, strength: float = 1e-4) -> Any:
    """Add `strength * sum(kernel ** 2)` to the loss, for every kernel of the model.

    Norms and biases are left alone. Only kernels that train get a gradient from it.

    Args:
        model: The assembled model.
        strength: Factor of the squared sum.

    Returns:
        The same model.

    Example:
        >>> len(l2(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])).losses)
        1
    """
    import keras

    _check("l2", strength=strength)
    return _penalized(model, "l2", keras.regularizers.L2(strength))


def l1(model: keras.Model, *, strength: float = 1e-6) -> Any:
    """Add `strength * sum(abs(kernel))` to the loss, for every kernel of the model.

    Norms, biases and embeddings are left alone, as with `l2`, which it may be combined with. Small
    weights become smaller still, but seldom exactly 0: the optimizer's steps go beyond it.

    Args:
        model: The assembled model.
        strength: Factor of the sum.

    Returns:
        The same model.

    Example:
        On the command line: `kerasft train "regularize=[l1,l2]" regularize.l1.strength=1e-7`.

        >>> len(l1(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])).losses)
        1
    """
    import keras

    _check("l1", strength=strength)
    return _penalized(model, "l1", keras.regularizers.L1(strength))


def l2_sp(model: keras.Model, *, strength: float = 0.05, head: float = 0.005) -> Any:
    """Pull the backbone towards its pretrained weights and the head towards 0 (L2-SP).

    Adds `strength * sum((weight - start) ** 2)` to the loss for all weights of the backbone but
    embeddings, norms and biases among them, and `head * sum(kernel ** 2)` for the kernels of the
    head (Li, Grandvalet and Davoine 2018, <https://arxiv.org/abs/1802.01483>; their factors are
    twice these). `start` is what the weights are before training. It is no part of checkpoints: a
    resumed run loads the same backbone again. With `adapt=lora`, what is measured of an adapted
    layer is the size of its update, which is how far its kernel is from the start.

    The optimizer's own weight decay pulls the backbone towards 0 meanwhile:
    `optimizer.weight_decay=0` leaves it to this one.

    Args:
        model: The assembled model.
        strength: Factor of the squared distance.
        head: Factor of the squared sum of the head's kernels.

    Returns:
        The same model.

    Example:
        On the command line: `kerasft train regularize=l2_sp regularize.l2_sp.strength=0.01
        optimizer.weight_decay=0`.

        >>> from kerasft.model import assemble, tiny
        >>> from kerasft.model.heads import pooled
        >>> build = lambda features: pooled.linear(features, units=2)
        >>> model = l2_sp(assemble.assemble(tiny.text("bert"), build), head=0.0)
        >>> float(sum(model.losses))
        0.0
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from kerasft.model.adapting.adaptation import head_variables
    from kerasft.model.regularizing import penalties

    _check("l2_sp", strength=strength, head=head)
    own = {id(variable) for variable in head_variables(model)}
    of_head = keras.regularizers.L2(head)
    for variable in model.trainable_variables:
        if id(variable) in own:
            if _is_kernel(variable):
                penalties.add(variable, of_head)
        elif "embedding" not in variable.path:
            # A copy: what reads a variable may see what is written into it later.
            start = tf.constant(np.array(variable.value.numpy()))
            penalties.add(variable, penalties.Towards(strength, start))
    return model


def dropout(model: keras.Model, *, rate: float = 0.2) -> Any:
    """Set the rate of every dropout layer of the backbone.

    Args:
        model: The assembled model.
        rate: Share of the values dropped in training, from 0 up to 1.

    Returns:
        The same model.

    Raises:
        UserError: If the backbone has no dropout layer.
    """
    import keras

    _check("dropout", rate=rate)
    found, of_head = 0, {id(part) for part in getattr(model, "head_parts", ())}
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Dropout) and id(layer) not in of_head:
            if not hasattr(layer, "seed_generator"):
                # Made with rate 0, a layer has none; and once built it takes none unasked.
                layer._tracker.unlock()
                layer.seed_generator = keras.random.SeedGenerator(layer.seed)
                layer._tracker.lock()
            layer.rate = rate
            found += 1
    if not found:
        raise UserError(
            "regularize.dropout found no dropout layer in the backbone. Set head.dropout instead, "
            "or remove it."
        )
    return model


def stochastic_depth(model: keras.Model, *, rate: float = 0.1) -> Any:
    """Drop residual branches of the backbone in training, more of them the deeper they lie.

    For each example of a batch, the branches of a block are left out with a probability that rises
    linearly from block to block up to `rate`, `rate * l / L` in block `l` of `L`, so that only what
    goes around them is handed on; those that stay count `1 / (1 - probability)` times (Huang et al.
    2016, <https://arxiv.org/abs/1603.09382>). In a transformer block, attention and feed-forward
    are a branch each. Blocks that drop branches by themselves (EfficientNet's) get this rate in
    place of their own. Frozen layers below all that trains drop nothing, as they have no dropout
    either. Answers and files are those of the network without it.

    Args:
        model: The assembled model.
        rate: The probability in the uppermost block, above 0 and below 1.

    Returns:
        The same model.

    Raises:
        UserError: If the backbone has no residual branch.

    Example:
        On the command line: `kerasft train regularize=stochastic_depth
        regularize.stochastic_depth.rate=0.2`.

        >>> from kerasft.model import assemble, tiny
        >>> from kerasft.model.heads import pooled
        >>> build = lambda features: pooled.linear(features, units=2)
        >>> model = stochastic_depth(assemble.assemble(tiny.text("bert"), build), rate=0.2)
    """
    from kerasft.model.regularizing import depth

    _check("stochastic_depth", rate=rate)
    if not depth.drop_branches(model, rate):
        raise UserError(
            "regularize.stochastic_depth found no residual branch in the backbone: nothing goes "
            "around its layers, which could be handed on without them. Choose a network with such "
            "branches (transformers, ResNet, MobileNetV2, EfficientNet), regularize.dropout or "
            "head.dropout, or leave it out."
        )
    return model


def embedding_noise(model: keras.Model, *, alpha: float = 5.0) -> Any:
    """Add uniform noise to the embedded tokens of texts in training (NEFTune).

    Each number gets one between `-alpha / sqrt(L d)` and `alpha / sqrt(L d)`, where `L` is how many
    tokens the text has, padding not counted, and `d` the width of the embedding (Jain et al. 2023,
    <https://arxiv.org/abs/2310.05914>). Frozen embeddings get it, too, where any of the backbone
    trains (`adapt=lora`); what lies behind them is then not kept as activations. In stages that
    train the head alone there is none. Answers and files are those of the network without it.

    Args:
        model: The assembled model.
        alpha: The size of the noise; the paper tries 5, 10 and 15.

    Returns:
        The same model.

    Raises:
        UserError: If the backbone does not embed tokens.

    Example:
        On the command line: `kerasft train regularize=embedding_noise
        regularize.embedding_noise.alpha=10`.

        >>> from kerasft.model import assemble, tiny
        >>> from kerasft.model.heads import pooled
        >>> build = lambda features: pooled.linear(features, units=2)
        >>> model = embedding_noise(assemble.assemble(tiny.text("bert"), build))
    """
    from kerasft.model.regularizing import noise

    _check("embedding_noise", alpha=alpha)
    found = noise.embeddings_of(model)
    if not found:
        raise UserError(
            "regularize.embedding_noise found no layer in the backbone that embeds tokens: it is "
            "for texts. For images, choose augment=light or regularize.dropout, or leave it out."
        )
    noises = noise.EmbeddingNoise(model, alpha)
    for layer in found:
        noises.on(layer)
    object.__setattr__(model, "around", noises.around)
    return model


def r_drop(model: keras.Model, *, task: Task, alpha: float = 1.0) -> Any:
    """Have two passes with different dropout agree in their answers (R-Drop).

    Each batch goes through the network twice. The loss is the mean of both losses, plus `alpha`
    times how far both answers are apart: for one class an example the Kullback-Leibler divergence
    in both directions, halved (Liang et al. 2021, <https://arxiv.org/abs/2106.14448>); for several
    labels that of each label, summed up; for numbers the squared difference, as the authors' own
    code has it for STS-B. Examples and labels count as `task.class_weight` has it. A step takes
    about twice the time. Detection and segmentation have no such comparison.

    Args:
        model: The assembled model.
        task: The task, which the run hands in.
        alpha: What the difference counts; the paper takes 0.5 to 5.

    Returns:
        The same model.

    Raises:
        UserError: If answers of the task cannot be compared.

    Example:
        On the command line: `kerasft train regularize=r_drop regularize.r_drop.alpha=2
        head.dropout=0.1`.

        >>> from kerasft.model import assemble, tiny
        >>> from kerasft.model.heads import pooled
        >>> from kerasft.tasks.classification import Classification
        >>> build = lambda features: pooled.linear(features, units=2)
        >>> model = assemble.assemble(tiny.text("bert"), build)
        >>> model = r_drop(model, task=Classification(), alpha=2.0)
    """
    from kerasft.model.regularizing import consistency

    _check("r_drop", alpha=alpha)
    if not isinstance(task, Comparing):
        raise UserError(
            "regularize.r_drop compares two answers to one example, and "
            f"{type(task).__name__} has no `disagreement` that says how far they are apart. Leave "
            "it out."
        )
    consistency.compare(model, alpha, task.disagreement)
    return model


def _penalized(model: keras.Model, kind: str, penalty: keras.Regularizer) -> Any:
    """Add a penalty to each kernel of a model."""
    from kerasft.model.regularizing import penalties

    kernels = [variable for variable in model.trainable_variables if _is_kernel(variable)]
    if not kernels:
        raise UserError(f"regularize.{kind} found no kernel in the model: remove it.")
    for variable in kernels:
        penalties.add(variable, penalty)
    return model


def _is_kernel(variable: keras.Variable) -> bool:
    return len(variable.shape) > 1 and "embedding" not in variable.path


def _check(kind: str, **given: Any) -> None:
    found = [text for _, text in regularizers.problems(kind, kind, given)]
    if found:
        raise UserError(problems=found)
