"""What a search may be asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kerasft.calls import node_problems
from kerasft.checks import alive
from kerasft.config import SWEEP, as_config
from kerasft.errors import UserError
from kerasft.sweeps import study

KEYS = ("n_trials", "workers", "objectives", "space", "known", "sampler", "pruner", "seed",
        "max_time", "max_cost", "max_failures", "retries", "keep", "storage",
        "launcher")  # fmt: skip
# Where a sampler or a pruner may come from.
PARTS = ("optuna.samplers", "optuna.pruners")
# Samplers that cannot be asked anew for each trial, and what does their work.
UNFIT = {
    "GridSampler": "it wants the space a second time. sweep=grid tries every combination.",
    "QMCSampler": "what it remembers is of one process. sweep=random draws points, too.",
}


def require_sound(asked: Mapping[str, Any], trusted: Sequence[str]) -> None:
    """See that the values of `sweep` are what they must be, wherever they come from.

    Args:
        asked: The values, resolved.
        trusted: Import prefixes that a `_target_` may start with.

    Raises:
        UserError: With all that is wrong.
    """
    if lacks := [key for key in KEYS if key not in asked]:
        raise UserError(
            f"sweep lacks {', '.join(lacks)}: the sweep's file is damaged or from another version."
        )
    problems = [text for _, text in alive(dict(asked), SWEEP)]
    if problems:
        raise UserError(problems=problems)
    for key, least in (("workers", 1), ("max_failures", 1), ("retries", 0), ("n_trials", 1)):
        value = asked[key]
        if value is None and key == "n_trials":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            problems.append(
                f"sweep.{key} must be a whole number of at least {least}. Received: {value!r}."
            )
    if asked["sampler"] is not None and asked["n_trials"] is None:
        problems.append("sweep.n_trials must be a number: only a grid knows its own.")
    for key in ("max_time", "max_cost"):
        value = asked[key]
        if value is not None and not (isinstance(value, int | float) and value > 0):
            problems.append(f"sweep.{key} must be above 0, or null. Received: {value!r}.")
    if asked["storage"] is not None and not isinstance(asked["storage"], str):
        problems.append(
            "sweep.storage must be an URL such as sqlite:///study.db, or null. Received: "
            f"{asked['storage']!r}."
        )
    if asked["keep"] not in ("best", "done", "all"):
        problems.append(f"sweep.keep must be best, done or all. Received: {asked['keep']!r}.")
    if not (isinstance(asked["known"], list) and all(isinstance(p, Mapping)
                                                    for p in asked["known"])):
        problems.append(f"sweep.known must be a list of points. Received: {asked['known']!r}.")
    if not isinstance(asked["space"], Mapping):
        problems.append(f"sweep.space must be a mapping. Received: {asked['space']!r}.")
    launcher = asked["launcher"]
    if not (isinstance(launcher, Mapping) and isinstance(launcher.get("settings", {}), Mapping)
            and re.fullmatch(r"\w*", str(launcher.get("name") or ""))):
        problems.append(
            "launcher must hold the name of a launcher and its settings. Received: "
            f"{launcher!r}."
        )
    wanted = asked["objectives"]
    if wanted is not None and not (isinstance(wanted, list) and wanted
                                   and all(isinstance(one, str) for one in wanted)):
        problems.append(
            f"sweep.objectives must be a list of names, or null. Received: {wanted!r}."
        )
    given = as_config(asked)
    for part in ("sampler", "pruner"):
        if asked[part] is not None:
            problems += [
                text for _, text in
                node_problems(f"{SWEEP}.{part}", given[part], frozenset({"seed"}),
                              (*trusted, *PARTS))
            ]  # fmt: skip
    if isinstance(asked["sampler"], Mapping):
        name = str(asked["sampler"].get("_target_")).rpartition(".")[2]
        if instead := UNFIT.get(name):
            problems.append(f"sweep.sampler cannot be {name}: {instead}")
    if problems:
        raise UserError(problems=problems)
    for part in ("sampler", "pruner"):
        study.made(asked[part], part)
