"""Sweeps of real runs: checked first, pruned, killed, taken up again, and summed up."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from kerasft.errors import UserError
from kerasft.sweeps import beginning, objectives, preflight, summary, worker
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.ledger import DONE, Outcome
from kerasft.sweeps.search import _asked, sweep
from kerasft.sweeps.supervisor import Supervisor, accelerators
from kerasft.system.cache import Cache
from kerasft.system.files import read_json

# Gives every trial up after its second epoch: no accuracy is above 2.
SECOND = {"_target_": "optuna.pruners.ThresholdPruner", "lower": 2.0, "n_warmup_steps": 2}


@pytest.fixture
def small(tiny_texts, tmp_path, monkeypatch):
    """Overrides of a sweep in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return [*tiny_texts, "callbacks=none", "output_dir=s"]


@pytest.mark.slow
def test_a_sweep_from_the_command_line(small, kerasft_cli):
    done = kerasft_cli("sweep", *small, "sweep=grid", "head=linear,mlp", "epochs=1")
    assert done.code == 0, done.err
    ledger = ledgers.reopen("s")
    assert ledger.counts()["done"] == 2
    for line in ("trial 0  done  accuracy", "trial 1  done", "2 done, 0 pruned, 0 failed",
                 "the best again: kerasft train", "is therefore optimistic"):  # fmt: skip
        assert line in done.out
    (best,) = summary.best(ledger)
    # The test split was looked at for the chosen one alone.
    assert [set(read_json(ledger.run_folder(n).joinpath("metrics.json"))) for n in (0, 1)] == [
        {"validation"}, {"validation"}
    ]  # fmt: skip
    (tested,) = read_json("s/test.json")["trials"]
    assert tested["trial"] == best.number and "accuracy" in tested["metrics"]
    # Networks of the others are gone, their figures are not.
    assert [ledger.run_folder(n).joinpath("checkpoints").exists() for n in (0, 1)] == [
        n == best.number for n in (0, 1)
    ]
    # The same command finds nothing left to do.
    again = kerasft_cli("sweep", *small, "sweep=grid", "head=linear,mlp", "epochs=1")
    assert again.code == 0 and "trial 0  done" not in again.out
    other = kerasft_cli("sweep", *small, "sweep=grid", "head=linear,mlp", "epochs=2")
    assert other.code == 2
    assert "epochs=1 is gone; epochs=2 is new" in other.err
    assert read_json("s/test.json")["trials"] == [tested]


@pytest.mark.slow
def test_the_best_of_a_sweep_is_exported(small, kerasft_cli):
    assert kerasft_cli("sweep", *small, "sweep=grid", "head=linear,mlp", "epochs=1").code == 0
    exported = kerasft_cli("export", "best-of", "s", "export.saved_model.warm_up=[1]")
    assert exported.code == 0, exported.err
    ledger = ledgers.reopen("s")
    (best,) = summary.best(ledger)
    assert (ledger.run_folder(best.number) / "exports/saved_model/1/saved_model.pb").is_file()


@pytest.mark.slow
def test_a_trial_is_pruned_between_epochs(small, tmp_path, capsys):
    folder = tmp_path / "s"
    folder.mkdir()
    from kerasft.config.composition import compose_search

    asked = compose_search(["sweep=grid"]) | {"pruner": SECOND}
    rest = [o for o in small if not o.startswith("output_dir")]
    ledger = beginning.create(
        folder, [*rest, "optimizer.learning_rate=1e-3,1e-8", "epochs=4"], asked,
        objectives=["accuracy"], directions=["maximize"], config_dirs=[], trusted=[],
    )  # fmt: skip
    assert worker.work(ledger) == 0
    assert ledger.counts() == {"running": 0, "done": 0, "pruned": 2, "failed": 0}
    for trial in ledger.trials():
        assert list(trial.intermediate_values) == [1, 2]
        run = folder / str(trial.number)
        assert len((run / "logs" / "epochs.jsonl").read_text("utf-8").splitlines()) == 2
        facts = read_json(run / "run.json")
        assert facts["status"] == "pruned"
        assert facts["reason"].startswith("pruned after epoch 2: val_accuracy")
        assert not (run / "checkpoints").exists()
    summary.tell(ledger)
    assert "no trial has come to its end" in capsys.readouterr().out


