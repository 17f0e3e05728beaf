"""Learning rates by depth and by group: each variable's own factor of rate and weight decay."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kerasft.errors import UserError, nearest, shown
from kerasft.system.console import listing
from kerasft.training.depth import depth_of

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Rules(Protocol):
    """A stage, as far as it says how fast its variables learn."""

    @property
    def layer_decay(self) -> float | str:
        """Factor of the learning rate from each level of the network to the one below.

        A number: `auto` is settled before.
        """

    @property
    def rates(self) -> Mapping[str, float] | None:
        """Factors of the learning rate by patterns of paths."""

    @property
    def weight_decays(self) -> Mapping[str, float] | None:
        """Factors of weight decay, likewise."""


class Factors(NamedTuple):
    """What a variable's update is multiplied with.

    Args:
        rate: Factor of the learning rate. Weight decay is a part of the update, and shrinks with it
            as it does where a schedule lowers the rate (Loshchilov and Hutter 2019).
        decay: Factor of the weight decay beside that.
    """

    rate: float = 1.0
    decay: float = 1.0


def rules_problem(name: str, rules: object) -> str:
    """Say what is wrong with a stage's `rates` or `weight_decays`, `""` where nothing is.

    Example:
        >>> rules_problem("rates", {"embedding": 0.1}), rules_problem("rates", {"*": 2.0})
        ('', "rates: '*' is no regular expression: nothing to repeat at position 0.")
    """
    if rules is None:
        return ""
    if not isinstance(rules, Mapping):
        return (
            f"{name} must be a mapping of regular expressions on variable paths to factors, e.g. "
            f"{{embedding: 0.1}}. Received: {shown(rules)}."
        )
    for pattern, factor in rules.items():
        is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not is_number or not 0 <= factor < float("inf"):
            return (
                f"{name}: the factor of {pattern!r} must be a number from 0 up. Received: "
                f"{shown(factor)}."
            )
        try:
            re.compile(str(pattern))
        except re.error as error:
            return f"{name}: {pattern!r} is no regular expression: {error}."
    return ""


def freeze(model: keras.Model, stage: Rules) -> None:
    """Have no variable train whose learning rate a stage multiplies with 0.

    Args:
        model: The assembled model, with the stage's variables selected.
        stage: The stage.
    """
    patterns = [pattern for pattern, factor in (stage.rates or {}).items() if factor == 0]
    found = [(v, p) for v in model.trainable_variables for p in patterns if re.search(p, v.path)]
    if missing := set(patterns) - {pattern for _, pattern in found}:
        raise _unmatched("rates", min(missing), model, model.trainable_variables)
    for variable, _ in found:
        variable.trainable = False


def factors_of(model: keras.Model, stage: Rules) -> list[Factors] | None:
    """Return the factors of each variable that trains in a stage, in the order of the model's.

    Args:
        model: The assembled model, with the stage's variables selected.
        stage: The stage. Where several of its patterns are found in a path, all their factors
            count, and that of the depth, too.

    Returns:
        The factors; `None` where the stage has no such rule.

    Raises:
        UserError: If a rule is found in no path, or the network has no depth to go by.

    Example:
        >>> from kerasft.model import tiny
        >>> from kerasft.training.stages import Stage
        >>> network = tiny.text("bert").network
        >>> found = factors_of(network, Stage(layer_decay=0.5))
        >>> sorted({factors.rate for factors in found})
        [0.125, 0.25, 0.5]
    """
    rates = {p: f for p, f in (stage.rates or {}).items() if f}  # what has 0 does not train
    decays = stage.weight_decays or {}
    if stage.layer_decay == 1 and not rates and not decays:
        return None
    variables = list(model.trainable_variables)
    by_depth = _by_depth(model, variables, float(stage.layer_decay))
    rate = _multiplied("rates", rates, model, variables)
    # Norms and biases are left out of weight decay.
    decay = _multiplied("weight_decays", decays, model, [v for v in variables if len(v.shape) > 1])
    return [
        Factors(by_depth[id(v)] * rate.get(id(v), 1.0), decay.get(id(v), 1.0)) for v in variables
    ]


def _by_depth(model: keras.Model, variables: Sequence[Any], decay: float) -> dict[int, float]:
    if decay == 1:
        return {id(variable): 1.0 for variable in variables}
    depth = depth_of(model)
    if len(depth) < 2:
        raise UserError(
            "finetune.NAME.layer_decay lowers the learning rate from layer to layer, and this "
            f"network has {'one layer' if len(depth) else 'no layer'} below its head. Leave it "
            "out; finetune.NAME.rates has a factor for each pattern of paths."
        )
    found = {id(variable): depth.of(variable) for variable in variables}
    if len(set(found.values())) < 2:
        raise UserError(
            "finetune.NAME.layer_decay lowers the learning rate from layer to layer, and all that "
            "trains in this stage lies at one depth. Leave it out, or train more layers "
            "(finetune.NAME.train)."
        )
    return {one: decay**level for one, level in found.items()}


def _multiplied(
    name: str, rules: Mapping[str, float], model: keras.Model, variables: Sequence[Any]
) -> dict[int, float]:
    """Return the product of all factors whose patterns are found in a variable's path."""
    made: dict[int, float] = {}
    for pattern, factor in rules.items():
        matched = [v for v in variables if re.search(pattern, v.path)]
        if not matched:
            raise _unmatched(name, pattern, model, variables)
        for variable in matched:
            made[id(variable)] = made.get(id(variable), 1.0) * factor
    return made


