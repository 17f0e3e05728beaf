"""Checkpoints: all that a run needs to go on in the middle of an epoch, in files that are whole."""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kerasft.distributed.group import current
from kerasft.errors import AGAIN, Stopped, UserError
from kerasft.system.files import written_whole
from kerasft.system.recorded import fits
from kerasft.training.randomness import require_random
from kerasft.training.signals import Signals

FORMAT = 1
# A run may spend this share of its time on writing them.
SHARE = 0.02
# Bytes a second that the first one is expected to be written with.
PACE = 2e8
_NAME = re.compile(r"^step-(\d+)\.npz$")


@dataclass(frozen=True)
class Position:
    """Where a run stands: before a step of an epoch.

    Args:
        stage: The stage; `""` after the last one.
        began: The epoch that the stage began with, all counted from 0 over the whole run.
        epoch: The epoch.
        step: Steps of it that are done.
    """

    stage: str
    began: int
    epoch: int
    step: int


@dataclass(frozen=True)
class State:
    """What a run was at a position.

    Args:
        position: Where.
        plain: What JSON can hold.
        arrays: The rest, by name.
    """

    position: Position
    plain: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class Damaged(Exception):
    """A checkpoint cannot be read as it was written."""


def write(path: Path, state: State) -> None:
    """Write a state beside its place, synced, and rename it into place.

    Args:
        path: A `.npz` file. Each array in it carries a checksum, and none is pickled.
        state: The state.

    Raises:
        UserError: If it cannot be written.
    """
    head = {
        "format": FORMAT, "position": asdict(state.position), "plain": state.plain,
        "arrays": list(state.arrays),
    }
    arrays: dict[str, Any] = {f"/{name}": value for name, value in state.arrays.items()}
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), "uint8")
    with written_whole(path) as part, open(part, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read(path: Path) -> State:
    """Read a state that `write` wrote.

    Args:
        path: The file.

    Raises:
        Damaged: If it is cut off, or a checksum does not fit.
    """
    try:
        raw = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"The checkpoint {str(path)!r} cannot be read: {error.strerror or error}."
        ) from error
    try:
        with raw:
            _require_plain(raw)
            with np.load(raw, allow_pickle=False) as file:
                head = json.loads(file["head"].tobytes())
                arrays = {name[1:]: file[name] for name in file.files if name.startswith("/")}
        if head["format"] != FORMAT:
            raise UserError(
                f"The checkpoint {str(path)!r} has the format {head['format']}, and this version "
                f"of kerasft reads {FORMAT}. Go on with the version that wrote it (run.json)."
            )
        if list(arrays) != head["arrays"]:
            raise ValueError("arrays are missing")
        position, plain = Position(**head["position"]), dict(head["plain"])
        where = (position.began, position.epoch, position.step)
        if not (
            isinstance(position.stage, str) and all(fits(n, int) and n >= 0 for n in where)
            and fits(plain.get("stopped", []), list[str])
            and isinstance(plain.get("callbacks", {}), dict)
            and isinstance(plain.get("random", {}), dict)
        ):
            raise ValueError("it says of no run where it was")
        require_random(plain.get("random", {}), arrays)
        return State(position, plain, arrays)
    except UserError:
        raise
    except Exception as error:  # zipfile, NumPy and JSON have a dozen kinds for broken bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Damaged(f"{path.name} is damaged ({reason[:100]})") from error


def _require_plain(file: BinaryIO) -> None:
    """See that what a file unpacks to is no larger than the file: nothing in it is compressed."""
    with zipfile.ZipFile(file) as pack:
        members = pack.infolist()
    size = file.seek(0, os.SEEK_END)
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or (
        sum(m.file_size for m in members) > size
    ):
        raise ValueError("it unpacks to more than it holds")
    file.seek(0)


