"""What is done with examples that are of no use: left out and named, or refused."""

from __future__ import annotations

from collections.abc import Sequence

from kerasft.errors import UserError, nearest, some
from kerasft.system.console import listing

POLICIES: tuple[str, ...] = ("skip", "fail")


def policy_problem(key: str, value: str) -> str:
    """Say what is wrong with a policy, `""` where nothing is.

    Example:
        >>> policy_problem("data.empty", "skip")
        ''
    """
    if value in POLICIES:
        return ""
    return (
        f"{key} must be one of {list(POLICIES)}. Received: {key}={value!r}."
        + nearest(str(value), POLICIES)
    )


def without_empty(names: Sequence[str], empty: str, *, which: str) -> list[str]:
    """Return a sentence on the texts that are left out as they are empty, if there are any.

    Args:
        names: What they are called.
        empty: The policy.
        which: What is to be corrected.

    Raises:
        UserError: If there are some, and the policy is `"fail"`.

    Example:
        >>> without_empty(["a.csv:3"], "skip", which="those rows")
        ['1 text left out, as empty: a.csv:3.']
    """
    if not names:
        return []
    said = f"{some(len(names), 'text')} {{}}: {listing(names)}."
    if empty == "fail":
        raise UserError(
            said.format("empty") + f" Correct or remove {which}, or set data.empty=skip to leave "
            "them out."
        )
    return [said.format("left out, as empty")]
