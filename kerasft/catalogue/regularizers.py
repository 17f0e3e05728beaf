"""The settings that a regularizer may have, known before a network is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kerasft.errors import shown
from kerasft.system.recorded import is_number

# Of each number: the lowest and the highest, and whether they are allowed themselves.
_FACTOR = (0.0, 1e6, True)
_OPEN_SHARE = (0.0, 1.0, False)
SETTINGS: dict[str, dict[str, tuple[float, float, bool]]] = {
    "dropout": {"rate": (0.0, 0.99, True)},
    "l1": {"strength": _FACTOR},
    "l2": {"strength": _FACTOR},
    "l2_sp": {"strength": _FACTOR, "head": _FACTOR},
    "stochastic_depth": {"rate": _OPEN_SHARE},
    "embedding_noise": {"alpha": (0.0, 1e3, True)},
    "r_drop": {"alpha": _FACTOR},
}

# Networks of `keras.applications` that add nothing to what goes around their layers.
NOT_RESIDUAL = (
    "DenseNet121", "DenseNet169", "DenseNet201", "InceptionV3", "MobileNet", "VGG16", "VGG19",
)


def problems(kind: str, name: str, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the setting and what is wrong with it, for each that is out of its range.

    Args:
        kind: The function in `kerasft.model.regularize`.
        name: The name of the node in `regularize`.
        given: What is set, sound or not.

    Example:
        >>> [text for _, text in problems("stochastic_depth", "depth", {"rate": 1.0})]
        ['regularize.depth.rate must lie above 0 and below 1. Received: 1.0.']
    """
    for key, (low, high, closed) in SETTINGS.get(kind, {}).items():
        value = given.get(key)
        if value is None:
            continue
        fits = is_number(value) and math.isfinite(value) and (
            low <= value <= high if closed else low < value < high
        )
        if not fits:
            where = f"between {low:g} and {high:g}" if closed else (
                f"above {low:g} and below {high:g}"
            )
            yield key, f"regularize.{name}.{key} must lie {where}. Received: {shown(value)}."
