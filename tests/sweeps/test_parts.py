"""What a sweep's folder may have built and read: nothing that runs code of whoever wrote it."""

from __future__ import annotations

import json
import os
import pickle

import pytest

from kerasft.errors import UserError
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps import parts, search, study
from kerasft.sweeps.ledger import DONE, Outcome
from kerasft.sweeps.space import read

CMAES = {"_target_": "optuna.samplers.CmaEsSampler", "n_startup_trials": 0}
INSIDE = {"_target_": "optuna.samplers.PartialFixedSampler", "fixed_params": {},
          "base_sampler": CMAES}  # fmt: skip
INTERVALS = ["head.dropout=interval(0.0,0.5)", "optimizer.learning_rate=interval(1e-4,1e-2)"]


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def poisoned(begin, tmp_path):
    """Return what makes a sweep whose storage holds a pickle, and the file that it would make."""

    def make(sampler, storage=None):
        mark = tmp_path / "mark"
        url = storage and storage.format(tmp_path)
        ledger = begin(tmp_path / "s", INTERVALS, sampler=sampler, storage=url)
        point = {"head.dropout": 0.1, "optimizer.learning_rate": 1e-3}
        evil = {f"{prefix}:optimizer:0": pickle.dumps(Evil(mark)).hex()
                for prefix in ("cma", "sepcma", "cmawm")}  # fmt: skip
        trial = study.begin(ledger.study, ledger.space, point, evil)
        ledger.study.tell(trial.number, [0.5])
        return ledgers.reopen(ledger.path), mark

    return make


@pytest.mark.every(2)
@pytest.mark.parametrize("storage", [None, "sqlite:///{}/study.db"])
@pytest.mark.parametrize("sampler", [CMAES, INSIDE], ids=["named", "inside another"])
def test_a_pickle_of_a_folder_is_not_run(sampler, storage, poisoned):
    ledger, mark = poisoned(sampler, storage)
    with pytest.raises(UserError, match=r"--trust optuna.samplers.CmaEsSampler"):
        search.take_up(str(ledger.path))
    # Nor by a worker, which is told nothing else.
    with pytest.raises(UserError, match="unpickles what the sweep's storage holds"):
        ledger.claim()
    assert not mark.exists()
    # What is looked at needs no sampler.
    assert ledger.counts()["done"] == 1


