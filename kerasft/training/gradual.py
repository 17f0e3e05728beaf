"""Gradual unfreezing: stage by stage from the head down."""

from __future__ import annotations

from typing import Any, Literal

from kerasft.errors import UserError
from kerasft.training.stages import Stage


def gradual(
    *, stages: int = 4, epochs: int = 1, epochs_each: int = 1, rate: float = 1.0,
    learning_rate: float | None = None, layer_decay: float | Literal["auto"] = 1.0,
    rates: dict[str, float] | None = None, weight_decays: dict[str, float] | None = None,
    batch_norm: Literal["auto", "frozen", "train"] = "auto",
) -> dict[str, Stage]:
    """Return stages that train more and more of the network (Howard and Ruder 2018).

    The first one trains the head, each further one an equal share more of the backbone's layers,
    from the top down, and the last one all of them (<https://arxiv.org/abs/1801.06146>, section
    3.3).

    Args:
        stages: How many, at least 2.
        epochs: Passes over the training examples of the last stage.
        epochs_each: Those of each stage before it.
        rate: See `Stage`, of all stages but the head's, as `learning_rate`, `layer_decay`, `rates`,
            `weight_decays` and `batch_norm`.
        learning_rate: Their peak rate.
        layer_decay: Their factor from level to level, or `"auto"`.
        rates: Factors of the learning rate in the last stage, in which all trains.
        weight_decays: Factors of the weight decay, likewise.
        batch_norm: What batch normalization of the backbone does in all of them.

    Returns:
        The stages by their numbers, in order.

    Example:
        >>> [stage.train for stage in gradual(stages=3).values()]
        ['head', 0.5, 'all']
    """
    if stages < 2 or epochs_each < 1:
        raise UserError(
            "finetune.NAME.stages must be at least 2, and epochs_each at least 1. Received: "
            f"stages={stages}, epochs_each={epochs_each}. For one stage choose finetune=full."
        )
    shared: dict[str, Any] = {
        "rate": rate, "learning_rate": learning_rate, "layer_decay": layer_decay,
        "batch_norm": batch_norm,
    }
    made = {"1": Stage("head", epochs=epochs_each)}
    for place in range(1, stages - 1):
        made[str(place + 1)] = Stage(place / (stages - 1), epochs=epochs_each, **shared)
    made[str(stages)] = Stage(
        "all", epochs=epochs, rates=rates, weight_decays=weight_decays, **shared
    )
    return made
