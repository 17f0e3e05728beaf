"""Numbers of 32 and 16 bits as a person wrote them: 0.1, not 0.10000000149011612."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def shortest(values: Sequence[Any], dtype: str = "float32") -> list[Any]:
    """Return the float64 with the fewest digits that each number of few bits stands for.

    Args:
        values: Numbers that were converted from `dtype`, lists of such, or `None`.
        dtype: `"float32"` or `"float16"`.

    Returns:
        The same numbers, each by the shortest text that leads to it in `dtype`.

    Example:
        >>> shortest([0.10000000149011612, [0.5], None])
        [0.1, [0.5], None]
    """
    flat = [value for value in values if isinstance(value, float)]
    # Infinities and NaN are made in silence; numpy warns of numbers that are too large.
    texts = np.array(flat, "float64").astype(dtype).astype(str).tolist()
    numbers = iter(map(float, texts))
    return [
        next(numbers) if isinstance(value, float)
        else shortest(value, dtype) if isinstance(value, list) else value
        for value in values
    ]
