"""Batches through Hydra's launchers, for runs of ours and for any application."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from kerasft.errors import Stopped, UserError
from kerasft.files import read_json
from kerasft.sweeps import batches
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.ledger import DONE, Outcome

APP = '''
import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    if cfg.x > 4:
        raise RuntimeError("too far")
    return (cfg.x - 2) ** 2 + cfg.db.cost


main()
'''


@pytest.fixture
def app(tmp_path):
    """Return a function that runs an application of Hydra with our sweeper."""
    (tmp_path / "conf" / "db").mkdir(parents=True)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf" / "config.yaml").write_text("defaults: [{db: a}, _self_]\nx: 1.0\n")
    for name, cost in (("a", 1), ("b", 0)):
        (tmp_path / "conf" / "db" / f"{name}.yaml").write_text(f"cost: {cost}\n")

    def run(*overrides: str) -> SimpleNamespace:
        done = subprocess.run(
            [sys.executable, "app.py", "-m", "hydra/sweeper=kerasft", "hydra.sweep.dir=out",
             "hydra.sweeper.directions=[minimize]", "hydra.sweeper.max_failures=20", *overrides],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stdout
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    return run


SPACE = ("x=interval(-5,5)", "db=a,b")


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


@pytest.mark.parametrize(("overrides", "said"), [
    (["x=1"], "A sweep varies something"),
    (["x=1,2", "hydra.sweeper.batch=0"], "batch must be a whole number above 0"),
    (["x=1,2", "hydra.sweeper.directions=[down]"], "maximize or minimize"),
    (["x=1,2", "hydra.sweeper.sampler._target_=os.system"], "os.system"),
    (["x=interval(0,1)", "hydra.sweeper.sampler=null"], "is endless"),
])  # fmt: skip
def test_mistakes_are_told_before_any_job(app, tmp_path, overrides, said):
    done = app(*overrides)
    assert done.code == 1
    assert said in done.err and "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_a_changed_space_is_refused(app):
    assert app("x=1,2", "db=a", "hydra.sweeper.n_trials=1").code == 0
    done = app("x=1,2,3", "db=a", "hydra.sweeper.n_trials=2")
    assert "x was 1,2" in done.err and "x is now 1,2,3" in done.err


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
    assert "launcher must hold the name" in done.err


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
