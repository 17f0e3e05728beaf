"""Errors for users out of functions that TensorFlow calls: it hands on no more than a text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kerasft.errors import UserError

_LAST: list[UserError] = []


@contextmanager
def noted() -> Iterator[None]:
    """Remember an error for users that is raised inside the block, for `told`.

    A function that `tf.numpy_function` or a generator of a `tf.data.Dataset` calls is to raise its
    errors inside of it.
    """
    try:
        yield
    except UserError as error:
        _LAST[:] = [error]
        raise


@contextmanager
def told() -> Iterator[None]:
    """Raise what `noted` remembers in place of the error that TensorFlow has made of it."""
    import tensorflow as tf

    _LAST.clear()
    try:
        yield
    except tf.errors.OpError as error:
        if _LAST and str(_LAST[0]) in str(error):
            raise _LAST.pop() from error
        raise
