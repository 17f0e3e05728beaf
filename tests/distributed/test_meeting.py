"""Workers meet before TensorFlow is asked: whoever is missing or is another program is named."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kerasft.distributed import meeting
from kerasft.distributed.cluster import Cluster
from kerasft.distributed.launching import free_ports
from kerasft.errors import Stopped

pytestmark = pytest.mark.enable_socket


def clusters(count):
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(count))
    return [Cluster(addresses, rank, "TF_CONFIG") for rank in range(count)]


def test_all_go_at_once_with_connections_to_the_first_one():
    began, left = time.monotonic(), []

    def come(cluster):
        time.sleep(0.4 * cluster.rank)
        with meeting.met(cluster, 20) as links:
            left.append(time.monotonic() - began)
        for link in links.values():
            link.close()
        assert sorted(links) == ([1, 2] if cluster.rank == 0 else [0])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(come, clusters(3)))
    assert len(left) == 3
    assert min(left) > 0.8  # that of the last one to come


def test_a_missing_worker_is_named_now_and_then(monkeypatch, capfd):
    first, second = clusters(2)
    monkeypatch.setattr(meeting, "PATIENCE", 0.3)
    with pytest.raises(Stopped) as stopped, meeting.met(first, 0.6):
        pass
    name = f"worker 1 ({second.addresses[1]})"
    assert stopped.value.code == 75
    assert str(stopped.value).startswith(
        f"distribute_timeout=0.6 s is over: stopped before the group was complete; missing: {name}."
    )
    said = capfd.readouterr().err
    assert said == f"waiting for the other workers for 0 s; missing: {name}\n"


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"\x00" * 300])
def test_another_program_at_the_address_of_a_worker_is_none(greeting):
    first, _ = clusters(2)

    def greet(door):
        while True:
            try:
                link, _ = door.accept()
            except OSError:
                return
            with link:
                link.sendall(greeting)

    door = socket.create_server(("127.0.0.1", int(first.addresses[1].rpartition(":")[2])))
    thread = threading.Thread(target=greet, args=(door,))
    thread.start()
    try:
        with pytest.raises(Stopped, match="another program answers"), meeting.met(first, 0.5):
            pass
    finally:
        door.shutdown(socket.SHUT_RDWR)
        door.close()
        thread.join()


def test_a_first_worker_that_answers_late_is_waited_for(monkeypatch):
    """On a busy machine: to ask anew would be to leave a connection that it lets go."""
    monkeypatch.setattr(meeting, "ANSWER", 0.3)
    first, second = clusters(2)
    answered, seen = meeting.Reception._answered, []

    def late(self, link):
        time.sleep(0.5 * (self.cluster.rank == 0 and bool(seen)))
        kept = answered(self, link)
        if self.cluster.rank == 0:
            seen.append(kept)  # it has asked; the next one comes to be let go
        return kept

    monkeypatch.setattr(meeting.Reception, "_answered", late)
    with ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(meeting._meet, one, 20) for one in (first, second)]
        for one in waits:
            for kept in one.result().values():
                kept.close()


def test_a_worker_that_comes_again_is_waited_for():
    """It was ready and has ended; what it left behind must let nobody go."""
    first, second, third = clusters(3)
    with ThreadPoolExecutor(3) as pool:
        waits = pool.submit(meeting._meet, first, 20)
        for _ in range(200):
            waiting = meeting._Waiting(second, 20)
            link = meeting._asked(second, 0, meeting.READY, waiting)
            if link is not None:
                break
            time.sleep(0.02)
        link.close()
        others = [pool.submit(meeting._meet, one, 20) for one in (third,)]
        time.sleep(0.8)
        assert not waits.done()
        others.append(pool.submit(meeting._meet, second, 20))
        for one in (waits, *others):
            for kept in one.result().values():
                kept.close()
