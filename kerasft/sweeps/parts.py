"""Which samplers and pruners a sweep may name, and what of a storage they may read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasft.config.composition import SWEEP, as_config
from kerasft.config.targets import node_problems, walk
from kerasft.errors import UserError, nearest

# They keep what they remember as plain values, or nothing at all.
SAMPLERS = tuple(f"optuna.samplers.{name}" for name in (
    "BruteForceSampler", "GPSampler", "NSGAIIISampler", "NSGAIISampler", "PartialFixedSampler",
    "RandomSampler", "TPESampler",
))  # fmt: skip
# What a genetic sampler may hold.
CROSSOVERS = tuple(f"optuna.samplers.nsgaii.{name}" for name in (
    "BLXAlphaCrossover", "SBXCrossover", "SPXCrossover", "UNDXCrossover", "UniformCrossover",
    "VSBXCrossover",
))  # fmt: skip
PRUNERS = tuple(f"optuna.pruners.{name}" for name in (
    "HyperbandPruner", "MedianPruner", "NopPruner", "PatientPruner", "PercentilePruner",
    "SuccessiveHalvingPruner", "ThresholdPruner", "WilcoxonPruner",
))  # fmt: skip
# They pickle what they remember into the storage. Whoever wrote the storage decides what is run
# when they read it.
PICKLING = ("optuna.samplers.CmaEsSampler",)
# What begins the keys of their pickles.
PICKLES = ("cma:", "cmawm:", "sepcma:")
# Samplers that cannot be asked anew for each trial, and what does their work.
UNFIT = {
    "GridSampler": "it wants the space a second time. sweep=grid tries every combination.",
    "QMCSampler": "what it remembers is of one process. sweep=random draws points, too.",
}
HARMLESS = (*SAMPLERS, *CROSSOVERS)
ALLOWED = {"sampler": (*SAMPLERS, *PICKLING), "pruner": PRUNERS}
INNER = {"sampler": (*HARMLESS, *PICKLING), "pruner": PRUNERS}

# The longest text that an attribute may be: Optuna cuts longer ones into pieces of this length.
LETTERS = 2045
# The most numbers that one may list.
NUMBERS = 1000


def problems(what: str, node: Any, trusted: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the sampler or the pruner of a search.

    Args:
        what: `sampler` or `pruner`.
        node: What stands there, which is not `None`.
        trusted: Import prefixes that a `_target_` may start with.
    """
    given, key = as_config({what: node})[what], f"{SWEEP}.{what}"
    refused = False
    for place, target in targets(node, key):
        name = str(target).rpartition(".")[2]
        if what == "sampler" and name in UNFIT:
            yield f"{place} cannot be {name}: {UNFIT[name]}"
            refused = True
            continue
        allowed = ALLOWED[what] if place == key else INNER[what]
        if not isinstance(target, str) or not (target in allowed or is_trusted(target, trusted)):
            refused = True
            yield (
                f"{place}._target_ is refused: it must be one of {', '.join(allowed)}, or be "
                f"trusted with --trust PREFIX. Received: {target!r}."
                f"{nearest(str(target), allowed)}"
            )
    if not refused:
        prefixes = ("optuna.samplers", "optuna.pruners", *trusted)
        for _, text in node_problems(key, given, frozenset({"seed"}), prefixes):
            yield text


def targets(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all that a node would call, each with its key.

    Example:
        >>> list(targets({"_target_": "a.B", "inner": [{"_target_": "a.C"}]}, "sweep.sampler"))
        [('sweep.sampler', 'a.B'), ('sweep.sampler.inner.0', 'a.C')]
    """
    given = as_config(node) if isinstance(node, Mapping | list) else None
    if given is None:
        return
    for place, one in walk(given, key):
        if not isinstance(one, Sequence) and "_target_" in one:
            yield place, one["_target_"]


def is_trusted(target: str, trusted: Sequence[str]) -> bool:
    """Whether a target is, or starts with, a prefix that is trusted."""
    return any(f"{target}.".startswith(f"{prefix}.") for prefix in trusted)


def pickling(sampler: Any) -> list[str]:
    """Return the samplers in a node that unpickle what they find in a storage."""
    return [target for _, target in targets(sampler) if target in PICKLING]


def require_harmless(folder: object, sampler: Any, trusted: Sequence[str]) -> None:
    """See that a sampler runs nothing that a storage holds, unless that is trusted.

    Args:
        folder: The folder of the sweep, for the message.
        sampler: The sampler's node, or `None`.
        trusted: Import prefixes that are trusted.

    Raises:
        UserError: If it would.
    """
    for target in pickling(sampler):
        if not is_trusted(target, trusted):
            raise UserError(
                f"sweep.sampler: {target.rpartition('.')[2]} unpickles what the sweep's storage "
                "holds, and a pickle runs any code of whoever wrote it. If the sweep in "
                f"{str(folder)!r} is your own, go on with the command that began it, or with: "
                f"kerasft resume --trust {target} {folder}"
            )


def plain_attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that are plain, short values; a storage may hold anything.

    Example:
        >>> plain_attributes({"generation": 3, "state": {"deep": []}, "long": "x" * 9999})
        {'generation': 3}
    """
    return {
        key: value for key, value in given.items()
        if isinstance(key, str) and not key.startswith(PICKLES) and _is_plain(value)
    }  # fmt: skip


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= NUMBERS and all(isinstance(one, int | float) for one in value)
    if isinstance(value, str):
        return len(value) <= LETTERS
    return value is None or isinstance(value, int | float)
