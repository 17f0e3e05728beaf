"""Runs on data that Python hands over: trained, measured again, stopped and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import interruption
import pytest

import kerasft
from kerasft.errors import UserError
from kerasft.steps.preparing.in_memory import reading

GOOD, BAD = ("good", "fine", "warm"), ("bad", "dull", "cold")
DATA = {
    "text": [f"{word} film {i}" for i in range(8) for word in (*GOOD, *BAD)],
    "label": ["good", "good", "good", "bad", "bad", "bad"] * 8,
}
WORDS = ["backbone=tiny_bert", "backbone.sequence_length=8", "epochs=2",
         "batch_size=8", "plots=false", "progress=false", "checkpoint.steps=1",
         "cache.directory=cache"]  # fmt: skip


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run on `DATA` that was stopped by a signal."""
    monkeypatch.chdir(tmp_path)
    interruption.stopped([*WORDS, "output_dir=run"], monkeypatch, 4, data=DATA)
    return "run"


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_data_alone(stopped, kerasft_cli):
    config = Path(stopped, "config.yaml").read_text("utf-8")
    assert "_target_: kerasft.data.sources.memory.memory" in config
    ended = kerasft_cli("resume", stopped)
    assert ended.code == 2 and "kerasft.resume(RUN, data=frame)" in ended.err
    other = {**DATA, "text": ["another film", *DATA["text"][1:]]}
    with pytest.raises(UserError, match="The data has changed since the run began") as changed:
        kerasft.resume(stopped, data=other)
    # What is suggested works for data that no folder holds.
    assert "--from" not in str(changed.value) and "kerasft resume" not in str(changed.value)
    assert "kerasft.train([...], data=DATA), called as before" in str(changed.value)
    assert f"kerasft.resume({str(Path(stopped).resolve())!r}, data=DATA, accept=True)" in str(
        changed.value)  # fmt: skip
    result = kerasft.resume(stopped, data=DATA)
    manifest = json.loads((result.output_dir / "manifest.json").read_text())
    assert manifest["source"]["given"]["train"] == {"rows": 48, "columns": ["text", "label"]}

    with pytest.raises(UserError, match="has ended") as over:
        kerasft.resume(stopped, data=DATA)
    assert "--from" not in str(over.value) and "with the same data" in str(over.value)

    ended = kerasft_cli("evaluate", stopped)
    assert ended.code == 2 and "kerasft.evaluate(RUN, data=frame)" in ended.err
    again = kerasft.evaluate(stopped, data=DATA, split="test", say=lambda line: None)
    assert again["test"]["accuracy"] == pytest.approx(result.metrics["test"]["accuracy"])


@pytest.mark.parametrize("act", [kerasft.train, kerasft.plan, kerasft.show])
def test_nothing_given(act, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="reads what Python hands over, and nothing was"):
        act(["data=memory", *WORDS])
    assert not list(tmp_path.iterdir())


def test_a_sweep_reads_its_data_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"Received: data=memory\. Write the data to a file"):
        kerasft.sweep(["sweep=grid", "data=memory", "seed=0,1", *WORDS])


def test_given_beside_another_source(tiny_run):
    with pytest.raises(UserError, match=r"another source .* Received: data=table"):
        kerasft.train(["data=table", "data.path=x.csv", *WORDS], data=DATA)
    with pytest.raises(UserError, match=r"this config reads its data itself"):
        kerasft.train(kerasft.compose(WORDS), data=DATA)
    with pytest.raises(UserError, match=r"data\._target_=kerasft\.data\.sources\.digits\.digits"):
        kerasft.evaluate(str(tiny_run), data=DATA)


def test_an_experiment_keeps_its_recipe_and_not_its_data():
    from kerasft.config.checks import settle

    words = ["experiment=sst2_minilm", "data.label_names=[bad,good]", "data.test=0"]
    cfg = settle(reading(words, DATA), (), ())
    assert cfg.optimizer.learning_rate == 1e-4
    assert cfg.data.test == 0
    assert not {"path", "text", "label", "header"} & set(cfg.data)
    assert list(cfg.data.label_names) == ["bad", "good"]
    assert reading(["epochs=2"], None) == ["epochs=2"]
    with pytest.raises(UserError, match="epochz"):  # said by whoever composes them
        settle(reading(["epochz=2"], DATA), (), ())
