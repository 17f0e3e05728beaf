"""Callbacks of Keras write below the run folder, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasft.config import write_paths
from kerasft.config.building import build
from kerasft.config.checks import settle
from kerasft.config.write_paths import WRITING, placed
from kerasft.errors import UserError

CSV = "keras.callbacks.CSVLogger"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_paths.free(())


def problems(node, *overrides, trusted=(), key="callbacks.x"):
    text = ", ".join(f"{name}: '{value}'" for name, value in node.items())
    try:
        settle([f"+{key}={{{text}}}", *overrides], (), trusted)
    except UserError as error:
        return list(error.problems)
    return []


OUTSIDE = ["/tmp/x", "../x", "a/../../x", "~/../x", "gs://../x", "a/..", "{epoch.real}/x",
           "{epoch!r}", "{epoch:/>9}", "{epoch:{val_loss}}", "{0}", "{", "config.yaml", "run.json",
           "checkpoints/best.keras", "checkpoints/states/x", " "]  # fmt: skip


@pytest.mark.every(9)
@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("target", WRITING)
def test_a_path_outside_of_the_run_folder_is_refused_before_anything_runs(target, path):
    name = WRITING[target][0]
    (said,) = problems({"_target_": target, name: path})
    assert said.startswith(f"callbacks.x.{name} ")
    assert "Received: " in said
    with pytest.raises(UserError, match=name):
        placed({"_target_": target, name: path}, "run")
    assert not Path("run").exists()


def test_the_command_line_may_trust_a_callback_to_write_anywhere():
    node = {"_target_": CSV, "filename": "/elsewhere/x.csv"}
    assert problems(node, trusted=(CSV,)) == problems(node, trusted=("keras.callbacks",)) == []
    assert placed(node, "run") == node
    assert problems(node), "trust is of one command"
    with pytest.raises(UserError, match="below the run folder"):
        placed(node, "run")


def test_a_path_below_the_run_folder_is_taken_from_it():
    assert problems({"_target_": CSV, "filename": "log.csv"}) == []
    there = {"_target_": CSV, "filename": "${output_dir}/log.csv"}
    assert problems(there, "output_dir=run") == []
    assert problems(there, f"output_dir={Path('run').resolve()}") == []
    expected = str(Path("run/log.csv").resolve())
    for given in ("log.csv", "run/log.csv", "./log.csv", expected):
        assert placed({"_target_": CSV, "filename": given}, "run")["filename"] == expected
    assert Path("run").is_dir()


def test_the_folder_of_tensorboard_is_the_runs_where_none_is_named():
    assert problems({"_target_": "keras.callbacks.TensorBoard"}) == []
    made = placed({"_target_": "keras.callbacks.TensorBoard"}, "run")
    assert made["log_dir"] == str(Path("run/logs").resolve())


@pytest.mark.parametrize("path", ["best-{epoch:02d}-{val_loss:.3f}.keras", "ck/{epoch}.weights.h5"])
def test_a_checkpoint_may_be_named_by_epoch_and_figures(path):
    node = {"_target_": "keras.callbacks.ModelCheckpoint", "filepath": path}
    assert problems(node) == []
    made = Path(placed(node, "run")["filepath"])
    assert made == Path("run").resolve() / path
    assert made.parent.is_dir()


def test_a_callback_that_writes_is_found_at_any_depth_and_refused_elsewhere():
    nested = {"a": [{"b": {"_target_": CSV, "filename": "/tmp/x"}}], "_target_": "x.y"}
    assert [key for key, _ in write_paths.problems({"callbacks": nested}, None, ())] == [
        "callbacks.a.0.b.filename"
    ]
    (said,) = problems({"_target_": CSV, "filename": "x"}, key="augment.x")
    assert "only a callback does" in said
    with pytest.raises(UserError, match="only a callback"):
        build({"_target_": CSV, "filename": "x"})
    for node in ({"_target_": CSV, "_args_": ["/tmp/x"]}, {"_target_": CSV, "_partial_": True}):
        assert [text for _, text in write_paths.problems({"callbacks": node}, None, ())]


@pytest.mark.parametrize("path", ["out/x.csv", "file.csv", "deep/x/y.csv"])
def test_a_link_that_leads_out_of_the_run_folder_is_refused(path, tmp_path):
    outside = tmp_path / "outside"
    (outside / "x").mkdir(parents=True)
    Path("run").mkdir()
    Path("run/out").symlink_to(outside)
    Path("run/deep").symlink_to(outside)
    Path("run/file.csv").symlink_to(outside / "x.csv")
    with pytest.raises(UserError, match="leads out of the run folder"):
        placed({"_target_": CSV, "filename": path}, "run")
    assert [p for p in outside.rglob("*") if p.is_file()] == []


def test_a_link_inside_of_the_folder_that_a_callback_fills_is_refused(tmp_path):
    Path("run/tb").mkdir(parents=True)
    Path("run/tb/train").symlink_to(tmp_path)
    with pytest.raises(UserError, match="leads out"):
        placed({"_target_": "keras.callbacks.TensorBoard", "log_dir": "tb"}, "run")
    Path("run/ck").mkdir()
    Path("run/ck/1.keras").symlink_to(tmp_path / "x.keras")
    with pytest.raises(UserError, match="leads out"):
        placed({
            "_target_": "keras.callbacks.ModelCheckpoint", "filepath": "ck/{epoch}.keras",
        }, "run")


def test_a_logger_of_keras_writes_into_the_run(tmp_path):
    Path("run").mkdir()
    logger = build({"_target_": CSV, "filename": "logs/own.csv"}, output_dir="run")
    logger.on_train_begin()
    logger.on_epoch_end(0, {"loss": 1.0})
    logger.on_train_end()
    assert Path("run/logs/own.csv").read_text().startswith("epoch,loss")


@pytest.mark.every(9)
@pytest.mark.parametrize("path", [
    "logs", "logs/", ".", "checkpoints", "./logs/../logs", "logs/tensorboard", "baseline.json",
    "floor.json", ".lock", "predictions/x.csv", "logs/faults.jsonl", "Config.yaml",
    "CHECKPOINTS/Best.keras", "${output_dir}/logs", "x" * 300, "a/" * 2500 + "x",
])  # fmt: skip
@pytest.mark.parametrize("target", [CSV, "keras.callbacks.ModelCheckpoint"])
def test_a_file_may_take_no_place_of_the_runs_own(target, path):
    name = WRITING[target][0]
    (said,) = problems({"_target_": target, name: path}, "output_dir=run")
    assert said.startswith(f"callbacks.x.{name} m") and "Received: " in said


def test_models_that_a_run_would_remove_are_not_written():
    node = {"_target_": "keras.callbacks.ModelCheckpoint"}
    (said,) = problems({**node, "filepath": "checkpoints/epoch-{epoch:04d}.keras"})
    assert "are removed when better ones come" in said
    assert problems({**node, "filepath": "checkpoints/mine-{epoch:04d}.keras"}) == []


@pytest.mark.parametrize("target", [CSV, "keras.callbacks.TensorBoard"])
def test_fields_are_for_who_fills_them_in(target):
    name = WRITING[target][0]
    (said,) = problems({"_target_": target, name: "sub/{epoch}/a.csv"})
    assert "fills in no fields" in said


def test_braces_in_the_name_of_the_run_folder_are_no_fields():
    import keras

    node = {"_target_": "keras.callbacks.ModelCheckpoint", "filepath": "own/{epoch:02d}.keras"}
    made = build(node, output_dir="run{1}")
    made.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    made.on_epoch_end(0, {"val_loss": 1.0})
    assert [p.name for p in Path("run{1}/own").iterdir()] == ["01.keras"]
    log = placed({"_target_": CSV, "filename": "a.csv"}, "run{1}")
    assert Path(log["filename"]).parent.name == "run{1}"
