"""The values of Keras variables as files hold them: by place and path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


def unnumbered(path: str) -> str:
    """Return a path without the numbers that Keras gives to layers as they are made.

    Keras numbers what has no name of its own, and goes on counting in a process.

    Example:
        >>> unnumbered("conv2d_93/kernel")
        'conv2d/kernel'
    """
    return re.sub(r"_[0-9]+(?=[/_]|$)", "", path)


def names_of(kind: str, variables: Sequence[Any]) -> list[str]:
    """Return a name for each variable that a file keeps: its place, and its path `unnumbered`.

    Args:
        kind: What the variables are of, the beginning of each name.
        variables: The variables.
    """
    return [f"{kind}/{place}/{unnumbered(v.path)}" for place, v in enumerate(variables)]


def capture_variables(kind: str, variables: Sequence[Any]) -> dict[str, np.ndarray]:
    """Return copies of the values of variables, by `names_of`.

    Args:
        kind: What the variables are of, the beginning of each name.
        variables: The variables.
    """
    values = (np.array(variable.value.numpy()) for variable in variables)
    return dict(zip(names_of(kind, variables), values, strict=True))


def scalar(value: keras.Variable) -> Any:
    """Return a number that a variable, a tensor or a plain value holds.

    Python's `int` and `float` do not take a variable that is there on several devices.

    Example:
        >>> scalar(3)
        3
    """
    value = getattr(value, "value", value)
    return value.numpy() if hasattr(value, "numpy") else value
