"""How a model is trained: its stages, and the optimizer that each of them is compiled with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kerasft.contracts import Task
from kerasft.distributed.group import current
from kerasft.errors import UserError
from kerasft.training import averages, replicated
from kerasft.training.averages import Averages
from kerasft.training.depth import depth_of
from kerasft.training.fused import add_up_rows, ask_schedule_once, fuse
from kerasft.training.proof import note_first_gradients
from kerasft.training.rates import (
    Factors,
    factors_of,
    innermost,
    require_obedient,
    scale_decay,
    scale_steps,
)
from kerasft.training.stages import Stage, is_head_alone, select
from kerasft.training.trainability import Part, describe

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Args:
        stages: Stages by name, in order.
        task: Gives loss, metrics, monitor and mode.
        optimizer: Makes an optimizer for a rate or schedule.
        schedule: Makes a schedule of a peak and a number of steps.
        usual_rate: The peak for the backbone as a whole where the user chose none.
        learning_rate: The peak that the user chose, or `None`.
        pretrained: Whether the backbone is pretrained.
        callbacks: Makes the user's callbacks, anew for each stage.
        fast: Whether the optimizer's update is fused, see `fuse`.
        max_steps: The most steps of a stage.
        averages: What of the weights is averaged.
        jit_compile: Whether XLA compiles the step.
        prefetch_to_device: Whether batches are copied to the GPU, if any, ahead of the step.
    """

    stages: Mapping[str, Stage]
    task: Task
    optimizer: Callable[[Any], Any]
    schedule: Callable[[float, int], Any]
    usual_rate: float
    learning_rate: float | None = None
    pretrained: bool = True
    callbacks: Callable[[], Mapping[str, Any]] = dict
    fast: bool = True
    max_steps: int | None = None
    averages: Averages = field(default_factory=Averages)
    jit_compile: bool = False
    prefetch_to_device: bool = False

    def planned(self, steps: int) -> tuple[int, dict[str, int]]:
        """Return the steps of an epoch and the epochs of each stage, see `planned`.

        Args:
            steps: Steps that all training examples take.
        """
        return planned(self.stages, steps, self.max_steps)

    def select(self, model: keras.Model, name: str) -> float:
        """Have the variables of a stage train, and no others.

        Args:
            model: The assembled model.
            name: The stage's name.

        Returns:
            The stage's peak learning rate.
        """
        stage = self.stages[name]
        select(model, stage, pretrained=self.pretrained)
        return stage.peak(self.learning_rate, self.usual_rate, head_alone=is_head_alone(model))

    def factors(self, model: keras.Model, name: str) -> list[Factors] | None:
        """Return the factors of a stage's variables, see `factors_of`.

        Args:
            model: The assembled model, with the variables of the stage selected.
            name: The stage's name.
        """
        return factors_of(model, self.stages[name])

    def describe(self, model: keras.Model, name: str, peak: float) -> list[Part]:
        """Return what trains in a stage, part by part, see `describe`.

        Args:
            model: The assembled model, with the variables of the stage selected.
            name: The stage's name.
            peak: Its peak learning rate.
        """
        stage = self.stages[name]
        decay = getattr(innermost(self.optimizer(peak)), "weight_decay", None)
        by_depth = depth_of(model) if stage.layer_decay != 1 else None
        return describe(model, peak, decay, self.factors(model, name), by_depth)

    def require(self, model: keras.Model) -> None:
        """See that each stage finds in the model what its rules name, before the first one begins.

        And that several devices, where there are such, train it as one would.

        Args:
            model: The assembled model.

        Raises:
            UserError: If not, with the stage's name.
        """
        replicated.require_alike(model, current())
        before: list[str] = []
        for name, stage in self.stages.items():
            key = name.partition("/")[0]
            with of_stage(name):
                paths = select(model, stage, pretrained=self.pretrained)
                factors = factors_of(model, stage)
                if factors:
                    optimizer = innermost(self.optimizer(1e-3))
                    require_obedient(optimizer)
                    if stage.weight_decays and not optimizer.weight_decay:
                        raise UserError(
                            "finetune.NAME.weight_decays multiplies optimizer.weight_decay, and "
                            "this optimizer has none. Set it, or leave weight_decays out."
                        )
            if key != name and paths == before:
                raise UserError(
                    f"finetune.{key}.stages: stage {name} would train what the one before it "
                    "trains: the network has too few layers for so many stages. Received: "
                    f"{sum(one.startswith(f'{key}/') for one in self.stages)}."
                )
            before = paths

    def compile(
        self, model: keras.Model, peak: float, steps: int, *, steps_per_execution: int = 1,
        factors: Sequence[Factors] | None = None,
    ) -> None:
        """Compile a model whose variables are selected, with an optimizer ready for its first step.

        Args:
            model: The assembled model.
            peak: The peak learning rate.
            steps: Steps of the whole stage.
            steps_per_execution: Steps in a call of the train function.
            factors: Those of the variables that train, see `factors`.
        """
        group, running = current(), self.averages.running
        schedule = self.schedule(peak, steps)
        with group.scope():
            optimizer = self.optimizer(running.schedule(schedule, steps) if running else schedule)
            replicated.update_locally(optimizer, group)
            exclude_from_decay(optimizer, model)
            add_up_rows(optimizer)
            ask_schedule_once(innermost(optimizer))
            if factors:
                scale_decay(innermost(optimizer), factors)
            is_fused = self.fast and fuse(optimizer, steps=steps, factors=factors)
            if factors and not is_fused:
                scale_steps(innermost(optimizer), factors)
            averages.follow(innermost(optimizer), running, steps)
            # Slots made in the first step would have TensorFlow trace it twice.
            optimizer.build(model.trainable_variables)
            if factors and not is_fused:
                note_first_gradients(innermost(optimizer))
            optimizer = replicated.loss_scaled(optimizer, model, group)
        # Outside of the scope: metrics are of the whole batch, and each process has its own.
        model.compile(
            optimizer=optimizer, jit_compile=self.jit_compile,
            steps_per_execution=steps_per_execution,
            **self.task.compile(),
        )
        with group.scope():
            if not model.optimizer.built:  # the one that scales the loss
                model.optimizer.build(model.trainable_variables)
            averages.begin(model)


