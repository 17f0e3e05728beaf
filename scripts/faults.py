"""Lets a real run fail in many ways, resumes it until it ends, and compares it with one left be.

    python scripts/faults.py --rounds 50 data=table data.path=reviews.csv data.text=text ...
    python scripts/faults.py --fault ENOSPC --every 3 ...
    python scripts/faults.py --fault kill,torn,EIO --rounds 3 ...

The arguments are overrides of the run. `kill` ends the process at a random moment; `torn` ends it
in the middle of a write to the run folder, after a random part of the bytes; `ENOSPC` and `EIO` let
a write fail, the first as a full disk does, from there on, the second once. Several come in turn,
each in a run of its own. Weights, log and metrics must be the same to the last bit in the end, and
whatever fails must be told in one line. All but `kill` alone need Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import json
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
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

FAULTS = ("kill", "torn", "ENOSPC", "EIO")


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
    options, rest = parser.parse_known_args()
    faults = options.fault.split(",")
    if not set(faults) <= set(FAULTS):
        parser.error(f"--fault takes {', '.join(FAULTS)}, and not {options.fault}")
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        common = [
            *options.overrides, *rest, f"cache.directory={folder}/cache", "progress=false",
        ]  # fmt: skip
        tried = Trials(folder, common, random.Random(options.seed))
        if faults == ["kill"]:
            tried.kill(options.rounds or 50)
        else:
            tried.fail_in_turn(faults, options.rounds, options.every)
        tried.tell()
        sys.exit(bool(tried.lost))


class Trials:
    """Runs that are disturbed, and what became of them.

    Args:
        folder: A folder for all of it.
        common: The overrides.
        draw: Random numbers.
    """

    def __init__(self, folder: Path, common: list[str], draw: random.Random):
        self.folder, self.common, self.draw = folder, common, draw
        self.wanted: tuple = ()  # what the run left alone came to
        self.faults = self.resumed = self.ended = 0
        self.lost: list[str] = []
        self.recovery: list[float] = []

    def kill(self, rounds: int) -> None:
        """End processes at random moments; where a run ends before, another one begins."""
        alone = self.leave_alone(lambda command, target: in_a_process(command))
        while self.faults < rounds:
            target = self.folder / f"run-{self.ended}"
            command = [*self.common, f"output_dir={target}", "resume=auto"]
            while not has_ended(target):
                # Most kills hit the training; some the start, the measuring or the writing.
                limit = None if self.faults == rounds else self.draw.uniform(0.3, 1.2) * alone
                ended = in_a_process(command, limit)
                if ended.code == -9:
                    self.faults += 1
                elif ended.code:
                    raise SystemExit(f"the run failed:\n{ended.said[-3000:]}")
                self.look(ended)
            self.compare(target, f"after {self.faults} kills")

    def leave_alone(self, train: Callable[[list[str], Path], Any]) -> float:
        """Note what a run comes to that nothing happens to, and return its seconds."""
        target, began = self.folder / "whole", time.monotonic()
        whole = train(self.command(target), target)
        alone = time.monotonic() - began
        if whole.code:
            raise SystemExit(f"the run failed:\n{whole.said[-3000:]}")
        writes = f", {whole.writes} writes" if isinstance(whole, Tried) else ""
        print(f"left alone: {alone:.1f} s{writes}", flush=True)
        self.wanted, self.writes = outcome(target), getattr(whole, "writes", 0)
        return alone

    def fail_in_turn(self, faults: list[str], rounds: int | None, every: int | None) -> None:
        """Disturb runs once each, at different writes or moments, and resume them."""
        with Nursery(self.folder) as nursery:
            alone = self.leave_alone(nursery.train)
            numbers = list(range(1, self.writes + 1))
            if every:
                numbers = numbers[self.draw.randrange(every) :: every]
            elif rounds:
                numbers = sorted(self.draw.sample(numbers, min(rounds, len(numbers))))
            for turn, number in enumerate(numbers):
                kind, target = faults[turn % len(faults)], self.folder / f"run-{number}"
                if kind == "kill":
                    seconds = self.draw.uniform(0.2, 0.9) * alone
                    tried = nursery.train(self.command(target), target, seconds=seconds)
                    where = f"kill after {seconds:.1f} s"
                else:
                    tried = nursery.train(
                        self.command(target), target, number,
                        -1 if kind == "torn" else getattr(errno, kind), kind == "ENOSPC",
                        self.draw.random(),
                    )
                    struck = tried.struck.replace(str(target), "")
                    where = f"{kind} at write {number} {struck}".strip()
                self.faults += tried.code == -9 or bool(tried.struck)
                if problem := wrong_end(tried, kind):
                    self.lost.append(f"{where}: {problem}")
                while not has_ended(target):
                    again = nursery.train(self.command(target), target)
                    self.look(again)
                    if again.code:
                        break
                self.compare(target, where)
                shutil.rmtree(target, ignore_errors=True)

    def command(self, target: Path) -> list[str]:
        return [*self.common, f"output_dir={target}", "resume=auto"]

    def look(self, ended: Ended) -> None:
        """Note whether a process went on in the middle, and when it came to its first step."""
        if "going on after" in ended.said:
            self.resumed += 1
            if found := re.search(r"first step after ([\d.]+) s", ended.said):
                self.recovery.append(float(found[1]))

    def compare(self, target: Path, where: str) -> None:
        self.ended += 1
        differs = not has_ended(target) or outcome(target) != self.wanted
        if differs:
            self.lost.append(f"{where}: it ended otherwise than the run left alone")
        print(f"{where}: {'DIFFERS' if differs else 'the same'}", flush=True)

    def tell(self) -> None:
        first = f"{statistics.median(self.recovery):.1f} s" if self.recovery else "-"
        print(
            f"{self.faults} faults, {self.resumed} times gone on in the middle (first step after "
            f"{first}, the median), {self.ended} runs ended, {len(self.lost)} lost"
        )
        for line in self.lost:
            print(f"  {line}")


def wrong_end(tried: Tried, fault: str) -> str:
    """Say what is wrong with how a run with a failed write ended, if anything."""
    if fault in ("kill", "torn"):
        ends = (-9, 0) if fault == "kill" else (-9,)  # it may have been over before
        return "" if tried.code in ends else f"it ended with {tried.code}"
    if "Traceback" in tried.said:
        return f"a traceback: {tried.said.strip().splitlines()[-1][:200]}"
    errors = [line for line in tried.said.splitlines() if line.startswith("error: ")]
    if (tried.code, len(errors)) not in ((0, 0), (2, 1)):
        return f"it ended with {tried.code} and {len(errors)} errors: {tried.said[-300:]}"
    return ""


class Tried(NamedTuple):
    """How a run in the nursery ended, how many writes it made, and which one was struck."""

    code: int
    said: str
    writes: int
    struck: str


class Nursery:
    """A process that has imported TensorFlow, and gives each run a fork of itself.

    Args:
        folder: Where the library is put that lets writes fail.
    """

    def __init__(self, folder: Path):
        library = folder / "failing_writes.so"
        source = Path(__file__).with_name("failing_writes.c")
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None or not sys.platform.startswith("linux"):
            raise SystemExit("this needs Linux and a C compiler (cc)")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"],
            check=True,
        )  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--nursery"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=os.environ | {"LD_PRELOAD": str(library)},
        )  # fmt: skip

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *given: object) -> None:
        self.process.stdin.close()
        self.process.wait()

    def train(
        self, overrides: list[str], target: Path, number: int = 0, failure: int = 0,
        lasting: bool = False, share: float = 0.0, seconds: float | None = None,
    ) -> Tried:
        """Run, and let the write of that number below a folder fail, or kill it after seconds."""
        asked = [seconds, overrides, str(target), number, failure, lasting, share]
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return Tried(*json.loads(self.process.stdout.readline()))


def nursery() -> None:
    """Fork for each line of standard input, and answer with how that ended."""
    answers = os.fdopen(os.dup(1), "w")
    import keras_hub  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import tensorflow  # noqa: F401

    import kerasft.run  # noqa: F401

    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as name:
            said, counted = Path(name, "said"), Path(name, "counted")
            seconds, *asked = json.loads(line)
            said.touch()
            child = os.fork()
            if not child:
                os._exit(forked(*asked, said, counted))
            killer = threading.Timer(seconds or 0, os.kill, (child, signal.SIGKILL))
            if seconds:
                killer.start()
            # Not waited for before the killer is gone, who might find another process's number.
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            killer.cancel()
            if seconds:
                killer.join()
            _, status = os.waitpid(child, 0)
            writes, struck = json.loads(counted.read_text()) if counted.is_file() else (0, "")
            code = os.waitstatus_to_exitcode(status)
            answers.write(json.dumps([code, said.read_text("utf-8", "replace"), writes, struck]))
            answers.write("\n")
            answers.flush()


def forked(
    overrides: list[str], target: str, number: int, failure: int, lasting: bool, share: float,
    said: Path, counted: Path,
) -> int:
    """Be the run."""
    from kerasft.cli import main as command_line
    from kerasft.console import clock

    clock.restart()
    stream = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    shim = ctypes.CDLL(None)
    shim.write_struck.restype = ctypes.c_char_p
    shim.fail_write.argtypes = [
        ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_double,
    ]  # fmt: skip
    shim.fail_write(target.encode(), number, failure, lasting, share)
    try:
        code = command_line(["train", *overrides])
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    counted.write_text(json.dumps([shim.writes_seen(), shim.write_struck().decode()]))
    return code


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


def has_ended(run: Path) -> bool:
    facts = run / "run.json"
    return facts.is_file() and json.loads(facts.read_text())["status"] == "done"


def outcome(run: Path) -> tuple:
    """Return all that a run comes to, without times: weights, log, metrics."""
    rows = [json.loads(line) for line in (run / "logs" / "epochs.jsonl").read_text().splitlines()]
    log = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    with zipfile.ZipFile(run / "checkpoints" / "best.keras") as model:
        weights = hashlib.sha256(model.read("model.weights.h5")).hexdigest()
    return weights, log, json.loads((run / "metrics.json").read_text())


if __name__ == "__main__":
    if sys.argv[1:] == ["--nursery"]:
        nursery()
    else:
        main()
