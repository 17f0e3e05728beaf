"""Which numbers the commands around an export take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kerasft.errors import UserError

# Option: the least, the most, and what stands beside the number in a message. A day is the longest
# time; a message of gRPC counts its bytes in 31 bits, and TensorFlow its threads.
BOUNDS: dict[str, tuple[float, float, str]] = {
    "poll": (0.01, 86_400, " seconds"),
    "batch": (1, 1_000_000, " examples"),
    "wait_ms": (0, 60_000, " milliseconds"),
    "waiting": (1, 100_000_000, " examples"),
    "most_mb": (0.001, 2_047, " millions of bytes"),
    "timeout": (0.01, 86_400, " seconds"),
    "threads": (0, 1_024, "; 0 means all cores"),
    "seconds": (0.01, 86_400, " seconds"),
    "rest_port": (0, 65_535, "; 0 takes any that is free"),
    "grpc_port": (0, 65_535, "; 0 takes any that is free"),
}
_WHOLE = ("batch", "waiting", "threads", "rest_port", "grpc_port")


def problems_of(given: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return what is wrong with the values of options.

    Args:
        given: Option to value; `None` is what is left to the default.
        names: The options to look at.

    Example:
        >>> problems_of({"batch": 0}, ["batch"])
        ['--batch must be from 1 to 1,000,000 examples. Received: 0.']
    """
    problems = []
    for name in names:
        value = given[name]
        if value is None:
            continue
        least, most, more = BOUNDS[name]
        is_number = _is_number(value, name)
        if is_number and least <= value <= most:
            continue
        upto = str(most) if name.endswith("port") else f"{most:,}"
        kind = "" if is_number or name not in _WHOLE else "a whole number "
        problems.append(
            f"--{name.replace('_', '-')} must be {kind}from {least:,g} to {upto}{more}. "
            f"Received: {_quoted(value)}."
        )
    return problems


def sizes_of(text: str) -> list[int]:
    """Return batch sizes that are written with commas between.

    Raises:
        UserError: If they are not.

    Example:
        >>> sizes_of("1,8,32")
        [1, 8, 32]
    """
    sizes = text.split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,18}\s*", size) for size in sizes):
        given = text if len(text) <= 100 else f"{text[:97]}..."
        raise UserError(
            f"--batch takes batch sizes with commas between, such as 1,8,32. Received: {given!r}."
        )
    return [int(size) for size in sizes]


def _is_number(value: object, name: str) -> bool:
    kinds = (int,) if name in _WHOLE else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _quoted(value: object) -> str:
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number beyond all measure"
    return repr(value) if isinstance(value, str) else str(value)
