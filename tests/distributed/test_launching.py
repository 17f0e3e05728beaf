"""Workers are started with addresses of their own, and all again where one is lost."""

import json
import subprocess
import sys

import pytest

from kerasft.distributed.launching import Launcher, completed
from kerasft.errors import UserError

pytestmark = pytest.mark.enable_socket

# Notes its rank and its attempt, and ends as `ENDS` says: a status or the name of a signal.
WORKER = """
import json, os, signal, sys, time
task = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
folder = sys.argv[1]
number = len(os.listdir(folder)) // 2
open(f"{folder}/{number}-{task}", "x").close()
while len([n for n in os.listdir(folder) if n.startswith(f"{number}-")]) < 2:
    time.sleep(0.01)
how = json.loads(sys.argv[2])[number][task]
if isinstance(how, str):
    os.kill(os.getpid(), getattr(signal, how))
sys.exit(how)
"""


def launched(tmp_path, ends, **settings):
    """Launch two workers, whose ends in each attempt are given; return status and attempts."""
    folder = tmp_path / "workers"
    folder.mkdir()
    seen = []

    def begin(command, environment):
        seen.append(json.loads(environment["TF_CONFIG"]))
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), json.dumps(ends)], env=environment
        )

    status = Launcher(["train"], 2, begin=begin, **settings).run()
    return status, len(list(folder.iterdir())) // 2, seen


def test_workers_that_end_well_end_it(tmp_path, capsys):
    status, attempts, seen = launched(tmp_path, [[0, 0]])
    assert (status, attempts) == (0, 1)
    assert [one["task"]["index"] for one in seen] == [0, 1]
    assert seen[0]["cluster"] == seen[1]["cluster"]
    assert len(set(seen[0]["cluster"]["worker"])) == 2
    assert "launch: 2 workers, processes" in capsys.readouterr().out


def test_a_lost_worker_is_named_and_all_start_again(tmp_path, capsys):
    status, attempts, seen = launched(tmp_path, [[75, "SIGKILL"], [0, 0]])
    assert (status, attempts) == (0, 2)
    assert seen[0]["cluster"] != seen[2]["cluster"]  # other ports: the old ones may be in use yet
    assert "worker 1 was ended by SIGKILL; all 2 start again" in capsys.readouterr().err


def test_restarts_come_to_an_end(tmp_path, capsys):
    status, attempts, _ = launched(tmp_path, [[1, 75]] * 2, restarts=1)
    assert (status, attempts) == (75, 2)
    assert "worker 0 ended with status 1; --restarts 1 is used up" in capsys.readouterr().err


@pytest.mark.parametrize(("ends", "status"), [([2, 75], 2), ([143, 143], 143), ([75, 75], 75)])
def test_a_mistake_and_a_stop_are_not_tried_again(tmp_path, ends, status):
    assert launched(tmp_path, [ends])[:2] == (status, 1)


def test_workers_that_do_not_see_that_one_is_gone_are_ended(tmp_path):
    sleeps = "import time; time.sleep(60)"
    begun = []

    def begin(command, environment):
        code = sleeps if not begun else "raise SystemExit(1)"
        begun.append(subprocess.Popen([sys.executable, "-c", code], env=environment))
        return begun[-1]

    assert Launcher(["train"], 2, restarts=0, grace=0.1, begin=begin).run() == 75
    assert begun[0].returncode == -15


def test_commands_are_completed():
    made = completed(["train", "head=mlp", "name=films"])
    assert made[:3] == ["train", "head=mlp", "name=films"]
    assert "distribute=multi_worker" in made
    assert "resume=auto" in made
    assert any(one.startswith("output_dir=outputs/films/") for one in made)
    given = ["train", "distribute=auto", "output_dir=x", "resume=accept"]
    assert completed(given) == given
    assert completed(["resume", "x"]) == ["resume", "x"]


@pytest.mark.parametrize(("command", "workers", "message"), [
    (["predict", "x"], 2, r"launch starts the workers of a run.*Received: predict x"),
    ([], 2, r"Received: no command"),
    (["train"], 0, r"-n must be at least 1.*Received: -n 0"),
])
def test_what_cannot_be_launched_is_told(command, workers, message):
    with pytest.raises(UserError, match=message):
        Launcher(command, workers)


def test_a_port_that_was_taken_is_tried_once_more_with_others(tmp_path, capsys):
    status, attempts, seen = launched(tmp_path, [[69, "SIGTERM"], [0, 0]], restarts=0)
    assert (status, attempts) == (0, 2)
    assert seen[0]["cluster"] != seen[2]["cluster"]
    assert "a port was taken before its worker could listen" in capsys.readouterr().err


def test_workers_that_wait_for_one_without_a_port_are_ended_at_once():
    begun = []

    def begin(command, environment):
        code = "import time; time.sleep(60)" if not begun else "raise SystemExit(69)"
        begun.append(subprocess.Popen([sys.executable, "-c", code], env=environment))
        return begun[-1]

    def other(command, environment):
        return begin(command, environment) if len(begun) < 2 else subprocess.Popen(["true"])

    assert Launcher(["train"], 2, restarts=0, begin=other).run() == 0
    assert begun[0].returncode == -15


@pytest.mark.parametrize(("visible", "expected"), [
    ("0,1", ["0", "1"]), ("4,5,6,7", ["4,5", "6,7"]), ("3", ["3", "3"]), ("", ["", ""]),
])
def test_gpus_are_dealt_out_to_the_workers(monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = []

    def begin(command, environment):
        found.append(environment["CUDA_VISIBLE_DEVICES"])
        return subprocess.Popen(["true"])

    assert Launcher(["train"], 2, begin=begin).run() == 0
    assert found == expected
