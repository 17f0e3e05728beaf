"""Runs of others in a leaderboard: no forged line, no formula, nothing infinite on top."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest

from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps import search, summary
from kerasft.sweeps.leaderboard import leaderboard
from kerasft.sweeps.ledger import DONE, Outcome


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Return what writes a run that has ended, with JSON as anybody can write it."""
    monkeypatch.chdir(tmp_path)

    def make(name, accuracy="0.5", *, config="epochs: 1", status="completed", reason=None):
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"status": status, "reason": reason}))
        (folder / "config.yaml").write_text(config + "\n")
        text = f'{{"validation": {{"accuracy": {accuracy}}}, "test": {{"accuracy": {accuracy}}}}}'
        (folder / "metrics.json").write_text(text)
        return folder

    return make


FORGED = "\n   1  best                  0.9999  -       best         0.9999  completed"


@pytest.mark.every(3)
@pytest.mark.parametrize("breaking", ["\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_the_name_of_a_folder_forges_no_line(breaking, put, kerasft_cli):
    name = "a" + FORGED.replace("\n", breaking)
    put(name, "0.1")
    put("b", "0.2", config="epochs: 2", status="completed" + FORGED.replace("\n", breaking))
    put("c", config="epochs: 3", status="failed", reason="x" + FORGED.replace("\n", breaking))
    (Path("runs") / "c" / "metrics.json").unlink()
    done = kerasft_cli("leaderboard", "runs", "--output", "board.html")
    assert done.code == 0, done.err
    for line in done.out.splitlines():
        assert not line.startswith("   1  best")
    assert len(done.out.splitlines()) == len(done.out.split("\n")) - 1
    rows = [line for line in Path("board.html").read_text().splitlines() if "<tr" in line]
    assert len(rows) == 4
    assert "   1  best" not in [line[:10] for line in Path("board.html").read_text().splitlines()]
    # JSON has the name as it is, and the line that repeats a run means that folder.
    assert {row["run"] for row in leaderboard("runs")} == {name, "b", "c"}


def test_the_lines_that_repeat_a_run_are_one_line_each(put, kerasft_cli):
    put("a\nkerasft train evil=1 #'", "0.9")
    put("b", "0.2")
    done = kerasft_cli("leaderboard", "runs")
    (line,) = [line for line in done.out.splitlines() if line.startswith("kerasft train")]
    said = subprocess.run(["bash", "-c", f"printf '%s|' {line}"], capture_output=True, text=True,
                          check=True).stdout  # fmt: skip
    assert said.split("|")[:4] == ["kerasft", "train", "--from", "runs/a\nkerasft train evil=1 #'"]


def test_settings_and_their_keys_forge_no_line(put, kerasft_cli):
    put("a", "0.1", config=f"epochs: 1\nname: {json.dumps('x' + FORGED)}\n")
    put("b", "0.2", config=f"epochs: 2\n{json.dumps('key' + FORGED)}: 3\n")
    done = kerasft_cli("leaderboard", "runs")
    assert done.code == 0, done.err
    assert not any(line.startswith("   1  best") for line in done.out.splitlines())


@pytest.mark.every(4)
@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN", "1e999", '"0.99"', "true", "[1]",
                                   "null", "1" + "0" * 400])  # fmt: skip
