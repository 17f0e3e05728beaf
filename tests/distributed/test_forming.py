"""Processes that form a group: one that is missing is named, and whoever waits can be stopped."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from kerasft.distributed.launching import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]

# A group, and nothing else of a run; `PATIENCE` is the first argument.
FORM = """
import signal
import sys
from kerasft.distributed import group, meeting
# A shell that starts tests in the background has its children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
from kerasft.system.console import without_chatter
meeting.PATIENCE = float(sys.argv[1])
with without_chatter():
    made = group.form("auto", timeout=60)
print(made.said, made.texts(f"rank {made.rank}"), flush=True)
"""


BEGUN = []


def begun(addresses, rank, command):
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    BEGUN.append(subprocess.Popen(
        command, env={**os.environ, "TF_CONFIG": json.dumps(task)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ))  # fmt: skip
    return BEGUN[-1]


@pytest.fixture(autouse=True)
def none_left():
    yield
    while BEGUN:
        with BEGUN.pop() as one:
            one.kill()


def forming(addresses, rank, patience=30):
    return begun(addresses, rank, [sys.executable, "-c", FORM, str(patience)])


def ended(one, seconds):
    """Return what a process said, once it has ended in time."""
    return one.communicate(timeout=seconds)


@pytest.fixture
def addresses():
    return [f"127.0.0.1:{port}" for port in free_ports(2)]


def test_a_worker_that_is_alone_names_the_missing_one_and_ends(tmp_path, addresses):
    one = begun(addresses, 0, [
        sys.executable, "-m", "kerasft", "train", "distribute=auto", "distribute_timeout=5",
        f"output_dir={tmp_path / 'run'}",
    ])  # fmt: skip
    _, said = ended(one, 60)
    assert one.returncode == 75, said
    assert re.search(
        rf"distribute_timeout=5 s is over: .*missing: worker 1 \({addresses[1]}\)", said
    )
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_can_be_stopped(addresses, number):
    one = forming(addresses, 1, patience=0.5)
    assert one.stderr.readline().startswith("waiting for the other workers for")
    one.send_signal(number)
    ended(one, 25)  # the interpreter's own end takes some seconds
    assert one.returncode != 0


def test_workers_that_start_one_after_the_other_form_a_group(addresses):
    first = forming(addresses, 0)
    time.sleep(3)
    second = forming(addresses, 1)
    for rank, one in enumerate((first, second)):
        out, said = ended(one, 60)
        assert one.returncode == 0, said
        assert f"this is rank {rank} ['rank 0', 'rank 1']" in out
        assert said == ""


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="the machine has no IPv6")
def test_workers_with_addresses_of_ipv6_form_a_group(addresses):
    there = [f"[::1]:{one.rpartition(':')[2]}" for one in addresses]
    for rank, one in enumerate([forming(there, rank) for rank in range(2)]):
        out, said = ended(one, 120)
        assert one.returncode == 0, said
        assert "devices: 2 workers on [::1] (TF_CONFIG)" in out
        assert f"this is rank {rank} ['rank 0', 'rank 1']" in out
        assert said == ""


# Asks the others again and again for 20 seconds.
ASKS = FORM + """
import time
until = time.monotonic() + 20
while not made.any(time.monotonic() > until)[0]:
    time.sleep(0.1)
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_stands_still_for_a_while_is_waited_for(addresses, rank):
    """A machine that is busy or suspended is no machine that is gone."""
    made = [begun(addresses, one, [sys.executable, "-c", ASKS, "30"]) for one in range(2)]
    for one in made:
        assert "this is rank" in one.stdout.readline()
    made[rank].send_signal(signal.SIGSTOP)
    time.sleep(15)  # TensorFlow waits for 10 by itself
    made[rank].send_signal(signal.SIGCONT)
    for one in made:
        _, said = ended(one, 100)
        assert one.returncode == 0, said


# Meets the others, and ends before TensorFlow is asked anything.
DIES = """
import os, sys
from kerasft.distributed import cluster, meeting
with meeting.met(cluster.find(), 60):
    os._exit(1)
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_dies_once_all_have_met_ends_the_others(addresses, rank):
    other = forming(addresses, 1 - rank)
    dead = begun(addresses, rank, [sys.executable, "-c", DIES])
    ended(dead, 60)
    assert dead.returncode == 1
    _, said = ended(other, 60)
    assert other.returncode == -signal.SIGKILL, said
    assert f"worker {rank} ({addresses[rank]}) is gone before the group was complete" in said
