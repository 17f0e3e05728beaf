"""The order of the training examples: grouped by length, within a budget, balanced."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from kerasft.abilities import Weighted
from kerasft.config import auto_batch
from kerasft.contracts import Task
from kerasft.data.annotations.presence import has_classes, presence
from kerasft.data.sampling import Sampling, described, normal
from kerasft.errors import UserError
from kerasft.rows import padded_width
from kerasft.spec import Splits
from kerasft.system.console import say, warn

if TYPE_CHECKING:
    from kerasft.data.order import Order
    from kerasft.data.store import Store


def require_sampling(sampling: Sampling, task: Task) -> None:
    """See that examples can be drawn as is wanted, by what labels of the task's kind are.

    Raises:
        UserError: If not.
    """
    if not has_classes(task.kind):
        sampling.rates(None)


def arrange(cfg: DictConfig, sampling: Sampling, task: Task, splits: Splits, train: Store) -> Order:
    """Return the order of the training examples, and say what sampling makes of the classes.

    Args:
        cfg: The config.
        sampling: How often each example is drawn.
        task: The task.
        splits: The data.
        train: The training examples as they are prepared.

    Raises:
        UserError: If a budget of tokens is too small, or examples cannot be drawn as is wanted.
    """
    from kerasft.data import order
    from kerasft.data.fingerprint import fingerprints

    if cfg.batch_tokens is not None:
        _require_batch_tokens(cfg.batch_tokens, train)
    held = presence(splits.train.annotations, splits.labels)
    rates = normal(sampling.rates(held))
    # By content, not by id: a row that comes into a table changes the ids of those below it.
    keys = order.keys(fingerprints(splits.train))
    made = order.Order(
        len(train), min(auto_batch.examples(cfg), len(train)), seed=cfg.seed,
        lengths=train.lengths if cfg.length_grouping else None, positions=cfg.batch_tokens,
        longest=train.longest or sys.maxsize, keys=keys, rates=rates,
    )
    if rates is not None:
        say(f"sampling: {described(made, held)}")
        if isinstance(task, Weighted) and (weights := task.class_weight) is not None:
            warn(f"sampling and task.class_weight={_short(weights)} both raise rare classes, which "
                 "then count more than frequent ones: leave one of them out")
    return made


def _short(weights: str | Mapping[str, float]) -> str:
    return weights if isinstance(weights, str) else "{...}"


def _require_batch_tokens(tokens: int, train: Store) -> None:
    if train.lengths is None:
        raise UserError(
            "batch_tokens counts the tokens of texts, and these examples have no length of their "
            f"own. Set batch_size instead. Received: {tokens}."
        )
    if tokens < (longest := padded_width(train.lengths, train.longest)):
        raise UserError(
            f"batch_tokens must be at least {longest}, the length of the longest training text. "
            f"Set that, or a shorter backbone.sequence_length. Received: {tokens}."
        )
