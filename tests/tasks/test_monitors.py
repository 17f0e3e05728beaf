"""A monitor that no epoch has is refused, before any data is read."""

from __future__ import annotations

import pytest

from kerasft.errors import UserError
from kerasft.tasks.classification import Classification
from kerasft.tasks.detection import Detection
from kerasft.tasks.monitors import figures_of, require_known
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.regression import Regression

STOP = "keras.callbacks.EarlyStopping"


def said(task, callbacks=None, **named):
    with pytest.raises(UserError) as caught:
        require_known(task, callbacks, **named)
    return list(caught.value.problems)


@pytest.mark.every(3)
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
        assert ".monitor must be a metric" in problem


@pytest.mark.every(3)
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
    assert "callbacks.early_stopping.monitor must be a metric" in ended.err
    assert "val_f1_macro" in ended.err
    assert list(tmp_path.iterdir()) == []


SAVE = "keras.callbacks.ModelCheckpoint"


@pytest.mark.parametrize(("path", "more", "received"), [
    ("{val_acc}.keras", {}, "{val_acc}"), ("a/{epoch}-{val_acuracy:.3f}.keras", {}, "val_acuracy"),
    ("{batch}.keras", {}, "{batch}"), ("{val_loss}.keras", {"save_freq": 10}, "{val_loss}"),
    ("{val_loss:d}.keras", {}, "cannot be filled in"), ("{epoch:.3d}.keras", {}, "filled in"),
    ("{step}.keras", {}, "{step}"), ("{epoch", {}, "filled in"), ("{0}.keras", {}, "{0}"),
    ("{learning_rate}.keras", {}, "{learning_rate}"),
])  # fmt: skip
def test_a_field_that_no_epoch_has_is_refused(path, more, received):
    node = {"_target_": SAVE, "filepath": path, "monitor": "val_loss", **more}
    for nodes in ({"best": node}, {"own": {"_target_": "mine.Pair", "inner": [node]}}):
        (problem,) = said(Classification(), nodes)
        assert problem.startswith("callbacks.") and ".filepath " in problem
        assert received in problem and f"{path!r}" in problem


@pytest.mark.parametrize(("path", "more"), [
    ("a.keras", {}), ("{epoch:02d}-{val_loss:.3f}-{loss:.3f}-{val_f1_macro:e}.keras", {}),
    ("{accuracy:.2%}.keras", {}),
    ("{epoch}/{batch:04d}-{loss:.3f}.keras", {"save_freq": 10}), ("{{a}}.keras", {}),
])  # fmt: skip
def test_a_field_that_there_is_is_filled_in(path, more):
    require_known(Classification(), {"best": {"_target_": SAVE, "filepath": path, **more}})


@pytest.mark.parametrize("error", [ZeroDivisionError(), ValueError(), KeyError(), TypeError()])
def test_a_task_of_ones_own_that_cannot_be_asked_is_no_mistake(error):
    class Own(Classification):
        def figures(self, y, outputs, labels):
            raise error

        def compile(self):
            raise error

    assert figures_of(Own()) is None
    require_known(Own(), {"stop": {"_target_": STOP, "monitor": "own_figure"}})


def test_checks_and_plans_in_python_look_at_monitors_too():
    import kerasft

    mistaken = ["callbacks.early_stopping.monitor=val_f1"]
    for act in (kerasft.plan, lambda given: kerasft.check(kerasft.compose(given))):
        with pytest.raises(UserError, match="monitor must be a metric"):
            act(mistaken)
    kerasft.check(kerasft.compose([]))


def test_figures_of_boxes_are_known():
    assert {"map", "map_50", "map_small", "ar_100", "f1", "loss"} <= figures_of(Detection())
    require_known(Detection(monitor="val_map_50"), {})
    with pytest.raises(UserError, match=r"'val_mapp'.*Did you mean 'val_map'"):
        require_known(Detection(monitor="val_mapp"), {})
