"""The rows of a leaderboard in words: cells of a table, remarks, commands that repeat a run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasft.runs.run_folder import RunFolder
from kerasft.sweeps import ledger, repetition, summary
from kerasft.sweeps.text import one_line
from kerasft.system.console import listing
from kerasft.system.files import at_home

# From which corrected p-value on two settings cannot be told apart.
BOUND = 0.05
# Reasons of failed runs that are said below the table, and letters of each.
REASONS, LETTERS = 3, 200


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the leaderboard as a table: a line for each setting."""
    from kerasft.system.console import table

    header, body = cells(rows)
    return table(body, header)


def cells(
    rows: Sequence[Mapping[str, Any]], *, reasons: bool = False
) -> tuple[list[str], list[list[Any]]]:
    """Return the table's head, and a line for each setting.

    Args:
        rows: What `leaderboard` returned.
        reasons: Whether to say last why a run failed or was pruned.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    metric = rows[0]["metric"]
    short = {key: _shortest(key, keys) for key in keys}
    several = any(len(row["setting"]["runs"]) > 1 for row in rows)
    # A sweep with several objectives has no best trial, but some that none is better than in each.
    further = [name for name in objectives_of(rows) if name != metric]
    reasons = reasons and any(row["reason"] for row in rows)
    header = [
        "rank", "runs" if several else "run", *(short[k] for k in keys), f"validation {metric}",
        *further, *(["front"] if further else []), *(["sd"] if several else []), "95 %", "p",
        f"test {metric}", "status", *(["reason"] if reasons else []),
    ]  # fmt: skip
    body = []
    for row in heads(rows):
        one = row["setting"]
        tests = [r["test"] for r in rows if r["run"] in one["runs"] and r["test"] is not None]
        body.append([
            row["rank"], ", ".join(map(one_line, one["runs"])),
            *(_word(row["settings"].get(k)) for k in keys),
            one["mean"], *(row["objectives"].get(name) for name in further),
            *(["yes" if row["front"] else ""] if further else []),
            *([one["sd"]] if several else []), _range(one["interval"]),
            _p(row, one["p"]), statistics.fmean(tests) if tests else None,
            one_line(row["status"]), *([one_line(row["reason"] or "")] if reasons else []),
        ])  # fmt: skip
    # What comes from folders and files of others forges no line of the table.
    return [one_line(word) for word in header], body


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
        failed = map(one_line, _failures(rows))
        return ["No run has metrics yet.", *failed]
    said = _alike(ranked)
    sizes = [len(row["setting"]["runs"]) for row in ranked]
    if any(row["setting"]["interval"] for row in ranked) and min(sizes) == 1:
        said.append(
            "The intervals are those of the validation examples. What another seed would change is "
            "not in them: try the best settings with seed=0,1,2."
            if max(sizes) == 1 else
            "What another seed would change in a setting with one run alone is supposed from the "
            "settings with several: try the best settings with seed=0,1,2."
        )
    front = [row["run"] for row in rows if row["front"]]
    if front:
        said.append(
            f"Ranked by {rows[0]['metric']}; in {' and '.join(objectives_of(rows))} together no "
            f"run is better than {'any of ' if len(front) > 1 else ''}{listing(front)} (front)."
        )
    if len(ranked) > 1:
        said.append(
            f"The best of {len(ranked)} was chosen by its validation metric, which is therefore "
            "optimistic; look at the test metric."
        )
    return [one_line(line) for line in (*said, *_failures(rows))]


def objectives_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the runs were searched for, by name."""
    return list(dict.fromkeys(name for row in rows for name in row["objectives"]))


def _alike(ranked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how many settings cannot be told apart from the best."""
    tested = [row for row in ranked if row["setting"]["p"] is not None][1:]
    if not tested:
        return []
    alike = [row for row in tested if row["setting"]["as_good_as_best"]]
    of = f"of the {len(tested)} other settings" if len(tested) > 1 else ""
    if not alike:
        are = f"None {of} is as good as" if of else "The other setting is worse than"
        return [f"{are} the best (p below {BOUND:g}, corrected for the number of pairs)."]
    return [f"{f'{len(alike)} {of}' if of else 'The other setting'} cannot be told apart from the "
            f"best (p of at least {BOUND:g}, corrected for the number of pairs)."]  # fmt: skip


def _failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say why runs failed, but for those that failed as one before."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        if row["status"] == "failed" and row["reason"]:
            by_reason.setdefault(" ".join(row["reason"].split()), []).append(row["run"])
    said = [
        f"{listing(runs)} failed: {text if len(text) <= LETTERS else f'{text[: LETTERS - 3]}...'}"
        for text, runs in by_reason.items()
    ]
    if (more := len(said) - REASONS) > 0:
        said[REASONS:] = [f"Runs failed for {more} more: --output FILE.csv holds all reasons."]
    return said


def again(
    directory: str, rows: Sequence[Mapping[str, Any]], trusted: Sequence[str] = ()
) -> list[str]:
    """Return the commands that repeat and export the first run; none where none has a figure.

    Args:
        directory: The folder of the sweep, or of the runs.
        rows: What `leaderboard` returned.
        trusted: Import prefixes, beside the built-in ones, that a run's own parts may come from.
    """
    run = rows[0]["run"]
    if rows[0]["rank"] is None:
        return []
    place = at_home(directory)
    if not ledger.is_sweep(place):
        folder = place / run if (place / run).is_dir() else place
        return [repetition.of_run(folder, trusted), *_export(folder, trusted)]
    swept = ledger.reopen(place, trusted)
    line = repetition.of_trial(swept, int(run))
    # By another figure, or where none is the best in each objective, the first is another one.
    if [trial.number for trial in summary.best(swept)] == [int(run)]:
        return [line, repetition.export(place, trusted, best_of=True)]
    return [line, *_export(swept.run_folder(int(run)), trusted)]


def _export(folder: Path, trusted: Sequence[str]) -> list[str]:
    """Return the line that exports a run; none where its network was not kept."""
    there = RunFolder(folder).network.is_file()
    return [repetition.export(folder, trusted)] if there else []


def _shortest(key: str, keys: list[str]) -> str:
    """Return the end of a key that still tells it apart."""
    parts = key.split(".")
    for start in range(len(parts) - 1, -1, -1):
        tail = ".".join(parts[start:])
        if parts[-1] != "_target_" and sum(k.endswith(tail) for k in keys) == 1:
            return tail
    return key


def _word(value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else one_line(str(value))
    return text if len(text) <= 40 else f"...{text[-37:]}"
