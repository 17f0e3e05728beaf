"""The run folder: what a run leaves behind, and how it is found again."""

from __future__ import annotations

import datetime
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kerasft.config.composition import load, to_yaml
from kerasft.config.diff import differences
from kerasft.distributed.group import current as current_group
from kerasft.errors import Pruned, Stopped, UserError
from kerasft.runs import again
from kerasft.runs.output_dir import new_folder, point_last
from kerasft.system.console import warn
from kerasft.system.enclosure import require_enclosed, require_readable
from kerasft.system.files import (
    GONE,
    at_home,
    current,
    disk_space_in,
    read_json,
    write_json,
    written_whole,
)
from kerasft.system.folders import folders_of, looked_up_in, origin, require_path
from kerasft.system.provenance import changed, git_revision, machine, versions

_NOTED: dict[str, type] = {
    "versions": dict, "machine": dict, "resumed": list, "folders": list, "place": str,
    "status": str, "command": str, "started": str, "reason": str,
}


@dataclass(frozen=True)
class RunFolder:
    """A run folder.

    Args:
        path: Where it is.
        began: When this process took it up.
        rank: Which of the processes of the run this is. All but the first write nothing.
    """

    path: Path
    began: float = field(default_factory=time.monotonic, compare=False)
    rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes into the folder."""
        return self.rank == 0

    @property
    def own(self) -> Path:
        """Where callbacks of this process write."""
        return self.path if self.leads else self.path / "logs" / f"worker-{self.rank}"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def first_config(self) -> Path:
        """The config that the checkpoints were made with, until the run has ended."""
        return self.path / ".config.yaml"

    @property
    def network(self) -> Path:
        return self.path / "checkpoints" / "best.keras"

    @property
    def adapter(self) -> Path:
        return self.path / "checkpoints" / "adapter.safetensors"

    @property
    def preprocess(self) -> Path:
        return self.path / "preprocess"

    @property
    def labels(self) -> Path:
        return self.path / "labels.json"

    @property
    def task(self) -> Path:
        return self.path / "task.json"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def copies(self) -> Path:
        return self.path / "copies.csv"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def samples(self) -> Path:
        return self.path / "samples.txt"

    @property
    def evidence(self) -> Path:
        return self.path / "evidence.npz"

    @property
    def states(self) -> Path:
        return self.path / "checkpoints" / "states"

    @property
    def plots(self) -> Path:
        return self.path / "plots"

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    def facts(self) -> dict[str, Any]:
        """Return what is noted of the run, nothing where it has no `run.json`."""
        found = read_json(self.run) if self.run.is_file() else {}
        # A note that makes no sense counts as none.
        return {k: v for k, v in found.items() if isinstance(v, _NOTED.get(k, object))}

    @contextmanager
    def at_its_command(self) -> Iterator[None]:
        """Look relative paths up where the run was started, while the block runs."""
        folders = folders_of(self.facts(), self.path)
        with looked_up_in(folders) if folders else nullcontext():
            yield

    def read_config(self) -> DictConfig:
        """Return the config of the run."""
        if not self.config.is_file():
            raise UserError(
                f"{str(self.path)!r} is no run folder: it has no config.yaml. A run folder is what "
                "`kerasft train` wrote, such as outputs/last."
            )
        return load(self.config)

    @contextmanager
    def recording(self, cfg: DictConfig) -> Iterator[None]:
        """Write down what is run, and at the end how it ended."""
        if not self.leads:
            with current_group().speaking(self.path):
                yield
            return
        with self._alone():
            # Read with the lock held: whoever had it may have ended the run meanwhile.
            facts = self._taken_up(self.facts())
            for path in (self.config, self.first_config):
                with written_whole(path) as part:
                    part.write_text(to_yaml(cfg), encoding="utf-8")
            write_json(self.run, facts)
            try:
                with disk_space_in(self.path):
                    yield
            except BaseException as error:
                self._write_end(facts, error)
                raise
            write_json(self.run, facts | {"status": "done", "finished": _now()})
            shutil.rmtree(self.states, ignore_errors=True)
            self.first_config.unlink(missing_ok=True)

    def _taken_up(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """Return the facts of the run from now on, and say what is otherwise than before."""
        _require_unended(self.path, earlier)
        facts: dict[str, Any] = {
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "versions": versions(),
            "git": git_revision(),
            "machine": machine(),
            "started": _now(),
            **origin(self.path),
            "status": "running",
        }
        if not earlier:
            return facts
        if apart := changed(earlier.get("versions", {}), facts["versions"]):
            warn(f"the run goes on with other versions, not to the last bit: {apart}")
        if apart := changed(earlier.get("machine", {}), facts["machine"]):
            warn(f"the run goes on another machine, maybe not to the last bit: {apart}")
        first = ("command", "git", "machine", "started")
        before = [*earlier.get("resumed", []), {key: facts[key] for key in first}]
        kept = {key: earlier[key] for key in (*first, "folders", "place") if key in earlier}
        return facts | kept | {"resumed": before}

    def _write_end(self, facts: dict[str, Any], error: BaseException) -> None:
        reason = "\n".join(error.problems) if isinstance(error, UserError) else repr(error)
        stopped = isinstance(error, Stopped | KeyboardInterrupt | SystemExit)
        if isinstance(error, Stopped):
            error.folder, error.workers = str(self.path), current_group().workers
        pruned = isinstance(error, Pruned)
        ended = {
            "status": "pruned" if pruned else "stopped" if stopped else "failed",
            "finished": _now(),
            "reason": str(error) if isinstance(error, Stopped | Pruned) else reason,
        }
        try:
            write_json(self.run, facts | ended)
        except UserError:
            # The disk that failed the run cannot take its epitaph either; say the first cause.
            print(f"run.json of {self.path} could not be updated.", file=sys.stderr)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """See that no other process works in this folder; the system drops a dead one's lock."""
        from filelock import FileLock, Timeout

        require_enclosed(self.path)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"Another process works in the run folder {str(self.path)!r}. Wait for it, or end "
                "it first."
            ) from error
        except OSError as error:
            raise UserError(
                f"The run folder {str(self.path)!r} cannot be written: {error.strerror or error}."
            ) from error
        try:
            yield
        finally:
            lock.release()


