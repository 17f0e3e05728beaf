"""`kerasft explain`: values, who set them, and what is behind a node."""

from __future__ import annotations

import pytest

import kerasft
from kerasft.config import schema
from kerasft.config.explanation import explain
from kerasft.errors import UserError


def test_a_choice_shows_values_origins_and_signature():
    said = explain("head=mlp", ["head.width=64"])
    assert "head.width" in said
    assert "command line: head.width=64" in said
    assert "head/mlp.yaml" in said
    assert "kerasft.model.heads.pooled.mlp(" in said
    assert "Args:" in said
    assert "choose with head=NAME: anchor_free, decoder, dfine, language, linear, mlp, " in said


@pytest.mark.every(4)
@pytest.mark.parametrize("key", [*schema.SCALARS, *schema.RUNTIME])
def test_every_key_of_the_root_is_explained(key):
    said = explain(key)
    assert said.startswith(key)
    if key in schema.SCALARS:
        assert len(said.splitlines()) > 2, "the docstring of the root says what it is"


def test_a_value():
    said = explain("optimizer.weight_decay")
    assert said.startswith("optimizer.weight_decay: 0.01\n  set by optimizer/adamw.yaml")
    assert "Share of the pooled values dropped" in explain("head.dropout")


def test_a_keyword_that_the_config_leaves_out():
    said = explain("optimizer.beta_1")
    first, second = said.splitlines()[:2]
    assert first == "optimizer.beta_1: 0.9"
    assert second == "  set by the signature of keras.optimizers.AdamW"


def test_named_nodes():
    said = explain("augment=light")
    assert "augment.flip" in said
    assert "keras.layers.RandomFlip" in said
    assert "augment/light.yaml" in said
    one = explain("augment.flip.mode", ["augment=light"])
    assert one.startswith("augment.flip.mode: horizontal")


def test_what_another_key_decides_is_shown_as_it_comes_out():
    assert "finetune.full.epochs" in explain("finetune", ["epochs=7"])
    assert " 7 " in explain("finetune", ["epochs=7"])


def test_experiments_are_listed():
    said = explain("experiment")
    assert "sst2_minilm" in said


def test_an_experiment_shows_what_it_sets():
    said = explain("experiment=sst2_minilm")
    assert said.startswith("Sentiment of film reviews")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "schedule warmup_linear schedule/warmup_linear.yaml" in lines
    assert "optimizer.learning_rate 0.0001" in lines and "epochs 3" in lines
    assert not [line for line in lines if line.startswith("head")], "only what it sets"
    assert lines[-1].startswith("choose with experiment=NAME")
    assert "max_steps  2" in explain("debug=quick")


def test_a_missing_value_is_shown():
    said = explain("data=table")
    assert "data.path" in said
    assert "???" in said
    assert explain("data.path", ["data=table"]).startswith("data.path: ???")


def test_a_value_that_leads_nowhere_is_shown_as_written():
    said = explain("data", ["data=table", "data.path=${nowhere}/a.csv"])
    assert "${nowhere}/a.csv" in said


def test_a_step_that_is_switched_off():
    assert "augment.flip" in explain("augment", ["augment=light", "augment.flip=null"])


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("hed", ["There is no key 'hed'", "Did you mean 'head'?"]),
        ("head.widht", ["There is no key 'head.widht'", "dropout"]),
        ("optimizer.lerning_rate", ["Did you mean 'learning_rate'?"]),
        ("head=mpl", ["head must be one of anchor_free, decoder, dfine, language, linear, mlp, "
                      "retinanet, tokens"]),
        ("epochs.x", ["There is no key 'epochs.x'"]),
        ("", ["There is no key ''"]),
        ("a..b", ["There is no key 'a..b'"]),
        ("head..x", ["There is no key"]),
        ("head.", ["There is no key"]),
    ],
)
def test_mistakes(key, said):
    with pytest.raises(UserError) as caught:
        explain(key)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_it_is_public():
    assert kerasft.explain is explain


def test_what_a_sweep_searches_with():
    said = explain("sweep=text")
    assert "sweep.space.optimizer.learning_rate  tag(log, interval(1e-5, 1e-3))" in said
    assert "times that a trial is taken up again whose process died" in said
    assert "choose with sweep=NAME: base, grid, images, nsga2, random, text, tpe" in said
    assert explain("sweep.n_trials", ["sweep.n_trials=7"]).startswith("sweep.n_trials: 7\n  in all")
    assert "optuna.samplers.TPESampler(" in explain("sweep.sampler")
    assert "launcher.settings.n_jobs  3" in explain("launcher=joblib", ["sweep.workers=3"])
    with pytest.raises(UserError, match="Did you mean 'n_trials'"):
        explain("sweep.n_trial")
