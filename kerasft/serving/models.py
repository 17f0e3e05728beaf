"""A model with its versions: which are loaded, which come, and which go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasft.artifact.layout import version_of, versions
from kerasft.errors import UserError, in_short
from kerasft.serving.bundle import Bundle
from kerasft.serving.loading import require_files, stamp
from kerasft.serving.status import Failure
from kerasft.system import heap


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
    the older goes; one that does not load is told, and the older goes on. So it does while one is
    loaded, however long that takes, and a still newer one is loaded beside it.

    Args:
        name: The name of the model.
        path: The folder of all versions, or of one.
        executor: Loads versions, each in a thread of its own.
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
        self._tasks: set[asyncio.Task] = set()
        self.alone = (path / "saved_model.pb").is_file()

    def folders(self) -> dict[int, Path]:
        """Return the folder of each version that is there."""
        if self.alone:
            number = version_of(self.path.name)
            return {1 if number is None else number: self.path}
        return {number: self.path / str(number) for number in versions(self.path)}

    async def start(self, every: float) -> None:
        """Load what is to be served first.

        Args:
            every: Seconds between two looks for new versions, where one takes long.
        """
        await self.refresh()
        while not self._loaded() and any(s.state == "LOADING" for s in self.states.values()):
            await asyncio.wait(self._tasks, timeout=every, return_when=asyncio.FIRST_COMPLETED)
            await self.refresh()
        while self._labelled_and_loading():
            await asyncio.wait(self._tasks, timeout=every, return_when=asyncio.FIRST_COMPLETED)

    def _labelled_and_loading(self) -> bool:
        states = [self.states.get(number) for number in self.labels.values()]
        return any(state is not None and state.state == "LOADING" for state in states)

    async def refresh(self) -> None:
        """Begin to load what is new, and let go what is old."""
        loop = asyncio.get_running_loop()
        there = await loop.run_in_executor(self._executor, self.folders)
        wanted = {number for number in self.labels.values() if number in there}
        for number in wanted:
            await self._look(number, there[number])
        comes = False
        for number in sorted(there, reverse=True):
            # While a newer one is loaded, an older one goes on, but none is loaded for it.
            state = self.states.get(number) if comes else await self._look(number, there[number])
            if state is not None and state.bundle is not None:
                wanted.add(number)
                break
            comes = comes or (state is not None and state.state == "LOADING")
        for number, state in self.states.items():
            if state.bundle is not None and number not in wanted and wanted & self._loaded():
                bundle, state.bundle, state.state = state.bundle, None, "UNLOADING"
                self._begin(self._let_go(number, state, bundle))

    def _loaded(self) -> set[int]:
        return {number for number, state in self.states.items() if state.bundle is not None}

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, number: int, folder: Path) -> State:
        """Return the state of a version; begin to load it if it is new, or not as it was."""
        known = self.states.get(number)
        if known is not None and known.state in ("LOADING", "AVAILABLE", "UNLOADING"):
            return known
        loop = asyncio.get_running_loop()
        seen = await loop.run_in_executor(self._executor, stamp, folder)
        if known is not None and known.problem and known.seen == seen:
            return known  # it is as broken as it was
        state = self.states[number] = State("LOADING", seen=seen)
        self._begin(self._load(number, folder, state))
        return state

    async def _load(self, number: int, folder: Path, state: State) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._executor, require_files, folder)
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
            return
        state.bundle, state.state = bundle, "AVAILABLE"
        self._say(f"{self.name}: version {number} is served ({count} requests of warm-up)")

    async def _let_go(self, number: int, state: State, bundle: Bundle) -> None:
        while bundle.using:  # what it was asked is answered first
            await asyncio.sleep(0.02)
        bundle.close()
        await asyncio.get_running_loop().run_in_executor(self._executor, heap.give_back)
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
        """Let all versions go, and end the wait for those that are loaded."""
        for task in self._tasks:
            task.cancel()
        for state in self.states.values():
            if state.bundle is not None:
                state.bundle.close()
                state.bundle = None


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
