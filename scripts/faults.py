"""Lets real commands fail in many ways, goes on until they end, and compares with one left be.

    python scripts/faults.py --rounds 50 data=table data.path=reviews.csv data.text=text ...
    python scripts/faults.py --fault ENOSPC --every 3 ...
    python scripts/faults.py --fault kill,torn,EIO --rounds 3 ...
    python scripts/faults.py --during export --format keras --fault torn --rounds 10 ...
    python scripts/faults.py --workers 2 --rounds 20 ...

The arguments are overrides of a run, and of the export. `kill` ends the process at a random moment;
`torn` ends it in the middle of a write, after a random part of the bytes; `ENOSPC`, `EIO` and
`EROFS` let a write fail: as a full disk and a read-only one do, from there on, `EIO` once. `clock`
sets the clock of the day back by an hour, a day or a year at a write. `removed` takes the cache
away while the command is at work. `two` starts it twice at once, and kills one of them at a random
moment every other time. Several come in turn, each in a run of its own.

`--during` says what is disturbed: `train`, a run that is resumed, whose folder's writes are struck;
`cache`, a run that begins with an empty cache, whose writes are; `export`, of a finished run beside
or over an export that is there; `evaluate`. Weights, log and metrics must be the same to the last
bit in the end, an export must answer as the one left alone, no half of anything may count as one,
and whatever fails must be told in one line. All but `kill` of `train` alone need Linux and a C
compiler. With `--workers` a run is trained by so many processes (`kerasft launch`), of which a
random one is killed at random moments; the others have to end, and all to begin again.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nursery import Harm, Nursery, Tried, failing
from subjects import Evaluating, Exporting, Filling, Training, run_has_ended, run_outcome

FAULTS = ("kill", "torn", "ENOSPC", "EIO", "EROFS", "clock", "removed", "two")
DURING: dict[str, Any] = {
    "train": Training, "cache": Filling, "export": Exporting, "evaluate": Evaluating
}  # fmt: skip
STEPS_BACK = (3600, 24 * 3600, 366 * 24 * 3600)
# Commands that end a round at the latest.
ATTEMPTS = 5


class Ended(NamedTuple):
    """How a process ended: its exit status (negative for a signal), and what it said."""

    code: int
    said: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fault", default="kill", metavar="FAULT,FAULT,...",
                        help=f"of {', '.join(FAULTS)} (default kill)")
    parser.add_argument("--rounds", type=int, help="how many faults (50, or all writes)")
    parser.add_argument("--every", type=int, help="instead: each n-th write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--during", choices=DURING, default="train", help="what is disturbed")
    parser.add_argument("--format", default="saved_model", help="of the export")
    parser.add_argument("--workers", type=int, default=1, help="processes that train a run")
    options, rest = parser.parse_known_args()
    faults = options.fault.split(",")
    if not set(faults) <= set(FAULTS):
        parser.error(f"--fault takes {', '.join(FAULTS)}, and not {options.fault}")
    kind = DURING[options.during]
    for fault in faults:
        if fault in kind.spared:
            parser.error(f"--fault {fault} is not for {options.during}: {kind.spared[fault]}")
    if options.workers > 1 and (options.during, faults) != ("train", ["kill"]):
        parser.error("--workers goes with --fault kill --during train")
    overrides = [*options.overrides, *rest, "progress=false"]
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        tried = Trials(folder, random.Random(options.seed))
        if options.workers > 1:
            tried.kill_workers(options.rounds or 20, options.workers,
                               [*overrides, f"cache.directory={folder}/cache"])  # fmt: skip
        elif (options.during, faults) == ("train", ["kill"]):
            tried.kill(options.rounds or 50, [*overrides, f"cache.directory={folder}/cache"])
        else:
            with Nursery(folder) as nursery:
                form = [options.format] if kind is Exporting else []
                subject = kind(*form, folder, overrides, nursery)
                tried.fail_in_turn(subject, faults, options.rounds, options.every)
        tried.tell()
        sys.exit(bool(tried.lost))


class Trials:
    """Commands that are disturbed, and what became of them.

    Args:
        folder: A folder for all of it.
        draw: Random numbers.
    """

    def __init__(self, folder: Path, draw: random.Random):
        self.folder, self.draw = folder, draw
        self.wanted: Any = None  # what the command left alone came to
        self.faults = self.resumed = self.ended = 0
        self.lost: list[str] = []
        self.recovery: list[float] = []

    def kill(self, rounds: int, common: list[str]) -> None:
        """End runs at random moments; where one ends before, another one begins."""
        target, began = self.folder / "whole", time.monotonic()
        whole = in_a_process([*common, f"output_dir={target}"])
        alone = time.monotonic() - began
        require_ended(whole)
        print(f"left alone: {alone:.1f} s", flush=True)
        self.wanted = run_outcome(target)
        while self.faults < rounds:
            target = self.folder / f"run-{self.ended}"
            command = [*common, f"output_dir={target}", "resume=auto"]
            while not run_has_ended(target):
                # Most kills hit the training; some the start, the measuring or the writing.
                limit = None if self.faults == rounds else self.draw.uniform(0.3, 1.2) * alone
                ended = in_a_process(command, limit)
                if ended.code == -9:
                    self.faults += 1
                else:
                    require_ended(ended)
                self.look(ended)
            self.compare(run_outcome(target), f"after {self.faults} kills")

    def kill_workers(self, rounds: int, workers: int, common: list[str]) -> None:
        """End random workers of runs at random moments; who started them starts all again."""
        target, began = self.folder / "whole", time.monotonic()
        with Launched(workers, rounds, [*common, f"output_dir={target}"]) as whole:
            whole.wait()
        alone = time.monotonic() - began
        require_ended(whole.ended)
        print(f"left alone: {alone:.1f} s", flush=True)
        self.wanted = run_outcome(target)
        while self.faults < rounds:
            target = self.folder / f"run-{self.ended}"
            with Launched(workers, rounds, [*common, f"output_dir={target}"]) as group:
                while not group.wait(self.draw.uniform(0.2, 0.9) * alone):
                    self.faults += self.faults < rounds and group.kill(self.draw)
            self.resumed += group.ended.said.count("going on after")
            if group.ended.code:
                print(group.ended.said[-3000:])
            self.compare(None if group.ended.code else run_outcome(target),
                         f"after {self.faults} kills")  # fmt: skip

    def fail_in_turn(
        self, subject: Training, faults: Sequence[str], rounds: int | None, every: int | None
    ) -> None:
        """Disturb commands once each, at different writes or moments, and repeat them."""
        subject.prepare()
        target = self.folder / "whole"
        subject.lay_out(target)
        began = time.monotonic()
        whole = subject.run(target, Harm(str(subject.watched(target))))
        alone, writes = time.monotonic() - began, whole[0].writes
        require_ended(whole[0])
        print(f"left alone: {alone:.1f} s, {writes} writes", flush=True)
        self.wanted = subject.outcome(target, whole)
        numbers = list(range(1, writes + 1))
        if every:
            numbers = numbers[self.draw.randrange(every) :: every]
        elif not writes:
            numbers = [0] * (rounds or 0)
        elif rounds:
            numbers = sorted(self.draw.sample(numbers, min(rounds, writes)))
            numbers += self.draw.choices(range(1, writes + 1), k=rounds - len(numbers))
        for turn, number in enumerate(numbers):
            began = time.monotonic()
            self.fail(subject, faults[turn % len(faults)], turn, number, alone)
            # The first command took longer than those after it, and several make up a round.
            alone = min(alone, time.monotonic() - began)

    def fail(self, subject: Training, kind: str, turn: int, number: int, alone: float) -> None:
        """Disturb a command once, and repeat it until it ends."""
        target = self.folder / f"run-{turn}"
        subject.lay_out(target)
        subject.at_once = 2 if kind == "two" else 1
        harm, where = self.harm(subject, kind, target, number, turn, alone)
        first = tried = subject.run(target, harm)
        where = f"{where} {first[0].struck.replace(str(target), '')}".strip()
        self.faults += (
            first[0].code == -9 or bool(first[0].struck) or kind in ("removed", "two")
        )
        for one in first:
            if problem := wrong_end(one, kind, killed=bool(harm.kill) and one is first[0]):
                self.lost.append(f"{where}: {problem}")
        for _ in range(ATTEMPTS):
            if problem := subject.look(target):
                self.lost.append(f"{where}: {problem}")
            if not any(one.code for one in tried) and subject.has_ended(target):
                break
            tried = subject.run(target)
            self.look(tried[0])
        failed = [one for one in tried if one.code or "Traceback" in one.said]
        if failed or not subject.has_ended(target):
            print((failed or tried)[0].said[-2000:])
            self.compare(None, where)
        else:
            self.compare(subject.outcome(target, tried), where)
        shutil.rmtree(target, ignore_errors=True)

    def harm(
        self, subject: Training, kind: str, target: Path, number: int, turn: int, alone: float
    ) -> tuple[Harm, str]:
        """Return what is done to a command, and how that is called."""
        watched = str(subject.watched(target))
        seconds = self.draw.uniform(0.05, 0.9) * alone
        if kind == "two":
            if turn % 2:
                return Harm(watched), "two at once"
            return Harm(watched, kill=seconds), f"two at once, one killed after {seconds:.1f} s"
        if kind == "kill":
            return Harm(watched, kill=seconds), f"kill after {seconds:.1f} s"
        if kind == "removed":
            cache = str(subject.cache(target))
            return (
                Harm(watched, remove=cache, after=seconds), f"cache removed after {seconds:.1f} s"
            )
        if kind == "clock":
            back = self.draw.choice(STEPS_BACK)
            return Harm(watched, number, behind=back), f"clock back {back} s at write {number}"
        return (
            Harm(watched, number, *failing(kind), self.draw.random()), f"{kind} at write {number}"
        )

    def look(self, ended: Ended | Tried) -> None:
        """Note whether a process went on in the middle, and when it came to its first step."""
        if "going on after" in ended.said:
            self.resumed += 1
            if found := re.search(r"first step after ([\d.]+) s", ended.said):
                self.recovery.append(float(found[1]))

    def compare(self, found: Any, where: str) -> None:
        self.ended += 1
        differs = found != self.wanted
        if differs:
            self.lost.append(f"{where}: it ended otherwise than the one left alone")
        print(f"{where}: {'DIFFERS' if differs else 'the same'}", flush=True)

    def tell(self) -> None:
        first = f"{statistics.median(self.recovery):.1f} s" if self.recovery else "-"
        print(
            f"{self.faults} faults, {self.resumed} times gone on in the middle (first step after "
            f"{first}, the median), {self.ended} runs ended, {len(self.lost)} lost"
        )
        for line in self.lost:
            print(f"  {line}")


class Launched:
    """The workers of a run.

    Args:
        workers: How many.
        restarts: How often all of them are started again.
        overrides: Of the run.
    """

    def __init__(self, workers: int, restarts: int, overrides: Sequence[str]):
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "kerasft", "launch", "-n", str(workers),
             "--restarts", str(restarts), "--", "train", *overrides],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.reader.join()

    @property
    def ended(self) -> Ended:
        return Ended(self.process.returncode, "".join(self.lines))

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, for so many seconds; return whether it came."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self, draw: random.Random) -> bool:
        """End a worker, if one is there."""
        told = [line for line in self.lines if re.search(r"processes \d+", line)]
        if not told:
            return False
        number = int(draw.choice(re.findall(r"\d+", told[-1].partition("processes")[2])))
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def wrong_end(tried: Tried, fault: str, *, killed: bool = False) -> str:
    """Say what is wrong with how a disturbed command ended, if anything."""
    if fault in ("kill", "torn") or killed:
        ends = (-9,) if fault == "torn" else (-9, 0)  # it may have been over before
        return "" if tried.code in ends else f"it ended with {tried.code}: {tried.said[-300:]}"
    if "Traceback" in tried.said:
        return f"a traceback: {tried.said.strip().splitlines()[-1][:200]}"
    errors = [line for line in tried.said.splitlines() if line.startswith("error: ")]
    # A clock or a cache that is not there is no reason to fail.
    ends = ((0, 0),) if fault in ("clock", "removed", "two") else ((0, 0), (2, 1))
    if (tried.code, len(errors)) not in ends:
        return f"it ended with {tried.code} and {len(errors)} errors: {tried.said[-300:]}"
    return ""


def in_a_process(overrides: list[str], limit: float | None = None) -> Ended:
    """Run, and end it with SIGKILL after some seconds."""
    command = [sys.executable, "-u", "-m", "kerasft", "train", *overrides]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    return Ended(process.returncode, said)


def require_ended(ended: Ended | Tried) -> None:
    if ended.code:
        raise SystemExit(f"the command failed:\n{ended.said[-3000:]}")


if __name__ == "__main__":
    main()
