"""A look at the ports of other workers tells who is missing, and whether one's own is free."""

import socket
from contextlib import closing

import pytest

from kerasft.distributed import peers
from kerasft.distributed.cluster import Cluster
from kerasft.distributed.launching import free_ports
from kerasft.errors import UserError

pytestmark = pytest.mark.enable_socket


def listening():
    one = socket.socket()
    one.bind(("127.0.0.1", 0))
    one.listen()
    return closing(one)


def test_who_listens_answers():
    (free,) = free_ports(1)
    with listening() as one:
        port = one.getsockname()[1]
        cluster = Cluster(("127.0.0.1:1", f"127.0.0.1:{port}", f"127.0.0.1:{free}"), 0, "a test")
        assert peers.silent(cluster) == [2]


def test_a_port_in_use_is_told():
    with listening() as one:
        port = one.getsockname()[1]
        cluster = Cluster((f"127.0.0.1:{port}", "127.0.0.1:1"), 0, "a test")
        with pytest.raises(UserError, match=rf"worker 0 \(.*:{port}\) cannot listen.*a test"):
            peers.listening(cluster)
    peers.listening(cluster).close()


def test_a_name_that_is_none_does_not_answer():
    assert not peers.answers("a..b:1")
