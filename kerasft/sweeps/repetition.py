"""The command that repeats a trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerasft.runs.run_folder import RunFolder
from kerasft.sweeps.ledger import Ledger
from kerasft.sweeps.parts import PICKLING
from kerasft.sweeps.text import command


def of_trial(ledger: Ledger, number: int) -> str:
    """Return the line that trains a trial of a sweep again, in a new folder.

    Its run folder holds the whole config as it was frozen; where that is gone, the line has the
    overrides of its point, which are composed of today's configs.

    Args:
        ledger: The sweep.
        number: The trial's number.
    """
    folder = ledger.run_folder(number)
    if RunFolder(folder).config.is_file():
        return of_run(folder, ledger.trusted)
    point = ledger.trials()[number].user_attrs["values"]
    own = [f"--config-dir={ledger.path / place}" for place in ledger.facts["config_dirs"]]
    return _line(["train", *ledger.space.overrides(point), *own], ledger.trusted)


def of_run(folder: Path, trusted: Sequence[str] = ()) -> str:
    """Return the line that trains a run again, in a new folder."""
    return _line(["train", "--from", str(folder)], trusted)


def export(folder: str | Path, trusted: Sequence[str] = (), *, best_of: bool = False) -> str:
    """Return the line that exports a run, or the best one of a sweep."""
    return _line(["export", *(["best-of"] if best_of else []), str(folder)], trusted)


def _line(words: Sequence[str], trusted: Sequence[str]) -> str:
    # A sampler is asked by the sweep alone.
    trust = [word for prefix in trusted if prefix not in PICKLING for word in ("--trust", prefix)]
    return command(["kerasft", *words, *trust])
