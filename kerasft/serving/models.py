"""A model with its versions: which are loaded, which come, and which go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kerasft.artifact.layout import version_of, versions
from kerasft.errors import UserError, in_short
from kerasft.serving.bundle import Bundle
from kerasft.serving.status import Failure

# More of a version is not looked at to see whether it has changed.
_MOST_FILES = 10_000


@dataclass
class State:
    """What a server knows of a version."""

    state: str  # as TensorFlow Serving calls them: LOADING, AVAILABLE, UNLOADING, END
    problem: str = ""
    bundle: Bundle | None = None
    seen: float = 0.0


class Model:
    """The versions of a model in a folder.

    The newest is served, and those that carry a label. A newer one is loaded and warmed up before
    the older goes; one that does not load is told, and the older goes on.

    Args:
        name: The name of the model.
        path: The folder of all versions, or of one.
        executor: Loads versions.
        labels: Label to version.
        threads: How many threads an operation may take.
        say: Prints a line.
    """

    def __init__(self, name: str, path: Path, executor: Executor, *,
                 labels: Mapping[str, int] | None = None, threads: int | None = None,
                 say: Callable[[str], None] = print):
        self.name, self.path, self.labels = name, path, dict(labels or {})
        self.states: dict[int, State] = {}
        self._executor, self._threads, self._say = executor, threads, say
        self.alone = (path / "saved_model.pb").is_file()

    def folders(self) -> dict[int, Path]:
        """Return the folder of each version that is there."""
        if self.alone:
            number = version_of(self.path.name)
            return {1 if number is None else number: self.path}
        return {number: self.path / str(number) for number in versions(self.path)}

    async def refresh(self) -> None:
        """Load what is new, and let go what is old."""
        loop = asyncio.get_running_loop()
        there = await loop.run_in_executor(self._executor, self.folders)
        wanted = {number for number in self.labels.values() if number in there}
        for number in sorted(there, reverse=True):
            if await self._load(number, there[number]):
                wanted.add(number)
                break
        for number in wanted:
            await self._load(number, there[number])
        for number, state in self.states.items():
            if state.bundle is not None and number not in wanted and wanted & self._loaded():
                await self._let_go(number, state)

    def _loaded(self) -> set[int]:
        return {number for number, state in self.states.items() if state.bundle is not None}

    async def _load(self, number: int, folder: Path) -> bool:
        known = self.states.get(number)
        if known is not None and known.bundle is not None:
            return True
        loop = asyncio.get_running_loop()
        stamp = await loop.run_in_executor(self._executor, _stamp, folder)
        if known is not None and known.problem and known.seen == stamp:
            return False  # it is as broken as it was
        state = self.states[number] = State("LOADING", seen=stamp)
        try:
            _require_file(folder / "saved_model.pb")
            bundle = await loop.run_in_executor(
                self._executor, Bundle, folder, number, self._threads
            )
            try:
                count = await loop.run_in_executor(self._executor, bundle.warm_up)
            except Exception:
                bundle.close()
                raise
        except Exception as error:
            state.state, state.problem = "END", in_short(error)
            self._say(f"{self.name}: version {number} cannot be served: {state.problem}")
            return False
        state.bundle, state.state = bundle, "AVAILABLE"
        self._say(f"{self.name}: version {number} is served ({count} requests of warm-up)")
        return True

    async def _let_go(self, number: int, state: State) -> None:
        bundle, state.bundle, state.state = state.bundle, None, "UNLOADING"
        assert bundle is not None
        while bundle.using:  # what it was asked is answered first
            await asyncio.sleep(0.02)
        bundle.close()
        state.state = "END"
        self._say(f"{self.name}: version {number} is let go")

    @contextmanager
    def using(self, version: int | None = None, label: str | None = None) -> Iterator[Bundle]:
        """Hold a version while it is asked.

        Args:
            version: Its number; the newest that is served where neither is given.
            label: Its label.

        Raises:
            Failure: If it is not served.
        """
        bundle = self.find(version, label)
        bundle.using += 1
        try:
            yield bundle
        finally:
            bundle.using -= 1

    def find(self, version: int | None = None, label: str | None = None) -> Bundle:
        """Return a version that is served."""
        if label is not None:
            if label not in self.labels:
                raise Failure(
                    "INVALID_ARGUMENT", f"Unrecognized servable version label: {label}"
                )
            version = self.labels[label]
        if version is None:
            loaded = self._loaded()
            if not loaded:
                raise Failure(
                    "NOT_FOUND", f"Servable not found for request: Latest({self.name})"
                )
            version = max(loaded)
        state = self.states.get(version)
        if state is None or state.bundle is None:
            raise Failure(
                "NOT_FOUND", f"Servable not found for request: Specific({self.name}, {version})"
            )
        return state.bundle

    def status(self, version: int | None = None, label: str | None = None) -> list[dict[str, Any]]:
        """Return what is known of the versions, the newest first, in the words of the API."""
        if label is not None:
            version = self.find(label=label).number
        found = [
            {
                "version": str(number), "state": state.state,
                "status": {
                    "error_code": "UNKNOWN" if state.problem else "OK",
                    "error_message": state.problem,
                },
            }
            for number, state in sorted(self.states.items(), reverse=True)
            if version in (None, number)
        ]  # fmt: skip
        if not found:
            raise Failure(
                "NOT_FOUND", f"Could not find version {version} of model {self.name}"
            )
        return found

    async def watch(self, every: float) -> None:
        """Look for new versions again and again."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.refresh()
            except Exception as error:  # a disk that is away for a moment, say
                self._say(f"{self.name}: the versions cannot be read: {in_short(error)}")

    def close(self) -> None:
        """Let all versions go."""
        for state in self.states.values():
            if state.bundle is not None:
                state.bundle.close()
                state.bundle = None


def _require_file(path: Path) -> None:
    """See that a file is one, or may be made one: a pipe would be waited for without end."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is no file")


def _stamp(folder: Path) -> float:
    """Return when a version was last written to, as far as it can be seen."""
    latest = 0.0
    for path in islice(chain([folder], _within(folder)), _MOST_FILES):
        with suppress(OSError):  # taken away meanwhile, or not to be looked at
            latest = max(latest, path.lstat().st_mtime)
    return latest


def _within(folder: Path) -> Iterator[Path]:
    """Yield what lies in a version; no link is followed, for it may lead anywhere."""
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


def require_versions(path: Path) -> None:
    """See that there is something to serve.

    Raises:
        UserError: If there is not.
    """
    if not path.is_dir():
        raise UserError(
            f"There is no export {str(path)!r}. It takes the folder that `kerasft export` wrote, "
            "or one of the numbered folders in it."
        )
    if (path / "saved_model.pb").is_file():
        return
    if (path / "config.yaml").is_file():
        raise UserError(
            f"{str(path)!r} is a run folder, and a server takes an export. Make one: kerasft "
            f"export {path}; it is then in {path / 'exports' / 'saved_model'}."
        )
    if not versions(path):
        raise UserError(
            f"{str(path)!r} holds no version of a model: a folder with a number and a "
            "saved_model.pb in it. It takes the folder that `kerasft export` wrote."
        )
