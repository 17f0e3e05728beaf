"""A process that carries out the trials of a sweep, one after the other."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasft.errors import GivenUp, Stopped, UserError
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.ledger import DONE, FAILED, PRUNED, Claim, Ledger, Outcome

# While it exists, no trial begins.
HALT = ".halt"


def main(argv: list[str] | None = None) -> int:
    """Work until there is nothing left to do.

    Returns:
        0, or the status of the signal that stopped it.
    """
    parser = argparse.ArgumentParser(prog="python -m kerasft.sweeps.worker")
    parser.add_argument("sweep")
    parser.add_argument("--supervised", action="store_true",
                        help="stop when standard input ends")  # fmt: skip
    parser.add_argument("--trust", action="append", default=[])
    options = parser.parse_args(argv)
    if options.supervised:
        threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    try:
        return work(ledgers.reopen(options.sweep, options.trust))
    except UserError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2


def _end_with(descriptor: int) -> None:
    """Stop, as for SIGTERM, when the process that holds the other end is no more."""
    while os.read(descriptor, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def work(ledger: Ledger, *, pause: float = 1.0) -> int:
    """Take up trials until there are none.

    Args:
        ledger: The sweep.
        pause: Seconds between two looks while others are at work.

    Returns:
        0, or the status of the signal that stopped a trial.
    """
    while not (ledger.path / HALT).exists():
        claim = ledger.claim()
        if claim is None:
            if not ledger.counts()["running"]:
                return 0
            # One that runs elsewhere may yet be left behind.
            time.sleep(pause)
            continue
        try:
            with written_to(ledger.log(claim.number)):
                carry_out(ledger, claim)
        except Stopped as stopped:
            return stopped.code
    return 0


def carry_out(ledger: Ledger, claim: Claim) -> None:
    """Train a trial and write down what it came to.

    Args:
        ledger: The sweep.
        claim: The trial.

    Raises:
        Stopped: If a signal came; the trial goes on with whoever takes it up.
    """
    try:
        outcome = attempt(ledger, claim.number)
    except Stopped:
        ledger.put_back(claim)
        raise
    ledger.settle(claim, outcome)


def attempt(ledger: Ledger, number: int) -> Outcome:
    """Train a trial, from its checkpoint where it has one.

    Args:
        ledger: The sweep.
        number: The number of a trial that nobody else works on.

    Returns:
        What it came to; nothing is written down.

    Raises:
        Stopped: If a signal came.
    """
    from kerasft import record
    from kerasft.run import train
    from kerasft.sweeps import objectives

    trial = ledger.trial(number)
    folder, names = ledger.run_folder(number), ledger.facts["objectives"]
    try:
        if not record.has_ended(str(folder)):
            cfg = ledger.compose(dict(trial.user_attrs["values"]))
            cfg.output_dir, cfg.resume, cfg.baseline = str(folder), "auto", None
            watched = Watched(trial, names[0]) if len(names) == 1 else None
            train(cfg, trusted=ledger.trusted, on_epoch=watched, spare_test=True)
        return Outcome(DONE, values=objectives.values(names, folder))
    except GivenUp as given_up:
        return Outcome(PRUNED, str(given_up))
    except UserError as error:
        return Outcome(FAILED, " ".join(error.problems))
    except Stopped:
        raise
    except Exception as error:
        traceback.print_exc()
        return Outcome(FAILED, f"{type(error).__name__}: {error}")
    finally:
        _let_go()


def _let_go() -> None:
    """Give back what a trial held, so that the next finds the memory as the first did."""
    import gc

    import keras

    keras.utils.clear_session()
    gc.collect()


class Watched:
    """Reports each epoch of a trial, and ends it where the pruner gives it up.

    Args:
        trial: Optuna's trial.
        name: The figure that it is given up by.
    """

    def __init__(self, trial: Any, name: str):
        self.trial, self.name = trial, name
        # A trial that goes on may come to an epoch which it had reported before.
        study = trial.study
        self.reported = set(study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def __call__(self, epoch: int, figures: dict[str, float]) -> None:
        value = figures.get(f"val_{self.name}")
        if value is None or value != value:
            return
        if epoch not in self.reported:
            self.trial.report(value, epoch)
        if self.trial.should_prune():
            raise GivenUp(f"given up after epoch {epoch}: val_{self.name} {value:.4f}")


@contextmanager
def written_to(file: Path) -> Iterator[None]:
    """Send all that is said inside the block into a file, also by libraries in C."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(number) for number in (1, 2)]
    with open(file, "ab") as opened:
        for number in (1, 2):
            os.dup2(opened.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)


if __name__ == "__main__":
    sys.exit(main())