def test_a_sampler_gets_plain_attributes_alone(poisoned):
    ledger, mark = poisoned({"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 1})
    claim = ledger.claim()
    assert claim is not None and not mark.exists()
    given = {"nsga2:generation": 3, "constraints": [0.1, -1.0], "tpe:relative_params:0": '{"a": 1}',
             "cma:optimizer:0": "80", "long": "x" * 3000, "deep": {"a": {}}, "many": [0] * 5000,
             "mixed": [1, "a"]}  # fmt: skip
    assert list(parts.plain_attributes(given)) == [
        "nsga2:generation", "constraints", "tpe:relative_params:0"]  # fmt: skip


def test_ones_own_sweep_by_cma_es_goes_on(begin, tmp_path):
    pytest.importorskip("cmaes")
    ledger = begin(tmp_path / "s", INTERVALS, sampler=CMAES, n_trials=8)
    trusted = ledgers.reopen(ledger.path, ["optuna.samplers.CmaEsSampler"])
    while claim := trusted.claim():
        trusted.settle(claim, Outcome(DONE, values=[0.5 + claim.number / 100]))
    assert trusted.counts()["done"] == 8
    assert any(key.startswith("cma:") for trial in trusted.trials() for key in trial.system_attrs)


def test_the_command_line_trusts_the_sampler_that_it_names(begin, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(search, "go_on", lambda ledger: told.append(ledger))
    monkeypatch.setattr(search, "checked", lambda *given: (None, ["accuracy"]))
    monkeypatch.setattr(search.output_dir, "new_folder", lambda first, suffix: tmp_path)
    named = "sweep.sampler={_target_: optuna.samplers.CmaEsSampler}"
    search.sweep([*INTERVALS, "sweep=random", named])
    assert told[0].trusted == ("optuna.samplers.CmaEsSampler",)
    search.sweep([*INTERVALS, "sweep=random", f"output_dir={tmp_path}", named])
    assert told[1].trusted == told[0].trusted


@pytest.mark.parametrize(("what", "node"), [
    ("sampler", {"_target_": "keras.callbacks.CSVLogger", "filename": "x"}),
    ("sampler", {"_target_": "optuna.samplers.BaseSampler"}),
    ("sampler", {"_target_": "optuna.samplers.TPESampler",
                 "gamma": {"_target_": "keras.callbacks.BackupAndRestore", "backup_dir": "/"}}),
    ("sampler", {"_target_": "optuna.samplers.TPESampler",
                 "weights": [{"_target_": "optuna.samplers.intersection_search_space"}]}),
    ("sampler", {"_target_": "optuna.pruners.NopPruner"}),
    ("sampler", {"_target_": "optuna.samplers._cmaes.CmaEsSampler"}),
    ("sampler", {"_target_": "optunahub.load_module", "package": "evil"}),
    ("pruner", {"_target_": "optuna.samplers.RandomSampler"}),
    ("pruner", {"_target_": "optuna.pruners.PatientPruner", "patience": 1,
                "wrapped_pruner": {"_target_": "os.system", "command": "x"}}),
    ("pruner", {"_target_": 5}), ("sampler", {"_target_": ["os.system"]}),
])  # fmt: skip
def test_samplers_and_pruners_are_listed(what, node):
    (told,) = parts.problems(what, node, ())
    assert "_target_ is refused: it must be one of optuna." in told


@pytest.mark.parametrize("name", ["GridSampler", "QMCSampler"])
def test_what_cannot_be_asked_anew_is_refused_inside_another_too(name):
    inner = {"_target_": f"optuna.samplers.{name}", "search_space": {"a": [1]}}
    node = {"_target_": "optuna.samplers.PartialFixedSampler", "fixed_params": {},
            "base_sampler": inner}  # fmt: skip
    (told,) = parts.problems("sampler", node, ())
    assert f"sweep.sampler.base_sampler cannot be {name}" in told


@pytest.mark.parametrize("node", [
    {"_target_": "optuna.samplers.NSGAIISampler",
     "crossover": {"_target_": "optuna.samplers.nsgaii.SBXCrossover"}},
    {"_target_": "optuna.samplers.PartialFixedSampler", "fixed_params": {"a": 1},
     "base_sampler": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 3}},
    CMAES, {"_target_": "mine.Sampler"},
])  # fmt: skip
def test_what_may_be_named(node, monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text("class Sampler:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not list(parts.problems("sampler", node, ["mine"]))


@pytest.mark.parametrize("sampler", ["TPESampler", "RandomSampler", "NSGAIISampler",
                                     "NSGAIIISampler", "BruteForceSampler"])  # fmt: skip
def test_odd_attributes_of_a_storage_end_in_a_message_at_worst(sampler, begin, tmp_path):
    node = {"_target_": f"optuna.samplers.{sampler}"}
    ledger = begin(tmp_path / "s", ["epochs=range(1,30)"], sampler=node)
    odd = {"nsga2:generation": "x", "NSGAIISampler:generation": [1], "constraints": ["a"],
           "tpe:relative_params:0": "[", "BruteForceSampler": {"a": 1}}  # fmt: skip
    trial = study.begin(ledger.study, ledger.space, {"epochs": "3"}, odd)
    ledger.study.tell(trial.number, [0.5])
    try:
        assert ledgers.reopen(ledger.path).claim() is not None
    except UserError as error:
        assert "cannot search this space" in error.problems[0]


def test_a_link_that_leads_out_of_a_sweep_is_refused(begin, tmp_path):
    ledger = begin(tmp_path / "s")
    (tmp_path / "profile").write_text("mine")
    (ledger.path / "logs" / "0.log").symlink_to(tmp_path / "profile")
    with pytest.raises(UserError, match=r"holds a link that leads out of it: 'logs/0\.log'"):
        search.take_up(str(ledger.path))


@pytest.mark.parametrize("name", [
    "conf/pipe.yaml", "logs/worker-0.log", "0/evidence.npz", "claims/0", "study.journal",
])  # fmt: skip
def test_nothing_in_a_sweep_is_waited_for(name, begin, tmp_path, kerasft_cli):
    ledger = begin(tmp_path / "s")
    file = ledger.path / name
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    for command in (["leaderboard"], ["resume"], ["export", "best-of"]):
        done = kerasft_cli(*command, str(ledger.path))
        assert done.code == 2 and f"holds '{name}', which is no file" in done.err
    file.unlink()
    file.symlink_to(file.name)
    with pytest.raises(UserError, match="leads back to itself"):
        ledgers.reopen(ledger.path)


@pytest.mark.parametrize("name", ["sweep.json", "study.journal", "conf/head/mlp.yaml"])
def test_what_of_a_sweep_is_read_whole_has_a_largest_size(name, begin, tmp_path):
    ledger = begin(tmp_path / "s")
    with open(ledger.path / name, "ab") as file:
        file.truncate(2**41)
    with pytest.raises(UserError, match="bytes, and at most"):
        ledgers.reopen(ledger.path)


def test_checkpoints_of_others_are_not_removed_through_a_link(begin, tmp_path):
    ledger = begin(tmp_path / "s")
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    ledger.run_folder(0).symlink_to(tmp_path / "other")
    ledger.let_checkpoints_go(0)
    assert (tmp_path / "other" / "checkpoints").is_dir()
    (ledger.run_folder(1) / "checkpoints").mkdir(parents=True)
    ledger.let_checkpoints_go(1)
    assert not (ledger.run_folder(1) / "checkpoints").exists()


def test_a_trial_that_a_storage_spoils_is_no_traceback(begin, tmp_path, kerasft_cli):
    ledger = begin(tmp_path / "s")
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.5]))
    journal = ledger.path / "study.journal"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for attributes in ({"values": 5, "point": [], "reason": {}, "seconds": "x", "attempts": None},
                       {"values": {"head": [], "x\ny": float("inf")}, "seconds": float("nan")}):
        made = [line | {"user_attrs": attributes} if line["op_code"] == 4 else line
                for line in lines]  # fmt: skip
        journal.write_text("".join(json.dumps(line) + "\n" for line in made))
        done = kerasft_cli("leaderboard", str(ledger.path))
        assert done.code == 0 and "0.5000" in done.out
    made = [line | {"values": ["a"]} if line["op_code"] == 6 and line["state"] == 1 else line
            for line in lines]  # fmt: skip
    journal.write_text("".join(json.dumps(line) + "\n" for line in made))
    done = kerasft_cli("leaderboard", str(ledger.path))
    assert done.code == 0 and "its recorded metrics are damaged" in done.out


def test_a_sampler_that_fails_on_a_space_is_a_message():
    import optuna

    space = read(["a=interval(0.0,1.0)"], {})
    made = optuna.create_study()
    for number in range(3):
        trial = study.begin(made, space, {"a": number / 10}, {})
        made.tell(trial, [0.0])
    node = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 0, "gamma": 5}
    with pytest.raises(UserError, match="TPESampler cannot search this space"):
        study.next_point(space, node, made, [], 0)


