"""A stage whose head is computed: the optimum of a linear head on the features as they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kerasft.contracts import Solvable, Task
from kerasft.data.sample import sample
from kerasft.errors import UserError
from kerasft.runs.finetuned import eval_batch_size
from kerasft.steps.fitting import solving
from kerasft.steps.preparing.prepare import Parts, Ready
from kerasft.system.console import say
from kerasft.system.terminal import status

if TYPE_CHECKING:
    import keras

# The most training examples that a head is solved on, and the most products of a number of them
# with one of the kernel: more would take minutes, and tell no more.
MOST, MOST_WORK = 50_000, 5e9
OUTPUTS = "head_outputs"


def require_solvable(parts: Parts, task: Task, model: keras.Model) -> None:
    """See that a head can be computed, where a stage wants it.

    Raises:
        UserError: If the task has no such optimum, or more of the head trains than one layer.
    """
    wanted = [name for name, stage in parts.stages.items() if stage.solve]
    if not wanted:
        return
    key, kind = f"finetune.{wanted[0].partition('/')[0]}.solve", type(task).__name__
    if wanted[0] != next(iter(parts.stages)):
        raise UserError(
            f"{key}: a head is computed in the first stage, on the pretrained features. Received: "
            f"the stages {', '.join(parts.stages)}."
        )
    if not isinstance(task, Solvable):
        raise UserError(
            f"{key}: the best head can be computed for classes, several labels and numbers. "
            f"Received: a task of the kind {kind}. Choose finetune=full or two_phase."
        )
    layers = {layer.name: layer for layer in model.head_layers}
    others = [n for n, one in layers.items() if one.trainable_variables and n != OUTPUTS]
    if others or OUTPUTS not in layers:
        raise UserError(
            f"{key}: only a linear head can be computed, and this one also has "
            f"{', '.join(others) or 'no layer ' + OUTPUTS}. Choose head=linear with a pooling "
            "that learns nothing, or finetune=two_phase."
        )


def solver(
    cfg: DictConfig, parts: Parts, ready: Ready, *, quiet: bool = False
) -> Callable[[Any], dict[str, float]] | None:
    """Return what computes a model's head, and returns figures of the training split.

    Returns:
        `None` where no stage wants it.
    """
    if not any(stage.solve for stage in parts.stages.values()):
        return None

    def solve(model: keras.Model) -> dict[str, float]:
        began = time.perf_counter()
        with status.showing("computing the head ..."):
            count, linear, figures = _solve(cfg, parts, ready, model)
        if not quiet:
            say(
                f"head computed: {linear.model} on the features of {count:,} examples, strength "
                f"{linear.strength:.2g}, in {time.perf_counter() - began:.1f} s"
            )
        return figures

    return solve


def _solve(
    cfg: DictConfig, parts: Parts, ready: Ready, model: keras.Model
) -> tuple[int, Any, dict[str, float]]:
    import keras

    task, labels, splits = ready.task, ready.splits.labels, ready.splits
    assert isinstance(task, Solvable)
    outputs = next(layer for layer in model.head_layers if layer.name == OUTPUTS)
    vector = outputs.input
    units = int(outputs.kernel.shape[-1])
    learned = task.targets(splits.train.annotations, labels, training=True)
    held = task.targets(splits.validation.annotations, labels)
    most = int(min(MOST, MOST_WORK / (units * vector.shape[-1])))
    rows = sample(learned["labels"], most, cfg.seed)
    stores = {
        "train": solving.part_of(ready.stores["train"], rows),
        "validation": ready.stores["validation"],
    }
    features = {
        name: found["cut_0"] for name, found in solving.compute(
            keras.Model(model.inputs, vector), stores, parts.cache,
            batch_size=eval_batch_size(cfg), about=cfg.name,
        ).items()
    }
    linear = task.solve(
        features["train"], learned.take(rows), labels, validation=(features["validation"], held),
        seed=cfg.seed,
    )
    outputs.kernel.assign(linear.kernel)
    outputs.bias.assign(linear.bias)
    kept = solving.kept_of(task, linear(features["train"]))
    figures = task.figures(
        task.statistics(splits.train.annotations.take(rows), kept, labels), labels
    )
    shown = [name for name in task.each_epoch if not name.startswith("val_")]
    return len(rows), linear, {n: float(figures[n]) for n in shown if n in figures}
