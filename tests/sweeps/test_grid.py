"""Grids of runs, and the table that compares them."""

from __future__ import annotations

import csv
import json

import pytest

import kerasft
from kerasft.errors import UserError
from kerasft.sweeps.grid import MOST, expand
from kerasft.system.files import read_json


@pytest.mark.parametrize(
    ("overrides", "runs"),
    [
        (["head=linear,mlp", "epochs=3"], [["head=linear", "epochs=3"], ["head=mlp", "epochs=3"]]),
        (["a=1,2", "b=x,y"], [["a=1", "b=x"], ["a=1", "b=y"], ["a=2", "b=x"], ["a=2", "b=y"]]),
        (["a=range(1,3)"], [["a=1"], ["a=2"]]),
        (["a=choice(p,q)"], [["a=p"], ["a=q"]]),
        (["a=[1,2]"], [["a=[1,2]"]]),
        (["a='1,2'"], [["a='1,2'"]]),
        (["~a", "+b=1,2"], [["~a", "+b=1"], ["~a", "+b=2"]]),
        ([], [[]]),
    ],
)
def test_expand(overrides, runs):
    assert expand(overrides) == runs


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["a=interval(0,1)"], "cannot try an interval"),
        (["a"], "An override cannot be read"),
        (["a=glob(x*)"], "cannot be expanded"),
        ([f"a=range({MOST + 1})"], "at most 1,000"),
        (["a=range(1,100000000)"], "stands for 99,999,999 values, and at most 1,000"),
        (["a=shuffle(range(1,100000000000))"], "at most 1,000"),
        (["a=range(0,1,1e-9)"], "stands for 1,000,000,000 values"),
        (["a=range(1,10,0)"], "its step is 0"),
        ([f"{key}=range(0,1000)" for key in "abcdefgh"], "at most 1,000 are allowed"),
    ],
)
def test_what_is_no_grid(overrides, said):
    with pytest.raises(UserError, match=said):
        expand(overrides)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, texts_csv):
    """Two by two runs, of which those with a network for images fail."""
    folder = tmp_path_factory.mktemp("sweep") / "grid"
    return kerasft.grid([
        "data=table", f"data.path={texts_csv}", "data.text=text", "data.label=label",
        "backbone=tiny_bert,tiny_resnet", "head=linear,mlp", "batch_size=8", "epochs=1",
        "max_steps=2", "finetune=linear_probe", "floor=none", "plots=false", "progress=false",
        f"output_dir={folder}",
    ])  # fmt: skip


def test_a_grid_runs_on_where_a_run_fails(swept):
    folder, rows = swept
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "2", "3"]
    assert [read_json(folder / str(i) / "run.json")["status"] for i in range(4)] == [
        "done", "done", "failed", "failed",
    ]  # fmt: skip
    assert {row["run"]: row["status"] for row in rows} == {
        "0": "done", "1": "done", "2": "failed", "3": "failed",
    }  # fmt: skip


def test_the_best_comes_first(swept):
    _, rows = swept
    assert [row["rank"] for row in rows] == [1, 2, None, None]
    assert rows[0]["validation"] >= rows[1]["validation"]
    assert {row["metric"] for row in rows} == {"accuracy"}
    differing = set(rows[0]["settings"])
    assert {"head._target_", "backbone._target_", "head.depth"} <= differing
    assert not differing & {"output_dir", "epochs", "seed"}


def test_the_table_on_the_console_and_in_files(swept, kerasft_cli, tmp_path):
    folder, rows = swept
    ended = kerasft_cli("leaderboard", str(folder), "--output", "runs.csv")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split()[:2] == ["rank", "run"]
    assert "validation accuracy" in lines[0]
    assert lines[5] == ""  # four settings, and then what is to be known of them
    assert "kerasft train --from" in ended.out
    with open(tmp_path / "runs.csv", encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["run"] for row in written] == [row["run"] for row in rows]
    assert float(written[0]["validation"]) == rows[0]["validation"]
    assert kerasft_cli("leaderboard", str(folder), "--output", "runs.json").code == 0
    assert json.loads((tmp_path / "runs.json").read_text()) == rows


