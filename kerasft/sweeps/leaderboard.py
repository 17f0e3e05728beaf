"""The table that compares runs: the best first, and which cannot be told apart from it."""

from __future__ import annotations

import csv
import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasft.errors import UserError, nearest
from kerasft.evaluation.metrics import direction
from kerasft.files import at_home
from kerasft.sweeps import entries, ledger
from kerasft.sweeps.entries import Entry, Sample
from kerasft.sweeps.objectives import COSTS
from kerasft.sweeps.space import SEED

# From which corrected p-value on two settings cannot be told apart.
BOUND = 0.05


@dataclass
class Setting:
    """Runs that differ by their seed alone.

    Args:
        runs: The runs.
        values: The figures of those that have one.
        samples: What these answered for each example, or `None`.
        drawn: The mean of their figures for each drawing of the examples, or `None`.
        interval: Between which values the mean lies, with a chance of 95 %.
        p: How likely its distance to the best setting is by chance alone, corrected for how many
            settings there are.
    """

    runs: list[Entry]
    values: list[float] = field(default_factory=list)
    samples: list[Sample | None] = field(default_factory=list)
    drawn: Any = None
    interval: tuple[float, float] | None = None
    p: float | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def examples(self) -> set[str | None]:
        """Digests of the examples that its runs were measured on."""
        return {None if one is None else one.examples for one in self.samples}


def leaderboard(
    directory: str, *, metric: str | None = None, trusted: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Compare the trials of a sweep, or the runs below a folder, the best first.

    Runs are ranked by a figure of the validation split: choosing by the test split would make its
    figure too good. Those that differ by their seed alone are put together. Each is held against
    the best on the same examples: McNemar's exact test for the accuracy of single runs, else the
    bootstrapped difference with the variance between seeds; the p-values are corrected for their
    number after Holm.

    Args:
        directory: The folder.
        metric: The figure to rank by; by default a sweep's first objective, or the task's monitor
            of the first run.
        trusted: Import prefixes, beside the built-in ones, that a run's own parts may come from.

    Returns:
        One dict a run: `rank` (of its setting), `run`, `status`, `metric`, `validation` and `test`
        (figures), `interval` (95 %, of the examples), `seed`, `settings` (what differs between the
        runs), `reason` (why it failed or was given up), `objectives` and `front` (whether none is
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
        name for entry in found for name in entry.figures.get("validation") or {}
        if entry.value(name) is not None
    })  # fmt: skip
    if known and metric not in known:
        raise UserError(
            f"--metric must be a figure of the runs: {', '.join(known)}. Received: {metric!r}."
            f"{nearest(metric, known)}"
        )
    return found, metric, "min" if metric in COSTS else direction(metric)


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
    own = _compare(with_value, metric, trusted) if with_value and metric not in COSTS else {}
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
                "test": (run.figures.get("test") or {}).get(metric), "seed": run.seed,
                "settings": run.settings, "reason": run.reason,
                "objectives": dict(run.objectives), "front": run.front, "setting": told,
            })  # fmt: skip
    return rows


def _compare(
    settings: Sequence[Setting], metric: str, trusted: Sequence[str]
) -> dict[str, list[float]]:
    """Draw examples anew, and hold each setting against the first; return intervals by run."""
    from kerasft.evaluation import uncertainty

    intervals: dict[str, list[float]] = {}
    for one in settings:
        one.samples = [entries.sample(run, trusted) for run in one.runs]
        drawn = []
        for run, sample in zip(one.runs, one.samples, strict=True):
            if sample is None:
                continue
            rows = uncertainty.draws(len(sample.y))
            values = uncertainty.resampled(
                sample.task, sample.labels, metric, sample.y, sample.outputs, rows
            )
            if values is not None:
                drawn.append(values)
                intervals[run.run] = list(uncertainty.interval(values))
        if len(drawn) == len(one.runs):
            # Their draws are of the same examples where these are the same.
            one.drawn = sum(drawn) / len(drawn)
    between = _between_seeds(settings)
    for one in settings:
        if one.drawn is None:
            continue
        if len(one.values) == 1:
            one.interval = uncertainty.interval(one.drawn)
        else:
            reach = 1.96 * float(one.drawn.var() + between / len(one.values)) ** 0.5
            one.interval = (one.mean - reach, one.mean + reach)
    best, *others = settings
    tested = [one for one in others if one.drawn is not None and best.drawn is not None]
    found = [_p_value(best, one, metric, between) for one in tested]
    for one, p in zip(tested, uncertainty.holm(found), strict=True):
        one.p = p
    if best.drawn is not None:
        best.p = 1.0
    return intervals


def _between_seeds(settings: Sequence[Setting]) -> float:
    """Return the variance between seeds, pooled over all settings with several."""
    several = [one.values for one in settings if len(one.values) > 1]
    free = sum(len(values) - 1 for values in several)
    if not free:
        return 0.0
    return sum((len(v) - 1) * statistics.variance(v) for v in several) / free


