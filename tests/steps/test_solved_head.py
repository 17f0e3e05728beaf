"""A head that is computed: the best on the features as they are, and where training begins."""

from __future__ import annotations

import numpy as np
import pytest

import kerasft
from kerasft.data.preprocessing import prepare
from kerasft.errors import UserError
from kerasft.model import linear
from kerasft.run import trainable
from kerasft.steps.preparing import prepare as steps

SOLVED = ("finetune=solved", "callbacks=none", "baseline=null")


@pytest.fixture(scope="module")
def solved(tmp_path_factory, tiny_texts):
    folder = tmp_path_factory.mktemp("solved") / "run"
    return kerasft.train([*tiny_texts, *SOLVED, "epochs=1", f"output_dir={folder}"])


def test_the_head_counts_as_the_first_epoch(solved):
    first, second = solved.history.rows
    assert (first["stage"], second["stage"]) == ("head", "all")
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert "loss" not in first and first["accuracy"] > 0.5
    assert solved.history.best_value >= first["val_accuracy"]


def test_a_run_without_plots_has_all_else(solved):
    held = {path.name for path in solved.output_dir.iterdir()}
    assert {"metrics.json", "predictions", "logs", "checkpoints"} <= held
    assert "plots" not in held


@pytest.mark.slow
def test_the_head_is_that_of_logistic_regression(tmp_path, tiny_texts):
    import keras

    given = [*tiny_texts, "finetune=solved", "finetune.all=null", "callbacks=none",
             "baseline=null", f"output_dir={tmp_path / 'run'}"]  # fmt: skip
    result = kerasft.train(given)
    assert [row["stage"] for row in result.history.rows] == ["head"]
    cfg = kerasft.compose(given)
    splits = steps.read_data(cfg, steps.cheap_parts(cfg), None)
    model = result.finetuned.model
    outputs = next(layer for layer in model.head_layers if layer.name == "head_outputs")
    below = keras.Model(model.inputs, outputs.input)

    def features(part):
        ready = prepare(part, result.finetuned.preprocess)
        return np.asarray(below(ready.gather(np.arange(len(part))), training=False))

    wanted = linear.logistic(
        features(splits.train), splits.train.labels, classes=2,
        validation=(features(splits.validation), splits.validation.labels),
    )
    np.testing.assert_allclose(outputs.kernel, wanted.kernel, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(outputs.bias, wanted.bias, rtol=1e-2, atol=1e-3)


@pytest.mark.every(3)
@pytest.mark.parametrize(("overrides", "message"), [
    (["head=mlp"], r"only a linear head can be computed, and this one also has head_"),
    (["head.pooling=attention"], r"only a linear head can be computed"),
    (["finetune.head.epochs=2"], r"finetune\.head\.solve=true computes the head .*epochs=2"),
    (["finetune.head.train=all"], r"finetune\.head\.solve=true computes the head .*train='all'"),
    (["finetune=two_phase", "+finetune.all.solve=true", "finetune.all.train=head",
      "finetune.all.epochs=1"], r"a head is computed in the first stage.*head, all"),
])  # fmt: skip
def test_what_cannot_be_computed_is_told_before_anything_is(tiny_texts, overrides, message):
    with pytest.raises(UserError, match=message):
        kerasft.train([*tiny_texts, *SOLVED, "epochs=1", *overrides])


def test_a_stage_that_is_computed_says_so(tiny_texts, capsys):
    trainable([*tiny_texts, *SOLVED, "epochs=1"])
    told = capsys.readouterr().out
    assert "stage head: " in told and "those of the head, are computed" in told
    assert "stage all: learning rate up to" in told
