"""Overrides that stand for several choices of one part, as `backbone=tiny_bert,tiny_gpt2`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from kerasft.config.composition import parsed
from kerasft.errors import UserError
from kerasft.system.passwords import override_shown

# More choices than this are a mistake: each of them is loaded.
MOST = 100


@dataclass(frozen=True)
class Alternative:
    """One choice.

    Args:
        overrides: All overrides, those that choose it among them.
        own: Those that choose it.
    """

    overrides: tuple[str, ...]
    own: tuple[str, ...]


def alternatives(
    overrides: Sequence[str], group: str, sets: Sequence[Sequence[str]] = ()
) -> list[Alternative]:
    """Return the choices of a part that overrides stand for.

    Args:
        overrides: Overrides; of the group's keys in Hydra's sweep syntax.
        group: The group.
        sets: Further choices, each a list of overrides that is put behind those without several
            values; where it chooses the part itself, it chooses it anew.

    Returns:
        The choices, in order. Where there are sets, overrides of the group with one value hold for
        each set. They are a choice of their own where all sets choose the part anew.

    Raises:
        UserError: If an override cannot be read, or another part has several values.

    Example:
        >>> found = alternatives(["backbone=tiny_bert,tiny_gpt2", "seed=1"], "backbone")
        >>> [one.own for one in found]
        [('backbone=tiny_bert',), ('backbone=tiny_gpt2',)]
    """
    columns: list[list[tuple[str, bool]]] = []
    varied = False
    for given, override in zip(overrides, parsed(overrides), strict=True):
        key = given.split("=", 1)[0]
        if not override.is_sweep_override():
            columns.append([(given, _is_of(key, group))])
            continue
        if not _is_of(key, group) or override.is_interval_sweep():
            raise UserError(
                f"Only {group} and the keys below it may have several values here, each of them "
                f"listed. Received: {override_shown(given)!r}. To try other settings: kerasft "
                "train -m, kerasft sweep."
            )
        varied = True
        columns.append([(f"{key}={value}", True) for value in override.sweep_string_iterator()])
    if (count := math.prod(map(len, columns)) + len(sets)) > MOST:
        raise UserError(f"There are {count:,} choices of {group}; at most {MOST} are allowed.")
    for words in sets:
        parsed(words)
    fixed = tuple(column[0][0] for column in columns if len(column) == 1)
    # What no set goes on with was not named for them.
    apart = group in map(_name, fixed) and all(group in map(_name, words) for words in sets)
    found = [
        Alternative(tuple(o for o, _ in chosen), tuple(o for o, own in chosen if own))
        for chosen in itertools.product(*columns) if varied or apart or not sets
    ]
    return found + [
        Alternative((*_without(fixed, group, words), *words), tuple(words)) for words in sets
    ]


def _without(overrides: Sequence[str], group: str, words: Sequence[str]) -> list[str]:
    """Leave out what other overrides choose anew: a key, or the whole part with its keys."""
    keys = {_name(one) for one in words}
    anew = group in keys
    return [one for one in overrides
            if _name(one) not in keys and not (anew and _is_of(_name(one), group))]  # fmt: skip


def _name(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


def _is_of(key: str, group: str) -> bool:
    name = key.lstrip("+~")
    return name == group or name.startswith((f"{group}.", f"{group}@"))
