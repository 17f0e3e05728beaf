"""Metrics of the user's own: shown, measured, saved, and refused where they are none."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from interruption import require_equal, stopped_and_resumed
from sklearn.metrics import fbeta_score, top_k_accuracy_score

import kerasft
from kerasft.config.checks import settle
from kerasft.errors import UserError
from kerasft.evaluation.uncertainty import draws, resampled
from kerasft.rows import Rows
from kerasft.runs.run_folder import open_run
from kerasft.spec import Labels
from kerasft.tasks import own_metrics, shared
from kerasft.tasks.classification import Classification
from kerasft.tasks.monitors import require_known
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.multi_regression import MultiRegression
from kerasft.tasks.regression import Regression

SINGLE = Labels("single", ("cat", "dog", "emu"))
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(30, 3)).astype(np.float32)
Y = np.arange(30) % 3
F2 = {"_target_": "keras.metrics.FBetaScore", "beta": 2.0, "average": "macro"}


HERE = Path(__file__)


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """Let this module be found as one of the user's own."""
    monkeypatch.syspath_prepend(str(HERE.parent))


def cost(y_true, y_pred, far=1.0):
    return far * (1 - keras.ops.sum(y_true * y_pred, axis=-1))


def whole(y_true, y_pred):
    return np.float32(len(np.asarray(y_true)))


def fails(y_true, y_pred):
    raise ZeroDivisionError("no such thing")


def here(name, **values):
    return {"_target_": f"{HERE.stem}.{name}", **values}


def figures(task, y=Y, logits=LOGITS, labels=SINGLE):
    annotations = Rows.of({"label": y})
    return task.figures(task.statistics(annotations, Rows.of({"logits": logits}), labels), labels)


def test_classes_are_measured_in_keras_forms():
    task = Classification(metrics={
        "f2": F2, "my_cost": here("cost", far=3.0),
        "top2": {"_target_": "keras.metrics.SparseTopKCategoricalAccuracy", "k": 2},
        "hinge_loss": {"_target_": "keras.losses.CategoricalHinge"}, "off": None,
    })  # fmt: skip
    found = figures(task)
    p = np.asarray(keras.ops.softmax(LOGITS))
    assert found["f2"] == pytest.approx(fbeta_score(Y, p.argmax(1), beta=2, average="macro"))
    assert found["top2"] == pytest.approx(top_k_accuracy_score(Y, p, k=2))
    assert found["my_cost"] == pytest.approx(3 * (1 - p[np.arange(30), Y]).mean(), rel=1e-5)
    assert "hinge_loss" in found and "off" not in found
    assert found == figures(task), "a metric begins anew with each split"
    assert task.headlines == ("accuracy", "f1_macro", "roc_auc", "f2", "my_cost", "top2",
                              "hinge_loss")  # fmt: skip
    assert {"f2", "val_f2"} <= set(task.each_epoch)
    assert Classification.headlines == Classification().headlines


def test_in_training_they_see_what_they_are_measured_with():
    task = Classification(metrics={"f2": F2, "my_cost": here("cost")})
    _, *own = task.compile()["metrics"]
    assert [one.name for one in own] == ["f2", "my_cost"]
    found = figures(task)
    one_hot = np.eye(3, dtype=np.float32)[Y]
    for one in own:
        for half in (slice(0, 10), slice(10, 30)):
            one.update_state(one_hot[half], LOGITS[half])
    assert float(own[0].result()) == pytest.approx(found["f2"])
    one = own[0]
    assert one.variables, "what a checkpoint keeps"
    one.reset_state()
    assert float(one.result()) == 0.0


@pytest.mark.parametrize("node", [
    F2, here("cost"), {"_target_": "keras.metrics.SparseTopKCategoricalAccuracy", "k": 2},
    {"_target_": "keras.metrics.AUC"}, {"_target_": "keras.losses.CategoricalHinge"},
])  # fmt: skip
def test_batches_of_classes_come_to_what_whole_splits_of_rows_do(node, monkeypatch):
    p = np.asarray(keras.ops.softmax(LOGITS))
    rows = np.eye(3, dtype=np.float32)[Y]
    whole = own_metrics.with_own({}, {"own": node}, rows, p)
    monkeypatch.setattr(own_metrics, "_AT_ONCE", 21)  # seven examples
    in_batches = own_metrics.with_own({}, {"own": node}, Y, p, classes=3)
    assert in_batches == {"own": pytest.approx(whole["own"], rel=1e-6)}


