"""The process that starts the workers of a sweep, tells what they do, and ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kerasft.errors import AGAIN, Stopped, UserError
from kerasft.sweeps import memory
from kerasft.sweeps.batches import shared_threads, stopped
from kerasft.sweeps.ledger import Ledger
from kerasft.sweeps.memory import Gauge
from kerasft.sweeps.progress import Progress
from kerasft.sweeps.text import command
from kerasft.sweeps.worker import HALT
from kerasft.system.accelerators import seen, share
from kerasft.system.console import say, warn
from kerasft.system.processes import importable

# How a worker ends that a signal stopped in a trial.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


class Supervisor:
    """Starts workers, tells what they do, and ends them.

    Args:
        ledger: The sweep.
    """

    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self.workers: list[subprocess.Popen[bytes]] = []
        self.interrupts: list[int] = []
        self.progress = Progress(ledger)
        self.gauges: list[Gauge] = []
        self.waiting = False
        self.buried: set[int] = set()
        self.halted = ""
        minutes = ledger.search["max_time"]
        self.until = None if minutes is None else time.monotonic() + 60 * minutes

    def run(self) -> None:
        """Work until no trial is left, or somebody wants it to end.

        Raises:
            Stopped: If a signal or the time limit ended it.
            UserError: If workers broke down, or too many trials failed.
        """
        with self._heeding():
            while True:
                self.progress.update()
                self._heed()
                self._replace_dead()
                self._add_workers()
                if all(worker.poll() is not None for worker in self.workers):
                    break
                time.sleep(0.2)
        self.progress.update(now=True)
        self.progress.clear()
        self.ledger.require_few_failures()
        if not self.ledger.wanted():
            return
        if self.halted:
            raise self._stopped()
        if broken := [slot for slot, worker in enumerate(self.workers) if worker.returncode]:
            raise UserError(problems=[*map(self._why, broken), (
                f"To go on: {command(['kerasft', 'resume', str(self.ledger.path)])}"
            )])

    def _why(self, slot: int) -> str:
        """Return why a worker is no more: its last word, as far as it had one."""
        log = self._log(slot)
        with open(log, "rb") as opened:
            opened.seek(max(log.stat().st_size - 65_536, 0))
            lines = opened.read().decode("utf-8", "replace").splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        status = self.workers[slot].returncode
        return f"Worker {slot} ended with status {status}: " + (
            said[-1] if said and status > 0 else f"see {str(log)!r}."
        )

    def _add_workers(self) -> None:
        """Start a worker where there is memory for it.

        What one needs is seen on those that run, once they no longer grow; where there is ample
        memory nobody waits for that.
        """
        wanted = self.ledger.search["workers"]
        for gauge in self.gauges:
            gauge.look()
        while len(self.workers) < wanted and not self.halted:
            if self.workers and memory.available() < memory.AMPLE:
                if not all(gauge.steady for gauge in self.gauges):
                    return
                need = memory.MARGIN * max(gauge.most for gauge in self.gauges)
                if (free := memory.available()) < need:
                    if not self.waiting:
                        self.waiting = True
                        self._warn(
                            f"{len(self.workers)} of {wanted} workers run: another would take "
                            f"about {need / memory.GIB:.1f} GB, and {free / memory.GIB:.1f} GB "
                            "are free"
                        )
                    return
            self.workers.append(self._start(len(self.workers)))
            self.gauges.append(Gauge(self.workers[-1].pid))

    def _stopped(self) -> Stopped:
        if not self.interrupts:
            return stopped(self.ledger, "max_time", AGAIN)
        first = self.interrupts[0]
        return stopped(self.ledger, signal.Signals(first).name, 128 + first)

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        # Threads of their own, so that workers do not fight for cores.
        count, each = self.ledger.search["workers"], self.ledger.search["gpus"]
        settings = {**os.environ, **importable(), **shared_threads(count),
                    **accelerators(slot, count, each)}  # fmt: skip
        with open(self._log(slot), "ab") as log:
            return subprocess.Popen(
                # Without -P the modules in the current folder would hide others of their names.
                [sys.executable, "-P", "-m", "kerasft.sweeps.worker", str(self.ledger.path),
                 "--supervised", *(f"--trust={prefix}" for prefix in self.ledger.trusted)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=settings,
                start_new_session=True,  # Ctrl-C on a terminal is this process's to answer
            )  # fmt: skip

    @contextmanager
    def _heeding(self) -> Iterator[None]:
        """Note signals meanwhile, and leave no worker behind."""
        before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError):  # not in the main thread
                before[number] = signal.signal(number, lambda n, _: self.interrupts.append(n))
        try:
            yield
        finally:
            for worker in self.workers:
                if worker.stdin:
                    worker.stdin.close()  # which a worker takes for SIGTERM
                with suppress(subprocess.TimeoutExpired):
                    worker.wait(timeout=60)
                if worker.poll() is None:
                    worker.kill()
                    worker.wait()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heed(self) -> None:
        """Answer signals and the time limit."""
        over = self.until is not None and time.monotonic() >= self.until
        now = over or len(self.interrupts) > 1 or signal.SIGTERM in self.interrupts
        how = "now" if now else "soon" if self.interrupts else ""
        if how == self.halted:
            return
        self.halted = how
        self.progress.clear()
        say("stopping the trials that run; they can go on where they are" if now else
            "stopping after the trials that run; Ctrl-C once more stops them where they are")
        for worker in self.workers:
            if worker.poll() is None:
                if now:
                    worker.terminate()
                elif worker.stdin:
                    with suppress(BrokenPipeError):  # it has just ended
                        worker.stdin.write(HALT)
                        worker.stdin.flush()

    def _replace_dead(self) -> None:
        """Start a worker anew that something ended from outside; its trial goes on."""
        if self.halted:
            return
        for slot, worker in enumerate(self.workers):
            if worker.poll() is None or worker.pid in self.buried:
                continue
            if worker.returncode >= 0 and worker.returncode not in STOPPED:
                continue  # it found nothing left to do, or said what is wrong
            self.buried.add(worker.pid)
            number = -worker.returncode if worker.returncode < 0 else worker.returncode - 128
            name = signal.Signals(number).name
            self._warn(f"worker {slot} was ended by {name}"
                       f"{' (was there too little memory?)' if name == 'SIGKILL' else ''}")
            if len(self.buried) <= 3 * (1 + self.ledger.search["retries"]):
                if worker.stdin:
                    worker.stdin.close()
                self.workers[slot] = self._start(slot)
                self.gauges[slot] = Gauge(self.workers[slot].pid)

    def _warn(self, line: str) -> None:
        self.progress.clear()
        warn(line)

    def _log(self, slot: int) -> Path:
        return self.ledger.path / "logs" / f"worker-{slot}.log"


def accelerators(slot: int, workers: int, each: int = 1) -> dict[str, str]:
    """Return what gives a worker accelerators of its own, where there are several.

    Args:
        slot: The number of the worker.
        workers: How many there are. Those that share an accelerator take of its memory what they
            need, and not all of it.
        each: How many accelerators a worker gets.

    Returns:
        Environment variables.

    Raises:
        UserError: If a worker is to have more than there are.
    """
    visible, devices = os.environ.get("CUDA_VISIBLE_DEVICES"), seen()
    if each > max(len(devices), 1):
        raise UserError(
            f"sweep.gpus: a trial asks for {each} GPUs, and "
            + (f"CUDA_VISIBLE_DEVICES={visible} names {len(devices)}" if visible is not None else
               f"nvidia-smi lists {len(devices)}")
            + ". Ask for fewer, or start the sweep where there are more."
        )
    return share(devices, slot, workers, each)
