"""A monitor that no epoch has is refused, before any data is read."""

from __future__ import annotations

import pytest

from kerasft.errors import UserError
from kerasft.tasks.classification import Classification
from kerasft.tasks.monitors import figures_of, require_known
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.regression import Regression

STOP = "keras.callbacks.EarlyStopping"


def said(task, callbacks=None, **named):
    with pytest.raises(UserError) as caught:
        require_known(task, callbacks, **named)
    return list(caught.value.problems)


@pytest.mark.parametrize(("task", "name", "meant"), [
    (Classification(), "val_f1", "val_f1_macro"),
    (Classification(), "val_acuracy", "val_accuracy"),
    (Classification(), "accuracy_val", "accuracy"), (Classification(), "val_mae", "val_"),
    (MultiLabel(), "val_accuracy", "val_subset_accuracy"),
    (Regression(), "val_accuracy", "val_mae"),
    (Regression(), "pearson", "val_pearson"), (Classification(), "", "val_loss"),
])  # fmt: skip
def test_a_monitor_that_there_is_not_is_refused_with_what_there_is(task, name, meant):
    for nodes in (
        {"stop": {"_target_": STOP, "monitor": name}},
        {"plateau": {"_target_": "keras.callbacks.ReduceLROnPlateau", "monitor": name}},
        {"best": {"_target_": "keras.callbacks.ModelCheckpoint", "monitor": name, "filepath": "x"}},
        {"own": {"_target_": "mine.Pair", "inner": [{"_target_": STOP, "monitor": name}]}},
    ):
        (problem,) = said(task, nodes)
        assert f"Received: {name!r}" in problem
        assert meant in problem
        assert ".monitor must be a figure" in problem


@pytest.mark.parametrize("task", [Classification(), MultiLabel(), Regression()])
def test_every_figure_of_a_task_may_be_watched(task):
    names = sorted(f"val_{name}" for name in figures_of(task))
    assert len(names) > 4
    shown = [metric.name for metric in task.compile()["metrics"]]
    for name in [*names, "loss", "learning_rate", *shown]:
        require_known(task, {"stop": {"_target_": STOP, "monitor": name}, "off": None})


def test_the_tasks_own_monitor_is_looked_at_too():
    nodes = {"x": {"_target_": STOP, "monitor": "y"}}
    problems = said(Classification(monitor="val_acuracy"), nodes)
    assert [p.split()[0] for p in problems] == ["task.monitor", "callbacks.x.monitor"]
    assert "Did you mean 'val_accuracy'?" in problems[0]


def test_a_figure_of_many_classes_needs_them_once_the_data_is_read():
    nodes = {"stop": {"_target_": STOP, "monitor": "val_top_20_accuracy"}}
    require_known(Classification(top_k=20), nodes)
    require_known(Classification(top_k=20), nodes, classes=30)
    assert "val_top_20_accuracy" in said(Classification(top_k=20), nodes, classes=3)[0]


def test_a_callback_of_ones_own_may_call_something_else_a_monitor():
    require_known(Classification(), {"own": {"_target_": "mine.Own", "monitor": "gpu"}})


@pytest.mark.parametrize("command", ["check", "train"])
def test_it_is_told_before_a_run_has_a_folder(command, kerasft_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = kerasft_cli(command, "callbacks.early_stopping.monitor=val_f1", "data=image_folder",
                        "data.path=nowhere")  # fmt: skip
    assert ended.code == 2
    assert "callbacks.early_stopping.monitor must be a figure" in ended.err
    assert "val_f1_macro" in ended.err
    assert list(tmp_path.iterdir()) == []