@contextmanager
def of_stage(name: str) -> Iterator[None]:
    """Have messages that stages give of themselves name a stage by its key.

    Args:
        name: The stage's name; behind a `/` stands its number, where one key makes several.
    """
    try:
        yield
    except UserError as error:
        key = f"finetune.{name.partition('/')[0]}."
        raise UserError(
            problems=[problem.replace("finetune.NAME.", key) for problem in error.problems]
        ) from None


def planned(
    stages: Mapping[str, Stage], steps: int, max_steps: int | None
) -> tuple[int, dict[str, int]]:
    """Return the steps of an epoch and the epochs of each stage.

    With fewer steps allowed than an epoch has, an epoch ends there; with more, a stage ends after
    whole epochs.

    Args:
        stages: Stages by name.
        steps: Steps that all training examples take.
        max_steps: The most steps of a stage.

    Example:
        >>> planned({"full": Stage("all", epochs=3)}, 100, 250)
        (100, {'full': 2})
    """
    steps = min(steps, max_steps or steps)
    return steps, {
        name: min(stage.epochs, (max_steps or stage.epochs * steps) // steps)
        for name, stage in stages.items()
    }


def exclude_from_decay(optimizer: keras.Optimizer, model: keras.Model) -> None:
    """Leave norms and biases, which have one dimension or none, out of weight decay."""
    if getattr(optimizer, "weight_decay", None):
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in model.trainable_variables if len(v.shape) < 2]
        )