def create(cfg: DictConfig) -> RunFolder:
    """Make the folder of a new run and point `outputs/last` to it.

    Args:
        cfg: The config; `output_dir` is the folder, by default `outputs/NAME/STAMP`. With
            `resume=auto` it may hold this very run, which goes on, with `resume=accept` one of
            another config.

    Returns:
        The folder; `cfg.output_dir` names it from now on.

    Raises:
        UserError: If it holds another run already or cannot be made.
    """
    if cfg.resume and (
        at_home(require_path(cfg.output_dir, "output_dir")) / "config.yaml"
    ).is_file():
        folder, then = unended(cfg.output_dir)
        cfg.output_dir = str(folder.path)
        _require_same(folder, then, cfg, "Take these back, choose another output_dir, or go on "
                      "all the same with resume=accept.")  # fmt: skip
        return folder
    path = new_folder(cfg)
    cfg.output_dir = str(path)
    point_last(path)
    return RunFolder(path)


# What may differ between a run and its continuation: it changes no result.
_FREE = ("output_dir", "distribute", "distribute_timeout", "resume", "max_time", "progress",
         "checkpoint", "faults", "export", "baseline", "floor", "plots", "slices",
         "cache.directory", "cache.limit_gb", "memory_gb")


def _require_same(folder: RunFolder, then: DictConfig, now: DictConfig, remedy: str) -> None:
    """See that a run goes on with the config that it began with, whatever its folder says now."""
    began = load(folder.first_config) if folder.first_config.is_file() else then
    try:
        apart = differences(began, now, free=_FREE)
    except OmegaConfBaseException as error:
        raise UserError(
            f"The config of the run {str(folder.path)!r} cannot be resolved: "
            f"{str(error).splitlines()[0]}."
        ) from error
    if apart:
        said = f"The run in {str(now.output_dir)!r} began with another config: "
        said += f"{'; '.join(apart[:5])}."
        if now.resume == "accept":
            warn(f"{said} It goes on with the new one.")
            return
        raise UserError(f"{said} {remedy}")


def existing(path: str | Path) -> RunFolder:
    """Return the folder at a path, or say that there is none."""
    folder = RunFolder(at_home(path))
    if not folder.path.is_dir():
        raise UserError(
            f"There is no run folder {str(path)!r}. `kerasft leaderboard outputs` lists the runs."
        )
    return folder


def open_run(path: str | Path) -> tuple[RunFolder, DictConfig]:
    """Return the run folder at a path and the run's config, or say why it is none."""
    folder = existing(path)
    require_readable(folder.path)
    cfg = folder.read_config()
    missing = [
        str(file.relative_to(folder.path))
        for file in (folder.network, folder.labels, folder.task,
                     folder.preprocess / "preprocess.json")
        if not file.exists()
    ]
    if missing:
        status = folder.facts().get("status", "unknown")
        raise UserError(
            f"The run folder {str(path)!r} is not whole: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing (the run's status is {status!r}). "
            + (f"Go on with it: {again.resume(path)}" if status in ("stopped", "running")
               else f"Train it again: {again.train(path)}")
        )
    return folder, cfg


def unended(run: str) -> tuple[RunFolder, DictConfig]:
    """Return a run that has not ended, and the config in its folder.

    Args:
        run: The run folder.

    Raises:
        UserError: If there is no such run, or it has ended.
    """
    # `outputs/last` may lead elsewhere while the run is at work.
    place = at_home(run)
    if not place.is_absolute() and current() is None:
        raise UserError(GONE)
    folder = RunFolder(Path(os.path.realpath(place)))
    if folder.path.is_dir():
        require_enclosed(folder.path)
    cfg = folder.read_config()
    _require_unended(run, folder.facts())
    return folder, cfg


def _require_unended(run: str | Path, facts: dict[str, Any]) -> None:
    if facts.get("status") == "done":
        raise UserError(
            f"The run {str(run)!r} has ended; there is nothing to go on with. To repeat it in "
            f"a new folder: {again.train(run)}"
        )


def reopen(run: str, *, accept: bool = False) -> tuple[RunFolder, DictConfig]:
    """Return a run that has not ended, to go on with it, and its config.

    Args:
        run: The run folder.
        accept: Whether its data, or the config in its folder, may have changed.

    Raises:
        UserError: If there is no such run, it has ended, or its config has changed.
    """
    folder, cfg = unended(run)
    cfg.output_dir, cfg.resume = str(folder.path), "accept" if accept else "auto"
    _require_same(folder, cfg, cfg, "Take these back in its config.yaml, or go on all the same: "
                  f"{again.resume(run, accept=True)}")  # fmt: skip
    return folder, cfg


def has_ended(path: str) -> bool:
    """Whether a folder holds a run that has come to its end."""
    return RunFolder(at_home(path)).facts().get("status") == "done"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
