"""The folder of a sweep: what was asked for, frozen, and who works on which trial."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kerasft.config import composition
from kerasft.config.checks import settle
from kerasft.config.yaml_limits import require_small
from kerasft.errors import UserError
from kerasft.sweeps import facts as files
from kerasft.sweeps import journal, leases, parts, study, trials, urls
from kerasft.sweeps.settings import require_sound
from kerasft.sweeps.space import Point, Space, read
from kerasft.sweeps.text import one_line
from kerasft.system.enclosure import require_enclosed, require_size
from kerasft.system.files import at_home, read_json, write_json

FILE = "sweep.json"
# How large what is read whole may be: a million trials fit into this.
MOST_BYTES = {FILE: 2**26, "test.json": 2**26, journal.JOURNAL: 2**31}
DONE, PRUNED, FAILED = "done", "pruned", "failed"
# What a sweep may be given anew when it goes on.
FREE = ("n_trials", "workers", "gpus", "max_time", "max_cost", "max_failures", "retries", "keep",
        "launcher")  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on, and nobody else.

    Args:
        number: The number of the trial, which names its folder too.
        trial: Optuna's trial.
        lock: What is let go of when the work is over; the system does so for the dead.
        began: When this process took it up.
    """

    number: int
    trial: Any
    lock: Any
    began: float = field(default_factory=time.monotonic)

    @property
    def point(self) -> Point:
        return trials.point(self.trial.user_attrs)


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Args:
        state: `DONE`, `PRUNED` or `FAILED`.
        reason: Why it was pruned or failed.
        values: The objectives of one that is done.
        seconds: How long it was worked on; since it was taken up where not given.
    """

    state: str
    reason: str = ""
    values: Sequence[float] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class Ledger:
    """A sweep's folder.

    Args:
        path: Where it is.
        facts: What `sweep.json` says: `overrides`, `search`, `objectives`, `directions`,
            `config_dirs`.
        trusted: Import prefixes that a `_target_` may start with. They never come from the folder:
            whoever wrote it would be trusting himself.
    """

    path: Path
    facts: Mapping[str, Any]
    trusted: tuple[str, ...] = ()

    @property
    def search(self) -> Mapping[str, Any]:
        return self.facts["search"]

    @cached_property
    def space(self) -> Space:
        return read(self.facts["overrides"], self.search["space"])

    @cached_property
    def study(self) -> Any:
        """Optuna's study, which was made when the sweep began.

        Raises:
            UserError: If it is not there: an empty one would give numbers a second time.
        """
        import optuna

        url = self.search["storage"]
        place = urls.without_password(url) if url else str(self.path / journal.JOURNAL)
        lost = UserError(
            f"The sweep {str(self.path)!r} has lost what was written down of its trials: there is "
            f"no study {self.facts['study']!r} in {place!r}. Bring that back, or begin another "
            "sweep in another folder."
        )
        with self.storage():
            try:
                found = optuna.load_study(
                    study_name=self.facts["study"],
                    storage=journal.open_storage(self.path, url),
                    pruner=study.made(self.pruner, "pruner") or optuna.pruners.NopPruner(),
                )
            except KeyError:
                raise lost from None
            wanted = [direction.upper() for direction in self.facts["directions"]]
            if [one.name for one in found.directions] != wanted:
                raise lost
        return found

    def storage(self) -> AbstractContextManager[None]:
        """Say which storage it was when one fails."""
        return journal.named(self.path, self.search["storage"])

    @property
    def pruner(self) -> Mapping[str, Any] | None:
        """What gives trials up; with several objectives none can."""
        return self.search["pruner"] if len(self.facts["objectives"]) == 1 else None

    def run_folder(self, number: int) -> Path:
        return self.path / str(number)

    def log(self, number: int) -> Path:
        return self.path / "logs" / f"{number}.log"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep all others from planning meanwhile."""
        from filelock import FileLock

        with FileLock(self.path / ".planning.lock"):
            yield

    def compose(self, point: Mapping[str, Any]) -> DictConfig:
        """Return the checked config of a point, from what was frozen when the sweep began."""
        copies = [str(self.path / place) for place in self.facts["config_dirs"]]
        with composition.copied_to(self.path / "conf"):
            return settle(self.space.overrides(point), copies, self.trusted)

    def trials(self) -> list[Any]:
        """Return copies of all of Optuna's trials, with what is sound of them."""
        made = self.study
        with journal.read_from(self.path, self.search["storage"]):
            found = made.get_trials(deepcopy=False)
        return trials.sound(found, len(self.facts["objectives"]))

    def counts(self) -> dict[str, int]:
        """Return how many trials there are of each state: running, done, pruned, failed."""
        from optuna.trial import TrialState

        names = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned",
                 TrialState.FAIL: "failed"}  # fmt: skip
        found = {"running": 0, "done": 0, "pruned": 0, "failed": 0}
        for trial in self.trials():
            found[names.get(trial.state, "running")] += 1
        return found

    def hours(self) -> float:
        """Return how long all trials were worked on together, as far as they got."""
        return sum(seconds(trial) for trial in self.trials()) / 3600

    def claim(self) -> Claim | None:
        """Take up a trial whose process died, or plan a new one.

        Returns:
            The trial; `None` where there is nothing to do now.
        """
        with self.storage(), self.alone():
            if self._is_over():
                return None
            return self._orphan() or self._new()

    def wanted(self) -> bool:
        """Whether more trials are to come, from here or from another process."""
        counts = self.counts()
        if self._is_over():
            return False
        total = self.search["n_trials"]
        return bool(counts["running"]) or total is None or counts["done"] + counts["pruned"] < total

    def may_leave_some(self) -> bool:
        """Whether a trial that runs elsewhere may yet have to be taken up from here."""
        return not self._is_over() and bool(self.counts()["running"])

    def at_work(self) -> list[int]:
        """Return the numbers of the trials that a living process works on."""
        running = [trial.number for trial in self.trials() if not trial.state.is_finished()]
        return [number for number in running
                if self._is_held(number) or leases.is_used(self.path, number)]  # fmt: skip

    def _is_held(self, number: int) -> bool:
        if (lock := self._lock(number)) is not None:
            lock.release()
        return lock is None

    def _is_over(self) -> bool:
        if self.counts()["failed"] >= self.search["max_failures"]:
            return True
        most = self.search["max_cost"]
        return most is not None and self.hours() >= most

    def require_few_failures(self) -> None:
        """Raise `UserError` where so many trials failed that the sweep has ended."""
        failed = self.counts()["failed"]
        if failed >= self.search["max_failures"]:
            raise UserError(problems=[
                f"{failed} trials failed (sweep.max_failures={self.search['max_failures']}).",
                *(one_line(f"trial {t.number}: {t.user_attrs.get('reason')}")
                  for t in self.trials() if t.state.name == "FAIL"),
            ])

    def _orphan(self) -> Claim | None:
        from optuna.trial import TrialState

        for seen in self.trials():
            if seen.state.is_finished() or (lock := self._locked(seen.number)) is None:
                continue
            # Its owner may have finished it since we looked, and only then let it go.
            frozen = self.trials()[seen.number]
            if frozen.state.is_finished():
                lock.release()
                continue
            attempts = trials.attempts(frozen.user_attrs) + 1
            if frozen.state == TrialState.WAITING:
                # Its planner died between two lines: no other trial waits, so it is the next.
                trial = self.study.ask()
            else:
                import optuna

                trial = optuna.trial.Trial(self.study, frozen._trial_id)
            if attempts > 1 + self.search["retries"]:
                died = Outcome(FAILED, f"its process died {attempts - 1} times")
                self.settle(Claim(frozen.number, trial, lock), died)
                continue
            trial.set_user_attr("attempts", attempts)
            return Claim(frozen.number, trial, lock)
        return None

    def _new(self) -> Claim | None:
        counts, total = self.counts(), self.search["n_trials"]
        if total is not None and counts["running"] + counts["done"] + counts["pruned"] >= total:
            return None
        parts.require_harmless(self.path, self.search["sampler"], self.trusted)
        found = study.next_point(
            self.space, self.search["sampler"], self.study, self.search["known"],
            self.search["seed"],
        )
        if found is None:
            return None
        trial = study.begin(self.study, self.space, *found)
        trial.set_user_attr("attempts", 1)
        trial.set_user_attr("host", socket.gethostname())
        lock = self._locked(trial.number)
        assert lock is not None, "nobody else knows of this trial yet"
        return Claim(trial.number, trial, lock)

    def _locked(self, number: int) -> Any:
        """Return the lock of a trial, or `None` where somebody works on it."""
        lock = self._lock(number)
        # The job of a launcher goes on where whoever sent it has died.
        if lock is not None and not leases.withdraw(self.path, number):
            lock.release()
            return None
        return lock

    def _lock(self, number: int) -> Any:
        """Return the lock of a trial, or `None` where a living process has it."""
        from filelock import FileLock, Timeout

        (self.path / "claims").mkdir(exist_ok=True)
        lock = FileLock(self.path / "claims" / str(number))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def _count_time(self, claim: Claim, passed: float | None = None) -> None:
        passed = time.monotonic() - claim.began if passed is None else passed
        claim.trial.set_user_attr("seconds", seconds(claim.trial) + passed)

    def trial(self, number: int) -> Any:
        """Return Optuna's trial of a number, to report to."""
        import optuna

        return optuna.trial.Trial(self.study, self.trials()[number]._trial_id)

    def settle(self, claim: Claim, outcome: Outcome) -> None:
        """Write down what a trial came to, and let it go.

        One that was pruned loses what it needed to go on, unless `keep` says otherwise.
        """
        from optuna.trial import TrialState

        with self.storage():
            if outcome.reason:
                claim.trial.set_user_attr("reason", outcome.reason)
            self._count_time(claim, outcome.seconds)
            if outcome.state == DONE:
                self.study.tell(claim.number, list(outcome.values))
            else:
                state = TrialState.PRUNED if outcome.state == PRUNED else TrialState.FAIL
                self.study.tell(claim.number, state=state)
        if outcome.state == PRUNED and self.search["keep"] != "all":
            self.let_checkpoints_go(claim.number)
        claim.lock.release()

    def let_checkpoints_go(self, number: int) -> None:
        """Remove the checkpoints of a trial; not where a link would have others' removed."""
        place = self.run_folder(number) / "checkpoints"
        own = Path(os.path.realpath(self.path), str(number), "checkpoints")
        if os.path.realpath(place) == str(own):
            shutil.rmtree(place, ignore_errors=True)

    def put_back(self, claim: Claim) -> None:
        """Let a trial go that was stopped: it goes on with whoever takes it up."""
        with self.storage():
            attempts = trials.attempts(claim.trial.user_attrs)
            claim.trial.set_user_attr("attempts", max(attempts - 1, 0))
            self._count_time(claim)
        claim.lock.release()