def _p_value(best: Setting, other: Setting, metric: str, between: float) -> float:
    from kerasft.evaluation import uncertainty

    same = len(best.examples | other.examples) == 1
    (mine, *more), (theirs, *further) = best.samples, other.samples
    assert mine is not None and theirs is not None  # both were drawn from
    if same and not more and not further and metric == "accuracy" and mine.labels.kind == "single":
        return uncertainty.mcnemar(
            uncertainty.right(mine.y, mine.outputs), uncertainty.right(theirs.y, theirs.outputs)
        )
    # On the same examples much of what the drawing changes is common to both.
    variance = (best.drawn - other.drawn).var() if same else best.drawn.var() + other.drawn.var()
    variance += between / len(best.values) + between / len(other.values)
    return uncertainty.p_value(best.mean - other.mean, float(variance))


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the leaderboard as a table: a line for each setting."""
    from kerasft.console import table

    header, body = cells(rows)
    return table(body, header)


def cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Return the table's head, and a line for each setting."""
    keys = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    metric = rows[0]["metric"]
    short = {key: _shortest(key, keys) for key in keys}
    several = any(len(row["setting"]["runs"]) > 1 for row in rows)
    # A sweep with several objectives has no best trial, but some that none is better than in each.
    further = [n for row in rows for n in row["objectives"] if n != metric]
    further = list(dict.fromkeys(further))
    header = [
        "rank", "runs" if several else "run", *(short[k] for k in keys), f"validation {metric}",
        *further, *(["front"] if further else []), *(["sd"] if several else []), "95 %", "p",
        f"test {metric}", "status",
    ]  # fmt: skip
    body = []
    for row in heads(rows):
        one = row["setting"]
        tests = [r["test"] for r in rows if r["run"] in one["runs"] and r["test"] is not None]
        body.append([
            row["rank"], ", ".join(one["runs"]), *(_word(row["settings"].get(k)) for k in keys),
            one["mean"], *(row["objectives"].get(name) for name in further),
            *(["yes" if row["front"] else ""] if further else []),
            *([one["sd"]] if several else []), _range(one["interval"]),
            _p(row, one["p"]), statistics.fmean(tests) if tests else None, row["status"],
        ])  # fmt: skip
    return header, body


def heads(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the first row of each setting."""
    seen: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        seen.setdefault(" ".join(row["setting"]["runs"]), row)
    return list(seen.values())


def _range(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _p(row: Mapping[str, Any], p: float | None) -> str:
    if p is None:
        return "-"
    return "best" if row["rank"] == 1 else "< 0.001" if p < 0.001 else f"{p:.3f}"


def remarks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what has to be known to read the table, in sentences."""
    first = heads(rows)
    ranked = [row for row in first if row["rank"] is not None]
    if not ranked:
        return ["No run has come to its figures yet."]
    said = []
    tested = [row for row in ranked if row["setting"]["p"] is not None]
    if len(tested) > 1:
        alike = [row for row in tested[1:] if row["setting"]["as_good_as_best"]]
        of = f"of the {len(tested) - 1} other settings"
        said.append(
            f"{len(alike)} {of} cannot be told apart from the best (p of at least {BOUND:g}, "
            "paired on the same examples, corrected for their number)."
            if alike else f"None {of} is as good as the best (all p below {BOUND:g})."
        )
    if tested and all(len(row["setting"]["runs"]) == 1 for row in ranked):
        said.append(
            "The intervals are those of the validation examples. What another seed would change is "
            "not in them: try the best settings with seed=0,1,2."
        )
    if len(ranked) > 1:
        said.append(
            f"The best of {len(ranked)} on validation is chosen by chance, too: its figure there "
            "is too good."
        )
    return said


def again(directory: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the commands that repeat and export the best run; none where no run has a figure."""
    if rows[0]["rank"] is None:
        return []
    run = rows[0]["run"]
    if not ledger.is_sweep(directory):
        place = at_home(directory)
        folder = shlex.quote(str(place / run if (place / run).is_dir() else place))
        return [f"kerasft train --from {folder}", f"kerasft export {folder}"]
    space = ledger.reopen(directory).space
    varied = {**rows[0]["settings"]}
    if rows[0]["seed"] is not None:
        varied[SEED] = rows[0]["seed"]
    command = shlex.join(["kerasft", "train", *space.overrides(varied)])
    return [command, f"kerasft export best-of {shlex.quote(directory)}"]


def check_output(path: str | None) -> None:
    """See that the leaderboard can be written to a file of that name.

    Raises:
        UserError: For a suffix that says no format.
    """
    if path and not path.endswith((".csv", ".json", ".html")):
        raise UserError(f"--output must end in .csv, .json or .html. Received: {path!r}.")


def write(rows: Sequence[Mapping[str, Any]], path: str, *, directory: str = "") -> None:
    """Write the leaderboard as CSV, JSON or a page, by the suffix.

    Args:
        rows: What `leaderboard` returned.
        path: The file.
        directory: The folder that it is about, for the page.

    Raises:
        UserError: For another suffix.
    """
    from kerasft.files import write_json, written_whole

    check_output(path)
    if path.endswith(".json"):
        write_json(path, list(rows))
        return
    if path.endswith(".html"):
        from kerasft.sweeps.page import write_page

        write_page(rows, Path(path), directory)
        return
    keys = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    names = ("rank", "run", "status", "metric", "validation", "test", "seed")
    with written_whole(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "low", "high", "setting_mean", "setting_p", *keys])
        for row in rows:
            writer.writerow([
                *(row[k] for k in names), *(row["interval"] or (None, None)),
                row["setting"]["mean"], row["setting"]["p"],
                *(row["settings"].get(k) for k in keys),
            ])  # fmt: skip


def _shortest(key: str, keys: list[str]) -> str:
    """Return the end of a key that still tells it apart."""
    parts = key.split(".")
    for start in range(len(parts) - 1, -1, -1):
        tail = ".".join(parts[start:])
        if parts[-1] != "_target_" and sum(k.endswith(tail) for k in keys) == 1:
            return tail
    return key


def _word(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"...{text[-37:]}"
