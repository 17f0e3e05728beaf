"""What a launcher calls for each trial, in whatever process that is."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.errors import Pruned, Stopped, UserError, in_short
from kerasft.sweeps import leases
from kerasft.sweeps.ledger import DONE, FAILED, FILE, PRUNED, Outcome, reopen
from kerasft.sweeps.trials import is_finite
from kerasft.system.files import read_json, write_json

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Reporter:
    """Reports how the trial of a job stands.

    Args:
        sweep: The sweep's folder.
        number: The number of the trial.
    """

    def __init__(self, sweep: Path, number: int):
        self.sweep, self.number = sweep, number

    @cached_property
    def trial(self) -> Any:
        return reopen(self.sweep).trial(self.number)

    @cached_property
    def reported(self) -> set[int]:
        """The steps that were reported, also by a process which died over the trial."""
        study = self.trial.study
        if len(study.directions) > 1:
            raise UserError("Trials of several objectives cannot be pruned: report nothing.")
        return set(study.get_trials(deepcopy=False)[self.number].intermediate_values)

    def report(self, value: float, step: int) -> None:
        if step not in self.reported:
            self.trial.report(value, step)
            self.reported.add(step)
        if self.trial.should_prune():
            raise Pruned(f"pruned at step {step} with {value:.6g}")


# Of the trial that this process works on.
_REPORTER: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


def report(value: float, step: int) -> None:
    """Report how a trial stands, from within the function that `hydra/sweeper=kerasft` calls.

    Outside of such a sweep it does nothing.

    Args:
        value: The objective, as far as it is known.
        step: An epoch, say: the pruner compares trials at the same step.

    Raises:
        Pruned: If the pruner gives the trial up; let it pass.

    Example:
        >>> report(0.5, step=1)
    """
    if reporter := _REPORTER.get():
        reporter.report(float(value), int(step))


@dataclass
class Job:
    """Carries a trial out, and leaves word of what it came to.

    What it returns reaches nobody where its sweeper has died: whoever takes the trial up finds it
    in a file.

    Args:
        sweep: The sweep's folder.
        task: The application's function.
        judge: What its value means.
        tickets: By number, what each trial is sent with.
    """

    sweep: Path
    task: Callable[[Any], Any]
    judge: Callable[[Any], Outcome]
    tickets: dict[int, str] = field(default_factory=dict)
    stopped: Stopped | None = None

    def __call__(self, cfg: DictConfig) -> Any:
        """Return what the function returns.

        Args:
            cfg: The config of the trial.
        """
        from hydra.core.hydra_config import HydraConfig

        if self.stopped:
            # Ctrl-C means all jobs that are carried out in one process.
            raise self.stopped
        number = HydraConfig.get().job.num
        if not (self.sweep / FILE).is_file():
            return self.task(cfg)  # on a machine that does not see the folder
        with leases.held(self.sweep, number, self.tickets[number]):
            began, reporter = time.monotonic(), _REPORTER.set(Reporter(self.sweep, number))
            try:
                value = self.task(cfg)
                outcome = self.judge(value)
            except Stopped as stopped:
                self.stopped = stopped
                raise
            except Exception as error:
                self._leave_word(number, failure(error), began)
                raise
            finally:
                _REPORTER.reset(reporter)
            self._leave_word(number, outcome, began)
            return value

    def _leave_word(self, number: int, outcome: Outcome, began: float) -> None:
        timed = replace(outcome, seconds=time.monotonic() - began)
        write_json(word(self.sweep, number), asdict(timed))


@contextmanager
def saved_before_requeue() -> Iterator[None]:
    """Let a run save where it stands before submitit sends its job again.

    submitit would end the process between two lines, and what was done since the last checkpoint
    would be lost.
    """
    name = f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"
    number, of_submitit = getattr(signal, name, None), "SUBMITIT_EXECUTOR" in os.environ
    if not of_submitit or number is None \
            or threading.current_thread() is not threading.main_thread():
        yield
        return
    send_again: Any = signal.getsignal(number)
    stop = signal.getsignal(signal.SIGTERM)
    heard: list[int] = []

    def hear(*given: Any) -> None:
        heard.append(number)
        if signal.getsignal(signal.SIGTERM) is stop:
            send_again(*given)  # nothing trains yet, or no longer
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(number, hear)
    try:
        yield
    except Stopped:
        if heard:
            send_again(number, None)
        raise
    finally:
        signal.signal(number, send_again)


def failure(error: Exception) -> Outcome:
    """Return what a trial came to whose function raised."""
    if isinstance(error, Pruned):
        return Outcome(PRUNED, str(error))
    return Outcome(FAILED, f"{type(error).__name__}: {in_short(error)}")


def word(folder: Path, number: int) -> Path:
    """Return the file in which the job of a trial leaves what it came to."""
    return folder / "claims" / f"{number}.json"


def word_of(folder: Path, number: int, objectives: int) -> Outcome | None:
    """Return what the job of a trial left word of, if it did.

    Args:
        folder: The sweep's folder.
        number: The number of the trial.
        objectives: How many figures a trial that is done has.

    Raises:
        UserError: If the file is damaged.
    """
    if not (file := word(folder, number)).is_file():
        return None
    found = read_json(file, "state", "reason", "values", "seconds", most=2**20)
    state, values, seconds = found["state"], found["values"], found["seconds"]
    sound = (
        state in (DONE, PRUNED, FAILED) and isinstance(found["reason"], str)
        and isinstance(values, list) and (state != DONE or len(values) == objectives)
        # JSON has no word for what is not a number.
        and all(one is None or is_finite(one) for one in values)
        and is_finite(seconds) and seconds >= 0
    )  # fmt: skip
    if not sound:
        raise UserError(
            f"The file {str(file)!r} is damaged: it must say what trial {number} came to. Remove "
            "it, and the trial is carried out again."
        )
    return Outcome(
        state, found["reason"], [math.nan if one is None else float(one) for one in values],
        float(seconds),
    )  # fmt: skip
