"""Who works on which trial: nothing twice, nothing lost, also where processes are killed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sqlite3
import time

import pytest

from kerasft.errors import UserError
from kerasft.sweeps import beginning, summary
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.journal import StorageFailed
from kerasft.sweeps.ledger import DONE, FAILED, Outcome
from kerasft.sweeps.urls import settled
from kerasft.sweeps.worker import work
from kerasft.system.files import write_json


def finish_all(path, pause=0.0):
    """Carry out all trials of a sweep without training: what a worker process does."""
    ledger = ledgers.reopen(path)
    while claim := ledger.claim():
        claim.trial.set_user_attr("pid", os.getpid())
        time.sleep(pause)
        ledger.settle(claim, Outcome(DONE, values=[0.5]))


def test_a_sweep_is_carried_out_to_its_total_and_then_on(begin, tmp_path):
    ledger = begin(tmp_path / "s", n_trials=2)
    finish_all(ledger.path)
    assert ledger.counts() == {"running": 0, "done": 2, "pruned": 0, "failed": 0}
    assert ledger.claim() is None and not ledger.wanted()
    more = ledgers.reopen(ledger.path, n_trials=9)
    assert more.wanted()
    finish_all(ledger.path)
    # There are four points, none of which comes twice.
    assert more.counts()["done"] == 4
    assert len({trial.user_attrs["point"] for trial in more.trials()}) == 4
    assert [trial.number for trial in more.trials()] == [0, 1, 2, 3]


@pytest.mark.parametrize("storage", [
    "journal", pytest.param("sqlite", marks=pytest.mark.slow),
    pytest.param("postgresql", marks=pytest.mark.slow),
])  # fmt: skip
def test_processes_share_the_work(storage, begin, tmp_path, request):
    url = {"journal": None, "sqlite": f"sqlite:///{tmp_path}/study.db"}.get(storage, "")
    url = request.getfixturevalue("postgresql") if url == "" else url
    ledger = begin(tmp_path / "s", ["epochs=range(1,60)"], n_trials=16, storage=url)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=finish_all, args=(ledger.path, 0.3)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    trials = ledger.trials()
    assert ledger.counts()["done"] == len(trials) == 16
    assert len({trial.user_attrs["point"] for trial in trials}) == 16
    assert len({trial.user_attrs["pid"] for trial in trials}) > 1


@pytest.mark.slow
def test_processes_killed_at_any_moment_lose_and_double_nothing(begin, tmp_path):
    import random

    ledger = begin(tmp_path / "s", ["epochs=range(1,60)"], n_trials=25, retries=100)
    context, dice = multiprocessing.get_context("spawn"), random.Random(7)
    killed = 0
    while ledger.counts()["done"] < 25:
        worker = context.Process(target=finish_all, args=(ledger.path, 0.02))
        worker.start()
        if killed < 6:
            before = len(ledger.trials())
            while worker.is_alive() and len(ledger.trials()) == before:
                time.sleep(0.01)  # until it has begun
            time.sleep(dice.uniform(0, 0.15))
            os.kill(worker.pid, signal.SIGKILL)
            killed += 1
        worker.join(120)
    trials = ledger.trials()
    assert killed == 6
    assert len(trials) == 25
    assert len({trial.user_attrs["point"] for trial in trials}) == 25
    assert ledger.counts() == {"running": 0, "done": 25, "pruned": 0, "failed": 0}


def test_a_trial_whose_process_dies_again_and_again_is_let_fail(begin, tmp_path):
    ledger = begin(tmp_path / "s", retries=1)
    for attempt in (1, 2):
        claim = ledger.claim()
        assert claim.number == 0
        assert ledger.trials()[0].user_attrs["attempts"] == attempt
        claim.lock.release()  # as the system does for the dead
    after = ledger.claim()
    assert after.number == 1
    assert ledger.trials()[0].user_attrs["reason"] == "its process died 2 times"
    assert ledger.counts() == {"running": 1, "done": 0, "pruned": 0, "failed": 1}


def test_a_trial_that_was_stopped_may_go_on_as_often_as_it_likes(begin, tmp_path):
    ledger = begin(tmp_path / "s", retries=0)
    for _ in range(4):
        claim = ledger.claim()
        assert claim.number == 0
        ledger.put_back(claim)


def test_too_many_failures_or_too_much_time_end_it(begin, tmp_path):
    ledger = begin(tmp_path / "s", max_failures=2)
    for number in range(2):
        ledger.settle(ledger.claim(), Outcome(FAILED, f"reason {number}"))
    assert ledger.claim() is None and not ledger.wanted()
    costly = begin(tmp_path / "t", max_cost=1e-9)
    claim = costly.claim()
    time.sleep(0.01)
    costly.settle(claim, Outcome(DONE, values=[0.1]))
    assert costly.claim() is None and not costly.wanted()


@pytest.mark.timeout(60)
def test_nobody_waits_for_what_nobody_takes_up(begin, tmp_path):
    """A sweep that is over leaves a trial of the dead as it is."""
    ledger = begin(tmp_path / "s", max_cost=1e-9)
    left, claim = ledger.claim(), ledger.claim()
    assert ledger.at_work() == [0, 1]
    left.lock.release()
    time.sleep(0.01)
    ledger.settle(claim, Outcome(DONE, values=[0.1]))
    assert ledger.counts()["running"] == 1 and ledger.at_work() == []
    assert work(ledger) == 0


def test_a_storage_that_is_gone_gives_no_number_twice(begin, tmp_path):
    ledger = begin(tmp_path / "s")
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.5]))
    journal = ledger.path / "study.journal"
    kept = journal.read_bytes()
    journal.unlink()
    with pytest.raises(UserError, match=r"has lost what was written down of its trials.*journal"):
        ledgers.reopen(ledger.path).claim()
    assert not journal.exists()
    journal.write_bytes(kept)
    assert ledgers.reopen(ledger.path).claim().number == 1
    url = f"sqlite:///{tmp_path}/a.db"
    other = begin(tmp_path / "t", storage=url)
    (tmp_path / "a.db").unlink()
    with pytest.raises(UserError, match="there is no study"):
        ledgers.reopen(other.path).counts()


def test_looking_at_a_sweep_writes_nothing(begin, tmp_path):
    ledger = begin(tmp_path / "s")
    before = (ledger.path / "study.journal").read_bytes()
    assert ledgers.reopen(ledger.path).counts()["done"] == 0
    assert (ledger.path / "study.journal").read_bytes() == before


def test_a_file_of_sqlite_is_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settled("sqlite:///a.db?timeout=3") == f"sqlite:///{tmp_path}/a.db?timeout=3"
    for same in ("sqlite:////b/a.db", "sqlite://", "sqlite:///:memory:", "postgresql://h/d", None):
        assert settled(same) == same


def test_a_storage_that_is_full_or_locked_is_named(begin, tmp_path, monkeypatch):
    """What a trial came to is not lost with it: the trial is taken up again."""
    ledger = begin(tmp_path / "s")
    claim = ledger.claim()
    backend = ledger.study._storage._backend

    def full(logs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "append_logs", full)
        with pytest.raises(StorageFailed, match=r"study.journal' cannot .*No space left.*resume"):
            ledger.settle(claim, Outcome(DONE, values=[0.5]))
    claim.lock.release()
    assert ledgers.reopen(ledger.path).claim().number == 0
    file = tmp_path / "a.db"
    other = begin(tmp_path / "t", storage=f"sqlite:///{file}?timeout=0.1")
    with sqlite3.connect(file) as locker:
        locker.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageFailed, match=r"a.db.*database is locked"):
            other.claim()
    locker.close()
    assert other.claim().number == 0
    with sqlite3.connect(file) as spoiler:
        spoiler.execute("UPDATE version_info SET schema_version = 3")
        spoiler.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
    spoiler.close()
    with pytest.raises(StorageFailed, match=r"a.db.*version"):
        ledgers.reopen(other.path).counts()


def test_a_database_that_does_not_answer_is_named_without_its_password(begin, tmp_path):
    pytest.importorskip("psycopg")
    url = "postgresql+psycopg://me:secret@/db?host=/nowhere"
    with pytest.raises(StorageFailed, match=r"me:\*\*\*@.*nowhere") as caught:
        begin(tmp_path / "s", storage=url)
    assert "secret" not in str(caught.value)
    with pytest.raises(StorageFailed, match=r"load plugin"):
        begin(tmp_path / "t", storage="postgresql+nodriver://me@/db")


def test_a_change_of_the_configs_changes_nothing_under_a_sweep(begin, tmp_path):
    own = tmp_path / "own"
    (own / "head").mkdir(parents=True)
    (own / "head" / "mine.yaml").write_text(
        "_target_: kerasft.model.heads.pooled.linear\ndropout: 0.25\n"
    )
    from kerasft.config.composition import compose_search

    (tmp_path / "s").mkdir()
    ledger = beginning.create(
        tmp_path / "s", ["head=mine,linear"], compose_search(["sweep=grid"]),
        objectives=["accuracy"], directions=["maximize"], config_dirs=[str(own)], trusted=[],
    )  # fmt: skip
    (own / "head" / "mine.yaml").write_text("nonsense: [")
    cfg = ledgers.reopen(ledger.path).compose({"head": "mine"})
    assert cfg.head.dropout == 0.25
    # Nor does one of those that come with kerasft.
    frozen = ledger.path / "conf" / "head" / "linear.yaml"
    frozen.write_text(frozen.read_text().replace("dropout: 0.1", "dropout: 0.375"))
    assert ledger.compose({"head": "linear"}).head.dropout == 0.375


def test_what_is_no_sweep_is_named(begin, tmp_path):
    with pytest.raises(UserError, match=r"is no sweep: it has no sweep\.json"):
        ledgers.reopen(tmp_path)
    ledger = begin(tmp_path / "s")
    (ledger.path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match=r"sweep\.json"):
        ledgers.reopen(ledger.path)
    broken = begin(tmp_path / "t")
    (broken.path / "study.journal").write_text("no journal\n" * 3)
    with pytest.raises(UserError, match=r"sweep\.storage"):
        broken.trials()


def test_the_best_of_a_sweep_is_found_where_there_is_one(begin, tmp_path):
    ledger = begin(tmp_path / "s")
    with pytest.raises(UserError, match="No trial of the sweep"):
        summary.best_folder(str(ledger.path))
    for value in (0.25, 0.75, 0.5):
        ledger.settle(ledger.claim(), Outcome(DONE, values=[value]))
    with pytest.raises(UserError, match=r"network of .*1' was let go.*kerasft train --from"):
        summary.best_folder(str(ledger.path))
    (ledger.path / "1" / "checkpoints").mkdir(parents=True)
    (ledger.path / "1" / "checkpoints" / "best.keras").touch()
    assert summary.best_folder(str(ledger.path)) == ledger.path / "1"
    front = begin(tmp_path / "f", objectives=["accuracy", "seconds"])
    for values in ([0.5, 1.0], [0.9, 9.0], [0.4, 8.0]):
        front.settle(front.claim(), Outcome(DONE, values=values))
    assert [trial.number for trial in summary.best(front)] == [0, 1]
    with pytest.raises(UserError, match="2 trials that none is better than in each"):
        summary.best_folder(str(front.path))


EVIL = {"_target_": "evil.call", "path": "x"}
HOSTILE = {
    "a sampler": {"search": {"sampler": EVIL}},
    "a pruner": {"search": {"pruner": EVIL}},
    "a sampler inside a sampler": {"search": {"sampler": {
        "_target_": "optuna.samplers.PartialFixedSampler", "fixed_params": {},
        "base_sampler": EVIL}}},
    "a sampler by interpolation": {"search": {"sampler": "${oc.create:'{_target_: evil.call}'}"}},
    "trust in itself": {"search": {"sampler": EVIL}, "trusted": ["evil"]},
    "an override": {"overrides": ["head._target_=evil.call", "batch_size=4,8"],
                    "trusted": ["evil"]},
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_sweep_from_anywhere_runs_no_code_of_its_own(case, begin, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "evil.py").write_text(
        f"open({str(mark)!r}, 'w')\n\n\ndef call(*given, **named):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "python"))
    ledger = begin(tmp_path / "s")
    facts = dict(ledger.facts)
    for key, value in HOSTILE[case].items():
        facts[key] = {**facts[key], **value} if key == "search" else value
    write_json(ledger.path / "sweep.json", facts)
    with pytest.raises(UserError, match=r"evil|must be a mapping"):
        ledgers.reopen(ledger.path).compose({"batch_size": "4"})
    assert not mark.exists()
    # Nor do the configs beside it.
    own = begin(tmp_path / "t")
    (own.path / "conf" / "head" / "linear.yaml").write_text("_target_: evil.call\n")
    with pytest.raises(UserError, match="evil"):
        ledgers.reopen(own.path).compose({"head": "linear"})
    assert not mark.exists()


HYDRAS = {
    "a package": "hydra:\n  searchpath: ['pkg://evil']\n",
    "a module": "hydra:\n  searchpath: ['structured://evil']\n",
    "a folder": "hydra:\n  searchpath: ['file:///']\n",
    "a callback": "hydra:\n  callbacks:\n    x:\n      _target_: evil.call\n",
}


@pytest.mark.every(4)
@pytest.mark.parametrize("place", ["train.yaml", "head/linear.yaml"])
@pytest.mark.parametrize("case", HYDRAS)
def test_a_copy_of_the_configs_says_nothing_to_hydra(case, place, begin, tmp_path, monkeypatch):
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "python"))
    ledger = begin(tmp_path / "s")
    file = ledger.path / "conf" / place
    file.write_text(f"{file.read_text()}\n{HYDRAS[case]}")
    with pytest.raises(UserError, match=r"settings of Hydra itself|Python packages and modules"):
        ledgers.reopen(ledger.path).compose({"head": "linear"})
    file.write_text("# @package hydra.x\na: 1\n")
    with pytest.raises(UserError, match="settings of Hydra itself"):
        ledgers.reopen(ledger.path).compose({"head": "linear"})
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("path", ["pkg://evil", "structured://evil", "pkg://evil.conf"])
def test_no_package_is_looked_into_for_configs(path):
    from hydra._internal.sources_registry import SourcesRegistry

    from kerasft.config.sources import safe_sources

    scheme = path.partition("://")[0]
    with safe_sources():
        source = SourcesRegistry.instance().resolve(scheme)
        with pytest.raises(UserError, match="Python packages and modules"):
            source("hydra.searchpath in main", path)
    assert SourcesRegistry.instance().resolve(scheme) is not source


@pytest.mark.parametrize(("launcher", "settings"), [
    ("submitit_slurm", {"setup": ["touch mark"]}), ("basic", {"additional_parameters": {}}),
    ("ray", {"ray": {"init": {"runtime_env": {"pip": ["evil"]}}}}), ("joblib", {"n_jobs": 2}),
])  # fmt: skip
def test_a_launcher_runs_nothing_that_a_folder_says(
    launcher, settings, begin, tmp_path, kerasft_cli, monkeypatch
):
    monkeypatch.setattr("kerasft.sweeps.search.go_on", lambda ledger: print("goes on"))
    begin(tmp_path / "s", launcher={"name": launcher, "settings": settings})
    done = kerasft_cli("resume", str(tmp_path / "s"))
    if launcher == "joblib":
        assert done.code == 0 and "goes on" in done.out
    else:
        assert done.code == 2
        assert f"run commands or write elsewhere: {next(iter(settings))}" in done.err
