"""Data that Python hands over, for a source that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from kerasft.errors import UserError

_GIVEN: ContextVar[Any] = ContextVar("given", default=None)

NOT_GIVEN = (
    "data=memory reads what Python hands over, and nothing was: kerasft.train([...], data=frame). "
    "A run that learned from it is measured or resumed with the same data again: "
    "kerasft.evaluate(RUN, data=frame), kerasft.resume(RUN, data=frame); it is not kept in the run "
    "folder. For the command line write it to a file (frame.to_parquet) and choose data=table."
)


@contextmanager
def given(data: Any) -> Iterator[None]:
    """Hand data over to the source that reads it while the block runs.

    Args:
        data: The data; `None` for none.

    Example:
        >>> with given({"text": ["a"], "label": [0]}):
        ...     print(list(current_data()))
        ['text', 'label']
    """
    token = _GIVEN.set(data)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def current_data() -> Any:
    """Return the data that was handed over.

    Raises:
        UserError: If there is none.
    """
    if (data := _GIVEN.get()) is None:
        raise UserError(NOT_GIVEN)
    return data
