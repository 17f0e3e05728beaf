"""Points that are new, and the same for the same seed; a journal that outlives its writers."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal

import pytest

from kerasft.errors import UserError
from kerasft.sweeps import journal, study
from kerasft.sweeps.space import name_of, read

TPE = {"_target_": "optuna.samplers.TPESampler", "multivariate": True, "group": True,
       "constant_liar": True, "n_startup_trials": 4}  # fmt: skip
SPACE = read(["a=x,y", "c=int(interval(1,3))"],
             {"rate": {"values": "tag(log,interval(1e-5,1e-3))", "when": {"a": "y"}}})  # fmt: skip


def make(tmp_path, directions=("maximize",)):
    import optuna

    return optuna.create_study(
        study_name="s", storage=journal.open_storage(tmp_path, None, new=True),
        directions=directions, load_if_exists=True,
    )  # fmt: skip


def run(made, sampler, count, space=SPACE, known=(), seed=0):
    points = []
    for _ in range(count):
        found = study.next_point(space, sampler, made, known, seed)
        if found is None:
            break
        trial = study.begin(made, space, *found)
        points.append(found[0])
        made.tell(trial, [float(len(name_of(found[0])))] * len(made.directions))
    return points


@pytest.mark.parametrize("sampler", [
    TPE, {"_target_": "optuna.samplers.RandomSampler"},
    {"_target_": "optuna.samplers.NSGAIISampler", "population_size": 4},
], ids=lambda node: node["_target_"].split(".")[-1])  # fmt: skip
def test_no_point_comes_twice_and_a_study_taken_up_goes_on_as_it_would_have(sampler, tmp_path):
    several = ("maximize", "minimize") if "NSGA" in sampler["_target_"] else ("maximize",)
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    whole = run(make(tmp_path / "whole", several), sampler, 12)
    names = [name_of(point) for point in whole]
    assert len(set(names)) == 12
    assert all(("rate" in point) == (point["a"] == "y") for point in whole)
    halves = run(make(tmp_path / "halves", several), sampler, 5)
    halves += run(make(tmp_path / "halves", several), sampler, 7)
    assert halves == whole


def test_a_space_comes_to_its_end(tmp_path):
    small = read(["a=x,y", "c=int(interval(1,3))"], {})
    points = run(make(tmp_path), TPE, 20, small)
    assert len({name_of(point) for point in points}) == len(points) == 6
    (tmp_path / "grid").mkdir()
    grid = read(["a=x,y", "c=1,2"], {})
    points = run(make(tmp_path / "grid"), None, 20, grid)
    assert points == [{"a": a, "c": c} for a in "xy" for c in "12"]


def test_known_points_come_first(tmp_path):
    known = [{"a": "x", "c": 2}, {"a": "x", "c": 9}]  # the second lies outside
    points = run(make(tmp_path), TPE, 4, known=known)
    assert points[:2] == known
    assert points[2] not in known


def test_known_points_are_what_the_space_has(tmp_path):
    """YAML's numbers and nothing are the texts of a choice, so that samplers learn from them."""
    space = read(["batch_size=4,8", "c=null,x", "rate=interval(0,1)"], {})
    (point,) = run(make(tmp_path), TPE, 1, space, [{"batch_size": 8, "c": None, "rate": 1}])
    assert point == {"batch_size": "8", "c": "null", "rate": 1.0}
    assert make(tmp_path).trials[0].params == point


def test_what_a_sampler_refuses_is_said():
    with pytest.raises(UserError, match=r"sweep.sampler: .*n_startup"):
        study.made(TPE | {"n_startup": 3}, "sampler")


def test_a_line_torn_by_a_kill_is_taken_away(tmp_path):
    made = make(tmp_path)
    run(made, TPE, 2)
    file = tmp_path / "study.journal"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code": 4, "wor')
    run(make(tmp_path), TPE, 1)
    assert file.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in file.read_text("utf-8").splitlines())
    assert len(make(tmp_path).trials) == 3


def _hold(path, ready):
    lock = journal.MendingLock(path / "study.journal")
    lock.acquire()
    ready.set()
    signal.pause()


def test_a_lock_dies_with_its_holder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(60)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    journal.MendingLock(tmp_path / "study.journal").acquire()


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "nonsense"])
def test_a_storage_that_cannot_be_opened_is_named(url, tmp_path):
    with pytest.raises(UserError, match=f"sweep.storage: '{url}' cannot be read"):
        journal.open_storage(tmp_path, url, new=True)
