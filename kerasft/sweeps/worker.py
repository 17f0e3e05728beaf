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

from kerasft.errors import Pruned, Stopped, UserError
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps import trials
from kerasft.sweeps.journal import StorageFailed
from kerasft.sweeps.ledger import DONE, FAILED, PRUNED, Claim, Ledger, Outcome

# What a worker hears on its standard input when no more trials are to begin.
HALT = b"halt\n"


def main(argv: list[str] | None = None) -> int:
    """Work until there is nothing left to do.

    Returns:
        0, or the status of the signal that stopped it.
    """
    parser = argparse.ArgumentParser(prog="python -m kerasft.sweeps.worker")
    parser.add_argument("sweep")
    parser.add_argument("--supervised", action="store_true",
                        help="begin no more trials when standard input says so, and stop when it "
                             "ends")  # fmt: skip
    parser.add_argument("--trust", action="append", default=[])
    options = parser.parse_args(argv)
    halted = threading.Event()
    if options.supervised:
        given = (sys.stdin.fileno(), halted)
        threading.Thread(target=_listen, args=given, daemon=True).start()
    try:
        return work(ledgers.reopen(options.sweep, options.trust), halted)
    except UserError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2


def _listen(descriptor: int, halted: threading.Event) -> None:
    """Hear that no more trials are to begin.

    When the process that holds the other end is no more, stop as for SIGTERM.
    """
    while os.read(descriptor, 1024):
        halted.set()
    os.kill(os.getpid(), signal.SIGTERM)


def work(ledger: Ledger, halted: threading.Event | None = None, *, pause: float = 1.0) -> int:
    """Take up trials until there are none.

    Args:
        ledger: The sweep.
        halted: Once it is set, no more trials begin.
        pause: Seconds between two looks while others are at work.

    Returns:
        0, or the status of the signal that stopped a trial.
    """
    while halted is None or not halted.is_set():
        claim = ledger.claim()
        if claim is None:
            if not ledger.may_leave_some():
                return 0
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
    from kerasft.run import train
    from kerasft.runs import run_folder
    from kerasft.sweeps import objectives

    trial = ledger.trial(number)
    folder, names = ledger.run_folder(number), ledger.facts["objectives"]
    try:
        if not run_folder.has_ended(str(folder)):
            cfg = ledger.compose(trials.point(trial.user_attrs))
            cfg.output_dir, cfg.resume = str(folder), "auto"
            cfg.baseline, cfg.floor = None, "none"
            watched = Watched(ledger, trial, names[0]) if len(names) == 1 else None
            train(cfg, trusted=ledger.trusted, on_epoch=watched, spare_test=True)
        return Outcome(DONE, values=objectives.values(names, folder, ledger.trusted))
    except StorageFailed:
        raise  # the trial is not at fault, and goes on with whoever takes it up
    except Pruned as pruned:
        return Outcome(PRUNED, str(pruned))
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
        ledger: The sweep.
        trial: Optuna's trial.
        name: The metric that it is pruned by.
    """

    def __init__(self, ledger: Ledger, trial: Any, name: str):
        self.ledger, self.trial, self.name = ledger, trial, name
        # A trial that goes on may come to an epoch which it had reported before.
        self.reported = set(ledger.trials()[trial.number].intermediate_values)

    def __call__(self, epoch: int, figures: dict[str, float]) -> None:
        value = figures.get(f"val_{self.name}")
        if value is None or value != value:
            return
        with self.ledger.storage():
            if epoch not in self.reported:
                self.trial.report(value, epoch)
            lags = self.trial.should_prune()
        if lags:
            raise Pruned(f"pruned after epoch {epoch}: val_{self.name} {value:.4f}")


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