@pytest.mark.slow
def test_outputs_last_is_the_best_run(tiny_texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The first one learns next to nothing.
    words = [one for one in tiny_texts if not one.startswith("output_dir")]
    folder, rows = kerasft.grid([*words, "optimizer.learning_rate=1e-2,1e-9", "epochs=3"])
    assert [row["run"] for row in rows] == ["0", "1"]
    assert (tmp_path / "outputs/last").resolve() == (tmp_path / folder / "0").resolve()


def test_the_former_name_of_a_sweep_warns():
    with pytest.warns(DeprecationWarning, match=r"kerasft\.search is now kerasft\.sweep"):
        assert kerasft.search is kerasft.sweep


def test_another_metric(swept, kerasft_cli):
    folder, _ = swept
    by_f1 = kerasft.leaderboard(str(folder), metric="f1_macro")
    assert by_f1[0]["metric"] == "f1_macro"
    ended = kerasft_cli("leaderboard", str(folder), "--metric", "speed")
    assert ended.code == 2
    assert "--metric must be a metric of the runs" in ended.err
    ended = kerasft_cli("leaderboard", str(folder), "--output", "runs.txt")
    assert ended.code == 2
    assert "--output must end in .csv, .json or .html" in ended.err


@pytest.mark.slow
def test_all_configs_are_checked_before_the_first_run(kerasft_cli, tmp_path):
    ended = kerasft_cli("train", "-m", "head=linear,mpl", "optimizer=adam,sgdd", "epochs=0,1")
    assert ended.code == 2
    assert "Did you mean 'mlp'?" in ended.err
    assert "optimizer must be one of" in ended.err
    assert "epochs must be at least 1" in ended.err
    assert not (tmp_path / "outputs").exists()


def test_when_every_run_fails(kerasft_cli):
    ended = kerasft_cli("train", "-m", "data=image_folder", "data.path=nowhere",
                        "head=linear,mlp")  # fmt: skip
    assert ended.code == 2
    assert "Every run of the sweep failed" in ended.err
    assert "nowhere" in ended.err


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(UserError, match="new or empty"):
        kerasft.grid(["head=linear,mlp", "output_dir=full"])


def test_runs_without_figures(tmp_path):
    """Runs that never came to measuring are listed, unranked."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text('{"status": "running"}')
    rows = kerasft.leaderboard(".")
    assert [(row["rank"], row["status"]) for row in rows] == [(None, "running")] * 2


@pytest.mark.parametrize(("file", "content"), [
    ("config.yaml", b"head: [unclosed"), ("config.yaml", b"\xff\xfe"), ("config.yaml", b"- a\n"),
    ("metrics.json", b"{"), ("metrics.json", b"3"), ("run.json", b"[]"), ("task.json", b"{"),
])  # fmt: skip
def test_a_damaged_run_costs_no_other_its_place(file, content, tiny_run, tmp_path, kerasft_cli):
    names = ("config.yaml", "run.json", "metrics.json", "task.json")
    for name in ("damaged", "whole"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        for one in names:
            (tmp_path / "runs" / name / one).write_bytes((tiny_run / one).read_bytes())
    (tmp_path / "runs" / "damaged" / file).write_bytes(content)
    ended = kerasft_cli("leaderboard", "runs")
    assert ended.code == 0, ended.err
    rows = {row["run"]: row for row in kerasft.leaderboard("runs")}
    assert (rows["whole"]["status"], rows["whole"]["metric"]) == ("done", "accuracy")
    assert rows["whole"]["rank"] is not None
    if file != "task.json":
        assert rows["damaged"]["status"] == f"damaged: {file}"
        assert rows["damaged"]["rank"] is None
