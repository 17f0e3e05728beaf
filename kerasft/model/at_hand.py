"""`backbone=auto`: a node that stands for the best of several backbones until that is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerasft.errors import UserError

TARGET = "kerasft.model.at_hand.at_hand"


def at_hand(
    among: Sequence[str] | None = None, image_size: int | None = None,
    sequence_length: int | None = None, examples: int = 500, depths: int = 3,
) -> Any:
    """Stand for the network that suits the data best, of those whose weights are at hand.

    Before a run begins, each goes over a sample of the training examples once. A linear head on its
    features is computed, and measured on validation examples, as `kerasft probe` does it. The best
    one is taken, less of it where that is better by more than chance; with a budget, the best of
    those of which an epoch fits. Tasks without such a head (boxes, masks, words, texts that go on)
    get the smallest one, or the first of `among`.

    Args:
        among: Overrides that choose each network, such as `"backbone.preset=bert_tiny_en_uncased"`
            or `"backbone=applications backbone.name=MobileNetV2"`; by default all that
            `kerasft models` calls cached.
        image_size: Height and width of images in pixels, by default those of each network.
        sequence_length: Tokens of a text, by default those of each network.
        examples: How many training and how many validation examples are looked at.
        depths: At how many depths of each network; 1 for the whole of it alone.

    Raises:
        UserError: Always: it is replaced before it is called.
    """
    raise UserError(
        "backbone=auto is chosen by `kerasft train`, `train --plan`, `train --trainable` and "
        "`show`. Elsewhere, name a backbone: `kerasft probe` compares several."
    )
