"""The group of devices and processes that a run trains on, and what they agree on.

A run on one device has a group too, of nothing but itself: all that follows is then a function
that returns what it was given.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.distributed import meeting, peers
from kerasft.distributed.cluster import Cluster, find, named
from kerasft.distributed.lifelines import Lifelines
from kerasft.errors import AGAIN, Stopped, UserError
from kerasft.system.console import listing

# Seconds in which it is known who has ended, after a sum was broken off.
ENDS = 3.0
# Seconds without a sign of life after which a process is gone, though its connections stand.
# TensorFlow's own 10 are soon over on a machine that is busy or suspended.
HEARTBEATS = 60.0
# How many bytes of each worker go through the network at once.
PIECE = 1 << 24


@dataclass(frozen=True)
class Group:
    """The devices of a run.

    Args:
        strategy: TensorFlow's `tf.distribute.Strategy`; `None` for one device.
        cluster: The processes; `None` for one.
        replicas: How many copies of the model train, in all processes together.
        said: What was found, in a line; `""` for one device that nobody asked to be more.
        lifelines: They show which process ends; `None` for one.
    """

    strategy: Any = None
    cluster: Cluster | None = None
    replicas: int = 1
    said: str = ""
    lifelines: Lifelines | None = None

    @property
    def rank(self) -> int:
        """Which of the processes this is. That of rank 0 writes and speaks."""
        return 0 if self.cluster is None else self.cluster.rank

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return 1 if self.cluster is None else len(self.cluster.addresses)

    @property
    def local(self) -> int:
        """How many replicas each process has."""
        return self.replicas // self.workers

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices of this process that have a copy of the model, where there are several."""
        return () if self.local == 1 else tuple(self.strategy.extended.worker_devices)

    def scope(self) -> AbstractContextManager[Any]:
        """Have variables that are made in the block be there on each device, and stay equal.

        Nothing but variables: inside, Keras divides each loss by the number of replicas.
        """
        return nullcontext() if self.strategy is None else self.strategy.scope()

    def any(self, *flags: bool) -> list[bool]:
        """Return of each flag whether a worker has it up. All workers must ask, at one point."""
        if self.workers == 1:
            return list(flags)
        return [bool(n) for n in self._summed(np.array(flags, "int32"))]

    def from_first(self, values: Sequence[float]) -> list[float]:
        """Return the numbers of rank 0, to the last bit. All workers must ask, at one point."""
        if self.workers == 1:
            return list(values)
        mine = np.array(values, "float64").view("int32")
        summed = self._summed(mine if self.rank == 0 else np.zeros_like(mine))
        return summed.view("float64").tolist()

    def texts(self, text: str) -> list[str]:
        """Return what each worker has to say, by rank. All workers must ask, at one point."""
        if self.workers == 1:
            return [text]
        return [one.decode("utf-8") for one in self.parcels(text.encode("utf-8"))]

    def parcels(self, parcel: bytes) -> list[bytes]:
        """Return the bytes that each worker has, by rank. All workers must ask, at one point."""
        if self.workers == 1:
            return [parcel]
        sizes = np.zeros(self.workers, "int32")
        sizes[self.rank] = len(parcel)
        sizes = self._summed(sizes)
        made = [bytearray() for _ in sizes]
        # Numbers of 32 bits, where only one worker has others than 0. What is empty would end
        # TensorFlow's collectives with a crash.
        for begin in range(0, int(sizes.max()), PIECE):
            width = min(int(sizes.max()) - begin, PIECE)
            piece = parcel[begin : begin + width]
            table = np.zeros((self.workers, -(-width // 4)), "int32")
            table[self.rank] = np.frombuffer(piece.ljust(4 * table.shape[1], b"\0"), "int32")
            table = self._summed(table.reshape(-1)).reshape(table.shape)
            for whole, row in zip(made, table, strict=True):
                whole += row.tobytes()[:width]
        return [bytes(whole[:size]) for whole, size in zip(made, sizes, strict=True)]

    def _summed(self, values: np.ndarray) -> np.ndarray:
        with self.noticed():
            return np.asarray(_sum_of(self)(values))

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Say in a line which worker is gone, where one is.

        Raises:
            Stopped: With the exit status that has a queue start the group again.
        """
        if self.workers == 1:
            yield
            return
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            assert self.cluster is not None
            lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
                    tf.errors.DeadlineExceededError)  # fmt: skip
            network = (*lost, tf.errors.InternalError, tf.errors.UnknownError)
            gone = self._gone(ENDS if isinstance(error, network) else 0.0)
            if not gone and not isinstance(error, lost):
                raise
            if self.lifelines is not None:
                self.lifelines.leave(gone)
            names = listing(self.cluster.name(one) for one in gone) or "a worker"
            raise Stopped(
                f"{names} {'is' if len(gone) < 2 else 'are'} gone", AGAIN,
                where=f"with {'it' if len(gone) < 2 else 'them'}; resume=auto goes on from the "
                      "last checkpoint",
            ) from error

    def _gone(self, seconds: float) -> list[int]:
        """Return the ranks of those that ended first, or else of those that do not answer."""
        assert self.cluster is not None
        found = [] if self.lifelines is None else self.lifelines.gone(seconds)
        # Connections to a machine that was cut off still stand.
        return found or peers.silent(self.cluster)

    def require_alike(self, what: str, facts: Mapping[str, str], remedy: str) -> None:
        """See that all workers have the same, before they train on what differs.

        Args:
            what: What it is, for the message.
            facts: Values by name.
            remedy: What is to be done.

        Raises:
            UserError: In each worker, with the first differences.
        """
        if self.workers == 1:
            return
        assert self.cluster is not None
        lines = [f"{name}={value}" for name, value in facts.items()]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        if len(set(self.texts(digest))) == 1:
            return
        said = [text.split("\n") for text in self.texts("\n".join(
            line.replace("\n", " ") for line in lines
        ))]  # fmt: skip
        apart = []
        for rank, theirs in enumerate(said[1:], 1):
            here, there = set(said[0]) - set(theirs), set(theirs) - set(said[0])
            if here or there:
                apart.append(
                    f"{self.cluster.name(0)} has {listing(sorted(here), 3) or 'no more'}, and "
                    f"{self.cluster.name(rank)} {listing(sorted(there), 3) or 'no more'}"
                )
        raise UserError(f"Workers of one run must have the same {what}: {'; '.join(apart)}. "
                        f"{remedy}")  # fmt: skip

    @contextmanager
    def speaking(self, folder: Path) -> Iterator[None]:
        """Have workers but the first one write what they say into `logs/worker-K.log`.

        Args:
            folder: The run folder.
        """
        if self.rank == 0:
            yield
            return
        path = folder / "logs" / f"worker-{self.rank}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = [(number, os.dup(number)) for number in (1, 2)]
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            for number, _ in before:
                _flush()
                os.dup2(log, number)
            yield
        finally:
            _flush()
            for number, stream in before:
                os.dup2(stream, number)
                os.close(stream)
            os.close(log)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


ALONE = Group()
_now = ALONE
_made: dict[str, Group] = {}


def current() -> Group:
    """Return the group of the run at work, `ALONE` where there is none."""
    return _now


@contextmanager
def working(group: Group) -> Iterator[Group]:
    """Have a group be the current one while a run is at work."""
    global _now
    before, _now = _now, group
    try:
        yield group
    finally:
        _now = before


def form(kind: str | None, *, timeout: float = 600.0) -> Group:
    """Make the group that a config asks for, before TensorFlow computes anything.

    Args:
        kind: The value of `distribute`.
        timeout: Seconds that workers wait for one another.

    Returns:
        The group; in one process always the same.

    Raises:
        UserError: If there is none, its port is in use, or TensorFlow is at work already.
    """
    if kind is None:
        return ALONE
    cluster = find() if kind in ("multi_worker", "auto") else None
    if kind == "auto" or (cluster is None and named() is not None):
        kind = "mirrored" if cluster is None else "multi_worker"
    if kind not in _made:
        _made[kind] = _mirrored() if kind == "mirrored" else _of_workers(cluster, timeout)
    return _made[kind]


def _mirrored() -> Group:
    import tensorflow as tf

    # Several CPUs only where somebody has parted the processor on purpose.
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name.removeprefix("/device:") for device in devices]
    if len(names) == 1:
        return Group(said=f"devices: one, {names[0]}; distribute has nothing to deal out")
    strategy = tf.distribute.MirroredStrategy(names)
    said = f"devices: {len(names)} in one process, {', '.join(names)}"
    return Group(strategy, None, len(names), said)


def _of_workers(cluster: Cluster | None, timeout: float) -> Group:
    import tensorflow as tf

    if cluster is None:
        raise UserError(
            "distribute=multi_worker: nothing says which processes take part. Start them with "
            "`kerasft launch -n 2 -- train ...` on one machine, with srun, or with TF_CONFIG or "
            "KERASFT_WORKERS in the environment of each (docs/devices.md). distribute=mirrored "
            "takes the GPUs of one process."
        )
    with meeting.met(cluster, timeout) as links, _patient():
        spec = tf.train.ClusterSpec({"worker": list(cluster.addresses)})
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(
                tf.distribute.cluster_resolver.SimpleClusterResolver(
                    spec, task_type="worker", task_id=cluster.rank, rpc_layer="grpc"
                )
            )
        except tf.errors.UnknownError as error:
            if "start gRPC server" not in str(error):
                raise
            raise peers.PortInUse(cluster, "another process took it a moment ago") from error
        except RuntimeError as error:
            if "startup" not in str(error):
                raise
            raise UserError(
                "distribute=multi_worker must come before anything else that TensorFlow does in a "
                "process. Call kerasft.train first, or from the command line."
            ) from error
        made = Group(strategy, cluster, strategy.num_replicas_in_sync)
        made.texts("here")  # all have come
    lifelines = Lifelines(cluster, links)
    lifelines.look_on()
    each = "" if made.local == 1 else f", {made.local} devices each"
    return Group(
        strategy, cluster, made.replicas,
        f"devices: {made.workers} workers on {listing(cluster.hosts)}{each} ({cluster.source}); "
        f"this is rank {cluster.rank}", lifelines,
    )


@contextmanager
def _patient() -> Iterator[None]:
    """Have a strategy that is made in the block wait longer for signs of life."""
    from tensorflow.python.eager import context

    now = context.context()
    now.configure_coordination_service = partial(
        now.configure_coordination_service, heartbeat_timeout_in_ms=int(1000 * HEARTBEATS)
    )
    try:
        yield
    finally:
        del now.configure_coordination_service


_sums: dict[int, Any] = {}


def _sum_of(group: Group) -> Any:
    """Return the function that adds up numbers of all workers."""
    import tensorflow as tf

    if id(group.strategy) not in _sums:
        strategy, local = group.strategy, group.local

        def of_one(values: Any) -> Any:
            """Of several devices of a process the first one alone has something to add."""
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            return values if local == 1 else tf.where(number % local == 0, values, 0)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)])
        def together(values: Any) -> Any:
            return strategy.reduce("SUM", strategy.run(of_one, args=(values,)), None)

        _sums[id(strategy)] = together
    return _sums[id(group.strategy)]
