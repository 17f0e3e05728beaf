"""The learning rate that a network is usually fine-tuned at, by its kind and size."""

from __future__ import annotations

from math import inf

# For pretrained networks with fewer weights than the first number. What was measured stands in
# docs/learning-rate.md.
TEXTS = ((2_000_000, 1e-3), (50_000_000, 1e-4), (200_000_000, 5e-5), (inf, 2e-5))
IMAGES = ((400_000, 1e-3), (1_000_000, 3e-4), (10_000_000, 2e-4), (inf, 1e-4))
# Random weights bear and need more.
SMALL = 2_000_000


def usual_rate(size: int, *, text: bool, pretrained: bool) -> float:
    """Return the peak rate at which a network is usually fine-tuned as a whole by AdamW.

    Args:
        size: How many weights it has.
        text: Whether it is for texts; else for images.
        pretrained: Whether its weights are pretrained. Those need less the larger the network is:
            Devlin et al. (2018, <https://arxiv.org/abs/1810.04805>) chose among 2e-5 to 5e-5 for
            110 million, Turc et al. (2019, <https://arxiv.org/abs/1908.08962>) among rates up to
            3e-4 for smaller ones.

    Example:
        >>> usual_rate(22_000_000, text=True, pretrained=True)
        0.0001
    """
    if not pretrained:
        return 1e-3 if size < SMALL else 5e-5 if text else 3e-4
    return next(rate for most, rate in (TEXTS if text else IMAGES) if size < most)
