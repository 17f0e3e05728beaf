"""Workers agree on what they do, and one process agrees with itself at no cost."""

import json
import os
import socket

import pytest

from kerasft.distributed import group
from kerasft.errors import Stopped, UserError


def test_one_device_is_a_group_of_itself():
    alone = group.form(None)
    assert alone is group.ALONE is group.current()
    assert (alone.rank, alone.workers, alone.replicas, alone.local) == (0, 1, 1, 1)
    assert alone.any(True, False) == [True, False]
    assert alone.from_first([0.1]) == [0.1]
    assert alone.texts("here") == ["here"]
    alone.require_alike("config", {"a": "1"}, "")
    with alone.scope(), alone.noticed():
        pass


def test_mirrored_with_one_device_says_so_and_goes_on():
    found = group.form("mirrored")
    assert found.strategy is None
    assert found.said == "devices: one, CPU:0; distribute has nothing to deal out"
    assert group.form("auto").strategy is None


def test_several_processes_must_be_named(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match=r"nothing says which processes.*kerasft launch -n 2"):
        group.form("multi_worker")


def test_differences_between_workers_are_told(monkeypatch):
    from kerasft.distributed.cluster import Cluster

    two = group.Group(None, Cluster(("a:1", "b:2"), 1, "a test"), 2)
    said = iter([["x", "y"], ["epochs=1\nseed=0", "epochs=2\nseed=0"]])
    monkeypatch.setattr(group.Group, "texts", lambda self, text: next(said))
    with pytest.raises(UserError, match=(
        r"same config: worker 0 \(a:1\) has epochs=1, and worker 1 \(b:2\) epochs=2\. Start"
    )):
        two.require_alike("config", {"epochs": "2", "seed": "0"}, "Start again.")


def test_other_workers_speak_into_a_log(tmp_path, capfd):
    from kerasft.distributed.cluster import Cluster

    two = group.Group(None, Cluster(("a:1", "b:2"), 1, "a test"), 2)
    # Not by print: under pytest that is another stream.
    os.write(1, b"before\n")
    with two.speaking(tmp_path):
        os.write(1, b"inside\n")
        os.write(2, b"so are errors\n")
    os.write(1, b"after\n")
    assert capfd.readouterr() == ("before\nafter\n", "")
    assert (tmp_path / "logs" / "worker-1.log").read_text() == "inside\nso are errors\n"


def test_a_worker_that_was_named_alone_takes_what_devices_it_has(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["127.0.0.1:1"]}}))
    found = group.form("multi_worker")
    assert (found.workers, found.strategy) == (1, None)
    assert found.said == "devices: one, CPU:0; distribute has nothing to deal out"


@pytest.mark.enable_socket
@pytest.mark.parametrize(("ends", "silent"), [(True, []), (False, [1])], ids=["ends", "cut off"])
def test_a_lost_worker_is_named_by_its_connection_or_else_by_its_port(monkeypatch, ends, silent):
    """The port of a process that is killed may answer for a moment; a machine may be cut off."""
    import tensorflow as tf

    from kerasft.distributed.cluster import Cluster
    from kerasft.distributed.lifelines import Lifelines

    class Watching(Lifelines):
        def _break_off(self):  # the other tests of this process go on
            pass

    monkeypatch.setattr(group, "ENDS", 10.0 if ends else 0.1)
    monkeypatch.setattr(group.peers, "silent", lambda cluster: silent)
    cluster = Cluster(("a:1", "b:2"), 0, "a test")
    here, there = socket.socketpair()
    with here, there:
        lifelines = Watching(cluster, {1: here})
        lifelines.look_on()
        if ends:
            there.close()
        two = group.Group(None, cluster, 2, lifelines=lifelines)
        with (
            pytest.raises(Stopped, match=r"^worker 1 \(b:2\) is gone: stopped with it"),
            two.noticed(),
        ):
            raise tf.errors.UnavailableError(None, None, "Socket closed")
        here.shutdown(socket.SHUT_RDWR)
