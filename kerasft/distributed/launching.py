"""`kerasft launch`: the workers of a run on one machine, started, watched and started again."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from kerasft.distributed.cluster import LAUNCHED
from kerasft.distributed.peers import PortInUse
from kerasft.errors import AGAIN, UserError, some
from kerasft.system.accelerators import seen, share
from kerasft.system.console import say, warn

# What a user's mistake ends with; to start such a worker again would not help.
MISTAKE = 2
# What workers end with that were asked to stop, or have lost another one.
STOPPED = (130, 143, AGAIN)
# Seconds that the others have to see by themselves that one is gone, and those to be ended in.
GRACE, KILL = 60.0, 20.0


class Launcher:
    """Starts the workers of a run, and starts all of them again where one is lost.

    Args:
        command: What each of them runs: arguments of `kerasft`.
        workers: How many.
        restarts: How often all of them are started again.
        grace: Seconds after which workers are ended that did not see that one is gone.
        begin: Starts a process; by default `python -m kerasft`.

    Raises:
        UserError: If the command trains nothing.
    """

    def __init__(
        self, command: Sequence[str], workers: int, *, restarts: int = 3, grace: float = GRACE,
        begin: Callable[..., Any] | None = None,
    ):
        if workers < 1 or restarts < 0:
            raise UserError(
                "launch: -n must be at least 1 and --restarts at least 0. Received: "
                f"-n {workers} --restarts {restarts}."
            )
        if list(command[:1]) not in (["train"], ["resume"]):
            raise UserError(
                "launch starts the workers of a run: kerasft launch -n 2 -- train KEY=VALUE ... "
                f"(or: -- resume RUN). Received: {' '.join(command) or 'no command'}."
            )
        self.command, self.workers = completed(command), workers
        self.restarts, self.grace = restarts, grace
        self.begin = begin or _begun
        self.asked: list[int] = []

    def run(self) -> int:
        """Start the workers, and return the exit status once all have ended."""
        before = {n: signal.signal(n, lambda number, _: self.asked.append(number))
                  for n in (signal.SIGTERM, signal.SIGINT)}  # fmt: skip
        try:
            for left in range(self.restarts, -1, -1):
                codes = self._attend(self._start())
                if PortInUse.code in codes and not self.asked:
                    warn("launch: a port was taken before its worker could listen; "
                         "all start again at others")  # fmt: skip
                    codes = self._attend(self._start())
                if not any(codes):
                    return 0
                if self.asked or MISTAKE in codes or all(code in (0, *STOPPED) for code in codes):
                    return _told(codes)
                if not left:
                    break
                warn(f"{self._lost(codes)}; all {self.workers} start again from the last "
                     f"checkpoint ({left} of {self.restarts} restarts left)")  # fmt: skip
            warn(f"{self._lost(codes)}; --restarts {self.restarts} is used up")
            return AGAIN
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self) -> list[Any]:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(self.workers)]
        devices, made = seen(), []
        each = max(len(devices) // self.workers, 1)
        for rank in range(self.workers):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            made.append(self.begin(self.command, {
                **os.environ, **share(devices, rank, self.workers, each),
                "TF_CONFIG": json.dumps(task), LAUNCHED: "1",
            }))  # fmt: skip
        say(f"launch: {some(self.workers, 'worker')}, process{'es' * (self.workers > 1)} "
            f"{', '.join(str(one.pid) for one in made)}")  # fmt: skip
        return made

    def _attend(self, made: Sequence[Any]) -> list[int]:
        """Wait until all have ended, and return their exit statuses."""
        passed, first, ended = 0, 0.0, False
        while any(one.poll() is None for one in made):
            for number in self.asked[passed:]:
                # One would do: they agree on the step to stop at. Before they train, they do not.
                for one in made:
                    if one.poll() is None:
                        one.send_signal(number)
            passed = len(self.asked)
            if not first and any(one.poll() for one in made):
                first = time.monotonic()
            if first:
                over = time.monotonic() - first - self.grace
                # Others wait for a worker that cannot listen, and for nothing that they would lose.
                taken = any(one.poll() == PortInUse.code for one in made)
                if (over > 0 or taken) and not ended:
                    ended = True
                    _each(made, "terminate")
                elif over > KILL:
                    _each(made, "kill")
            time.sleep(0.05)
        return [int(one.returncode) for one in made]

    def _lost(self, codes: Sequence[int]) -> str:
        """Name the workers that did not end because of others."""
        names = [
            f"worker {rank} {how(code)}" for rank, code in enumerate(codes)
            if code not in (0, *STOPPED)
        ]
        return "launch: " + ", ".join(names)


def how(code: int) -> str:
    """Say how a process ended.

    Example:
        >>> how(-9), how(1)
        ('was ended by SIGKILL', 'ended with status 1')
    """
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _told(codes: Sequence[int]) -> int:
    """Return the exit status for all: a mistake's first, then that of who stopped."""
    if MISTAKE in codes:
        return MISTAKE
    return next((code for code in codes if code > 0), 1)


def _each(made: Sequence[Any], act: str) -> None:
    for one in made:
        if one.poll() is None:
            getattr(one, act)()


def completed(command: Sequence[str]) -> list[str]:
    """Return a command with what its workers need to be of one run, and to go on with it.

    Args:
        command: The arguments of `kerasft`.

    Example:
        >>> completed(["train", "output_dir=here", "epochs=2"])
        ['train', 'output_dir=here', 'epochs=2', 'distribute=multi_worker', 'resume=auto']
    """
    made = list(command)
    if made[0] != "train":
        return made
    given = {re.split("[=]", one.lstrip("+"))[0]: one.partition("=")[2] for one in made[1:]}
    if "distribute" not in given:
        made.append("distribute=multi_worker")
    if "output_dir" not in given:
        # The same for all, and for who is started again.
        stamp = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
        made.append(f"output_dir=outputs/{given.get('name', 'run')}/{stamp}")
    if "resume" not in given:
        made.append("resume=auto")
    return made


def free_ports(count: int) -> list[int]:
    """Return numbers of ports that nobody listens at now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _begun(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen:
    # In a session of its own: Ctrl-C on a terminal comes to the launcher alone, which passes it on.
    return subprocess.Popen(
        [sys.executable, "-m", "kerasft", *command], env=environment, start_new_session=True
    )


def run(options: Any) -> int:
    """Do what `kerasft launch` asks for."""
    command = options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments
    return Launcher(command, options.workers, restarts=options.restarts).run()
