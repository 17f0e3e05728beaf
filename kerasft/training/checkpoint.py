"""Checkpoints: all that a run needs to go on in the middle of an epoch, in files that are whole."""

from __future__ import annotations

import json
import os
import re
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kerasft.errors import Stopped, UserError
from kerasft.files import written_whole
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
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


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
        return State(Position(**head["position"]), dict(head["plain"]), arrays)
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


def _sync(folder: Path) -> None:
    """See that a rename in a folder is on the disk."""
    # Windows opens no folders, and some file systems sync none.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Policy:
    """When checkpoints are written, and how many are kept.

    Args:
        minutes: The most minutes of training that a crash may cost; `null` for no limit.
        steps: Also every so many steps; `null` for none.
        keep: How many stay.

    Raises:
        UserError: If a value is out of its range.

    Example:
        >>> Policy(minutes=10, keep=1).keep
        1
    """

    def __init__(
        self, *, minutes: float | None = 2, steps: int | None = None, keep: int = 2
    ):
        if (minutes is not None and minutes <= 0) or (steps is not None and steps < 1) or keep < 1:
            raise UserError(
                "checkpoint.minutes must be above 0, checkpoint.steps and checkpoint.keep at least "
                f"1. Received: minutes={minutes}, steps={steps}, keep={keep}."
            )
        self.minutes, self.steps, self.keep = minutes, steps, keep


class Saver:
    """Writes checkpoints of a run as a policy has it.

    Args:
        policy: The policy.
        directory: Where they are put.
        say: Prints a line.
        left: Seconds until the run shall have stopped; `None` for no limit.
    """

    def __init__(
        self, policy: Policy, directory: Path, say: Callable[[str], None], *,
        left: float | None = None,
    ):
        self.policy, self.directory, self.say, self.signals = policy, directory, say, Signals()
        self.cost = 0.0
        self.written = time.monotonic()
        self.asked: float | None = None
        self.longest = 0.0  # between two questions
        self.deadline = None if left is None else time.monotonic() + left
        self.since = 0
        self.number = max([n for n, _ in self._files()], default=0)

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
        if self.signals.stop or self.signals.save:
            return True
        if self.policy.steps is not None and self.since >= self.policy.steps:
            return True
        if self.policy.minutes is None:
            return False
        return now - self.written >= max(self.policy.minutes * 60, cost / SHARE)

    def save(self, state: State) -> None:
        """Write one, and remove those that are too many. A failed write ends no run."""
        began = time.monotonic()
        self.number += 1
        try:
            write(self.directory / f"step-{self.number:08d}.npz", state)
        except UserError as error:
            self.say(f"warning: no checkpoint was written: {error}")
        else:
            for _, path in self._files()[self.policy.keep :]:
                with suppress(OSError):
                    path.unlink()
        self.written, self.since = time.monotonic(), 0
        self.cost = self.written - began
        self.signals.save = False

    def stop_if_asked(self, position: Position) -> None:
        """Raise `Stopped` where a signal or the time limit asked for it."""
        if self.signals.stop:
            raise Stopped(*self.signals.stop, position.epoch, position.step)

    def newest(self) -> State | None:
        """Return the newest state that is whole, and name those that are not.

        Raises:
            UserError: If there are some, and none is whole.
        """
        damaged = []
        for _, path in self._files():
            try:
                return read(path)
            except Damaged as error:
                damaged.append(str(error))
                self.say(f"warning: the checkpoint {error}; the one before it is used")
        if damaged:
            raise UserError(
                f"No checkpoint in {str(self.directory)!r} is whole: {'; '.join(damaged)}. Remove "
                "them to begin at the first step."
            )
        return None

    def _files(self) -> list[tuple[int, Path]]:
        """Return number and path of each checkpoint, the newest first."""
        found = self.directory.glob("step-*.npz")
        numbered = [(m, path) for path in found if (m := _NAME.match(path.name))]
        return sorted(((int(m[1]), path) for m, path in numbered), reverse=True)
