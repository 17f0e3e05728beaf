"""A process that has imported TensorFlow and lets forks of itself fail; for scripts/faults.py."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple


class Tried(NamedTuple):
    """How a command in the nursery ended, how many writes it made, and which one was struck."""

    code: int
    said: str
    writes: int
    struck: str


@dataclass
class Harm:
    """What happens to a command.

    Args:
        folder: Where writes are counted.
        number: The write that is struck; 0 for none.
        failure: How: an errno, -1 to end the process in it.
        lasting: Whether all later ones fail too.
        share: Of the bytes of the write that the process ends in, how many are written.
        behind: Seconds that the clock of the day is set back at that write, instead.
        kill: Seconds after which the process is ended.
        remove: A folder that is removed.
        after: The seconds after which it is.
    """

    folder: str = "/nowhere"
    number: int = 0
    failure: int = 0
    lasting: bool = False
    share: float = 0.0
    behind: int = 0
    kill: float = 0.0
    remove: str = ""
    after: float = 0.0


class Nursery:
    """The process.

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
            [sys.executable, __file__], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=os.environ | {"LD_PRELOAD": str(library)},
        )  # fmt: skip

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *given: object) -> None:
        self.process.stdin.close()
        self.process.wait()

    def run(self, command: list[str], harm: Harm | None = None) -> Tried:
        """Run a command of kerasft, which harm may come to."""
        return self.run_together([command], harm)[0]

    def run_together(self, commands: list[list[str]], harm: Harm | None = None) -> list[Tried]:
        """Run commands at the same time; the harm comes to the first one."""
        self.process.stdin.write(json.dumps([commands, asdict(harm or Harm())]) + "\n")
        self.process.stdin.flush()
        return [Tried(*one) for one in json.loads(self.process.stdout.readline())]


def main() -> None:
    """Fork for each command of a line of standard input, and answer with how these ended."""
    answers = os.fdopen(os.dup(1), "w")
    import keras_hub  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import tensorflow  # noqa: F401

    import kerasft.run  # noqa: F401

    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as name:
            commands, told = json.loads(line)
            harm = Harm(**told)
            children = []
            for number, command in enumerate(commands):
                place = Path(name, str(number))
                place.mkdir()
                (place / "said").touch()
                child = os.fork()
                if not child:
                    os._exit(forked(command, Harm() if number else harm, place))
                children.append((child, place))
            timers = []
            if harm.kill:
                timers.append(threading.Timer(harm.kill, os.kill, (children[0][0], signal.SIGKILL)))
            if harm.remove:
                timers.append(threading.Timer(harm.after, remove, (Path(harm.remove),)))
            for timer in timers:
                timer.start()
            # Not waited for before the killer is gone, who might find another process's number.
            os.waitid(os.P_PID, children[0][0], os.WEXITED | os.WNOWAIT)
            for timer in timers:
                timer.cancel()
            for timer in timers:
                timer.join()
            answers.write(json.dumps([ended(*one) for one in children]) + "\n")
            answers.flush()


def remove(folder: Path) -> None:
    """Remove a folder that others may write to meanwhile, and all of it."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.01)


def ended(child: int, place: Path) -> list:
    _, status = os.waitpid(child, 0)
    counted = place / "counted"
    writes, struck = json.loads(counted.read_text()) if counted.is_file() else (0, "")
    said = (place / "said").read_text("utf-8", "replace")
    return [os.waitstatus_to_exitcode(status), said, writes, struck]


def forked(command: list[str], harm: Harm, place: Path) -> int:
    """Be the command."""
    from kerasft.cli import main as command_line
    from kerasft.system.console import clock

    clock.begin()
    stream = os.open(place / "said", os.O_WRONLY | os.O_CREAT)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    shim = ctypes.CDLL(None)
    shim.write_struck.restype = ctypes.c_char_p
    shim.fail_write.argtypes = [
        ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_double,
    ]  # fmt: skip
    shim.step_clock.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_long]
    below = harm.folder.encode()
    if harm.behind:
        shim.step_clock(below, harm.number, harm.behind)
    else:
        shim.fail_write(below, harm.number, harm.failure, harm.lasting, harm.share)
    try:
        code = command_line(command)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    (place / "counted").write_text(json.dumps([shim.writes_seen(), shim.write_struck().decode()]))
    return code


def failing(kind: str) -> tuple[int, bool]:
    """Return the errno of a kind of fault, -1 for one that ends the process, and if it stays."""
    if kind == "torn":
        return -1, False
    return getattr(errno, kind), kind in ("ENOSPC", "EROFS")


if __name__ == "__main__":
    main()
