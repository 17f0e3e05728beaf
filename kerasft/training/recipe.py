"""How a model is trained: its stages, and the optimizer that each of them is compiled with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasft.contracts import Task
from kerasft.training.fused import add_up_rows, fuse
from kerasft.training.stages import Stage, is_head_alone, select

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

    def compile(
        self, model: keras.Model, peak: float, steps: int, *, steps_per_execution: int = 1
    ) -> None:
        """Compile a model whose variables are selected, with an optimizer ready for its first step.

        Args:
            model: The assembled model.
            peak: The peak learning rate.
            steps: Steps of the whole stage.
            steps_per_execution: Steps in a call of the train function.
        """
        optimizer = self.optimizer(self.schedule(peak, steps))
        exclude_from_decay(optimizer, model)
        add_up_rows(optimizer)
        if self.fast:
            fuse(optimizer, steps=steps)
        # Slots made in the first step would have TensorFlow trace it twice.
        optimizer.build(model.trainable_variables)
        model.compile(
            optimizer=optimizer, jit_compile=False, steps_per_execution=steps_per_execution,
            **self.task.compile(),
        )
        if not model.optimizer.built:  # Keras put another one around it, which scales the loss
            model.optimizer.build(model.trainable_variables)


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
