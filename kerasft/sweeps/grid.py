"""A plain grid: one run for each combination of the values given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasft.config.checks import settle
from kerasft.config.composition import parsed
from kerasft.errors import UserError
from kerasft.runs import output_dir
from kerasft.sweeps.space import expanded
from kerasft.sweeps.text import one_line
from kerasft.system.console import say, warn, without_chatter
from kerasft.system.passwords import override_shown

# How many runs there may be, and from how many on it is said that they are checked.
MOST, MANY = 1000, 20


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each run of a grid, in Hydra's sweep syntax.

    Args:
        overrides: Overrides; `a=1,2` and `a=choice(1,2)` and `a=range(1,3)` stand for several.

    Returns:
        One list of overrides a run.

    Raises:
        UserError: If an override cannot be read, or the grid is too large.

    Example:
        >>> expand(["head=linear,mlp", "epochs=3"])
        [['head=linear', 'epochs=3'], ['head=mlp', 'epochs=3']]
    """
    choices: list[list[str]] = []
    for given, override in zip(overrides, parsed(overrides), strict=True):
        if not override.is_sweep_override():
            choices.append([given])
            continue
        if override.is_interval_sweep():
            raise UserError(
                f"A grid cannot try an interval. Received: {override_shown(given)!r}. List the "
                "values, or search: kerasft sweep."
            )
        key = given.split("=", 1)[0]
        choices.append([f"{key}={value}" for value in expanded(given, override, MOST)])
    count = math.prod(map(len, choices))
    if count > MOST:
        raise UserError(f"The grid has {count:,} runs; at most {MOST:,} are allowed.")
    return [list(one) for one in itertools.product(*choices)]


@without_chatter()
def grid(
    overrides: Sequence[str], *, config_dirs: Sequence[str] = (), trusted: Sequence[str] = ()
) -> tuple[Path, list[dict[str, Any]]]:
    """Run a grid, one run after the other, and compare.

    Every config is composed and checked before the first run begins. A run that fails is noted,
    and the next one begins.

    Args:
        overrides: Overrides in Hydra's sweep syntax.
        config_dirs: Folders with configs of your own.
        trusted: Import prefixes that a `_target_` may start with.

    Returns:
        The folder of the sweep, and its leaderboard.

    Raises:
        UserError: If any of the configs is wrong, before anything runs; or if every run failed.
    """
    from kerasft.run import train
    from kerasft.sweeps.board_rows import as_text
    from kerasft.sweeps.leaderboard import leaderboard

    runs = expand(overrides)
    if len(runs) > MANY:
        say(f"checking the configs of {len(runs)} runs")
    configs = []
    problems: dict[str, None] = {}
    for one in runs:
        try:
            configs.append(settle(one, config_dirs, trusted))
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise UserError(problems=problems)
    if any(cfg.resume or cfg.max_time for cfg in configs):
        raise UserError("resume and max_time are of one run; they cannot be joined with -m.")
    folder = output_dir.new_folder(configs[0], "_sweep")
    varied = [i for i, values in enumerate(zip(*runs, strict=True)) if len(set(values)) > 1]
    say(f"sweep: {len(runs)} runs in {one_line(str(folder))}")
    failed: list[str] = []
    for number, (one, cfg) in enumerate(zip(runs, configs, strict=True)):
        cfg.output_dir = str(folder / str(number))
        name = " ".join(one[i] for i in varied) or "(no choice)"
        say(f"\n--- run {number + 1} of {len(runs)}: {name}")
        try:
            train(cfg, trusted=trusted)
        except UserError as error:
            failed.append(f"run {number}: {error.problems[0]}")
            warn(f"run {number} ({name}) failed: {' '.join(error.problems)}")
    if len(failed) == len(runs):
        raise UserError(problems=["Every run of the sweep failed.", *failed])
    rows = leaderboard(str(folder), trusted=trusted)
    output_dir.point_last(folder / rows[0]["run"])
    say("\n" + as_text(rows))
    say(f"\nsweep folder: {one_line(str(folder))}")
    return folder, rows
