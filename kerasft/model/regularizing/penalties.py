"""Penalties on weights that Keras has not: several on one weight, and towards where it began."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class Sum(keras.regularizers.Regularizer):
    """Several penalties on one weight.

    Args:
        parts: The penalties.
    """

    def __init__(self, parts):
        self.parts = tuple(parts)

    def __call__(self, x):
        return sum(part(x) for part in self.parts)


class Towards(keras.regularizers.Regularizer):
    """`strength * sum((weight - start) ** 2)`.

    Args:
        strength: The factor.
        start: What the weight was, as a tensor. It is neither a variable of the network nor part of
            a checkpoint: a resumed run loads the same weights again.
    """

    def __init__(self, strength, start):
        self.strength, self.start = strength, start

    def __call__(self, x):
        return self.strength * ops.sum(ops.square(x - self.start))

    def of_update(self, first, scale):
        """Return the penalty for the second factor of a low-rank update beside the weight.

        The weight itself stays at its start then, and the update is how far it is from there:
        `|scale a b|^2` is the sum of the products of `a^T a` and `b b^T`, both small.

        Args:
            first: The first factor, `a`, a variable.
            scale: What the product of both is multiplied with.
        """
        return _Update(self.strength * scale**2, first)


class _Update(keras.regularizers.Regularizer):
    def __init__(self, strength, first):
        self.strength, self.first = strength, first

    def __call__(self, x):
        rank = x.shape[0]
        a = ops.reshape(ops.convert_to_tensor(self.first), (-1, rank))
        b = ops.reshape(ops.convert_to_tensor(x), (rank, -1))
        within, across = ops.matmul(ops.transpose(a), a), ops.matmul(b, ops.transpose(b))
        return self.strength * ops.sum(within * across)


def add(variable: keras.Variable, penalty: keras.Regularizer) -> None:
    """Give a weight one more penalty."""
    held = variable.regularizer
    variable.regularizer = penalty if held is None else Sum([*_parts(held), penalty])


def of_factors(
    kernel: keras.Variable, first: keras.Variable, second: keras.Variable, scale: float
) -> None:
    """Hand the penalties of a kernel on to the factors of the low-rank update beside it.

    Args:
        kernel: The kernel.
        first: The first factor.
        second: The second one.
        scale: What their product is multiplied with.
    """
    held = kernel.regularizer
    parts = _parts(held)
    towards = [one for one in parts if isinstance(one, Towards)]
    if not towards:
        first.regularizer = second.regularizer = held
        return
    for one in parts:
        if isinstance(one, Towards):
            add(second, one.of_update(first, scale))
        else:
            add(first, one)
            add(second, one)
    # It stays where it is: nobody needs its start any more.
    kernel.regularizer = None


def _parts(penalty: keras.Regularizer | None) -> list[Any]:
    if penalty is None:
        return []
    return list(penalty.parts) if isinstance(penalty, Sum) else [penalty]