class Policy:
    """When checkpoints are written, and how many are kept.

    Args:
        minutes: The most minutes of training that a crash may cost; `null` for no limit.
        steps: Also every so many steps; `null` for none.
        keep: How many stay.
        top: Of how many of the best epochs the model stays, as `checkpoints/epoch-NNNN.keras`.
        limit_gb: No checkpoint is written that would have `checkpoints` hold more, in 10^9 bytes;
            `null` for no limit. Models (`.keras`) count, but are always written.

    Raises:
        UserError: If a value is out of its range.

    Example:
        >>> Policy(minutes=10, keep=1).keep
        1
    """

    def __init__(
        self, *, minutes: float | None = 2, steps: int | None = None, keep: int = 2, top: int = 0,
        limit_gb: float | None = None,
    ):
        if (minutes is not None and minutes <= 0) or (steps is not None and steps < 1) or keep < 1:
            raise UserError(
                "checkpoint.minutes must be above 0, checkpoint.steps and checkpoint.keep at least "
                f"1. Received: minutes={minutes}, steps={steps}, keep={keep}."
            )
        if top < 0 or (limit_gb is not None and limit_gb <= 0):
            raise UserError(
                "checkpoint.top must be at least 0 and checkpoint.limit_gb above 0. Received: "
                f"top={top}, limit_gb={limit_gb}."
            )
        self.minutes, self.steps, self.keep, self.top = minutes, steps, keep, top
        self.limit = None if limit_gb is None else int(limit_gb * 1e9)


