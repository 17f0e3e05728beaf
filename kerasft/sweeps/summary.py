"""The summary of a sweep: its trials, the best of them, and its test figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from kerasft.errors import UserError
from kerasft.runs.output_dir import point_last
from kerasft.runs.run_folder import RunFolder
from kerasft.sweeps import repetition, trials
from kerasft.sweeps.ledger import Ledger, reopen, seconds
from kerasft.sweeps.space import SEED, name_of
from kerasft.sweeps.text import command, one_line
from kerasft.system.console import listing, say, table, warn
from kerasft.system.files import read_json, write_json

# What the chosen trials were measured at on test, in the order in which that was done.
TESTED = "test.json"


def line_of(ledger: Ledger, trial: Any) -> str:
    """Return one line on a trial that has ended."""
    word = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}[trial.state.name]
    names, parts = ledger.facts["objectives"], [f"trial {trial.number}", word]
    if trial.values:
        parts += [f"{name} {value:.4f}" for name, value in zip(names, trial.values, strict=True)]
    elif reason := trial.user_attrs.get("reason"):
        parts.append(one_line(" ".join(reason.split())))
    parts.append(f"({seconds(trial):.0f} s)")
    return "  ".join([*parts, trial.user_attrs.get("point", "")])


def let_networks_go(ledger: Ledger) -> None:
    """Remove the networks of trials that `sweep.keep` does not keep."""
    if ledger.search["keep"] != "best":
        return
    kept = {trial.number for trial in best(ledger)}
    for trial in ledger.trials():
        if trial.state.name == "COMPLETE" and trial.number not in kept:
            ledger.let_checkpoints_go(trial.number)


def best(ledger: Ledger) -> list[Any]:
    """Return the best trial; with several objectives, all that none is better than in each.

    A trial with a figure that is not finite is never among them.

    Where seeds are varied it is of the setting that is best in the mean over them.
    """
    ended = [trial for trial in ledger.trials() if trials.has_ended(trial)]
    if not ended:
        return []
    if len(ledger.facts["objectives"]) > 1:
        return trials.front(ended, ledger.facts["directions"])
    sign = -1 if ledger.facts["directions"][0] == "maximize" else 1
    # Settings are compared by the mean over their seeds: the best seed is best by luck.
    settings: dict[str, list[Any]] = {}
    for trial in ended:
        point = {k: v for k, v in trial.user_attrs["values"].items() if k != SEED}
        settings.setdefault(name_of(point), []).append(trial)
    found = min(settings.values(), key=lambda them: sign * fmean(t.values[0] for t in them))
    return [min(found, key=lambda trial: sign * trial.values[0])]


def best_folder(path: str, trusted: Sequence[str] = ()) -> Path:
    """Return the run folder of a sweep's best trial.

    Raises:
        UserError: If there is no such sweep, no trial of it has ended, none is the best, or its
            network was let go.
    """
    ledger = reopen(path, trusted)
    found = best(ledger)
    if not found:
        raise UserError(f"No trial of the sweep {path!r} has come to its end yet.")
    if len(found) > 1:
        raise UserError(
            f"The sweep {path!r} has several objectives, and {len(found)} trials that none is "
            "better than in each. Export one of them: "
            f"{listing(one_line(str(ledger.run_folder(trial.number))) for trial in found)}."
        )
    folder = ledger.run_folder(found[0].number)
    if not RunFolder(folder).network.is_file():
        raise UserError(without_network(folder))
    return folder


def tell(ledger: Ledger) -> None:
    """Say what came out: the best trials, how the best is repeated, and what to beware of."""
    names, found = ledger.facts["objectives"], best(ledger)
    if not found:
        say("no trial has come to its end")
        return
    done = [t for t in ledger.trials() if trials.has_ended(t)]
    if len(names) == 1:
        sign = -1 if ledger.facts["directions"][0] == "maximize" else 1
        done.sort(key=lambda t: sign * t.values[0])
    shown = (done if len(names) == 1 else found)[:5]
    rows = [[t.number, *t.values, t.user_attrs["point"]] for t in shown]
    say("\n" + table(rows, ["trial", *names, "setting"]))
    counts = ledger.counts()
    say(f"\n{counts['done']} done, {counts['pruned']} pruned, {counts['failed']} failed; "
        f"{ledger.hours():.2f} hours of trials")
    if len(names) == 1:
        say(f"the best again: {repetition.of_trial(ledger, found[0].number)}")
        say(f"its folder: {one_line(str(ledger.run_folder(found[0].number)))}")
        point_last(ledger.run_folder(found[0].number))
        say(f"chosen among {counts['done']} on validation, whose metric is therefore optimistic")
        _test(ledger, found[0].number)
    say(f"to compare: {command(['kerasft', 'leaderboard', str(ledger.path)])}")


def _test(ledger: Ledger, number: int) -> None:
    """Measure the chosen trial on test, once, and no other."""
    folder, file = ledger.run_folder(number), ledger.path / TESTED
    splits = read_json(folder / "manifest.json").get("splits")
    if not isinstance(splits, Mapping) or "test" not in splits:
        return
    with ledger.alone():  # two that end together look once
        tested = tests(ledger)
        if tested and tested[-1].get("trial") == number:
            return
        if not RunFolder(folder).network.is_file():
            warn(without_network(folder))
            return
        from kerasft.run import evaluate

        metrics = evaluate(str(folder), split="test", trusted=ledger.trusted, say=say)
        if tested:
            warn(
                f"the test split was looked at before, for trial {tested[-1].get('trial')}: the "
                "more often, the less its metric says about new data"
            )
        write_json(file, {"trials": [*tested, {"trial": number, "metrics": metrics["test"]}]})


def tests(ledger: Ledger) -> list[Mapping[str, Any]]:
    """Return what the chosen trials were measured at on test, as far as that is whole."""
    file = ledger.path / TESTED
    found = read_json(file).get("trials") if file.is_file() else None
    if not isinstance(found, list):
        return []
    return [one for one in found
            if isinstance(one, Mapping) and isinstance(one.get("metrics"), Mapping)]  # fmt: skip


def without_network(folder: Path) -> str:
    """Return what can be done with a trial whose network was let go."""
    return (
        f"the network of {str(folder)!r} was let go when another was the best (sweep.keep=best). "
        f"Train it anew: {repetition.of_run(folder)}"
    )