def test_what_is_not_finite_has_no_rank(value, put, kerasft_cli):
    put("good", "0.8")
    put("odd", value)
    done = kerasft_cli("leaderboard", "runs", "--output", "board.html")
    assert done.code == 0, done.err
    rows = leaderboard("runs")
    assert [row["run"] for row in rows] == ["good", "odd"]
    assert [row["rank"] for row in rows] == [1, None]
    assert rows[1]["validation"] is None and rows[1]["test"] is None


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
@pytest.mark.parametrize("objectives", [("accuracy",), ("loss",), ("accuracy", "weights")])
@pytest.mark.every(3)
def test_a_trial_whose_figure_is_not_finite_is_never_the_best(
    value, objectives, begin, tmp_path, kerasft_cli
):
    ledger = begin(tmp_path / "s", objectives=objectives)
    for first in (0.5, value, 0.6):
        ledger.settle(ledger.claim(), Outcome(DONE, values=[first, 5.0][: len(objectives)]))
    assert 1 not in [trial.number for trial in summary.best(ledgers.reopen(ledger.path))]
    rows = leaderboard(str(ledger.path))
    assert [row["rank"] for row in rows if row["run"] == "1"] == [None]
    assert rows[-1]["run"] == "1" and rows[-1]["status"] == "done, not finite"
    done = kerasft_cli("leaderboard", str(ledger.path), "--output", str(tmp_path / "board.html"))
    assert done.code == 0 and "inf" not in done.out.replace("not finite", "").replace("info", "")


def test_a_front_holds_what_none_is_better_than(begin, tmp_path):
    ledger = begin(tmp_path / "s", objectives=("accuracy", "weights"), n_trials=4)
    for values in ([0.5, 10.0], [0.6, 20.0], [0.4, 20.0], [0.6, 20.0]):
        ledger.settle(ledger.claim(), Outcome(DONE, values=values))
    assert [trial.number for trial in summary.best(ledger)] == [0, 1, 3]
    assert {t.number for t in ledger.study.best_trials} == {0, 1, 3}


def test_cells_of_a_csv_are_no_formulas(put, kerasft_cli):
    put("=cmd|' /C calc'!A0", "0.1", config="epochs: 1\nname: '@SUM(A1)'\nrate: -0.5",
        status="+x", reason="-y")  # fmt: skip
    put("\t=1", "0.2", config="epochs: 2\nname: plain\nrate: -1.0e-05\n=key: 1")
    done = kerasft_cli("leaderboard", "runs", "--output", "board.csv")
    assert done.code == 0, done.err
    with open("board.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    texts = [cell for row in rows for cell in row if cell]
    for cell in texts:
        try:
            float(cell)
        except ValueError:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")), cell
    assert "'=cmd|' /C calc'!A0" in texts and "'@SUM(A1)" in texts and "'=key" in texts
    by_name = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    assert sorted(map(float, by_name["rate"])) == [-0.5, -1e-05]
    assert sorted(map(float, by_name["validation"])) == [0.1, 0.2]


@pytest.mark.every(3)
@pytest.mark.parametrize("text", [
    "5", "[]", "null", '{"trials": 5}', '{"trials": [5, {"trial": 0}, {"metrics": []}]}',
    '{"trials": [{"trial": 0, "metrics": {"accuracy": Infinity}}]}',
])  # fmt: skip
def test_a_damaged_file_of_tests_is_a_message_at_worst(text, begin, tmp_path, kerasft_cli):
    ledger = begin(tmp_path / "s")
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.5]))
    (ledger.path / "test.json").write_text(text)
    done = kerasft_cli("leaderboard", str(ledger.path))
    assert done.code in (0, 2) and len(done.err.splitlines()) <= 1


@pytest.mark.every(3)
@pytest.mark.parametrize("text", ["", "{", "[]", '{"validation": 3}', "\xff", "NaN"])
def test_damaged_figures_of_a_trial_cost_it_its_rank_alone(text, begin, tmp_path, kerasft_cli):
    ledger = begin(tmp_path / "s")
    for value in (0.9, 0.5):
        ledger.settle(ledger.claim(), Outcome(DONE, values=[value]))
    ledger.run_folder(0).mkdir()
    (ledger.run_folder(0) / "metrics.json").write_text(text)
    done = kerasft_cli("leaderboard", str(ledger.path))
    assert done.code == 0, done.err
    rows = leaderboard(str(ledger.path))
    assert [(row["run"], row["rank"]) for row in rows] == [("1", 1), ("0", None)]
    assert rows[1]["status"] == "damaged: metrics.json"


