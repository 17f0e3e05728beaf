"""A look at the ports of other workers tells who is missing, and whether one's own is free."""

import os
import socket
import subprocess
import sys
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
            peers.require_free(cluster)
    peers.require_free(cluster)


def test_a_group_that_cannot_form_says_who_is_missing_and_ends():
    (free,) = free_ports(1)
    code = (
        "import time\n"
        "from kerasft.distributed import peers\n"
        "from kerasft.distributed.cluster import Cluster\n"
        "peers.PATIENCE = 0.3\n"
        f"cluster = Cluster(('127.0.0.1:1', '127.0.0.1:{free}'), 0, 'TF_CONFIG')\n"
        "with peers.awaited(cluster, 0.5):\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 75
    first, *_, last = done.stderr.splitlines()
    assert first == (
        f"waiting for the other workers for 0 s; missing: worker 1 (127.0.0.1:{free})"
    )
    assert "has not formed within distribute_timeout=0.5 s" in last


def test_a_group_that_forms_in_time_says_nothing(capfd):
    with peers.awaited(Cluster(("127.0.0.1:1", "127.0.0.1:2"), 0, "a test"), 60):
        pass
    assert capfd.readouterr().err == ""