class Saver:
    """Writes checkpoints of a run as a policy has it, in a thread beside the training.

    Args:
        policy: The policy.
        directory: Where they are put.
        say: Prints a line.
        left: Seconds until the run shall have stopped; `None` for no limit.

    Of several processes the first one writes. When, and when they stop, is agreed between steps: by
    its own clock or signals alone, a worker would leave the others waiting for ever.
    """

    def __init__(
        self, policy: Policy, directory: Path, say: Callable[[str], None], *,
        left: float | None = None,
    ):
        self.group = current()
        self.stops = False  # all workers, after the step at hand
        self.policy, self.directory, self.say, self.signals = policy, directory, say, Signals()
        self.cost = 0.0  # seconds that it took to write the last one
        self.written = time.monotonic()
        self.asked: float | None = None
        self.longest = 0.0  # gap between two calls of `due`
        self.deadline = None if left is None else time.monotonic() + left
        self.since = self.size = 0
        self.number = max([n for n, _ in self._files()], default=0)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def begin(self, size: int) -> None:
        """Take up a stage, of which one would take so many bytes."""
        self.size, self.asked = size, None  # what lay before the stage was no step

    def due(self, steps: int, size: int) -> bool:
        """Whether one shall be written now.

        Args:
            steps: Steps done since the last question.
            size: Bytes that it would take.
        """
        self.since += steps
        now, cost = time.monotonic(), self.cost or size / PACE
        if self.asked is not None:
            self.longest = max(self.longest, now - self.asked)
        self.asked = now
        if self.deadline is not None and now + self.longest + 2 * cost >= self.deadline:
            self.signals.over()
        stop = self.signals.stop
        wants, self.stops, over = self.group.any(
            self._wants(now, cost), stop is not None, stop is not None and stop[1] == AGAIN
        )
        if self.stops and stop is None:  # another's signal or clock is as good
            self.signals.stop = ("max_time", AGAIN) if over else ("SIGTERM to another worker", 143)
        return wants or self.stops

    def _wants(self, now: float, cost: float) -> bool:
        """Whether this process would write one."""
        if self.signals.stop or self.signals.save:
            return True
        if self.policy.steps is not None and self.since >= self.policy.steps:
            return True
        if self.policy.minutes is None:
            return False
        return now - self.written >= max(self.policy.minutes * 60, cost / SHARE)

    def save(self, state: State | Callable[[], State]) -> None:
        """Begin to write one, of a state or what makes it.

        A failed write ends no run: it is told when the next one is due.
        """
        self.finish()
        self.number += 1
        self.written, self.since = time.monotonic(), 0
        self.signals.save = False
        if self.group.rank:
            return
        state = state() if callable(state) else state
        self._thread = threading.Thread(
            target=self._save, args=(state, self.number), name="kerasft-checkpoint"
        )
        self._thread.start()

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Heed signals inside the block, and have written at its end what shall be."""
        try:
            with self.signals.heeded():
                yield
        finally:
            self.finish()

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal to stop, or the end of the run's time, raise `Interrupted` in the block."""
        if self.group.workers > 1:
            yield  # the others would go on
            return
        cost = self.cost or self.size / PACE
        left = math.inf if self.deadline is None else self.deadline - 2 * cost - time.monotonic()
        timer = threading.Timer(min(max(left, 0), threading.TIMEOUT_MAX), self.signals.over)
        timer.daemon = True
        timer.start()
        try:
            with self.signals.interrupting():
                yield
        finally:
            timer.cancel()
            timer.join()
            self.asked = None  # it was no step, and need not be foreseen as one

    def finish(self) -> None:
        """Wait until the last one is written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if isinstance(failure, UserError):
            self.say(f"warning: no checkpoint was written: {failure}")
        elif failure is not None:
            raise failure

    def _save(self, state: State, number: int) -> None:
        """Write one, and remove those that are too many."""
        began = time.monotonic()
        try:
            self._make_room(sum(array.nbytes for array in state.arrays.values()))
            write(self.directory / f"step-{number:08d}.npz", state)
            for _, path in self._files()[self.policy.keep :]:
                with suppress(OSError):
                    path.unlink()
        except BaseException as error:
            self._failure = error
        self.cost = time.monotonic() - began

    def _make_room(self, size: int) -> None:
        """Remove old ones where the limit needs it, but never the last whole one."""
        if self.policy.limit is None:
            return
        for _, path in reversed(self._files()[1:]):
            if size_of(self.directory.parent) + size > self.policy.limit:
                with suppress(OSError):
                    path.unlink()
        held = size_of(self.directory.parent)
        if held + size > self.policy.limit:
            raise UserError(
                f"{str(self.directory.parent)!r} holds {held / 1e6:,.0f} MB, and one more of "
                f"{size / 1e6:,.0f} MB would be beyond checkpoint.limit_gb="
                f"{self.policy.limit / 1e9:g}. Set it higher, or checkpoint.keep or "
                "checkpoint.top lower."
            )

    def stop_if_asked(self, position: Position) -> None:
        """Raise `Stopped` where a signal or the time limit asked for it."""
        if self.signals.stop and (self.stops or self.group.workers == 1):
            self.finish()
            raise Stopped(*self.signals.stop, position.epoch, position.step)

    def newest(self) -> State | None:
        """Return the newest state that is whole, and name those that are not.

        Raises:
            UserError: If there are some, and none is whole.
        """
        return next(self._whole(), None)

    def last_two(self) -> tuple[State | None, State]:
        """Return the state to replay from, `None` for the run's beginning, and that to come to.

        Raises:
            UserError: If there is none to come to.
        """
        states = self._whole()
        last = next(states, None)
        if last is None:
            raise UserError(
                f"There is no checkpoint in {str(self.directory)!r} to be verified. Go on without "
                "--verify."
            )
        return next((one for one in states if one.position != last.position), None), last

    def _whole(self) -> Iterator[State]:
        """Yield the states that are whole, the newest first."""
        damaged, found = [], False
        for _, path in self._files():
            try:
                state = read(path)
            except Damaged as error:
                damaged.append(str(error))
                self.say(f"warning: the checkpoint {error}; the one before it is used")
                continue
            found = True
            yield state
        if damaged and not found:
            raise UserError(
                f"No checkpoint in {str(self.directory)!r} is whole: {'; '.join(damaged)}. Remove "
                "them to begin at the first step."
            )

    def _files(self) -> list[tuple[int, Path]]:
        """Return number and path of each checkpoint, the newest first."""
        found = self.directory.glob("step-*.npz")
        numbered = [(m, path) for path in found if (m := _NAME.match(path.name))]
        return sorted(((int(m[1]), path) for m, path in numbered), reverse=True)


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder and those in it; one with two names counts once."""
    sizes = {}
    for path in folder.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            about = path.stat()
            if path.is_file():
                sizes[about.st_dev, about.st_ino] = about.st_size
    return sum(sizes.values())
