"""Who ended first is known to all that are left."""

import socket
import time

import pytest

from kerasft.distributed import lifelines
from kerasft.distributed.cluster import Cluster
from kerasft.distributed.lifelines import GRACE, Lifelines

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def workers():
    """Return three workers that look on, and those whose sums were broken off, by rank."""
    broken = []

    class Watching(Lifelines):
        def _break_off(self):  # the other tests of this process go on
            broken.append(self.cluster.rank)

    addresses = tuple(f"127.0.0.1:{port}" for port in (2001, 2002, 2003))
    pairs = {rank: socket.socketpair() for rank in (1, 2)}
    made = [Watching(Cluster(addresses, 0, "TF_CONFIG"), {n: p[0] for n, p in pairs.items()})]
    made += [Watching(Cluster(addresses, rank, "TF_CONFIG"), {0: pairs[rank][1]})
             for rank in (1, 2)]  # fmt: skip
    yield made, broken
    for one in made:
        for link in one.links.values():
            link.close()


def end(worker):
    """Have the connections of a worker end, as those of a process that dies do."""
    for link in worker.links.values():
        link.shutdown(socket.SHUT_RDWR)


def assert_broken(broken, ranks):
    until = time.monotonic() + 10
    while sorted(broken) != ranks and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(broken) == ranks


def look_on(made, *but):
    for worker in made:
        if worker.cluster.rank not in but:
            worker.look_on()


def test_all_learn_of_the_one_that_ended_though_it_is_no_neighbour(workers):
    made, broken = workers
    look_on(made, 1)
    end(made[1])
    assert made[0].gone(10) == [1]
    assert made[2].gone(10) == [1]
    assert_broken(broken, [0, 2])


def test_one_that_ends_for_the_sake_of_another_is_not_named(workers):
    made, _ = workers
    look_on(made, 1, 2)
    made[2].leave([1])  # it has seen it earlier than the first one
    end(made[2])
    end(made[1])
    assert made[0].gone(10) == [1]


def test_two_that_end_together_are_both_named(workers):
    made, _ = workers
    look_on(made, 1, 2)
    end(made[1])
    time.sleep(GRACE / 5)
    end(made[2])
    assert made[0].gone(10) == [1, 2]


def test_the_first_worker_is_missed_by_all(workers):
    made, broken = workers
    look_on(made, 0)
    end(made[0])
    assert [made[rank].gone(10) for rank in (1, 2)] == [[0], [0]]
    assert_broken(broken, [1, 2])


def test_nobody_is_named_while_all_are_there(workers):
    made, broken = workers
    look_on(made)
    assert [one.gone(0.0) for one in made] == [[], [], []]
    assert made[1].gone(0.3) == []
    assert not broken


def test_what_a_lookout_has_left_on_the_line_is_no_name(workers):
    made, _ = workers
    look_on(made, 1, 2)
    for rank in (1, 2):
        made[rank].links[0].sendall(lifelines.THROUGH)
    made[1].leave([2])
    end(made[2])
    assert made[0].gone(10) == [2]