def _unmatched(
    name: str, pattern: str, model: keras.Model, variables: Sequence[Any]
) -> UserError:
    """Say that a rule multiplies nothing, and what it may have meant."""
    others = [v.path for v in model.variables if re.search(pattern, v.path)]
    said = f"finetune.NAME.{name}: {pattern!r} is found in no path of a variable that "
    said += "is decayed" if name == "weight_decays" else "trains in this stage"
    if others:
        why = "norms and biases never are" if name == "weight_decays" else "they rest in this stage"
        return UserError(f"{said}, though in {listing(others, 3)}: {why}. Leave it out.")
    layers = list(dict.fromkeys(v.path.split("/")[0] for v in variables))
    parts = dict.fromkeys(part for v in variables for part in [*v.path.split("/"), v.path])
    word = re.sub(r"[^\w/]", "", pattern)
    return UserError(f"{said}. The paths begin with: {listing(layers, 20)}.{nearest(word, parts)}")


def scale_decay(optimizer: keras.Optimizer, factors: Sequence[Factors]) -> None:
    """Let an optimizer decay each variable by its own factors.

    Args:
        optimizer: The optimizer; it is changed in place.
        factors: Those of its variables, in the order that it is built with.
    """
    if not optimizer.weight_decay:
        return
    decay = optimizer._apply_weight_decay

    def decay_by_groups(variables: Sequence[Any]) -> None:
        groups: dict[float, list[Any]] = {}
        for variable in variables:
            own = factors[optimizer._get_variable_index(variable)]
            groups.setdefault(own.rate * own.decay, []).append(variable)
        whole = optimizer.weight_decay
        for factor, some in groups.items():
            optimizer.weight_decay = whole * factor
            try:
                decay(some)
            finally:
                optimizer.weight_decay = whole

    optimizer._apply_weight_decay = decay_by_groups


def scale_steps(optimizer: keras.Optimizer, factors: Sequence[Factors]) -> None:
    """Let an optimizer that is not fused move each variable at its own rate.

    Args:
        optimizer: The optimizer; it is changed in place.
        factors: Those of its variables, in the order that it is built with.
    """
    move = optimizer.update_step

    def move_at_its_rate(
        gradient: tf.Tensor | tf.IndexedSlices, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        factor = factors[optimizer._get_variable_index(variable)].rate
        move(gradient, variable, learning_rate if factor == 1 else learning_rate * factor)

    optimizer.update_step = move_at_its_rate


def innermost(optimizer: keras.Optimizer) -> Any:
    """Return the optimizer that moves weights, within one that scales the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def require_obedient(optimizer: keras.Optimizer) -> None:
    """See that an optimizer's step is proportional to its learning rate, on two like weights.

    What `Adam`, `AdamW` and `SGD` do is proved on the first update itself.

    Args:
        optimizer: The optimizer, not built yet.

    Raises:
        UserError: If half of the rate is not half of the step.
    """
    import keras
    import numpy as np

    kinds = (keras.optimizers.Adam, keras.optimizers.AdamW, keras.optimizers.SGD)
    if type(optimizer) in kinds:
        return
    config = optimizer.get_config() | {"learning_rate": 1e-3}
    for key, off in (("gradient_accumulation_steps", None), ("use_ema", False)):
        if key in config:
            config[key] = off
    twin = type(optimizer).from_config(config)
    start = np.linspace(0.1, 1.0, 64, dtype="float32").reshape(8, 8)
    weights = [keras.Variable(start, name=name) for name in ("one", "other")]
    both = [Factors(), Factors(rate=0.5)]
    scale_decay(twin, both)
    scale_steps(twin, both)
    for step in range(3):
        gradient = keras.ops.convert_to_tensor(start - 0.2 * step)
        twin.apply([gradient, gradient], weights)
    whole, half = (start - np.asarray(weight.value) for weight in weights)
    if not np.abs(whole).max() or not np.allclose(half, whole / 2, rtol=0.05, atol=1e-7):
        raise UserError(
            "finetune.NAME.layer_decay, rates and weight_decays need an optimizer whose step is "
            f"proportional to its learning rate. Received: {type(optimizer).__name__}. Choose "
            "optimizer=adamw, adam or sgd, or leave them out."
        )