def seconds(trial: Any) -> float:
    """Return how long a trial was worked on; the time of a process that was killed is not known."""
    return trials.seconds(trial.user_attrs)


def is_sweep(path: str | Path) -> bool:
    """Whether a folder is a sweep's."""
    return (at_home(path) / FILE).is_file()


def reopen(path: str | Path, trusted: Sequence[str] = (), **anew: Any) -> Ledger:
    """Open a sweep's folder, which may come from anywhere.

    Args:
        path: The folder.
        trusted: Import prefixes that a `_target_` may start with.
        **anew: Values of `FREE` that it goes on with.

    Raises:
        UserError: If it is none, or damaged.
    """
    folder = at_home(path)
    if not is_sweep(folder):
        raise UserError(
            f"{str(path)!r} is no sweep: it has no {FILE}. A sweep is a folder that `kerasft "
            "sweep` wrote."
        )
    require_enclosed(folder)
    for name, most in MOST_BYTES.items():
        require_size(folder / name, most)
    facts = read_json(
        folder / FILE, "study", "overrides", "search", "objectives", "directions", "config_dirs",
    )
    files.require_whole(facts, folder / FILE)
    if isinstance(facts["search"], dict):
        facts["search"].setdefault("gpus", 1)  # of a sweep that began before there was a choice
    require_sound(facts["search"], trusted)
    for file in folder.glob("conf*/**/*.yaml"):
        require_small(file)
    if anew and any(facts["search"].get(key) != value for key, value in anew.items()):
        facts["search"] = {**facts["search"], **anew}
        write_json(folder / FILE, facts, own=True)
    return Ledger(folder, facts, tuple(trusted))
