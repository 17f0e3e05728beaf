"""The other processes of a run, as far as a look at their ports tells."""

from __future__ import annotations

import socket

from kerasft.distributed.cluster import Cluster
from kerasft.errors import UserError


def answers(address: str, timeout: float = 1.0) -> bool:
    """Whether a process listens at an address."""
    try:
        dialled(address, timeout).close()
    except OSError:
        return False
    return True


def dialled(address: str, timeout: float = 1.0) -> socket.socket:
    """Return a connection to an address.

    Raises:
        OSError: If nobody listens there, or the name is none.
    """
    host, _, port = address.rpartition(":")
    try:
        return socket.create_connection((host.strip("[]"), int(port)), timeout)
    except (UnicodeError, OverflowError) as error:
        raise OSError(str(error)) from error


def silent(cluster: Cluster) -> list[int]:
    """Return the ranks of the other workers that do not answer."""
    return [
        rank for rank, address in enumerate(cluster.addresses)
        if rank != cluster.rank and not answers(address)
    ]


def listening(cluster: Cluster) -> socket.socket:
    """Return a socket that listens at this worker's port.

    Raises:
        PortInUse: If somebody else does.
    """
    port = int(cluster.addresses[cluster.rank].rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    try:
        # A port whose connections are being closed is free, for who listens.
        return socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both,
            backlog=len(cluster.addresses),
        )
    except OSError as error:
        raise PortInUse(cluster, error.strerror or str(error)) from error


class PortInUse(UserError):
    """A worker cannot listen where it should: others may know another port for it.

    Args:
        cluster: The workers.
        reason: Why not.
    """

    # EX_UNAVAILABLE: `launch` tries other ports.
    code = 69

    def __init__(self, cluster: Cluster, reason: str):
        super().__init__(
            f"distribute: {cluster.name(cluster.rank)} cannot listen at its port ({reason}). End "
            "what does (an earlier run, maybe), or give the workers other ports. Received: "
            f"{cluster.addresses[cluster.rank]} of {cluster.source}."
        )
