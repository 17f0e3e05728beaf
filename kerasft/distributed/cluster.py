"""The processes of a run: found in what started them."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerasft.errors import UserError, shown

# What may stand as `distribute` in a config.
KINDS = (None, "mirrored", "multi_worker", "auto")
# Where SLURM says no port: from here on, by the number of its job.
PORTS, SPAN = 20_000, 20_000
# Set by `kerasft launch` for the workers that it starts.
LAUNCHED = "KERASFT_LAUNCHED"


@dataclass(frozen=True)
class Cluster:
    """The processes of a run, and which of them this one is.

    Args:
        addresses: `host:port` of each, in the order of their ranks.
        rank: Which one this is. That of rank 0 writes and speaks.
        source: Where that was found.
    """

    addresses: tuple[str, ...]
    rank: int
    source: str

    @property
    def hosts(self) -> list[str]:
        """The machines, each once."""
        return list(dict.fromkeys(one.rpartition(":")[0] for one in self.addresses))

    def name(self, rank: int) -> str:
        """Return what a worker is called in messages."""
        return f"worker {rank} ({self.addresses[rank]})"


def find(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """Find the processes of a run in the variables that their starter set.

    Looked for are `TF_CONFIG`, the variables of a SLURM step, and those of an indexed Kubernetes
    Job with `KERASFT_WORKERS`, in this order.

    Args:
        environment: The variables; by default those of the process.

    Returns:
        The cluster; `None` where there is one process.

    Raises:
        UserError: If the variables contradict themselves.

    Example:
        >>> find({"JOB_COMPLETION_INDEX": "1", "KERASFT_WORKERS": "run-{index}.run:12345,2"})
        Cluster(addresses=('run-0.run:12345', 'run-1.run:12345'), rank=1, source='Kubernetes')
        >>> find({}) is None
        True
    """
    found = named(environment)
    return None if found is None or len(found.addresses) == 1 else found


def named(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """Find what `find` does, or a cluster of this process alone where nothing names several.

    Args:
        environment: The variables; by default those of the process.

    Raises:
        UserError: If the variables contradict themselves.
    """
    given = os.environ if environment is None else environment
    alone = None
    for look in (of_tf_config, of_slurm, of_kubernetes):
        found = look(given)
        if found is not None and len(found.addresses) > 1:
            _require_sound(found)
            return found
        alone = alone or found
    return alone


def overlooked(kind: str | None, environment: Mapping[str, str] | None = None) -> str:
    """Say what the variables of a process tell of others that it will know nothing of.

    Args:
        kind: The value of `distribute`.
        environment: The variables; by default those of the process.

    Returns:
        A warning, or `""`.

    Example:
        >>> overlooked("auto", {"JOB_COMPLETION_INDEX": "0"}).partition(":")[0]
        'distribute=auto'
        >>> overlooked("auto", {})
        ''
    """
    given = os.environ if environment is None else environment
    if kind in (None, "mirrored"):
        try:
            found = find(given)
        except UserError:  # nobody asked
            return ""
        return "" if found is None else (
            f"{found.source} names {len(found.addresses)} processes, and "
            f"distribute={kind or 'null'} trains each of them by itself: set distribute=auto to "
            "have them train together"
        )
    index = given.get("JOB_COMPLETION_INDEX")
    if kind != "auto" or index is None or given.get("KERASFT_WORKERS") or named(given):
        return ""
    return (
        f"distribute=auto: this is pod {index} of an indexed Job, and nothing says where the "
        "others are: it trains by itself. If the Job has several pods, give KERASFT_WORKERS to "
        "them all (docs/engines.md), or each an output_dir of its own"
    )


# Labels with dots between them.
_HOST = re.compile(r"(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?")


def _require_sound(found: Cluster) -> None:
    """See that one can listen at all addresses, and that each worker has its own."""
    more = " KERASFT_PORT sets the first." if found.source == "SLURM" else ""
    known: dict[tuple[str, int], str] = {}
    for address in found.addresses:
        host, _, port = address.rpartition(":")
        if len(port) > 5 or not 0 < int(port) < 65536:
            raise UserError(
                f"{found.source}: the port of a worker must be from 1 to 65535. Received: "
                f"{shown(address)[1:-1]}.{more}"
            )
        if (same := _host(host)) is None:
            remedy = ""
            if _of_ipv6(host):
                remedy = f" One of IPv6 stands in brackets: [{host}]:{port}."
            elif host.startswith("["):
                remedy = " What stands in brackets is no address of IPv6."
            raise UserError(
                f"{found.source}: an address must be the name of a machine, or its number, a colon "
                f"and a port.{remedy} Received: {shown(address)[1:-1]}."
            )
        if (other := known.get((same, int(port)))) is not None:
            both = f"{address} twice" if other == address else f"{address} and {other}"
            raise UserError(
                f"{found.source}: each worker needs its own address. Received: {both}."
            )
        known[same, int(port)] = address


def _host(text: str) -> str | None:
    """Return what all ways to write a machine have in common; `None` where it is none."""
    if text.startswith("[") and text.endswith("]"):
        return _of_ipv6(text[1:-1]) or None
    return text.lower().rstrip(".") if _HOST.fullmatch(text) else None


def _of_ipv6(text: str) -> str:
    """Return an address of IPv6 in its shortest form; `""` where it is none.

    One with a zone (`fe80::1%eth0`) means another machine on each.
    """
    try:
        return "" if "%" in text else ipaddress.IPv6Address(text).compressed
    except ValueError:
        return ""


def of_tf_config(given: Mapping[str, str]) -> Cluster | None:
    """Return the cluster that `TF_CONFIG` names, `None` where it names none.

    A `chief` is of rank 0, and the workers come after it: both may have the index 0.

    Raises:
        UserError: If it is no JSON, or says of no worker which one it is.

    Example:
        >>> of_tf_config({"TF_CONFIG": '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, '
        ...               '"task": {"type": "worker", "index": 0}}'}).rank
        1
    """
    text = given.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        said = json.loads(text)
        cluster = dict(said.get("cluster", {}))
        task = dict(said.get("task", {}))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            "TF_CONFIG must be JSON such as {\"cluster\": {\"worker\": [\"host:port\", ...]}, "
            f"\"task\": {{\"type\": \"worker\", \"index\": 0}}}}. Received: {shown(text)}."
        ) from error
    if strange := sorted(set(cluster) - {"chief", "master", "worker", "evaluator"}):
        raise UserError(
            "TF_CONFIG: kerasft trains on workers alone (chief, worker), and has no use for "
            f"{', '.join(strange)}. Received: {shown(text)}."
        )
    if {"chief", "master"} <= set(cluster):
        raise UserError(
            "TF_CONFIG: chief and master are two names of the first worker; leave one of them out. "
            f"Received: {shown(text)}."
        )
    chiefs = _addresses(cluster.get("chief", cluster.get("master", [])), text)
    workers = _addresses(cluster.get("worker", []), text)
    addresses = (*chiefs, *workers)
    if not addresses:
        return None
    if len(addresses) > 1 and not {"type", "index"} <= set(task):
        raise UserError(
            f"TF_CONFIG must tell each worker which of the {len(addresses)} it is: \"task\": "
            f"{{\"type\": \"worker\", \"index\": 0}}, and so on. Received: {shown(text)}."
        )
    kind, index = str(task.get("type", "worker")), _number(task.get("index", 0), "TF_CONFIG", text)
    if kind not in ("chief", "master", "worker"):
        raise UserError(
            "TF_CONFIG: a task must be of the type chief or worker; the validation split is "
            f"measured by them. Received: {kind!r}."
        )
    among = workers if kind == "worker" else chiefs
    if not 0 <= index < len(among):
        raise UserError(
            f"TF_CONFIG: the index of a task must be from 0 to below the {len(among)} of its type. "
            f"Received: type {kind!r}, index {index}. Each process needs its own TF_CONFIG."
        )
    return Cluster(addresses, index + (len(chiefs) if kind == "worker" else 0), "TF_CONFIG")


def _addresses(given: Any, text: str) -> list[str]:
    if not isinstance(given, list) or not all(
        isinstance(one, str) and _is_number(one.rpartition(":")[2]) for one in given
    ):
        raise UserError(
            f"TF_CONFIG: addresses must be a list of \"host:port\". Received: {shown(text)}."
        )
    return given


def _is_number(text: str) -> bool:
    # `²` is a digit, and no number.
    return text.isascii() and text.isdigit()


def _number(value: object, name: str, text: str) -> int:
    try:
        return int(str(value))
    except ValueError as error:
        raise UserError(f"{name} must hold a whole number. Received: {shown(text)}.") from error


def of_slurm(given: Mapping[str, str]) -> Cluster | None:
    """Return the cluster of a SLURM step (`srun`), `None` outside of one.

    TensorFlow's own resolver needs `nvidia-smi` even where there are no GPUs. Ports follow from the
    number of the job and the place of a task on its machine; `KERASFT_PORT` sets the first one.

    Raises:
        UserError: If the variables contradict one another.

    Example:
        >>> of_slurm({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_JOB_ID": "7",
        ...           "SLURM_STEP_NODELIST": "n[01-02]", "SLURM_STEP_TASKS_PER_NODE": "2,1"})
        Cluster(addresses=('n01:20007', 'n01:20008', 'n02:20007'), rank=2, source='SLURM')
    """
    nodes = given.get("SLURM_STEP_NODELIST")
    if not nodes or "SLURM_PROCID" not in given:
        return None
    try:
        hosts = hosts_of(nodes)
    except ValueError as error:
        raise UserError(
            "SLURM_STEP_NODELIST must be a list of machines such as n[01-02,05],gpu7. Received: "
            f"{shown(nodes)}."
        ) from error
    counts = counts_of(given.get("SLURM_STEP_TASKS_PER_NODE", f"1(x{len(hosts)})"))
    rank = _number(given["SLURM_PROCID"], "SLURM_PROCID", given["SLURM_PROCID"])
    if len(counts) != len(hosts) or not 0 <= rank < sum(counts):
        raise UserError(
            "SLURM: the tasks of the step and its machines do not fit together. Received: "
            f"SLURM_STEP_NODELIST={nodes}, SLURM_STEP_TASKS_PER_NODE="
            f"{given.get('SLURM_STEP_TASKS_PER_NODE')}, SLURM_PROCID={rank}."
        )
    job = given.get("SLURM_JOB_ID", "0")
    first = PORTS + (int(job) % SPAN if _is_number(job) else 0)
    if (port := given.get("KERASFT_PORT")) is not None:
        first = _number(port, "KERASFT_PORT", port)
    places = [(host, local) for host, count in zip(hosts, counts, strict=True)
              for local in range(count)]  # fmt: skip
    here = given.get("SLURMD_NODENAME")
    if here and places[rank][0].partition(".")[0] != here.partition(".")[0]:
        raise UserError(
            f"SLURM: task {rank} should run on {places[rank][0]}, and is on {here}: the tasks are "
            "not dealt out machine by machine. Call srun with --distribution=block."
        )
    return Cluster(tuple(f"{host}:{first + local}" for host, local in places), rank, "SLURM")


def hosts_of(nodes: str) -> list[str]:
    """Return the machines of a list as SLURM shortens it.

    Example:
        >>> hosts_of("n[01-02,05],gpu7")
        ['n01', 'n02', 'n05', 'gpu7']
    """
    made: list[str] = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodes):
        names = [""]
        for plain, ranges in re.findall(r"([^\[]+)|\[([^\]]*)\]", part):
            ends = [plain] if plain else [n for text in ranges.split(",") for n in _counted(text)]
            names = [name + end for name in names for end in ends]
        made += names
    return made


def _counted(text: str) -> list[str]:
    """Return the numbers of a range, with their zeros."""
    first, _, last = text.partition("-")
    if not last:
        return [first]
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def counts_of(tasks: str) -> list[int]:
    """Return how many tasks each machine has, of a list as SLURM shortens it.

    Example:
        >>> counts_of("2(x3),1")
        [2, 2, 2, 1]
    """
    made: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks):
        made += [int(count)] * int(times or 1)
    return made


def of_kubernetes(given: Mapping[str, str]) -> Cluster | None:
    """Return the cluster of an indexed Job, `None` outside of one.

    `KERASFT_WORKERS` is `PATTERN,COUNT`; the pattern is the address of a worker with `{index}` for
    its number, the name of a headless service in it: `run-{index}.run:12345,2`.

    Raises:
        UserError: If it is none, or the pod's index is beyond the count.
    """
    text, index = given.get("KERASFT_WORKERS"), given.get("JOB_COMPLETION_INDEX")
    if not text or index is None:
        return None
    pattern, _, count = text.rpartition(",")
    if "{index}" not in pattern or not _is_number(count.strip()) or not (
        _is_number(pattern.rpartition(":")[2])
    ):
        raise UserError(
            "KERASFT_WORKERS must be the address of a worker with {index} for its number, a comma, "
            f"and how many there are: run-{{index}}.run:12345,2. Received: {shown(text)}."
        )
    rank, workers = _number(index, "JOB_COMPLETION_INDEX", index), int(count)
    if not 0 <= rank < workers:
        raise UserError(
            f"JOB_COMPLETION_INDEX must be from 0 to below the {workers} workers of "
            f"KERASFT_WORKERS. Received: {rank}. `completions` and `parallelism` of the Job must "
            "both be that number."
        )
    return Cluster(tuple(_at(pattern, range(workers))), rank, "Kubernetes")


def _at(pattern: str, numbers: Sequence[int]) -> list[str]:
    return [pattern.replace("{index}", str(number)) for number in numbers]
