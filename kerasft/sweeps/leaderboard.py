"""The table that compares runs: the best first, and which cannot be told apart from it."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, nearest
from kerasft.evaluation.metrics import direction
from kerasft.sweeps import entries, ledger
from kerasft.sweeps.board_rows import BOUND, objectives_of
from kerasft.sweeps.entries import Entry
from kerasft.sweeps.objectives import COSTS
from kerasft.sweeps.significance import Setting, compare
from kerasft.sweeps.text import cell, one_line
from kerasft.system.files import at_home


def leaderboard(
    directory: str, *, metric: str | None = None, trusted: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Compare the trials of a sweep, or the runs below a folder, the best first.

    Runs are ranked by a figure of the validation split: choosing by the test split would make its
    figure too good. Those that differ by their seed alone are put together. Each is held against
    the best on the same examples: where no setting has several seeds, by McNemar's exact test for
    accuracies; else by the bootstrapped difference, to whose variance that between seeds is added,
    estimated from all settings that have several, with Student's t. As the best was chosen by its
    figure, the p-values are corrected after Holm for the number of all pairs of settings.

    Args:
        directory: The folder.
        metric: The figure to rank by; by default a sweep's first objective, or the task's monitor
            of the first run.
        trusted: Import prefixes, beside the built-in ones, that a run's own parts may come from.

    Returns:
        One dict a run: `rank` (of its setting), `run`, `status`, `metric`, `validation` and `test`
        (figures), `interval` (95 %, of the examples), `seed`, `settings` (what differs between the
        runs), `reason` (why it failed or was pruned), `objectives` and `front` (whether none is
        better in each) of a sweep with several, and `setting`: `runs`, `mean`, `sd`, `interval`,
        `p` and `as_good_as_best` of all runs with these settings.

    Raises:
        UserError: If there is no run below the folder, or no run has the figure.
    """
    return _ranked(*_found(directory, metric, trusted), trusted=trusted)


def require_runs(directory: str) -> None:
    """See that there is something to compare, before much is loaded.

    Raises:
        UserError: If there is no run below the folder.
    """
    root = at_home(directory)
    if not root.is_dir():
        raise UserError(f"There is no folder {directory!r}.")
    if not ledger.is_sweep(root) and not any(root.rglob("run.json")):
        raise UserError(
            f"There is no run below {directory!r}. A run is a folder that `kerasft train` wrote."
        )


def _found(
    directory: str, metric: str | None, trusted: Sequence[str]
) -> tuple[list[Entry], str, str]:
    """Return the runs, the figure to rank by, and whether it is to be large or small."""
    require_runs(directory)
    root = at_home(directory)
    if ledger.is_sweep(root):
        swept = ledger.reopen(root, trusted)
        found = entries.of_sweep(swept)
    else:
        found = entries.of_folder(root)
    metric = metric or next((e.monitor for e in found if e.monitor), None) or "accuracy"
    known = sorted({
        name for entry in found for name in _named(entry.figures.get("validation"))
        if entry.value(name) is not None
    })  # fmt: skip
    if known and metric not in known:
        names = [*map(one_line, known)]
        raise UserError(
            f"--metric must be a metric of the runs: {', '.join(names)}. Received: {metric!r}."
            f"{nearest(metric, names)}"
        )
    return found, metric, "min" if metric in COSTS else direction(metric)


def _named(figures: Any) -> list[str]:
    """Return the names of a split's figures, where there are any."""
    return [str(name) for name in figures] if isinstance(figures, Mapping) else []


def _ranked(
    found: Sequence[Entry], metric: str, mode: str, *, trusted: Sequence[str] = ()
) -> list[dict[str, Any]]:
    by_settings: dict[str, list[Entry]] = {}
    for entry in found:
        key = json.dumps(entry.settings, default=str, sort_keys=True)
        # What never ended is of no setting: a later try of it may have.
        by_settings.setdefault(key if entry.value(metric) is not None else f"{key} {entry.run}",
                               []).append(entry)  # fmt: skip
    settings = [Setting(runs) for runs in by_settings.values()]
    for one in settings:
        one.values = [v for run in one.runs if (v := run.value(metric)) is not None]
    sign = 1 if mode == "min" else -1
    settings.sort(key=lambda one: (not one.values, sign * one.mean if one.values else 0.0))
    with_value = [one for one in settings if one.values]
    own = compare(with_value, metric, trusted) if with_value and metric not in COSTS else {}
    rows = []
    for rank, one in enumerate(settings, 1):
        told = {
            "runs": [run.run for run in one.runs], "mean": one.mean if one.values else None,
            "sd": statistics.stdev(one.values) if len(one.values) > 1 else None,
            "interval": one.interval and list(one.interval), "p": one.p,
            "as_good_as_best": None if one.p is None else one.p >= BOUND,
        }  # fmt: skip
        for run in sorted(one.runs, key=lambda run: sign * (run.value(metric) or 0.0)):
            rows.append({
                "rank": rank if one.values else None, "run": run.run, "status": run.status,
                "metric": metric, "validation": run.value(metric), "interval": own.get(run.run),
                "test": run.tested(metric), "seed": run.seed,
                "settings": run.settings, "reason": run.reason,
                "objectives": dict(run.objectives), "front": run.front, "setting": told,
            })  # fmt: skip
    return rows


def check_output(path: str | None) -> None:
    """See that the leaderboard can be written to a file of that name.

    Raises:
        UserError: For a suffix that says no format.
    """
    if path and not path.endswith((".csv", ".json", ".html")):
        raise UserError(f"--output must end in .csv, .json or .html. Received: {path!r}.")


def write(
    rows: Sequence[Mapping[str, Any]], path: str, *, directory: str = "",
    trusted: Sequence[str] = (),
) -> None:
    """Write the leaderboard as CSV, JSON or a page, by the suffix.

    Args:
        rows: What `leaderboard` returned.
        path: The file.
        directory: The folder that it is about, for the page.
        trusted: What `again` is given, for the page.

    Raises:
        UserError: For another suffix, or if it cannot be written.
    """
    from kerasft.system.files import write_json, written_whole

    check_output(path)
    if path.endswith(".json"):
        write_json(path, list(rows))
        return
    if path.endswith(".html"):
        from kerasft.sweeps.page import write_page

        write_page(rows, Path(path), directory, trusted)
        return
    keys = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    objectives = objectives_of(rows)
    names = ("rank", "run", "status", "metric", "validation", "test", "seed", "front", "reason")
    with written_whole(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        head = [*names, "low", "high", "setting_mean", "setting_p",
                *(f"objective_{name}" for name in objectives), *keys]  # fmt: skip
        writer.writerow(map(cell, head))
        for row in rows:
            line = [
                *(row[k] for k in names), *(row["interval"] or (None, None)),
                row["setting"]["mean"], row["setting"]["p"],
                *(row["objectives"].get(name) for name in objectives),
                *(row["settings"].get(k) for k in keys),
            ]  # fmt: skip
            writer.writerow(map(cell, line))
