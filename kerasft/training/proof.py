"""The proof after the first step: exactly what should train has moved, each group at its rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerasft.system.console import clock, listing
from kerasft.system.variables import scalar
from kerasft.training.fused import dense
from kerasft.training.keep_best import values_of
from kerasft.training.rates import Factors, innermost

if TYPE_CHECKING:
    import tensorflow as tf

# So many numbers of a variable are looked at, evenly spread, to tell how far it has moved.
SAMPLE = 2**14
# A number tells how far it should move where that is so many times what rounding can hide.
CLEAR = 256
# How far a group's update may be from the one that is due: rounding leaves 1/512 of a number.
TOLERANCE = 0.005


def sampled(values: tf.Tensor | np.ndarray) -> Any:
    """Return some of the numbers of a tensor or array, evenly spread, in a row."""
    count = int(np.prod(values.shape))
    flat = values.reshape(-1) if hasattr(values, "reshape") else keras.ops.reshape(values, [-1])
    return flat[:: -(-count // SAMPLE) or 1]


def note_first_gradients(optimizer: keras.Optimizer) -> None:
    """Have an optimizer keep some numbers of the gradients of its first update.

    Adam's moments tell what the gradients were; what SGD keeps has gone through the rate already,
    and could not bear witness to it.

    Args:
        optimizer: A built optimizer; it is changed in place, and its `first_gradients` is then a
            list of them, by place.
    """
    import tensorflow as tf

    noted = [tf.Variable(tf.zeros_like(sampled(v.value))) for v in optimizer._trainable_variables]
    # Out of sight of Keras' tracking: they are no part of the optimizer's state.
    object.__setattr__(optimizer, "first_gradients", noted)
    update = optimizer._backend_update_step

    def update_and_note(
        gradients: Sequence[Any], variables: Sequence[Any], rate: tf.Tensor
    ) -> None:
        def note() -> Any:
            for gradient, variable in zip(gradients, variables, strict=True):
                place = optimizer._get_variable_index(variable)
                noted[place].assign(sampled(dense(gradient, variable)))
            return tf.constant(True)

        tf.cond(tf.equal(optimizer.iterations, 0), note, lambda: tf.constant(False))
        update(gradients, variables, rate)

    optimizer._backend_update_step = update_and_note


class FirstStep(keras.callbacks.Callback):
    """Proves after the first step that what should rest has stayed and what should train has moved.

    What rests, statistics of batch normalization among it, must be as it was to the last bit. What
    trains must have moved unless its gradient was zero (rows of an embedding that no text of the
    batch has) or the move too small for a float; and where groups have rates of their own, each
    must have moved at its own. With gradient accumulation that is seen at the first update.

    Args:
        say: Says a sentence to the user.
        factors: Those of the variables that train, in the order of the model's; `None` where all
            have the same.
        reports: Whether it also says how long the run took to come to that step.
        settle: Called before it looks, and raises where the step had no sound loss.

    Raises:
        RuntimeError: If not, with the names of the variables.
    """

    def __init__(
        self, say: Callable[[str], None], *, factors: Sequence[Factors] | None = None,
        reports: bool = False, settle: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self.say, self.factors, self.reports, self.settle = say, factors, reports, settle
        self.resting: dict[int, np.ndarray] | None = None
        self.training: dict[int, np.ndarray] = {}
        self.updates = 0  # of the optimizer, before the first step

    def on_train_batch_begin(self, batch, logs=None):
        if self.resting is not None:
            return
        trains = {id(v) for v in self.model.trainable_variables}
        moving = _moving(self.model)
        self.resting = {
            id(v): values_of(v) for v in self.model.variables
            if id(v) not in trains and id(v) not in moving
        }
        self.training = {id(v): values_of(v) for v in self.model.trainable_variables}
        self.updates = int(scalar(self.model.optimizer.iterations))

    def on_train_batch_end(self, batch, logs=None):
        if self.resting or self.training:
            self.settle()
        if self.resting:
            self._require_rest()
        if self.reports:
            self.say(f"first step after {clock.seconds():.1f} s")
            self.reports = False
        # A micro-step of an accumulation updates nothing, nor does a step whose loss, scaled for
        # half precision, overflows.
        if not self.training:
            return  # a GPU would wait for the number that is read here
        done = int(scalar(self.model.optimizer.iterations)) - self.updates
        if done:
            self._require_moves(done)
            self.training = {}

    def _require_rest(self) -> None:
        assert self.resting is not None
        wrong = [
            v.path for v in self.model.variables
            if id(v) in self.resting and not _same(values_of(v), self.resting[id(v)])
        ]
        self.resting = {}
        if wrong:
            raise RuntimeError(
                f"Variables that should be frozen changed in the first step: {listing(wrong)}"
            )

    def _require_moves(self, done: int) -> None:
        variables = self.model.trainable_variables
        now = {id(v): values_of(v) for v in variables}
        still = [v for v in variables if _same(now[id(v)], self.training[id(v)])]
        if len(still) == len(variables):
            self.say("Nothing moved in the first step: are the gradients zero or not numbers?")
        optimizer, due = innermost(self.model.optimizer), _Due(self.model.optimizer, self.factors)
        wrong = [
            v.path for v in still
            if done == 1 and (move := due.of(v, self.training[id(v)])) is not None
            and _clear(move, self.training[id(v)]).any()
        ]
        if wrong:
            raise RuntimeError(
                "Variables that should train did not move in the first step, though their "
                f"gradients are not zero: {listing(wrong)}"
            )
        if self.factors and done == 1:
            self._require_rates(due, {id(v): (self.training[id(v)], now[id(v)]) for v in variables})
        if hasattr(optimizer, "first_gradients"):
            object.__delattr__(optimizer, "first_gradients")

    def _require_rates(self, due: _Due, moved: dict[int, tuple[np.ndarray, np.ndarray]]) -> None:
        """See that each group moved at its own rate."""
        sums: dict[Factors, np.ndarray] = {}
        members: dict[Factors, list[str]] = {}
        assert self.factors is not None
        for variable, own in zip(self.model.trainable_variables, self.factors, strict=True):
            before, after = moved[id(variable)]
            members.setdefault(own, []).append(variable.path)
            both = sums.setdefault(own, np.zeros(2))
            wanted = due.of(variable, before)
            if wanted is None or variable.constraint is not None:
                continue
            start = sampled(before)
            clear = _clear(wanted, before)
            move = (start.astype("float64") - sampled(after))[clear]
            # What is due weighs the numbers: those that hardly move say little.
            both += [move @ wanted[clear], wanted[clear] @ wanted[clear]]
        found = {own: move / due for own, (move, due) in sums.items() if due > 0}
        wrong = {own: ratio for own, ratio in found.items() if not abs(ratio - 1) < TOLERANCE}
        if wrong:
            said = "; ".join(
                f"{listing(members[own], 2)}: {ratio * own.rate:.4g} in place of {own.rate:.4g}"
                for own, ratio in wrong.items()
            )
            raise RuntimeError(
                "Groups were not updated at their own share of the learning rate in the first "
                f"step: {said}"
            )
        rates = sorted({own.rate for own in found})
        if rates:
            unclear = len(sums) - len(found)
            self.say(
                f"first updates of {len(found)} groups are {rates[0]:.3g} to {rates[-1]:.3g} of "
                "the learning rate, as set"
                + (f"; those of {unclear} are too small to tell" if unclear else "")
            )


class _Due:
    """How far an optimizer's last update, at its own formula, should have moved a variable.

    Args:
        optimizer: The optimizer after the update.
        factors: Those of its variables; `None` where there are none.
    """

    def __init__(self, optimizer: keras.Optimizer, factors: Sequence[Factors] | None):
        self.optimizer, self.factors = innermost(optimizer), factors
        self.step = int(scalar(self.optimizer.iterations))
        rate = getattr(self.optimizer, "_learning_rate", np.nan)  # several in one have none
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            # Keras' schedules count the micro-steps of an accumulation, too.
            rate = rate(int(scalar(self.optimizer._iterations)) - 1)
        self.rate = float(scalar(rate() if callable(rate) else rate))
        averaged = self.optimizer.use_ema and self.optimizer.ema_overwrite_frequency
        law = {
            keras.optimizers.Adam: self._adam, keras.optimizers.AdamW: self._adam,
            keras.optimizers.SGD: self._sgd,
        }.get(type(self.optimizer))
        # Weights that averages are written into have moved by more than the update.
        self.law = None if averaged else law

    def of(self, variable: keras.Variable, before: np.ndarray) -> np.ndarray | None:
        """Return by how much numbers of a variable should have fallen, see `sampled`.

        Args:
            variable: The variable.
            before: What it was.

        Returns:
            The numbers; `None` where it is not known.
        """
        if self.law is None or before.dtype != "float32":
            return None
        place = self.optimizer._get_variable_index(variable)
        own = self.factors[place] if self.factors else Factors()
        moved = self.law(place, own)
        if moved is None:
            return None
        decay = self.optimizer.weight_decay
        if decay and self.optimizer._use_weight_decay(variable):
            moved = moved + self.rate * own.rate * decay * own.decay * sampled(before)
        return moved

    def _adam(self, place: int, own: Factors) -> np.ndarray | None:
        optimizer = self.optimizer
        if optimizer.amsgrad:
            return None
        first, second = (
            np.asarray(sampled(slot[place].value), "float64")
            for slot in (optimizer._momentums, optimizer._velocities)
        )
        unbiased = np.sqrt(1 - optimizer.beta_2**self.step) / (1 - optimizer.beta_1**self.step)
        return self.rate * own.rate * unbiased * first / (np.sqrt(second) + optimizer.epsilon)

    def _sgd(self, place: int, own: Factors) -> np.ndarray | None:
        optimizer = self.optimizer
        if self.step != 1:  # from then on it depends on the updates before
            return None
        noted = getattr(optimizer, "first_gradients", None)
        if noted is not None:
            moved = self.rate * own.rate * noted[place].numpy().astype("float64")
        elif optimizer.momentum:
            moved = -np.asarray(sampled(optimizer.momentums[place].value), "float64")
        else:
            return None
        return moved * (1 + optimizer.momentum) if optimizer.nesterov else moved


def _clear(move: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Whether numbers should move by far more than rounding can hide."""
    return np.abs(move) > CLEAR * np.spacing(np.abs(sampled(before)))


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are alike to the last bit; one that is no number is like itself."""
    return np.array_equal(one.view(f"u{one.itemsize}"), other.view(f"u{other.itemsize}"))


def _moving(model: keras.Model) -> set[int]:
    """Return what changes by design and is trained by no gradient: seeds, statistics of norms."""
    found = {id(v) for v in model.variables if "seed" in v.path.split("/")[-1]}
    for layer in model._flatten_layers(include_self=False):
        if layer.trainable and layer.trainable_variables:
            found |= {id(v) for v in layer._non_trainable_variables}
    return found
