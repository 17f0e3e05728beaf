"""How a run of several processes ends where one of them is lost at the end, or the first fails."""

import pytest
from omegaconf import OmegaConf

from kerasft import cli
from kerasft.distributed import group
from kerasft.distributed.cluster import LAUNCHED, Cluster
from kerasft.errors import AGAIN, Stopped, UserError
from kerasft.steps.preparing import devices
from kerasft.system.files import write_json


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a block as one of two workers, which have lost each other when it is done."""
    def lost(self, *flags):
        raise Stopped("worker 1 (b:2) is gone", AGAIN, where="with it")

    monkeypatch.setattr(devices, "SOON", 0.0)
    monkeypatch.setattr(devices, "_require_alike", lambda *_: None)
    monkeypatch.setattr(group.Group, "any", lost)

    def begun(rank, act=lambda: None, **facts):
        two = group.Group(None, Cluster(("a:1", "b:2"), rank, "a test"), 2)
        monkeypatch.setattr(devices.groups, "form", lambda *_, **__: two)
        write_json(tmp_path / "run.json", facts)
        cfg = OmegaConf.create({"distribute": "multi_worker", "distribute_timeout": 1,
                                "batch_size": 4, "batch_tokens": None,
                                "output_dir": str(tmp_path)})  # fmt: skip
        with devices.forming(cfg):
            act()

    return begun


def stop():
    raise Stopped("a worker is gone", AGAIN, where="with it")


def test_a_worker_that_is_lost_after_the_end_changes_nothing(run, capsys):
    run(0, status="done")
    assert "warning: worker 1 (b:2) is gone, after the run was done" in capsys.readouterr().err
    with pytest.raises(Stopped):
        run(0, stop, status="running")


def test_others_end_as_the_first_worker_did(run):
    run(1, status="done")
    with pytest.raises(Stopped):
        run(1, status="running")
    for act in (stop, lambda: None):
        with pytest.raises(UserError, match=r"worker 0 \(a:1\) has failed, .*: the disk is full"):
            run(1, act, status="failed", reason="the disk is full")


@pytest.mark.parametrize(("workers", "launched", "said"), [
    (1, False, "To go on: kerasft resume runs/a"),
    (2, True, "To go on: kerasft launch -n 2 -- resume runs/a"),
    (2, False, "To go on: start all 2 workers again as before, with resume=auto"),
])
def test_what_goes_on_with_a_run_works(monkeypatch, capsys, workers, launched, said):
    def stopped(options):
        made = Stopped("SIGTERM", 143)
        made.folder, made.workers = "runs/a", workers
        raise made

    monkeypatch.delenv(LAUNCHED, raising=False)
    if launched:
        monkeypatch.setenv(LAUNCHED, "1")
    monkeypatch.setitem(cli.ACTS, "explain", cli.Act(stopped))
    assert cli.main(["explain", "epochs"]) == 143
    assert said in capsys.readouterr().err


def test_a_worker_that_is_lost_before_training_begins_has_all_start_again(tmp_path, monkeypatch):
    """A connection that breaks while data or model are made ready is no failure of the run."""
    import tensorflow as tf

    from kerasft import compose
    from kerasft.run import _carry_out, prepare
    from kerasft.runs.run_folder import RunFolder
    from kerasft.system.files import read_json

    def breaks(*given):
        raise tf.errors.UnavailableError(None, None, "Socket closed")

    two = group.Group(None, Cluster(("a:1", "b:2"), 0, "a test"), 2)
    monkeypatch.setattr(group.peers, "silent", lambda cluster: [1])
    monkeypatch.setattr(prepare, "read_data", breaks)
    with group.working(two), pytest.raises(Stopped, match=r"worker 1 \(b:2\) is gone") as stopped:
        _carry_out(compose([f"output_dir={tmp_path}"]), RunFolder(tmp_path))
    assert (stopped.value.code, stopped.value.workers) == (AGAIN, 2)
    assert read_json(tmp_path / "run.json")["status"] == "stopped"
