"""`budget=10m`: how long training may take, in words of a config."""

from __future__ import annotations

import re

UNITS = {"s": 1, "m": 60, "h": 3600}
# A week; whoever wants more needs no budget.
MOST = 7 * 24 * 3600


def seconds(budget: float | str) -> float:
    """Return the seconds of a budget.

    Args:
        budget: A number of minutes, or a number with `s`, `m` or `h` behind it.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> seconds("90s"), seconds("1.5h"), seconds(10)
        (90.0, 5400.0, 600.0)
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smh]?)", str(budget).strip())
    if found is None or isinstance(budget, bool):
        raise ValueError(budget)
    return float(found[1]) * UNITS[found[2] or "m"]


def problem(budget: float | str | None) -> str:
    """Say what is wrong with a budget, `""` where nothing is.

    Example:
        >>> problem("10m"), problem("soon")[:40]
        ('', 'budget is the time that training may tak')
    """
    if budget is None:
        return ""
    try:
        if 0 < seconds(budget) <= MOST:
            return ""
    except ValueError:
        pass  # told below, as what is out of range
    return (
        "budget is the time that training may take, such as 90s, 10m or 1h (a plain number counts "
        f"minutes), above 0 and up to {MOST // 3600}h. Received: {str(budget)[:40]!r}."
    )
