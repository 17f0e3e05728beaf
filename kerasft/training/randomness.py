"""The random state of Python and NumPy: captured for checkpoints, and restored."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

# Words of the Mersenne Twister. Its position may be behind the last one, and nowhere else: NumPy
# reads at any that it is given.
_WORDS = 624
# The version of the states of Python's `random`.
_VERSION = 3


def capture_random() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return where the random numbers of Python and NumPy are, as plain values and arrays."""
    version, inner, python = random.getstate()
    numpy: Any = np.random.get_state(legacy=False)
    plain: dict[str, Any] = {"python": [version, python]}
    arrays = {"random/python": np.array(inner, "uint32")}
    if numpy["bit_generator"] == "MT19937":  # another one is the user's own
        plain["numpy"] = [numpy["state"]["pos"], numpy["has_gauss"], numpy["gauss"]]
        arrays["random/numpy"] = numpy["state"]["key"].copy()
    return plain, arrays


def require_random(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """See that a state of random numbers is one, before anything draws from it.

    Args:
        plain: What `capture_random` returned, or an earlier version: nothing.
        arrays: The arrays of the checkpoint.

    Raises:
        ValueError: If it is none.
    """
    if "python" in plain and not (
        _is_list(plain["python"], 2) and _is_whole(plain["python"][0], _VERSION, _VERSION)
        and (plain["python"][1] is None or _is_finite(plain["python"][1]))
        and _is_key(arrays.get("random/python"), _WORDS + 1)
        and int(arrays["random/python"][-1]) <= _WORDS
    ):
        raise ValueError("it has no random numbers of Python")
    if "numpy" in plain:
        given = plain["numpy"]
        if not (
            _is_list(given, 3) and _is_whole(given[0], 0, _WORDS) and _is_whole(given[1], 0, 1)
            and _is_finite(given[2]) and _is_key(arrays.get("random/numpy"), _WORDS)
        ):
            raise ValueError("it has no random numbers of NumPy")


def restore_random(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Have the random numbers go on where `capture_random` found them.

    Raises:
        ValueError: See `require_random`.
    """
    require_random(plain, arrays)
    if "python" in plain:
        version, gauss = plain["python"]
        random.setstate((version, tuple(arrays["random/python"].tolist()), gauss))
    if "numpy" in plain:
        np.random.set_state(("MT19937", arrays["random/numpy"], *plain["numpy"]))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Have the random numbers of Python and NumPy go on after a block as if it had not been.

    Example:
        >>> random.seed(3)
        >>> with undisturbed():
        ...     inside = random.random()
        >>> random.random() == inside
        True
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _is_list(value: object, length: int) -> bool:
    return isinstance(value, list) and len(value) == length


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_finite(value: object) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or _is_whole(value, -_WORDS, _WORDS)


def _is_key(value: object, length: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint32 and value.shape == (length,)