@pytest.mark.slow
def test_trials_share_what_the_frozen_network_computes(small, tmp_path, monkeypatch, kerasft_cli):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))
    done = kerasft_cli(
        "sweep", *small, "sweep=grid", "head.dropout=0.0,0.1,0.2", "finetune=linear_probe",
        "epochs=2", "cache.activations=always", "launcher.name=basic",
    )  # fmt: skip
    assert done.code == 0, done.err
    said = re.findall(r"activation cache: .*, (computed in|found)", done.out)
    assert said == ["computed in", "found", "found"]
    assert len(Cache().entries("activations")) == 2  # of training and of validation


@pytest.mark.slow
def test_a_trial_that_fails_is_told_and_the_others_go_on(small, kerasft_cli):
    rest = [o for o in small if not o.startswith("backbone")]
    done = kerasft_cli("sweep", *rest, "sweep=grid", "backbone=tiny_resnet,tiny_bert", "epochs=1",
                       "launcher.name=basic")  # fmt: skip
    assert done.code == 0, done.err
    assert "trial 0  failed  The data is text, but the backbone" in done.out
    assert "1 done, 0 pruned, 1 failed" in done.out


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_where_it_was(small, kerasft_cli):
    command = [sys.executable, "-m", "kerasft", "sweep", *small, "sweep=random", "epochs=12",
               "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))", "sweep.n_trials=2",
               "checkpoint.steps=2"]  # fmt: skip
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    rows = Path("s/0/logs/epochs.jsonl")
    end = time.monotonic() + 120
    while not (rows.is_file() and len(rows.read_text("utf-8").splitlines()) >= 2):
        assert sweep.poll() is None, sweep.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    # Its worker ends by itself, and leaves a trial that can go on.
    while ledgers.reopen("s")._locked(0) is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert ledgers.reopen("s").counts()["running"] == 1
    done = kerasft_cli("resume", "s")
    assert done.code == 0, done.err
    assert "0 done, 0 pruned, 0 failed, 1 to be taken up again" in done.out
    assert ledgers.reopen("s").counts()["done"] == 2
    log = Path("s/logs/0.log").read_text("utf-8")
    assert "epoch 1/12" in log and "going on after" in log
    epochs = [json.loads(row)["epoch"] for row in rows.read_text("utf-8").splitlines()]
    assert epochs == list(range(1, 13))


