"""A run examined: what it suffers from, and what may help."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kerasft.config.checks import check, settle
from kerasft.errors import UserError
from kerasft.evaluation.diagnosis.case import HEAD, Case
from kerasft.evaluation.diagnosis.curves import shape
from kerasft.evaluation.diagnosis.remarks import class_gaps, miscalibration, remarks
from kerasft.evaluation.diagnosis.rules import WELL, Verdict, verdicts
from kerasft.runs.finetuned import FineTuned
from kerasft.runs.run_folder import RunFolder, existing
from kerasft.steps.advice.case_files import NothingTrained, is_sampled, read_case
from kerasft.steps.advice.remedies import SHOWN, Remedy, Run, remedies
from kerasft.steps.measuring.training_sample import keep_sample, measure_again
from kerasft.steps.preparing.prepare import Ready
from kerasft.system.console import say, table, warn, without_chatter
from kerasft.system.enclosure import require_enclosed
from kerasft.system.files import write_json

# Options of `kerasft train` that a command needs to be used again.
_OPTIONS = ("--config-dir", "--trust")
# Of a long run so many epochs are shown at its beginning and at its end.
ENDS = 4


@dataclass(frozen=True)
class Diagnosis:
    """What a run suffers from, and what may help.

    Args:
        run: The run folder.
        verdicts: What explains most first; `well fitted` alone where nothing is wrong.
        remarks: What is worth knowing beside.
        remedies: What may help, the likeliest first.
        measured: Figures: the gap, the curves, how far weights moved.
        command: How the run was started, up to where remedies go; `""` where that is not known.
    """

    run: Path
    verdicts: tuple[Verdict, ...]
    remarks: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The verdicts by name."""
        return tuple(one.name for one in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "verdicts": [one.to_dict() for one in self.verdicts], "remarks": list(self.remarks),
            "remedies": [one.to_dict() for one in self.remedies], "measured": dict(self.measured),
            "command": self.command,
        }  # fmt: skip


# --- while a run is at work ----------------------------------------------------------------------


def examine(
    cfg: DictConfig, finetuned: FineTuned, ready: Ready, folder: RunFolder
) -> str:
    """Measure the training sample of a run that has just trained, and say what it suffers from.

    Returns:
        A line that names the verdict and the command that explains it; `""` where the run is well
        fitted, or is only tried out (`max_steps`).
    """
    try:  # no diagnosis is a reason to end a run that has trained
        keep_sample(cfg, finetuned, ready, folder)
        found = verdicts(read_case(folder, cfg))
    except NothingTrained:
        return ""
    except UserError as error:
        return f"no diagnosis: {error}"
    if cfg.max_steps is not None or found[0].name == WELL:
        return ""
    return (
        f"diagnosis: {', '.join(one.name for one in found)} ({found[0].evidence[0]}); "
        f"{command(folder.path)} says what may help"
    )


def command(run: Path) -> str:
    """Return the command that explains a run."""
    return f"`kerasft diagnose {shlex.quote(str(run))}`"


# --- afterwards ----------------------------------------------------------------------------------


@without_chatter()
def diagnose(
    run: str, *, data: Any = None, measure: bool = True, trusted: Sequence[str] = ()
) -> Diagnosis:
    """Say what a run suffers from, with figures, and what may help.

    Learning curves, the gap between a training sample and validation, calibration, and how far
    weights moved are compared with rules, see docs/diagnose.md. `diagnosis.json` in the run folder
    has all of it. A run of an earlier version, which has no training sample, is measured on one
    where its data and its network are there.

    Args:
        run: The run folder.
        data: The same examples again, where the run learned from some in memory.
        measure: Whether what is missing is measured; else the run is judged by what its folder
            holds.
        trusted: Import prefixes that the run's own parts may come from.

    Returns:
        A `Diagnosis`.

    Raises:
        UserError: If the folder is no run, or it has not come to the end of an epoch.

    Example:
        >>> kerasft.diagnose("outputs/last").names  # doctest: +SKIP
        ('over-fitted', 'too little data')
    """
    folder = existing(run)
    require_enclosed(folder.path)
    cfg = folder.read_config()
    with folder.at_its_command():
        check(cfg, trusted=trusted)
    if measure and not is_sampled(folder) and folder.network.is_file() and folder.metrics.is_file():
        measure_again(run, data, trusted)
    case = read_case(folder, cfg)
    found = verdicts(case)
    base, held = _own(folder, cfg, trusted)
    with folder.at_its_command():
        made = Diagnosis(
            folder.path, tuple(found), tuple(remarks(case)), tuple(remedies(found, case, held)),
            measured_of(case), base,
        )
    try:
        write_json(folder.path / "diagnosis.json", made.to_dict())
    except UserError as error:  # it can be told all the same
        warn(str(error))
    return made


