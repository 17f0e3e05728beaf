"""A budget of time: what of a recipe fits is chosen, said, and kept to."""

from __future__ import annotations

import json
import re
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import kerasft
from kerasft.config.budgets import problem, seconds
from kerasft.config.checks import settle as checked
from kerasft.errors import UserError
from kerasft.runs.run_folder import RunFolder
from kerasft.steps.costs import budget
from kerasft.steps.costs.plan import Cost, StagePlan
from kerasft.steps.fitting.deadline import deadline
from kerasft.training.callbacks import Deadline

TINY = ("backbone=tiny_resnet", "floor=none")


def plan(name: str, *, once: float, epoch: float, epochs: int, step: float = 0.1) -> StagePlan:
    cost = Cost(step, epoch, once, once + epochs * epoch, 0.0)
    return StagePlan(name, round(epoch / step) * epochs, 1e-3, 10, cost, None, 0, "", 0)


@pytest.mark.parametrize(("given", "expected"), [
    ("90s", 90), ("10m", 600), ("1.5h", 5400), (10, 600), ("0.5", 30), (" 2 m ", 120),
])  # fmt: skip
def test_a_budget_is_a_time(given, expected):
    assert seconds(given) == expected and problem(given) == ""


@pytest.mark.parametrize("given", ["soon", "0", "-1m", "10 minutes", "1e3", True, "999h", "9" * 30])
def test_what_is_no_time_is_told(given):
    assert "such as 90s, 10m or 1h" in problem(given)
    if isinstance(given, str):
        with pytest.raises(UserError, match="budget is the time that training may take"):
            checked([*TINY, f"budget='{given}'"], (), ())


@pytest.mark.parametrize(("overrides", "plans", "left", "expected"), [
    (["epochs=8"], [plan("full", once=10, epoch=5, epochs=8)], 100, ("epochs=8",)),
    (["epochs=8"], [plan("full", once=10, epoch=5, epochs=8)], 40, ("epochs=5",)),
    # The head's three epochs are its own.
    (["epochs=8", "finetune=two_phase"],
     [plan("head", once=2, epoch=1, epochs=3), plan("all", once=10, epoch=5, epochs=8)], 40,
     ("epochs=4",)),
    (["epochs=8", "finetune=solved"],
     [plan("head", once=2, epoch=1, epochs=1), plan("all", once=10, epoch=50, epochs=8)], 40,
     ("finetune.all=null",)),
    (["epochs=8"], [plan("full", once=10, epoch=50, epochs=8)], 40, ("max_steps=260", "epochs=1")),
    (["epochs=8"], [plan("full", once=10, epoch=50, epochs=8)], 1, ("max_steps=1", "epochs=1")),
])  # fmt: skip
def test_what_fits_is_chosen(overrides, plans, left, expected):
    found = budget.choose(kerasft.compose(overrides), plans, left)
    assert found.overrides == expected
    assert found.seconds <= left or expected[0] == "max_steps=1"


def test_training_ends_after_the_step_at_work(monkeypatch):
    said = []
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            clock.now += 1.0

    history = model.fit(
        np.zeros((8, 2)), np.zeros((8, 1)), batch_size=2, epochs=5, verbose=0,
        callbacks=[Clock(), Deadline(6.0, said.append)],
    )
    assert len(history.epoch) == 2 and clock.now == 6.0
    assert said == ["budget: the time is over; the best weights so far are kept"]


def test_what_earlier_processes_took_counts(tmp_path):
    cfg = kerasft.compose(["budget=100s"])
    folder = RunFolder(tmp_path)
    assert deadline(kerasft.compose([]), folder) is None
    whole = deadline(cfg, folder)
    log = tmp_path / "logs" / "epochs.jsonl"
    log.parent.mkdir()
    log.write_text(json.dumps({"seconds": 20}) + "\n" + json.dumps({"seconds": 5}) + "\n")
    assert whole - deadline(cfg, folder) == 25


@pytest.mark.slow
def test_a_run_within_a_budget_is_that_of_what_was_chosen(tmp_path, tiny_images, capsys):
    given = [*tiny_images, "epochs=3", "budget=5m", "resume=auto", f"output_dir={tmp_path / 'a'}"]
    result = kerasft.train(given)
    said = capsys.readouterr().out
    assert "budget=5m: all of them fit; training takes about" in said
    assert "The same without a budget: recipe=best epochs=3. Measuring the result takes" in said
    plain = kerasft.train([*tiny_images, "epochs=3", "recipe=best", f"output_dir={tmp_path / 'b'}"])
    assert result.metrics == plain.metrics
    cfg = kerasft.compose(given)
    budget.settle(cfg, time.monotonic())  # the run in the folder is what is gone on with
    assert cfg.epochs == 3 and "budget=5m:" not in capsys.readouterr().out


def test_what_fits_is_found_at_once_among_many_epochs():
    began = time.monotonic()
    plans = [plan("full", once=1, epoch=0.5, epochs=10**6)]
    found = budget.choose(kerasft.compose(["epochs=1000000"]), plans, 1000)
    assert found.overrides == ("epochs=1798",)
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_budget_that_is_too_short_ends_after_a_step(tmp_path, tiny_images, capsys):
    given = [*tiny_images, "budget=1s", "export=saved_model", f"output_dir={tmp_path / 'a'}"]
    result = kerasft.train(given)
    said = capsys.readouterr()
    assert re.search(r"another \d+ s or so; export saved_model another \d+ s", said.out)
    assert "max_steps=1" in said.out and "the budget is spent before training" in said.err
    assert len(result.history.rows) == 1