def test_several_labels_and_numbers():
    y = (RNG.random((30, 3)) < 0.4).astype(np.float32)
    multi = Labels("multi", SINGLE.names)
    task = MultiLabel(metrics={"auc": {"_target_": "keras.metrics.AUC"}})
    assert 0 < figures(task, y, LOGITS, multi)["auc"] < 1
    error = {"far_error": {"_target_": "keras.metrics.MeanAbsoluteError"}}
    one = Regression(metrics=error, mean=100.0, std=10.0)
    found = figures(one, np.full(30, 90.0), np.zeros((30, 1), np.float32), Labels("number"))
    assert found["far_error"] == found["mae"] == 10.0
    metric = one.compile()["metrics"][1]
    metric.update_state(np.full((30, 1), -1.0), np.zeros((30, 1)))
    assert float(metric.result()) == pytest.approx(10.0), "in the labels' own units"
    two = MultiRegression(metrics=error, means=(0.0, 100.0), stds=(1.0, 10.0))
    labels = Labels("numbers", ("a", "b"))
    found = figures(two, np.zeros((30, 2)), np.zeros((30, 2), np.float32), labels)
    assert found["far_error"] == 50.0


def test_a_function_of_the_whole_split_and_what_is_not_finite():
    assert figures(Classification(metrics={"n": here("whole")}))["n"] == 30.0
    nothing = {"_target_": f"{HERE.stem}.cost", "far": float("nan")}
    assert "my_cost" not in own_metrics.with_own({}, {"my_cost": nothing}, LOGITS, LOGITS)


def test_they_have_intervals():
    task = Classification(metrics={"f2": F2, "bad": here("fails")})
    good = Classification(metrics={"f2": F2})
    kept = Rows.of({"logits": LOGITS})
    statistics = good.statistics(Rows.of({"label": Y}), kept, SINGLE)
    drawn = resampled(good, SINGLE, "f2", statistics, draws(30, 20))
    assert len(drawn) == 20 and drawn.std() > 0
    assert resampled(task, SINGLE, "f2", statistics, draws(30, 20)) is None


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"val_f2": F2}, "must not begin with 'val_'"),
        ({"f 2": F2}, "letters, digits"),
        ({"loss": F2}, "of that name already"),
        ({"f1": "keras.metrics.F1Score"}, r"task\.metrics\.f1\._target_=keras\.metrics\.F1Score"),
    ],
)
def test_names_and_nodes_are_looked_at_first(metrics, words):
    with pytest.raises(UserError, match=words):
        Classification(metrics=metrics)


@pytest.mark.parametrize(
    ("name", "node", "words"),
    [
        ("f1_macro", F2, "a metric of that name already"),
        ("f2", {**F2, "average": None}, r"one number.*task\.metrics\.f2\.average=macro"),
        ("bad", here("fails"), "ZeroDivisionError: no such thing"),
        ("far", {"_target_": "keras.metrics.MeanSquaredError"}, "Call it far_error"),
        ("f2_error", F2, "larger value is the better one"),
        ("layer", {"_target_": "keras.layers.Dropout", "rate": 0.1}, "must be a keras.metrics"),
    ],
)
def test_what_cannot_be_measured_is_told_before_training(name, node, words):
    task = Classification(metrics={name: node})
    with pytest.raises(UserError, match=words):
        own_metrics.require_sound(task, Rows.of({"label": Y}), SINGLE)


def test_they_may_be_watched():
    task = Classification(metrics={"my_cost": here("cost")}, monitor="val_my_cost")
    stop = {"stop": {"_target_": "keras.callbacks.EarlyStopping", "monitor": "val_my_cost"}}
    require_known(task, stop)
    assert task.mode == "min"
    stop["stop"]["monitor"] = "val_my_cst"
    with pytest.raises(UserError, match="Did you mean 'val_my_cost'"):
        require_known(task, stop)


def test_a_saved_task_keeps_its_own_parts_where_they_are_trusted():
    task = Classification(metrics={"f2": F2, "my_cost": here("cost")}, loss=here("cost"))
    saved = json.loads(json.dumps(task.to_dict()))
    assert shared.load(saved, trusted=("kerasft", HERE.stem)) == task
    without = shared.load(saved)
    assert list(without.metrics) == ["f2"] and without.loss is None