def _own(
    folder: RunFolder, cfg: DictConfig, trusted: Sequence[str]
) -> tuple[str, Run]:
    """Return the command that began a run, as far as it can be used again, and its overrides."""
    try:
        words = shlex.split(str(folder.facts().get("command", "")))
    except ValueError:
        words = []
    unknown = "", Run(cfg, None, (), trusted)
    # `python -m kerasft` is called by the name of its file.
    if not words or words[0] not in ("kerasft", "__main__.py") or words[1:2] != ["train"]:
        return unknown
    overrides, options, rest = [], [], iter(words[2:])
    for word in rest:
        name, mark, value = word.partition("=")
        if name in _OPTIONS:
            options += [(name, value if mark else next(rest, ""))]
        elif word.startswith("-"):  # --from, -m: what follows is not the whole of it
            return unknown
        elif name not in ("output_dir", "resume"):  # of that run alone
            overrides.append(word)
    dirs = [value for name, value in options if name == "--config-dir"]
    base = shlex.join(["kerasft", "train", *(w for one in options for w in one), *overrides])
    try:
        settle(overrides, dirs, trusted)
    except UserError:  # of another version, or with configs that are elsewhere now
        return unknown
    return base, Run(cfg, overrides, dirs, trusted)


def measured_of(case: Case) -> dict[str, Any]:
    """Return the figures that a diagnosis rests on, as plain values."""
    if not case.epochs:
        return {"faults": case.faults}
    figure = case.figure
    return {
        "examples": {"train": case.train, "validation": case.held_out, "sample": case.sampled},
        "gap": None if figure is None else {
            "figure": figure.name, "training sample" if case.sample else "training": figure.train,
            "validation": figure.validation, "one answer for all": figure.floor,
        },
        "curves": {name: shape(case.values(name)) for name in ("loss", "val_loss")},
        "best_epoch": case.best["epoch"], "epochs": len(case.epochs),
        "calibration_error": {
            split: off for split in ("training sample", "validation")
            if (off := miscalibration(case, split)) is not None
        },
        "classes": [
            {"class": name, "training sample": seen, "validation": held}
            for name, seen, held in class_gaps(case)
        ],
        "updates": [
            {"epoch": row["epoch"], "stage": row["stage"], "peak": row["peak"], "moved": {
                name: part["moved"] / part["weights"] if part["weights"] else None
                for name, part in row["parts"].items()
            }} for row in case.updates
        ],
        "peak_rate": case.peak, "frozen": case.frozen, "copies": case.copies,
        "faults": case.faults,
    }


# --- told ----------------------------------------------------------------------------------------


def tell(found: Diagnosis) -> None:
    """Print a diagnosis."""
    for place, one in enumerate(found.verdicts):
        say(f"{'verdict' if place == 0 else 'and'}: {one.name}")
        for sentence in one.evidence:
            say(f"  - {sentence}")
    for sentence in found.remarks:
        say(f"note: {sentence}")
    moves = found.measured.get("updates")
    if moves:
        say("\nhow far weights moved in an epoch, as a share of their norm:")
        say(_moves(moves))
    if not found.remedies:
        return
    settings = [one for one in found.remedies if one.overrides][:SHOWN]
    say("\nwhat may help, the likeliest first:")
    for remedy in found.remedies:
        if not remedy.overrides:
            say(f"  - {remedy.why}")
    if settings:
        say(table([[f"  {one.line}", one.why] for one in settings], ["  set", "which"]))
    if settings and found.command:
        say(f"\nthe first of these: {found.command} {settings[0].line}")


def _moves(moves: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of the moves: head, and the top, middle and bottom of what else trains."""
    names = list(dict.fromkeys(name for row in moves for name in row["moved"] if name != HEAD))
    columns = {"head": HEAD}  # the rest comes from the input on
    if names:
        columns |= {"top": names[-1], "middle": names[len(names) // 2], "bottom": names[0]}
    rows = moves if len(moves) <= 2 * ENDS else [*moves[:ENDS], *moves[-ENDS:]]
    return table(
        [[str(row["epoch"]), row["stage"],
          *(_share(row["moved"].get(name)) for name in columns.values())] for row in rows],
        ["epoch", "stage", *columns],
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def run(options: Any) -> None:
    """Do what `kerasft diagnose` was asked for."""
    found = diagnose(options.run, measure=not options.stored, trusted=options.trust)
    if options.json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        tell(found)
