"""The process that starts the workers of a sweep, tells what they do, and ends them."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kerasft.console import say, warn
from kerasft.errors import Stopped, UserError
from kerasft.sweeps import room
from kerasft.sweeps.batches import shared_threads
from kerasft.sweeps.ledger import Ledger
from kerasft.sweeps.progress import Progress
from kerasft.sweeps.room import Gauge
from kerasft.sweeps.worker import HALT

# How a worker ends that was told to: in a trial, and outside of one.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM)


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
        self.died = 0
        self.halted = ""
        minutes = ledger.search["max_time"]
        self.until = None if minutes is None else time.monotonic() + 60 * minutes

    def run(self) -> None:
        """Work until no trial is left, or somebody wants it to end."""
        with self._heeding():
            self._add_workers()
            while any(worker.poll() is None for worker in self.workers):
                self.progress.update()
                self._heed()
                self._replace_dead()
                self._add_workers()
                time.sleep(0.2)
            stopped = any(w.returncode in STOPPED for w in self.workers)
        self.progress.update()
        self.progress.clear()
        if broken := [w.returncode for w in self.workers if w.returncode not in (0, *STOPPED)]:
            raise UserError(
                f"A worker ended with status {broken[0]}: see "
                f"{str(self.ledger.path / 'logs' / 'worker-0.log')!r}. To go on: kerasft resume "
                f"{shlex.quote(str(self.ledger.path))}"
            )
        self.ledger.require_few_failures()
        if stopped or self.interrupts:
            raise self._stopped()

    def _add_workers(self) -> None:
        """Start a worker where there is memory for it.

        What one needs is seen on those that run, once they no longer grow; where there is ample
        memory nobody waits for that.
        """
        wanted = self.ledger.search["workers"]
        for gauge in self.gauges:
            gauge.look()
        while len(self.workers) < wanted and not self.halted:
            if self.workers and room.available() < room.AMPLE:
                if not all(gauge.steady for gauge in self.gauges):
                    return
                need = room.MARGIN * max(gauge.most for gauge in self.gauges)
                if (free := room.available()) < need:
                    if not self.waiting:
                        self.waiting = True
                        warn(f"{len(self.workers)} of {wanted} workers run: another would take "
                             f"about {need / room.GIB:.1f} GB, and {free / room.GIB:.1f} GB are "
                             "free")  # fmt: skip
                    return
            self.workers.append(self._start(len(self.workers)))
            self.gauges.append(Gauge(self.workers[-1].pid))

    def _stopped(self) -> Stopped:
        reason = "max_time" if not self.interrupts else signal.Signals(self.interrupts[0]).name
        counts = self.ledger.counts()
        made = Stopped(
            reason, 128 + self.interrupts[0] if self.interrupts else 75,
            where=f"with {counts['done']} trials done, {counts['pruned']} pruned and "
                  f"{counts['running']} to be taken up again",
        )  # fmt: skip
        made.folder = str(self.ledger.path)
        return made

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        # Threads of their own, so that workers do not fight for cores.
        settings = {
            **os.environ, **shared_threads(self.ledger.search["workers"]), **_accelerator(slot),
        }  # fmt: skip
        with open(self.ledger.path / "logs" / f"worker-{slot}.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "kerasft.sweeps.worker", str(self.ledger.path),
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
        (self.ledger.path / HALT).touch()
        if not now:
            say("stopping after the trials that run; Ctrl-C once more stops them where they are")
            return
        say("stopping the trials that run; they can go on where they are")
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()

    def _replace_dead(self) -> None:
        """Start a worker anew that something killed; its trial goes on."""
        if self.interrupts or (self.ledger.path / HALT).exists():
            return
        for slot, worker in enumerate(self.workers):
            if worker.poll() is not None and worker.returncode < 0:
                self.died += 1
                name = signal.Signals(-worker.returncode).name
                why = " (was there too little memory?)" if name == "SIGKILL" else ""
                warn(f"worker {slot} was ended by {name}{why}")
                if self.died <= 3 * (1 + self.ledger.search["retries"]):
                    if worker.stdin:
                        worker.stdin.close()
                    self.workers[slot] = self._start(slot)
                    self.gauges[slot] = Gauge(self.workers[slot].pid)


def _accelerator(slot: int) -> dict[str, str]:
    """Return what gives a worker an accelerator of its own, where there are several."""
    if (tool := shutil.which("nvidia-smi")) is None or os.environ.get("CUDA_VISIBLE_DEVICES"):
        return {}
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    count = len([line for line in listed.stdout.splitlines() if line.startswith("GPU")])
    return {"CUDA_VISIBLE_DEVICES": str(slot % count)} if count > 1 else {}