@pytest.mark.parametrize(
    "target",
    ["os.system", "kerasft.system.files.write_json", "keras.callbacks.CSVLogger",
     "keras.saving.load_model", "keras.layers.Lambda"],
)  # fmt: skip
def test_a_file_cannot_have_anything_called_as_a_metric(target):
    saved = {**Classification().to_dict(), "metrics": {"x": {"_target_": target}},
             "loss": {"_target_": target}}  # fmt: skip
    found = shared.load(json.loads(json.dumps(saved)))
    assert not found.metrics and found.loss is None


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("task.metrics.x._target_=os.system", "is refused"),
        ("task.metrics.x._target_=keras.layers.Dense", "must be a part of keras.losses"),
        ("task.metrics.x._target_=keras.metrics.AUCC", "Did you mean 'AUC'"),
        ("task.loss._target_=keras.losses.Hubert", "leads nowhere"),
        ("task.loss={_target_: keras.losses.Huber, dleta: 2}", "Did you mean 'delta'"),
    ],
)
def test_nodes_are_checked_before_anything_is_imported(override, words):
    with pytest.raises(UserError, match=words):
        settle([override], (), ())


def test_functions_of_two_need_no_values_for_them():
    settle(["task.metrics.x._target_=keras.metrics.categorical_accuracy",
            "task.loss={_target_: keras.losses.categorical_focal_crossentropy, gamma: 3}"], (), ())
    settle([f"task.metrics.x._target_={HERE.stem}.cost", "task.metrics.x.far=2"], (), (HERE.stem,))


@pytest.mark.slow
def test_a_run_shows_measures_and_watches_them(tiny_texts, tmp_path, capsys):
    words = [
        *tiny_texts, "epochs=2", "task.loss=focal",
        "task.metrics.f2._target_=keras.metrics.FBetaScore", "task.metrics.f2.average=macro",
        "task.metrics.f2.beta=2.0",
        f"task.metrics.my_cost._target_={HERE.stem}.cost",
        "callbacks.early_stopping.monitor=val_my_cost", f"output_dir={tmp_path / 'run'}",
    ]  # fmt: skip
    result = kerasft.train(words, trusted=[HERE.stem])
    said = capsys.readouterr().out
    assert "val_my_cost" in said and " f2 " in said
    assert [line.split()[0] for line in said.split("validation    test")[1].splitlines()[1:6]] == [
        "accuracy", "f1_macro", "roc_auc", "f2", "my_cost",
    ]  # fmt: skip
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert {"f2", "my_cost"} <= set(found["validation"]) & set(found["test"])
    row = result.history.rows[result.history.best_epoch - 1]
    assert row["val_my_cost"] == pytest.approx(found["validation"]["my_cost"], abs=1e-6)
    assert row["val_loss"] < row["val_log_loss"], "the validation loss is the focal loss, too"
    run = str(tmp_path / "run")
    assert kerasft.evaluate(run, trusted=[HERE.stem]) == found
    with pytest.raises(UserError, match="is refused"):
        kerasft.evaluate(run)
    assert open_run(run)[1].task.metrics.my_cost["_target_"] == f"{HERE.stem}.cost"


@pytest.mark.slow
def test_a_stopped_run_goes_on_exactly(tmp_path, monkeypatch):
    kinds = {0: "red,big", 1: "red", 2: "big", 3: ""}
    file = tmp_path / "things.csv"
    file.write_text("text,label\n" + "".join(
        f'"a {kinds[i % 4].replace(",", " ")} thing {i}","{kinds[i % 4]}"\n' for i in range(48)
    ))  # fmt: skip
    words = [
        "data=table", f"data.path={file}", "data.text=text", "data.label=label",
        "backbone=tiny_bert", "task=multi_label", "task.class_weight=balanced", "task.loss=focal",
        "task.metrics.f2._target_=keras.metrics.FBetaScore", "task.metrics.f2.average=macro",
        "task.metrics.f2.threshold=0.5", "task.monitor=val_f2", "batch_size=6", "epochs=3",
        "progress=false",
    ]  # fmt: skip
    kerasft.train([*words, f"output_dir={tmp_path / 'whole'}"])
    stopped_and_resumed(words, tmp_path / "stopped", monkeypatch)
    require_equal(tmp_path / "whole", tmp_path / "stopped")
    logs = [(tmp_path / run / "logs/epochs.jsonl").read_text() for run in ("whole", "stopped")]
    rows = [[json.loads(line) for line in log.splitlines()] for log in logs]
    for one, other in zip(*rows, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
        assert "f2" in one
