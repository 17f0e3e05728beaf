"""Batches through Hydra's launchers, for runs of ours and for any application."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from omegaconf import OmegaConf

from kerasft.config.composition import compose_search
from kerasft.errors import Stopped, UserError
from kerasft.sweeps import batches, leases, plugin
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.jobs import Job, word_of
from kerasft.sweeps.ledger import DONE, Outcome
from kerasft.system.files import read_json
from kerasft.system.tf_data import cores

APP = '''
import time
from pathlib import Path

import hydra

from kerasft.sweeps.jobs import report


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    with open("begun", "a") as file:
        file.write(f"{cfg.x}\\n")
    if cfg.x > 4:
        raise RuntimeError("too far")
    while not cfg.waits_for == "" and not Path(cfg.waits_for).exists():
        time.sleep(0.1)
    for epoch in range(cfg.epochs):
        report(cfg.x, epoch)
    return (cfg.x - 2) ** 2 + cfg.db.cost


main()
'''


@pytest.fixture
def app(tmp_path):
    """Return a function that runs an application of Hydra with our sweeper."""
    (tmp_path / "conf" / "db").mkdir(parents=True)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf" / "config.yaml").write_text(
        "defaults: [{db: a}, _self_]\nx: 1.0\nwaits_for: ''\nepochs: 0\n"
    )
    for name, cost in (("a", 1), ("b", 0)):
        (tmp_path / "conf" / "db" / f"{name}.yaml").write_text(f"cost: {cost}\n")

    def start(*overrides: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "app.py", "-m", "hydra/sweeper=kerasft", "hydra.sweep.dir=out",
             "hydra.sweeper.directions=[minimize]", "hydra.sweeper.max_failures=20", *overrides],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(*overrides: str) -> SimpleNamespace:
        with start(*overrides) as process:
            out, err = process.communicate()
        assert "Traceback" not in out
        return SimpleNamespace(code=process.returncode, out=out, err=err)

    run.start = start
    return run


SPACE = ("x=interval(-5,5)", "db=a,b")


@pytest.mark.slow
def test_any_application_is_swept_to_a_total(app, tmp_path):
    first = app(*SPACE, "hydra.sweeper.n_trials=8", "hydra.sweeper.batch=3",
                "hydra.sweeper.known=[{x: 2.0, db: a}, {x: 4.5, db: b}]")  # fmt: skip
    assert first.code == 0, first.err
    ledger = ledgers.reopen(tmp_path / "out")
    counts = ledger.counts()
    assert counts["done"] == 8 and 1 <= counts["failed"] < 9
    assert "RuntimeError: too far" in first.out
    known = next(t for t in ledger.trials() if t.user_attrs["values"] == {"x": 2.0, "db": "a"})
    assert known.values == [1.0]
    # An edit under the sweep changes nothing: it goes by what was copied when it began.
    (tmp_path / "conf" / "db" / "b.yaml").write_text("cost: -100\n")
    again = app(*SPACE, "hydra.sweeper.n_trials=14", "hydra/launcher=joblib",
                "hydra.launcher.n_jobs=2", "hydra.sweeper.batch=2",
                "hydra.sweeper.known=[{x: 2.0, db: a}, {x: 4.5, db: b}]")  # fmt: skip
    assert again.code == 0, again.err
    trials = ledgers.reopen(tmp_path / "out").trials()
    assert len([t for t in trials if t.state.name == "COMPLETE"]) == 14
    assert len({t.user_attrs["point"] for t in trials}) == len(trials)
    for trial in trials:
        if trial.values:
            values = trial.user_attrs["values"]
            x = float(f"{values['x']:.6g}")
            assert trial.values[0] == pytest.approx((x - 2) ** 2 + (values["db"] == "a"))
        # Number and folder are one.
        kept = OmegaConf.load(tmp_path / "out" / str(trial.number) / ".hydra" / "overrides.yaml")
        assert f"db={trial.user_attrs['values']['db']}" in kept
    told = OmegaConf.load(tmp_path / "out" / "optimization_results.yaml")
    assert told.best_values.objective == min(t.values[0] for t in trials if t.values)


@pytest.mark.every(6)
@pytest.mark.parametrize(("overrides", "said"), [
    (["x=1"], "A sweep varies something"),
    (["x=1,2", "hydra.sweeper.batch=0"], "batch must be a whole number above 0"),
    (["x=1,2", "hydra.sweeper.directions=[down]"], "maximize or minimize"),
    (["x=1,2", "hydra.sweeper.sampler._target_=os.system"], "os.system"),
    (["x=interval(0,1)", "hydra.sweeper.sampler=null", "hydra.sweeper.known=[{y: 1}]"],
     ["is endless", "known: y is not varied. Varied: x"]),
    # All at once, though each would fail alone.
    (["x=1,2", "db=a,c", "y=1,2"], ["Could not find 'db/c'", "Could not override 'y'"]),
])  # fmt: skip
def test_mistakes_are_told_before_any_job(app, tmp_path, overrides, said):
    done = app(*overrides)
    assert done.code == 1
    assert all(part in done.err for part in ([said] if isinstance(said, str) else said))
    assert "Traceback" not in done.err and "object_type" not in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_job_of_a_dead_sweeper_is_waited_for(app, tmp_path):
    """It goes on in a process of its own; its trial is neither done twice nor failed."""
    common = ("x=1,2", "waits_for=go", "hydra.sweeper.sampler=null", "hydra.sweeper.n_trials=null",
              "hydra/launcher=joblib")  # fmt: skip
    begun = tmp_path / "begun"
    with app.start(*common, "hydra.launcher.n_jobs=2", "hydra.sweeper.batch=2") as sweeper:
        wait_for(lambda: begun.is_file() and len(begun.read_text().split()) == 2)
        sweeper.kill()
    with app.start(*common, "hydra.sweeper.batch=2", "hydra/launcher=basic") as second:
        wait_for(lambda: (tmp_path / "out" / ".planning.lock").is_file())
        time.sleep(3)  # it looks for work meanwhile
        assert second.poll() is None
        (tmp_path / "go").touch()
        _, err = second.communicate()
    assert second.returncode == 0, err
    assert sorted(begun.read_text().split()) == ["1", "2"]
    trials = ledgers.reopen(tmp_path / "out").trials()
    assert [trial.values for trial in trials] == [[2.0], [1.0]]
    assert not list((tmp_path / "out" / "claims").glob("*.json"))


def wait_for(done) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_an_application_is_left_its_own_and_may_report(app, tmp_path):
    """Its `logs` stay, a pruner gives up what it reports, and time ends with status 75."""
    (tmp_path / "out").mkdir()
    common = ("x=1,2,3", "epochs=4", "hydra.sweeper.sampler=null", "hydra.sweeper.n_trials=null",
              "+hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner",
              "+hydra.sweeper.pruner.upper=2.5")  # fmt: skip
    stopped = app(*common, "hydra.sweeper.max_time=0.000001")
    assert stopped.code == 75
    assert "max_time: stopped with 0 trials done" in stopped.err and "To go on" in stopped.err
    assert not (tmp_path / "begun").exists()
    (tmp_path / "out" / "logs").mkdir()
    (tmp_path / "out" / "logs" / "mine").touch()
    done = app(*common)
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "logs" / "mine").is_file()
    trials = ledgers.reopen(tmp_path / "out").trials()
    assert [t.state.name for t in trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert trials[2].user_attrs["reason"] == "pruned at step 0 with 3"
    assert len(trials[0].intermediate_values) == 4
    (tmp_path / "conf").rename(tmp_path / "gone")
    (tmp_path / "conf").mkdir()
    (tmp_path / "gone" / "config.yaml").rename(tmp_path / "conf" / "config.yaml")
    gone = app(*common, "--config-dir", str(tmp_path / "gone"))
    assert "began with 1 folders of configs, and now there are 2" in gone.err


@pytest.mark.slow
def test_two_sweepers_may_begin_at_once(app, tmp_path):
    common = ("x=1,2,3,4", "hydra.sweeper.sampler=null", "hydra.sweeper.n_trials=null")
    with app.start(*common) as one, app.start(*common) as other:
        told = [process.communicate()[1] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], told
    assert sorted((tmp_path / "begun").read_text().split()) == ["1", "2", "3", "4"]


@pytest.mark.slow
def test_a_changed_space_is_refused(app, tmp_path, kerasft_cli):
    assert app("x=1,2", "db=a", "hydra.sweeper.n_trials=1").code == 0
    done = app("x=1,2,3", "db=a", "hydra.sweeper.n_trials=2")
    assert "x was 1,2" in done.err and "x is now 1,2,3" in done.err
    resumed = kerasft_cli("resume", str(tmp_path / "out"))
    assert resumed.code == 2 and "one of another application of Hydra" in resumed.err


@pytest.mark.parametrize(("returned", "names", "state"), [
    (0.5, ["a"], DONE), ([0.5, 2], ["a", "b"], DONE), ({"b": 1, "a": 2}, ["a", "b"], DONE),
    ({"a": 2}, ["a", "b"], "failed"), ("good", ["a"], "failed"), (float("nan"), ["a"], "failed"),
    ([1, 2], ["a"], "failed"), (None, ["a"], "failed"),
])  # fmt: skip
def test_what_functions_may_return(returned, names, state):
    outcome = batches.objectives_of(returned, names)
    assert outcome.state == state
    if returned == {"b": 1, "a": 2}:
        assert list(outcome.values) == [2.0, 1.0]


def read(returned) -> Outcome:
    return Outcome(DONE, values=[returned])


def test_a_batch_that_is_broken_off_goes_on(begin, tmp_path):
    """What a dying launcher worked on is taken up again, and launchers get rows of numbers."""
    ledger = begin(tmp_path / "s", n_trials=4)
    told = {"size": 3, "overrides": lambda claim: [str(claim.number)], "read": read}
    for error, expected in ((KeyboardInterrupt(), Stopped), (RuntimeError("gone"), UserError)):
        def breaks(jobs, first, error=error):
            raise error

        with pytest.raises(expected):
            batches.run(ledger, breaks, {}, **told)
    assert ledger.counts()["running"] == 3
    seen = []

    def works(jobs, first):
        seen.append((first, [int(job[0]) for job in jobs]))
        return [first + i for i in range(len(jobs))]

    batches.run(ledger, works, {}, **told)
    assert seen == [(0, [0, 1, 2]), (3, [3])]
    assert [trial.values[0] for trial in ledger.trials()] == [0.0, 1.0, 2.0, 3.0]


WORD = {"state": "done", "reason": "", "values": [0.5], "seconds": 2.0}


@pytest.mark.every(3)
@pytest.mark.parametrize("change", [
    {"values": ["x"]}, {"values": None}, {"values": [True]}, {"values": [10**400]}, {"values": {}},
    {"values": []}, {"values": [1, 2]}, {"values": [[0.5]]}, {"seconds": None}, {"seconds": "1"},
    {"seconds": 10**400}, {"seconds": -1}, {"seconds": [1]}, {"state": None}, {"state": "else"},
    {"state": ["done"]}, {"reason": None}, {"reason": 5},
])  # fmt: skip
def test_a_damaged_word_of_a_job_is_named(change, begin, tmp_path):
    folder = begin(tmp_path / "s").path
    (folder / "claims").mkdir()
    assert word_of(folder, 0, 1) is None
    (folder / "claims" / "0.json").write_text(json.dumps(WORD | change))
    with pytest.raises(UserError, match=r"claims/0\.json' is damaged: it must say what trial 0"):
        word_of(folder, 0, 1)
    (folder / "claims" / "0.json").write_text(json.dumps(WORD | change)[:-9])
    with pytest.raises(UserError, match=r"claims/0\.json' cannot be read"):
        word_of(folder, 0, 1)


def test_a_word_of_a_job_is_taken(begin, tmp_path):
    ledger = begin(tmp_path / "s")
    (ledger.path / "claims").mkdir()
    for values, state in (([0.5], "COMPLETE"), ([None], "FAIL")):  # which is not a number
        claim = ledger.claim()
        file = ledger.path / "claims" / f"{claim.number}.json"
        file.write_text(json.dumps(WORD | {"values": values}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's, of what is not a number
            batches._settle(ledger, claim, batches._word_of(ledger, claim))
        assert ledger.trials()[claim.number].state.name == state


def test_a_job_that_was_stopped_ends_the_sweep_when_the_others_are_settled(begin, tmp_path):
    ledger = begin(tmp_path / "s", n_trials=3)

    def one_stops(jobs, first):
        return [Stopped("SIGTERM", 143), 1.0, 2.0]

    def read(returned):
        if isinstance(returned, Stopped):
            raise returned
        return Outcome(DONE, values=[returned])

    told = {"size": 3, "overrides": lambda claim: [], "read": read}
    with pytest.raises(Stopped) as caught:
        batches.run(ledger, one_stops, {}, **told)
    assert caught.value.folder == str(ledger.path) and caught.value.code == 143
    assert "SIGTERM: stopped with 2 trials done, 0 pruned and 1 to be taken up" in str(caught.value)
    assert [trial.user_attrs["attempts"] for trial in ledger.trials()] == [0, 1, 1]
    batches.run(ledger, lambda jobs, first: [0.0], {}, **told)
    assert [trial.values[0] for trial in ledger.trials()] == [0.0, 1.0, 2.0]


def test_what_stopped_a_job_comes_back_from_its_process():
    stopped = Stopped("SIGTERM", 143, 2, 7)
    stopped.folder = "s/0"
    back = pickle.loads(pickle.dumps(stopped))
    assert (str(back), back.code, back.folder) == (str(stopped), 143, "s/0")


def test_the_time_of_a_sweep_is_looked_at_before_each_batch(begin, tmp_path):
    ledger = begin(tmp_path / "s", n_trials=4, max_time=0.5 / 60)

    def slow(jobs, first):
        time.sleep(0.6)
        return [0.5] * len(jobs)

    told = {"size": 2, "overrides": lambda claim: [], "read": read}
    with pytest.raises(Stopped) as caught:
        batches.run(ledger, slow, {}, **told)
    assert caught.value.code == 75 and caught.value.reason == "max_time"
    assert ledger.counts()["done"] == 2
    # What was planned and not begun took no time.
    assert all(ledgers.seconds(trial) < 0.3 for trial in ledger.trials()[2:])


@pytest.fixture
def as_job(monkeypatch):
    """Return a function that calls something as Hydra calls the job of a number."""
    from hydra.core.hydra_config import HydraConfig

    def call(job, number: int):
        told = SimpleNamespace(job=SimpleNamespace(num=number))
        with monkeypatch.context() as patched:
            patched.setattr(HydraConfig, "get", staticmethod(lambda: told))
            return job(OmegaConf.create())

    return call


def test_a_job_works_only_on_what_it_was_sent_for(begin, tmp_path, as_job):
    ledger = begin(tmp_path / "s", n_trials=1)
    worked = []

    def task(cfg):
        # Whoever sent the job has died, and another looks for work.
        claim.lock.release()
        assert ledger.claim() is None
        worked.append(1)
        return 0.5

    job = Job(ledger.path, task, read)
    claim = ledger.claim()
    job.tickets[0] = leases.issue(ledger.path, 0)
    assert as_job(job, 0) == 0.5
    # It left word, so that nobody does it again.
    again = []
    batches.run(
        ledger, lambda jobs, first: again.append(first), {}, size=1, overrides=lambda claim: [],
        read=read,
    )  # fmt: skip
    assert worked == [1] and again == [] and ledger.trials()[0].values == [0.5]


def test_a_late_job_whose_trial_was_taken_up_does_not_begin(begin, tmp_path, as_job):
    ledger = begin(tmp_path / "s", n_trials=1)
    job = Job(ledger.path, lambda cfg: 0.5, read)
    claim = ledger.claim()
    job.tickets[0] = leases.issue(ledger.path, 0)
    claim.lock.release()
    second = ledger.claim()
    assert second.number == 0
    with pytest.raises(UserError, match="taken up by another process"):
        as_job(job, 0)
    second.lock.release()


def test_the_time_of_each_trial_is_its_own(begin, tmp_path, as_job):
    ledger = begin(tmp_path / "s", n_trials=2)

    def task(cfg):
        time.sleep(0.4)
        return 1.0

    job = Job(ledger.path, task, read)

    def launch(jobs, first):
        return [as_job(job, first + number) for number in range(len(jobs))]

    batches.run(ledger, launch, job.tickets, size=2, overrides=lambda claim: [], read=read)
    assert all(0.4 <= ledgers.seconds(trial) < 0.7 for trial in ledger.trials())


def test_ctrl_c_means_all_jobs_of_one_process(begin, tmp_path, as_job):
    ledger = begin(tmp_path / "s", n_trials=2)
    called = []

    def task(cfg):
        called.append(1)
        raise Stopped("SIGINT", 130)

    job = Job(ledger.path, task, read)
    for number in (0, 1):
        ledger.claim()
        job.tickets[number] = leases.issue(ledger.path, number)
        with pytest.raises(Stopped):
            as_job(job, number)
    assert called == [1]


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm"])
def test_shipped_launchers_are_made(name, begin, tmp_path):
    """Also the one for SLURM, which cannot run here: what it would ask of SLURM is seen."""
    chosen = compose_search([f"launcher={name}"])["launcher"]
    ledger = begin(tmp_path / "s")
    job = Job(ledger.path, batches.carry_out, read)
    made = batches._launcher(ledger, chosen["name"], chosen["settings"], job)
    if name == "submitit_slurm":
        assert made.params["max_num_timeout"] == 10 and made.params["timeout_min"] == 240
        # submitit sends a job again where it has this method.
        again = made.checkpoint(["trial=0"], "hydra.sweep.dir", 0, "id", {})
        assert again.function is made and again.args[0] == ["trial=0"]


def test_so_it_is_for_the_launcher_of_any_application():
    usual = {"hydra": {"sweep": {"dir": "out"}, "launcher": {
        "_target_": "x", "submitit_folder": "${hydra.sweep.dir}/.submitit/%j"}}}  # fmt: skip
    given = OmegaConf.create(usual)
    OmegaConf.set_readonly(given, True)
    first, second = (plugin._with_own_jobs(given).hydra.launcher.submitit_folder for _ in range(2))
    assert first != second and re.fullmatch(r"out/\.submitit/[0-9a-f]{16}/%j", first)
    for own in ({"submitit_folder": "mine/%j"}, {"n_jobs": 2}):
        given = OmegaConf.create({"hydra": {"sweep": {"dir": "out"}, "launcher": own}})
        assert plugin._with_own_jobs(given) is given


def test_each_call_has_a_folder_of_jobs_that_nobody_can_have_filled(begin, tmp_path):
    """submitit unpickles what it finds there, and may be made to before its job has written."""
    ledger = begin(tmp_path / "s")
    job = Job(ledger.path, batches.carry_out, read)
    made = [batches._launcher(ledger, "submitit_local", {"timeout_min": 0}, job) for _ in range(2)]
    first, second = (Path(one.config.hydra.sweep.dir) for one in made)
    assert first != second and not list(first.iterdir()) and not list(second.iterdir())
    for folder, one in zip((first, second), made, strict=True):
        assert folder.parent == ledger.path / "launched"
        assert one.config.hydra.launcher.submitit_folder.startswith(f"{folder}/.submitit")


def test_jobs_import_nothing_from_the_folder_that_they_begin_in(begin, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(batches, "run", lambda *given, **named: seen.append(dict(os.environ)))
    monkeypatch.chdir(tmp_path)
    batches.through_hydra(begin(tmp_path / "s", launcher={"name": "basic", "settings": {}}))
    assert seen[0]["PYTHONSAFEPATH"] == "1"
    (tmp_path / "optuna.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    subprocess.run([sys.executable, "-c", "import optuna"], env=seen[0], check=True)
    assert not (tmp_path / "mark").exists()


def test_settings_of_a_launcher_may_lie_where_it_has_no_keys_of_its_own(begin, tmp_path):
    ledger = begin(tmp_path / "s")
    job = Job(ledger.path, batches.carry_out, read)
    settings = {"additional_parameters": {"mail-type": "BEGIN"}}
    made = batches._launcher(ledger, "submitit_slurm", settings, job)
    assert made.params["additional_parameters"] == {"mail-type": "BEGIN"}
    with pytest.raises(UserError, match=r"submitit_slurm has no 'time_min'.*'timeout_min'"):
        batches._launcher(ledger, "submitit_slurm", {"time_min": 3}, job)
    # A sweep's folder may come from anywhere.
    for hostile in ({"_target_": "os.getcwd"},
                    {"additional_parameters": {"a": [{"_target_": "os.getcwd"}]}}):  # fmt: skip
        with pytest.raises(UserError, match="_target_"):
            batches._launcher(ledger, "submitit_slurm", hostile, job)


def test_threads_are_divided_only_among_jobs_beside_each_other(begin, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        batches, "run",
        lambda *args, **given: seen.append(os.environ.get("TF_NUM_INTRAOP_THREADS")),
    )  # fmt: skip
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for name in ("basic", "joblib"):
        ledger = begin(tmp_path / name, workers=2, launcher={"name": name, "settings": {}})
        batches.through_hydra(ledger)
        assert os.environ["OMP_NUM_THREADS"] == "7"
    assert seen == [None, str(max(cores() // 2, 1))]
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ


def test_rows_of_numbers():
    claims = [SimpleNamespace(number=n) for n in (7, 2, 3, 9, 8, 0)]
    rows = batches._in_rows(claims)
    assert [[claim.number for claim in row] for row in rows] == [[0], [2, 3], [7, 8, 9]]


def test_too_many_failures_end_it(begin, tmp_path):
    ledger = begin(tmp_path / "s", n_trials=9, max_failures=2)
    with pytest.raises(UserError) as caught:
        batches.run(
            ledger, lambda jobs, first: [None] * len(jobs), {}, size=1, overrides=lambda claim: [],
            read=lambda returned: Outcome("failed", "broken"),
        )  # fmt: skip
    assert list(caught.value.problems) == [
        "2 trials failed (sweep.max_failures=2).", "trial 0: broken", "trial 1: broken",
    ]  # fmt: skip


@pytest.mark.slow
def test_runs_of_ours_go_through_a_launcher(tiny_texts, tmp_path, monkeypatch, kerasft_cli):
    from absl.logging import PythonHandler

    monkeypatch.chdir(tmp_path)
    logger, stream = logging.getLogger("callers"), io.StringIO()
    # absl closes the stream of a handler that is closed; TensorFlow made one when it was imported.
    handler = PythonHandler(stream)
    done = kerasft_cli(
        "sweep", *tiny_texts, "callbacks=none", "output_dir=s", "epochs=1", "head=linear,mlp",
        "sweep=grid", "launcher.name=basic", "sweep.workers=2",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert not handler.stream.closed and not logger.disabled
    assert ledgers.reopen("s").counts()["done"] == 2
    assert "2 done, 0 pruned, 0 failed" in done.out
    assert len(read_json("s/test.json")["trials"]) == 1
    assert not Path("s/launched/0").exists()


def test_a_launcher_that_is_not_installed(tiny_texts, tmp_path, monkeypatch, kerasft_cli):
    monkeypatch.chdir(tmp_path)
    common = ("sweep", *tiny_texts, "output_dir=s", "head=linear,mlp")
    done = kerasft_cli(*common, "launcher.name=rya")
    assert done.code == 2
    assert "Installed launchers of Hydra: basic" in done.err and "pip install" in done.err
    done = kerasft_cli(*common, "launcher=jobilb")
    assert "Did you mean 'joblib'" in done.err
    done = kerasft_cli(*common, "launcher.name='../x'", "output_dir=t")
    assert "launcher.name must be the name of a launcher" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_with_processes(launcher, tiny_texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "kerasft", "sweep", *tiny_texts, "callbacks=none", "output_dir=s",
         "epochs=1", "head=linear,mlp", "batch_size=4,8", "sweep=grid", f"launcher={launcher}",
         "sweep.workers=2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ledgers.reopen("s").counts()["done"] == 4


@pytest.mark.slow
def test_a_job_that_is_sent_again_goes_on(tiny_texts, tmp_path, monkeypatch):
    """As at its time limit: it saves, ends, begins anew, and no epoch is trained twice."""
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "kerasft", "sweep", *tiny_texts, "callbacks=none", "output_dir=s",
         "epochs=140", "head=linear,mlp", "sweep=random", "sweep.n_trials=1",
         "launcher=submitit_local"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as sweeper:  # fmt: skip
        log = tmp_path / "s" / "0" / "logs" / "epochs.jsonl"
        wait_for(lambda: log.is_file() and log.read_text().count("\n") > 2)
        (folder,) = (tmp_path / "s" / "launched").glob("*/.submitit/[0-9]*")
        (job,) = psutil.Process(int(folder.name)).children()
        job.send_signal(signal.SIGUSR2)
        out, _ = sweeper.communicate()
    assert sweeper.returncode == 0, out
    said = ledgers.reopen("s").log(0).read_text()
    assert "SIGTERM: finishing the step and saving" in said
    told = "".join(file.read_text() for file in folder.glob("*.out"))
    assert told.count("Starting with") == 2
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 141))