class Running:
    """A sweep in a process of its own."""

    def __init__(self, *command: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kerasft", *command], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def until(self, condition, seconds: float = 240.0):
        """Wait until something holds, and return it."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, self.process.stdout.read()
            assert time.monotonic() < end, "it did not come about in time"
            time.sleep(0.05)
        return found

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return its status and what it said."""
        said, _ = self.process.communicate(timeout=300)
        assert "Traceback" not in said
        return self.process.returncode, said


def epochs(number: int) -> int:
    """Return how many epochs a trial has behind it."""
    rows = Path(f"s/{number}/logs/epochs.jsonl")
    return len(rows.read_text("utf-8").splitlines()) if rows.is_file() else 0


def figures() -> dict[str, dict]:
    """Return what each trial of a sweep came to, by its point."""
    ledger = ledgers.reopen("s")
    return {
        trial.user_attrs["point"]: read_json(ledger.run_folder(trial.number) / "metrics.json")
        for trial in ledger.trials()
    }  # fmt: skip


SHARED = ("sweep=random", "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))", "epochs=8",
          "head.dropout=0.2", "checkpoint.steps=2", "sweep.n_trials=3")  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_workers_share_the_trials_and_one_that_is_killed_is_replaced(small, tmp_path):
    sweep = Running("sweep", *small, *SHARED, "sweep.workers=2")
    sweep.until(lambda: len(sweep.workers()) == 2 and epochs(0) >= 2)
    sweep.workers()[0].kill()
    status, said = sweep.ended()
    assert status == 0, said
    assert "worker 0 was ended by SIGKILL" in said and "3 done, 0 pruned, 0 failed" in said
    trials = ledgers.reopen("s").trials()
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert [trial.user_attrs["attempts"] for trial in trials].count(2) == 1
    assert all(Path(f"s/logs/worker-{slot}.log").exists() for slot in (0, 1))
    assert len(figures()) == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kills_at_any_moment_of_two_sweepers_and_their_workers(seed, small):
    dice = random.Random(seed)
    command = ("sweep", *small, *SHARED, "sweep.n_trials=8", "sweep.retries=50")
    running = [Running(*command), Running(*command)]  # the one begins it, the other joins
    for _ in range(8):
        time.sleep(dice.uniform(3, 12))
        one = running.pop(dice.randrange(2))
        targets = one.workers() if one.process.poll() is None else []
        if one.process.poll() is None and (not targets or dice.random() < 0.5):
            targets = [psutil.Process(one.process.pid), *targets][:dice.randint(1, 2)]
        for target in targets:
            with contextlib.suppress(psutil.NoSuchProcess):
                target.kill()
        if one.process.poll() is not None or targets[:1] == [psutil.Process(one.process.pid)]:
            one.process.communicate()
            one = Running(*command)
        running.append(one)
    for one in running:
        one.ended()
    last = Running("resume", "s")
    assert last.ended()[0] == 0
    ledger = ledgers.reopen("s")
    assert [trial.number for trial in ledger.trials()] == list(range(8))
    assert ledger.counts() == {"running": 0, "done": 8, "pruned": 0, "failed": 0}
    assert len(read_json("s/test.json")["trials"]) == 1
    found = figures()
    assert len(found) == 8
    # One process alone comes to the same points, and to the same figures of each.
    Path("s").rename("shared")
    assert Running("sweep", *small, *SHARED, "sweep.n_trials=8").ended()[0] == 0
    assert figures() == found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_lets_the_running_trial_end(small):
    sweep = Running("sweep", *small, "sweep=grid", "head=linear,mlp", "epochs=30",
                    "max_steps=100000")  # fmt: skip
    sweep.until(lambda: epochs(0) >= 1)
    sweep.process.send_signal(signal.SIGINT)
    status, said = sweep.ended()
    assert status == 130, said
    assert "stopping after the trials that run; Ctrl-C once more stops them" in said
    assert "trial 0  done" in said and "SIGINT: stopped with 1 trials done" in said
    assert said.rstrip().endswith("To go on: kerasft resume s")
    assert ledgers.reopen("s").counts() == {"running": 0, "done": 1, "pruned": 0, "failed": 0}
    assert not Path("s/test.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_second_ctrl_c_stops_it_where_it_is(small):
    sweep = Running("sweep", *small, "sweep=grid", "head=linear,mlp", "epochs=2000",
                    "max_steps=1000000")  # fmt: skip
    sweep.until(lambda: epochs(0) >= 1)
    for _ in range(2):
        sweep.process.send_signal(signal.SIGINT)
        time.sleep(1)
    status, said = sweep.ended()
    assert status == 130 and "they can go on where they are" in said
    counts = ledgers.reopen("s").counts()
    assert counts["running"] == 1, (counts, said)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_signal_to_a_worker_that_has_hardly_begun_is_no_failure(small):
    sweep = Running("sweep", *small, "sweep=grid", "head=linear,mlp")
    sweep.until(lambda: Path("s/logs/worker-0.log").exists())
    time.sleep(0.5)
    sweep.process.send_signal(signal.SIGTERM)
    status, said = sweep.ended()
    assert status == 143, said
    assert "SIGTERM: stopped with 0 trials done" in said
    assert said.rstrip().endswith("To go on: kerasft resume s")


GROWS = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make up the GPUs of a machine: those that a queue leaves to see, and those that there are."""
    return partial(_make_up, tmp_path, monkeypatch)


def _make_up(tmp_path, monkeypatch, visible, listed):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nfor i in $(seq {listed}); do echo \"GPU $i: a card\"; done\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(("visible", "listed", "workers", "expected"), [
    (None, 0, 2, [{}, {}]),
    (None, 1, 1, [{}]),
    (None, 1, 2, [GROWS] * 2),
    (None, 2, 2, [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]),
    ("4,7", 8, 2, [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "7"}]),
    ("", 8, 2, [{}, {}]),
])  # fmt: skip
def test_each_worker_gets_an_accelerator(machine, visible, listed, workers, expected):
    machine(visible, listed)
    assert [accelerators(slot, workers) for slot in range(workers)] == expected


@pytest.mark.parametrize(("visible", "listed", "workers", "each", "expected", "shared"), [
    (None, 4, 2, 2, ["0,1", "2,3"], False),
    (None, 8, 2, 4, ["0,1,2,3", "4,5,6,7"], False),
    ("GPU-a,GPU-b", 8, 1, 2, ["GPU-a,GPU-b"], False),
    ("4,5,6,7", 8, 3, 2, ["4,5", "6,7", "4,5"], True),
    (None, 3, 2, 2, ["0,1", "2,0"], True),
])  # fmt: skip
def test_a_trial_may_have_several_accelerators(
    machine, visible, listed, workers, each, expected, shared
):
    machine(visible, listed)
    assert [accelerators(slot, workers, each) for slot in range(workers)] == [
        {"CUDA_VISIBLE_DEVICES": devices, **(GROWS if shared else {})} for devices in expected
    ]


@pytest.mark.parametrize(("visible", "listed", "message"), [
    (None, 0, r"asks for 2 GPUs, and nvidia-smi lists 0\. Ask for fewer"),
    (None, 1, r"nvidia-smi lists 1\."), ("3", 8, r"and CUDA_VISIBLE_DEVICES=3 names 1\."),
])  # fmt: skip
def test_more_accelerators_than_there_are_is_told(machine, visible, listed, message):
    machine(visible, listed)
    with pytest.raises(UserError, match=message):
        accelerators(0, 1, 2)


def test_several_accelerators_need_a_run_that_trains_on_them(begin, tmp_path):
    words = ["head=linear,mlp", "sweep=grid", "sweep.gpus=2"]
    with pytest.raises(UserError, match=r"sweep\.gpus=2 gives each .*: add distribute=mirrored\."):
        sweep([*words, "output_dir=s"])
    with pytest.raises(UserError, match=r"num_gpus of Ray\. Received: 2 with launcher=ray\."):
        sweep([*words, "distribute=mirrored", "launcher=ray", "output_dir=s"])
    # A sweep of before there was a choice goes on.
    ledger = begin(tmp_path / "before")
    facts = json.loads((ledger.path / "sweep.json").read_text())
    del facts["search"]["gpus"]
    (ledger.path / "sweep.json").write_text(json.dumps(facts))
    assert ledgers.reopen(ledger.path).search["gpus"] == 1
    assert ledgers.reopen(ledger.path, gpus=4).search["gpus"] == 4


@pytest.mark.slow
def test_a_worker_imports_nothing_from_the_current_folder(begin, tmp_path, monkeypatch):
    ledger = begin(tmp_path / "s", n_trials=1)
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.5]))
    monkeypatch.chdir(ledger.path)
    for name in ("optuna.py", "kerasft.py", "numpy.py"):
        Path(name).write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    worker = Supervisor(ledger)._start(0)
    assert worker.stdin  # which a worker that finds it closed takes for SIGTERM
    assert worker.wait(timeout=60) == 0, (ledger.path / "logs" / "worker-0.log").read_text()
    worker.stdin.close()
    assert not (tmp_path / "mark").exists()


@pytest.mark.slow
def test_a_time_limit_stops_it_so_that_it_can_go_on(small, kerasft_cli):
    limited = kerasft_cli("sweep", *small, "sweep=grid", "head=linear,mlp", "epochs=1000",
                          "max_steps=100000", "sweep.max_time=0.1")  # fmt: skip
    assert limited.code == 75
    assert "max_time: the sweep" in limited.err or "max_time: stopped with" in limited.err
    assert limited.err.rstrip().endswith("To go on: kerasft resume s")


@pytest.mark.slow
def test_a_plan_tells_what_it_would_cost_and_trains_nothing(small, kerasft_cli):
    command = ["sweep", "--plan", *small, "sweep=tpe", "head=linear,mlp", "epochs=2",
               "optimizer.learning_rate=interval(1e-4,1e-2)", "sweep.n_trials=30"]  # fmt: skip
    said = kerasft_cli(*command)
    assert said.code == 0, said.err
    assert "30 trials: about" in said.out and "if none is pruned" in said.out
    outlook = json.loads(kerasft_cli(*command, "--json").out)
    assert set(outlook["measured"]) == {
        f"head={head} optimizer.learning_rate=0.0001" for head in ("linear", "mlp")
    }
    assert outlook["seconds"] == pytest.approx(15 * sum(outlook["measured"].values()))
    assert not Path("s").exists()


SPOILT = {
    "nothing varied": (["head=mlp"], "A sweep varies something"),
    "an unknown key": (["head.dropuot=0.1,0.2"], "dropuot"),
    "an impossible value": (["head.dropout=0.1,1.5"], "head.dropout is a share"),
    "the end of an interval": (["head.dropout=interval(0.5,1.0)"], "head.dropout is a share"),
    "an unknown choice": (["head=linear,mpl"], "Did you mean 'mlp'"),
    "an endless grid": (["sweep=grid", "head.dropout=interval(0.0,0.5)"], "is endless"),
    "no total": (["head=linear,mlp", "sweep.n_trials=null"], "n_trials must be a number"),
    "no workers": (["head=linear,mlp", "sweep.workers=0"], "sweep.workers must be a whole"),
    "an unknown setting": (["head=linear,mlp", "sweep.n_trial=3"], "no key 'n_trial'"),
    "a foreign sampler": (["head=linear,mlp", "sweep.sampler._target_=os.system"], "os.system"),
    "a sampler's typo": (["head=linear,mlp", "sweep.sampler.n_startup=3"], "n_startup"),
    "a sampler that forgets": (
        ["head=linear,mlp", "sweep=random", "sweep.sampler._target_=optuna.samplers.QMCSampler"],
        "cannot be QMCSampler"),
    "a sampler that cannot take the space": (
        ["sweep=random", "sweep.sampler._target_=optuna.samplers.BruteForceSampler",
         "head.dropout=interval(0,0.5)"], "BruteForceSampler cannot search this space"),
    "an objective that is none": (["head=linear,mlp", "sweep.objectives=[acuracy]"],
                                  "'acuracy' is no metric of this task"),
    "known points that are none": (["head=linear,mlp", "sweep.known=[3]"], "a list of points"),
    "a share that is none": (["finetune.full.train=0.5,1.5"], "share of the network's layers"),
    "what never counts": (["head=linear,mlp", "+sweep.space={head.width: {values: '8,9', "
                           "when: {head: mpl}}}"], "which head never is"),
    "what is of a run": (["head=linear,mlp", "max_time=3"], "are of one run"),
    "a known point elsewhere": (["head=linear,mlp", "sweep.known=[{epochs: 3}]"],
                                "epochs is not varied"),
}  # fmt: skip


@pytest.mark.every(6)
@pytest.mark.parametrize("case", SPOILT)
def test_what_is_wrong_is_told_before_any_trial(case, small, kerasft_cli):
    overrides, said = SPOILT[case]
    done = kerasft_cli("sweep", *small, "epochs=1", *overrides)
    assert done.code == 2
    assert said in done.err
    assert not Path("s").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("starter", "of"), [("text", "tiny_texts"), ("images", "tiny_images")])
def test_each_value_of_a_starter_can_be_composed(starter, of, request):
    asked, space, _ = _asked([*request.getfixturevalue(of), f"sweep={starter}"], [], [])
    assert {"head", "finetune.full.train", "optimizer.learning_rate"} < {a.key for a in space.axes}
    _, names = preflight.checked(space, asked, [], [])
    assert names == ["accuracy"]


@pytest.mark.slow
def test_several_objectives(small, kerasft_cli):
    done = kerasft_cli(
        "sweep", *small, "sweep=nsga2", "sweep.n_trials=3", "sweep.objectives=[accuracy,weights]",
        "head=linear,mlp", "head.dropout=interval(0,0.5)", "epochs=1", "launcher.name=basic",
    )  # fmt: skip
    assert done.code == 0, done.err
    ledger = ledgers.reopen("s")
    assert ledger.facts["directions"] == ["maximize", "minimize"]
    trials = ledger.trials()
    front = {trial.number for trial in summary.best(ledger)}
    fewest = min(trial.values[1] for trial in trials)
    assert front and any(trials[number].values[1] == fewest for number in front)
    # None of the front is measured on test: there is no best one.
    assert not Path("s/test.json").exists()


@pytest.mark.slow
def test_the_validation_loss_can_be_the_objective(small, kerasft_cli):
    done = kerasft_cli(
        "sweep", *small, "sweep=grid", "task.monitor=val_loss", "head=linear,mlp", "epochs=2",
        "launcher.name=basic",
    )  # fmt: skip
    assert done.code == 0, done.err
    for trial in ledgers.reopen("s").trials():
        rows = [json.loads(row) for row in
                Path(f"s/{trial.number}/logs/epochs.jsonl").read_text("utf-8").splitlines()]
        assert trial.values == [min(row["val_loss"] for row in rows)]


@pytest.mark.slow
def test_all_mistakes_are_told_at_once(small):
    with pytest.raises(UserError) as caught:
        sweep([*small, "head.dropout=0.1,1.5", "batch_size=0,8", "optimizer.learning_rate=-1,1"])
    assert len(caught.value.problems) == 3


@pytest.mark.slow
def test_objectives_of_every_run(tiny_run):
    names = ["accuracy", "weights", "size_mb", "latency_ms", "seconds"]
    found = dict(zip(names, objectives.values(names, tiny_run), strict=True))
    assert found["accuracy"] == read_json(tiny_run / "metrics.json")["validation"]["accuracy"]
    assert found["weights"] > 1000 and found["size_mb"] > 0.01
    assert 0 < found["latency_ms"] < 10_000 and found["seconds"] > 0
    assert objectives.directions(names) == ["maximize", *["minimize"] * 4]
    with pytest.raises(UserError, match="Did you mean 'accuracy'"):
        objectives.values(["acuracy"], tiny_run)