def test_a_file_of_tests_that_cannot_be_read_costs_its_figures_alone(begin, tmp_path, kerasft_cli):
    ledger = begin(tmp_path / "s")
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.5]))
    (ledger.path / "test.json").write_text("{")
    done = kerasft_cli("leaderboard", str(ledger.path))
    assert done.code == 0 and "warning: no test metrics are shown" in done.err


@pytest.mark.parametrize("splits", ["null", "5", '"test"', '["test"]'])
def test_odd_splits_of_the_best_trial_are_not_measured(splits, begin, tmp_path):
    ledger = begin(tmp_path / "s")
    ledger.run_folder(0).mkdir()
    (ledger.run_folder(0) / "manifest.json").write_text(f'{{"splits": {splits}}}')
    summary._test(ledger, 0)
    assert not (ledger.path / "test.json").exists()


@pytest.mark.parametrize("line", [
    "seed: 0x" + "f" * 5000, "seed: " + "9" * 5000, "a: [{!!binary eA==: 1}]", "seed: .inf",
])  # fmt: skip
def test_a_config_that_cannot_be_shown_costs_its_run_the_rank(line, put, kerasft_cli):
    put("good", "0.8")
    put("odd", "0.9", config=f"epochs: 2\n{line}")
    done = kerasft_cli("leaderboard", "runs", "--output", "board.html")
    assert done.code == 0, done.err
    ranks = [row["rank"] for row in leaderboard("runs") if row["run"] == "odd"]
    assert ranks == ([1] if line == "seed: .inf" else [None])


def test_the_names_of_figures_forge_no_line(put, kerasft_cli):
    folder = put("a", "0.1")
    name = json.dumps("figure" + FORGED)
    (folder / "metrics.json").write_text(f'{{"validation": {{"accuracy": 0.1, {name}: 0.5}}}}')
    done = kerasft_cli("leaderboard", "runs", "--metric", "nope")
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "figure\\n" in done.err


def test_a_pipe_in_a_run_costs_it_its_rank(put, kerasft_cli):
    put("good", "0.8")
    os.mkfifo(put("odd", "0.9") / "evidence.npz")
    done = kerasft_cli("leaderboard", "runs")
    assert done.code == 0 and "damaged: no plain files" in done.out


def test_the_name_of_a_sweep_forges_no_line(begin, tmp_path, capsys):
    ledger = begin(tmp_path / "s\nits folder: evil", n_trials=1)
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.5]))
    ledger.run_folder(0).mkdir()
    (ledger.run_folder(0) / "manifest.json").write_text("{}")
    search.take_up(str(ledger.path))
    said = capsys.readouterr().out.splitlines()
    assert not [line for line in said if line.startswith("its folder: evil")]
    assert [line for line in said if line.startswith("its folder: ")]


@pytest.mark.parametrize("text", [
    '{"validation": 5}', '{"validation": [1]}', '{"validation": null}',
    '{"test": 5, "validation": {"accuracy": 0.5}}',
])  # fmt: skip
def test_figures_of_another_kind_cost_their_run_the_rank(text, put, kerasft_cli):
    put("good", "0.8")
    (put("odd") / "metrics.json").write_text(text)
    done = kerasft_cli("leaderboard", "runs")
    assert done.code == 0, done.err
    assert leaderboard("runs")[0]["run"] == "good"


def test_a_folder_whose_name_counts_as_a_digit_is_no_trial(put, kerasft_cli):
    put("²", "0.1", config="epochs: 1")
    put("³", "0.2", config="epochs: 2")
    assert kerasft_cli("leaderboard", "runs", "--output", "board.html").code == 0


def test_settings_that_are_not_finite_are_drawn_as_words(put, kerasft_cli):
    for number in range(6):
        rate = (".inf", ".nan", "1" + "0" * 400)[number % 3] if number < 3 else number
        put(f"run{number}", f"0.{number + 1}", config=f"epochs: {number}\nrate: {rate}")
    done = kerasft_cli("leaderboard", "runs", "--output", "board.html")
    assert done.code == 0, done.err
