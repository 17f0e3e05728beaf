"""Watching training against validation loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def overfitting(rows: Sequence[Mapping[str, Any]], best_epoch: int) -> str | None:
    """Say so where the validation loss rose while the training loss went on falling.

    Args:
        rows: One dict an epoch with `epoch`, `loss` and `val_loss`. Those of another `image_size`
            than the last one's, and those of no training, are left out.
        best_epoch: The epoch whose weights are kept.

    Returns:
        A sentence with what may help, or `None`.

    Example:
        >>> overfitting([{"epoch": e, "loss": 1 / e, "val_loss": e} for e in (1, 2, 3)], 1)[:30]
        'overfitting from epoch 2 on: v'
    """
    rows = [
        row for row in rows
        if row.get("image_size") == rows[-1].get("image_size") and "loss" in row
    ]
    if len(rows) < 3:
        return None
    lowest = min(range(len(rows)), key=lambda i: rows[i]["val_loss"])
    low, last = rows[lowest], rows[-1]
    grew = last["val_loss"] > 1.1 * low["val_loss"]
    fell = last["loss"] < 0.9 * low["loss"]
    if lowest >= len(rows) - 2 or not (grew and fell):
        return None
    return (
        f"overfitting from epoch {low['epoch'] + 1} on: validation loss rose from "
        f"{low['val_loss']:.4f} to {last['val_loss']:.4f} while training loss fell from "
        f"{low['loss']:.4f} to {last['loss']:.4f}. The weights of epoch {best_epoch} are kept. "
        "What may help: fewer epochs, a lower learning rate, augment=strong (images), "
        "head.dropout, task.label_smoothing, regularize=l2, finetune=linear_probe, or more data."
    )
