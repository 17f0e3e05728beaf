"""`kerasft serve`: a local stand-in for TensorFlow Serving, to try a client without a container."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kerasft.artifact.layout import EXTRA, SIGNATURE, version_of, versions
from kerasft.errors import UserError
from kerasft.serving.models import Model, require_versions
from kerasft.system import heap
from kerasft.system.files import at_home, read_json

EXTRAS = {"aiohttp": "aiohttp", "grpc": "grpcio", "tensorflow_serving": "tensorflow-serving-api"}
LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """How a model is served.

    Args:
        path: The folder of an export: of all its versions, or of one.
        name: The name of the model; by default the one in its `signature.json`.
        host: The address that is listened on.
        rest_port: The port of REST; 0 for any that is free, `None` for no REST.
        grpc_port: The same of gRPC.
        labels: Label to version.
        poll: Seconds between two looks for new versions.
        batch: The most examples that are answered together.
        wait_ms: How long the first request of a batch waits for others, in milliseconds.
        waiting: How many examples may wait before requests are turned away.
        most_mb: The largest request, in millions of bytes.
        timeout: The most seconds that a request may take, its reading too.
        threads: How many threads an operation may take; all cores by default.
        verbose: Whether each request is told.
        allowed_hosts: Names that a request may call this machine, beside its own; `"*"` allows all.
    """

    path: str
    name: str | None = None
    host: str = "127.0.0.1"
    rest_port: int | None = 8501
    grpc_port: int | None = 8500
    labels: Mapping[str, int] = field(default_factory=dict)
    poll: float = 2.0
    batch: int = 32
    wait_ms: float = 2.0
    waiting: int = 1000
    most_mb: float = 64.0
    timeout: float = 60.0
    threads: int | None = None
    verbose: bool = False
    allowed_hosts: Sequence[str] = ()


def serve(settings: Settings) -> None:
    """Serve a model until SIGTERM or SIGINT.

    Raises:
        UserError: If there is nothing to serve, or it cannot be.
    """
    path = at_home(settings.path)
    require_extras()
    require_versions(path)
    _require_sane(settings)
    heap.keep()
    server = None

    async def work() -> None:
        nonlocal server
        server = Server(settings, path)
        await server.run()

    try:
        asyncio.run(work())
    except KeyboardInterrupt:  # before the handler of signals stood
        return
    if server is not None and server.hangs:
        _say("some requests took too long to be answered, and are dropped")
        sys.stderr.flush()
        os._exit(0)  # a plain exit would wait for them


def require_extras() -> None:
    """See that what serving needs is installed."""
    missing = [pip for name, pip in EXTRAS.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"kerasft serve needs {', '.join(missing)}. Install: pip install 'kerasft[serve]'"
        )


def _require_sane(settings: Settings) -> None:
    from kerasft.serving.hosts import require_names
    from kerasft.serving.options import problems_of

    require_names(settings.allowed_hosts)
    problems: list[str] = []
    if settings.rest_port is None and settings.grpc_port is None:
        problems.append("Neither REST nor gRPC is wanted: leave out --no-rest or --no-grpc.")
    problems += problems_of(vars(settings), (
        "rest_port", "grpc_port", "poll", "batch", "wait_ms", "waiting", "most_mb", "timeout",
        "threads",
    ))  # fmt: skip
    if problems:
        raise UserError(problems=problems)


class Server:
    """A model behind REST and gRPC.

    Args:
        settings: How it is served.
        path: The folder.
    """

    def __init__(self, settings: Settings, path: Path):
        from kerasft.serving.answering import Answering
        from kerasft.serving.batching import Batcher
        from kerasft.serving.loading import Aside

        self.settings = settings
        self.ports: dict[str, int] = {}
        self.hangs = False  # whether a thread is left that does not end
        self.ready, self.stopping = asyncio.Event(), asyncio.Event()
        # Two more than cores would do: loading a version must not wait for requests.
        self._executor = ThreadPoolExecutor(4, "kerasft-serve")
        # At most two large bodies are taken apart at a time.
        self._readers = ThreadPoolExecutor(2, "kerasft-read")
        self.model = Model(
            settings.name or _name_of(path), path, Aside(), labels=settings.labels,
            threads=settings.threads, say=_say,
        )
        batcher = Batcher(
            self._executor, most=settings.batch, wait=settings.wait_ms / 1000,
            limit=settings.waiting,
        )
        self.answering = Answering(
            self.model, batcher, self._readers, seconds=settings.timeout,
            nbytes=int(settings.most_mb * 1e6),
        )

    async def run(self) -> None:
        """Serve until `stopping` is set, or a signal comes."""
        from kerasft.serving.connections import Reports

        self._heed_signals()
        asyncio.get_running_loop().set_exception_handler(Reports(_say))
        stops: list[Any] = []
        watching = None
        try:
            if not await self._unless_stopped(self.model.start(self.settings.poll)):
                return
            self._require_loaded()
            for start in self._starts():
                stops.append(await start())
            watching = asyncio.create_task(self.model.watch(self.settings.poll))
            self._tell()
            self.ready.set()
            await self.stopping.wait()
            _say("stopping: what was asked is answered first")
        finally:
            if watching is not None:
                watching.cancel()
            for stop in stops:
                await stop()
            # A graph that never ends does not keep the process from ending.
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.timeout):
                    await self.answering.batcher.drained()
            busy = self.answering.batcher.is_busy
            self._readers.shutdown()
            self._executor.shutdown(wait=not busy, cancel_futures=busy)
            if not busy:
                self.model.close()
            self.hangs = busy

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do something, unless the server is stopped meanwhile; return whether it was done."""
        doing = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait((doing, stopped), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                await doing
            return doing.done()
        finally:
            doing.cancel()
            stopped.cancel()

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self.stopping.set)
            except (NotImplementedError, RuntimeError, ValueError):
                return  # not in the main thread, or not on this system

    def _require_loaded(self) -> None:
        try:
            self.model.find()
        except Exception as failure:
            reasons = [f"version {n}: {s.problem}" for n, s in self.model.states.items()]
            raise UserError(
                f"No version in {str(self.model.path)!r} can be served: {'; '.join(reasons)}."
            ) from failure
        for label, number in self.settings.labels.items():
            if self.model.states.get(number) is None or not self.model.states[number].bundle:
                there = ", ".join(map(str, sorted(self.model.folders())))
                raise UserError(
                    f"--label {label}={number}: there is no such version that can be served. "
                    f"There are: {there}."
                )

    def _starts(self) -> list[Any]:
        settings, starts = self.settings, []
        if settings.rest_port is not None:
            starts.append(partial(self._start_rest, settings.rest_port))
        if settings.grpc_port is not None:
            starts.append(partial(self._start_grpc, settings.grpc_port))
        return starts

    async def _start_rest(self, port: int) -> Any:
        from aiohttp import web

        from kerasft.serving.connections import (
            HEAD_SECONDS,
            IDLE_SECONDS,
            Connections,
            most_connections,
        )
        from kerasft.serving.hosts import Hosts
        from kerasft.serving.rest import handler

        settings = self.settings
        hosts = Hosts(settings.host, settings.allowed_hosts)
        connections = Connections(
            handler(self.answering, hosts, log=self._log, say=_say),
            most=most_connections(), head=min(HEAD_SECONDS, settings.timeout),
            keepalive_timeout=IDLE_SECONDS, access_log=None, logger=_quiet(),
            # How long the rest of a body is awaited that was refused.
            lingering_time=min(10.0, settings.timeout),
        )
        runner = web.ServerRunner(connections, shutdown_timeout=settings.timeout)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.settings.host, port).start()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            raise _taken("REST", self.settings.host, port, error) from error
        self.ports["rest"] = runner.addresses[0][1]
        return runner.cleanup

    async def _start_grpc(self, port: int) -> Any:
        import grpc

        from kerasft.serving.connections import MOST_CALLS, grpc_options
        from kerasft.serving.grpc_api import add_to

        settings = self.settings
        server = grpc.aio.server(
            options=grpc_options(int(settings.most_mb * 1e6), seconds=settings.timeout),
            maximum_concurrent_rpcs=MOST_CALLS,
        )
        add_to(server, self.answering, log=self._log, say=_say)
        try:
            address = f"{_bracketed(self.settings.host)}:{port}"
            self.ports["grpc"] = server.add_insecure_port(address)
        except RuntimeError as error:
            raise _taken("gRPC", self.settings.host, port, error) from error
        await server.start()
        return lambda: server.stop(self.settings.timeout)

    @property
    def _log(self) -> Any:
        return _say if self.settings.verbose else None

    def _tell(self) -> None:
        name, host = self.model.name, _bracketed(self.settings.host)
        if self.settings.host not in LOCAL:
            print(
                f"warning: {self.settings.host} may be reached from other machines, and this "
                "server asks nobody who they are.", file=sys.stderr,
            )
        if "rest" in self.ports:
            _say(f"REST: http://{host}:{self.ports['rest']}/v1/models/{name}:predict")
        if "grpc" in self.ports:
            _say(f"gRPC: {host}:{self.ports['grpc']}")
        _say("ready; a stand-in for TensorFlow Serving, to try clients with. Ctrl-C stops it.")


def _name_of(path: Path) -> str:
    """Return the name that the newest version says the model has."""
    folders = [path, *(path / str(n) for n in reversed(versions(path)))]
    for folder in folders:
        if (folder / EXTRA / SIGNATURE).is_file():
            try:
                return str(read_json(folder / EXTRA / SIGNATURE).get("name", "model"))
            except UserError:
                continue  # a damaged version, which does not keep an older one from being served
    root = path.resolve()
    return root.name if version_of(path.name) is None else root.parent.name


def _quiet() -> logging.Logger:
    """Return where aiohttp tells what clients do wrong, which would be a traceback each."""
    logger = logging.getLogger("kerasft.serving.http")
    logger.setLevel(logging.CRITICAL)
    return logger


def _taken(what: str, host: str, port: int, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or "the port is taken, or not to be had"
    option = f"--{what.lower()}-port"
    return UserError(
        f"{what} cannot listen on {host}:{port}: {reason}. Choose another port with {option} "
        "(0 takes any that is free), or end what listens there."
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _say(line: str) -> None:
    from kerasft.system.console import printable

    print(printable(line), flush=True)
