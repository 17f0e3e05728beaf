"""What is being read right now, for messages when nothing moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_followers: list[Callable[[str], None]] = []


def begins(name: object) -> None:
    """Tell that the reading of something begins.

    Args:
        name: A file, or words for what is read.
    """
    for follower in tuple(_followers):
        follower(str(name))


@contextmanager
def followed(follower: Callable[[str], None]) -> Iterator[None]:
    """Have a function told of all that is read inside the block, from whatever thread.

    Args:
        follower: Takes the name.

    Example:
        >>> names = []
        >>> with followed(names.append):
        ...     begins("a.csv")
        >>> names
        ['a.csv']
    """
    _followers.append(follower)
    try:
        yield
    finally:
        _followers.remove(follower)
