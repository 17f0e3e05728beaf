"""Which runs cannot be told apart from the best; seeds together; the page and its plots."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import kerasft
from kerasft.artifact.standalone import pack
from kerasft.runs import evidence, run_folder
from kerasft.sweeps import beginning, board_rows, plots, summary
from kerasft.sweeps import leaderboard as boards
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.ledger import DONE, FAILED, PRUNED, Outcome
from kerasft.system.files import read_json, write_json

COUNT = 400


@pytest.fixture
def runs(tiny_run, tmp_path, monkeypatch):
    """Return a function that makes a folder of runs with the answers that are wanted."""
    monkeypatch.chdir(tmp_path)
    kept = evidence.read(run_folder.RunFolder(tiny_run))

    def make(name: str, right: np.ndarray, **config) -> Path:
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        for file in ("task.json", "labels.json", "manifest.json", "config.yaml", "run.json"):
            shutil.copy(tiny_run / file, folder / file)
        text = (folder / "config.yaml").read_text("utf-8")
        for key, value in config.items():
            text, count = re.subn(rf"(?m)^(\s*){key}: .*$", rf"\g<1>{key}: {value}", text, count=1)
            assert count == 1, key
        (folder / "config.yaml").write_text(text, "utf-8")
        classes = len(read_json(folder / "labels.json")["names"])
        y = np.arange(COUNT) % classes
        told = np.where(right, y, (y + 1) % classes)
        logits = np.eye(classes, dtype="float32")[told] * 4
        first = {"inputs": np.array([b""], object), "labels": y[:1], "logits": logits[:1]}
        pack(folder / "evidence.npz", {"modality": kept.examples.modality, "ids": ["a"],
                                       "splits": ["validation"]},
             [first, {"labels": y, "logits": logits}])  # fmt: skip
        write_json(folder / "metrics.json", {"validation": {"accuracy": float(right.mean())}})
        return folder

    return make


def test_what_cannot_be_told_apart(runs):
    random = np.random.default_rng(0)
    good = random.random(COUNT) < 0.9
    alike, worse = good.copy(), good & (random.random(COUNT) < 0.85)
    alike[:2] = ~alike[:2]
    runs("good", good, epochs=1)
    runs("alike", alike, epochs=2)
    runs("worse", worse, epochs=3)
    rows = {row["run"]: row for row in kerasft.leaderboard("runs")}
    for name, right in (("good", good), ("alike", alike), ("worse", worse)):
        low, high = rows[name]["interval"]
        assert low < right.mean() == rows[name]["validation"] < high
    assert rows["worse"]["setting"]["as_good_as_best"] is False
    assert rows["worse"]["setting"]["p"] < 1e-4
    best, second = sorted(("good", "alike"), key=lambda n: -rows[n]["validation"])
    assert rows[best]["setting"]["p"] == 1.0 and rows[second]["setting"]["p"] > 0.2
    assert rows[second]["setting"]["as_good_as_best"] is True
    said = board_rows.remarks(kerasft.leaderboard("runs"))
    assert said[0].startswith("1 of the 2 other settings cannot be told apart")
    assert "What another seed would change is not in them" in said[1]


def test_one_other_setting_that_is_worse_is_called_so(runs):
    good = np.random.default_rng(0).random(COUNT) < 0.9
    runs("good", good, epochs=1)
    runs("worse", good & (np.random.default_rng(1).random(COUNT) < 0.85), epochs=2)
    said = board_rows.remarks(kerasft.leaderboard("runs"))
    assert said[0].startswith("The other setting is worse than the best (p below 0.05")


def test_seeds_of_a_setting_are_put_together(runs, kerasft_cli):
    """One lucky seed does not make the best setting, and seeds that differ widely tell little."""
    random = np.random.default_rng(1)
    shares = {("1", 0): 0.80, ("1", 1): 0.94, ("2", 0): 0.90, ("2", 1): 0.91, ("3", 0): 0.30,
              ("3", 1): 0.31}  # fmt: skip
    for (epochs, seed), share in shares.items():
        right = np.zeros(COUNT, bool)
        right[random.permutation(COUNT)[: int(share * COUNT)]] = True
        runs(f"{epochs}_{seed}", right, epochs=epochs, seed=seed)
    rows = kerasft.leaderboard("runs")
    assert [row["run"] for row in rows] == ["2_1", "2_0", "1_1", "1_0", "3_1", "3_0"]
    assert [row["rank"] for row in rows] == [1, 1, 2, 2, 3, 3]
    first, second, third = board_rows.heads(rows)
    assert first["setting"]["mean"] == pytest.approx(0.905)
    assert second["setting"]["sd"] == pytest.approx(0.14 / 2**0.5)
    assert second["setting"]["as_good_as_best"] and not third["setting"]["as_good_as_best"]
    low, high = first["setting"]["interval"]
    assert high - low > 0.1  # the seeds of all settings tell how far another one may lie
    said = kerasft_cli("leaderboard", "runs")
    assert "2_0, 2_1" in said.out and " sd " in said.out
    assert "another seed" not in said.out
    runs("4_0", good := random.random(COUNT) < 0.5, epochs=4, seed=0)
    said = kerasft_cli("leaderboard", "runs")
    assert "What another seed would change in a setting with one run alone" in said.out
    alone = kerasft.leaderboard("runs")[-3]
    assert alone["run"] == "4_0"
    low, high = alone["setting"]["interval"]
    assert high - low > 0.2 > 0.11 > np.diff(alone["interval"])[0]
    assert low < good.mean() < high


def test_other_examples_are_not_compared_pairwise(runs):
    random = np.random.default_rng(2)
    right = random.random(COUNT) < 0.9
    runs("a", right, epochs=1)
    other = runs("b", right & (random.random(COUNT) < 0.97), epochs=2)
    paired = kerasft.leaderboard("runs")[1]["setting"]["p"]
    manifest = read_json(other / "manifest.json")
    manifest["splits"]["validation"]["rows"] = "of other examples"
    write_json(other / "manifest.json", manifest)
    assert paired < 0.01 < kerasft.leaderboard("runs")[1]["setting"]["p"]


def test_runs_without_evidence_are_ranked_without_interval(runs):
    right = np.random.default_rng(3).random(COUNT) < 0.9
    runs("a", right, epochs=1)
    (runs("b", ~right, epochs=2) / "evidence.npz").write_text("spoilt")
    first, second = kerasft.leaderboard("runs")
    assert first["interval"] and second["interval"] is None
    assert second["setting"]["p"] is None and second["rank"] == 2


@pytest.mark.slow
def test_the_page_holds_all_and_runs_nothing(runs, kerasft_cli, tmp_path):
    random = np.random.default_rng(4)
    for number in range(7):
        right = random.random(COUNT) < 0.5 + 0.05 * number
        runs(str(number), right, epochs=number + 1, batch_size=8 * (number % 3 + 1))
    hostile = runs("8", right, epochs=9)
    text = (hostile / "config.yaml").read_text("utf-8")
    text = re.sub(r"(?m)^name: .*$", "name: <script>x</script>", text)
    (hostile / "config.yaml").write_text(text, "utf-8")
    done = kerasft_cli("leaderboard", "runs", "--output", "board.html")
    assert done.code == 0, done.err
    page = Path("board.html").read_text("utf-8")
    drawn = {file.name for file in Path("board_plots").iterdir()}
    assert drawn == {"intervals.png", "history.png", "importance.png", "parallel.png",
                     "contours.png"}  # fmt: skip
    assert page.count("src='data:image/png;base64,") == len(drawn)
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", page)
    assert "default-src 'none'" in page
    assert "cannot be told apart from the best" in page
    rows = json.loads(json.dumps(kerasft.leaderboard("runs")))
    shares = plots.importance(rows, plots.scales(rows))
    assert max(shares, key=shares.get) == "epochs"  # the accuracy hangs on nothing else
    assert sum(shares.values()) == pytest.approx(1.0)


def test_plots_of_words_numbers_and_gaps(tmp_path):
    settings = [{"head": "linear", "rate": 1e-5}, {"head": "mlp", "rate": 1e-3, "depth": 2},
                {"head": "mlp", "rate": 1e-4, "depth": 1}]  # fmt: skip
    alone = {"runs": ["0"], "mean": 0.5, "sd": None, "interval": None, "p": None,
             "as_good_as_best": None}  # fmt: skip
    rows = [
        {"run": str(i), "settings": one, "validation": 0.5 + i / 10, "metric": "log_loss",
         "rank": i + 1, "setting": {**alone, "runs": [str(i)]}}
        for i, one in enumerate(settings)
    ]  # fmt: skip
    by_key = {scale.key: scale for scale in plots.scales(rows)}
    assert by_key["head"].words == ("linear", "mlp") and by_key["rate"].log
    assert [by_key["rate"].place(v) for v in (1e-5, 1e-4, 1e-3)] == pytest.approx([0, 0.5, 1])
    assert np.isnan(by_key["depth"].place(None))
    made = plots.draw_all(rows, tmp_path / "p", lower=True)
    assert set(made) == {"Intervals", "History", "Parallel coordinates"}
    assert plots.draw_all([{**rows[0], "validation": None}], tmp_path / "q", lower=True) == {}


def test_a_sweep_is_compared_by_its_trials(begin, tmp_path):
    """Trials that were pruned or are running are listed with what is known of them."""
    ledger = begin(tmp_path / "s", overrides=["head=linear,mlp", "seed=0,1"], n_trials=6,
                   sampler=None)  # fmt: skip
    for value in (0.7, 0.9, 0.82, 0.83):
        claim = ledger.claim()
        ledger.settle(claim, Outcome(DONE, values=[value]))
    rows = kerasft.leaderboard(str(tmp_path / "s"))
    by_head = {row["settings"]["head"]: row["setting"] for row in rows}
    assert by_head["linear"]["mean"] == pytest.approx(0.8)
    assert by_head["mlp"]["mean"] == pytest.approx(0.825)
    assert rows[0]["settings"] == {"head": "mlp"} and rows[0]["seed"] == "1"
    # The best trial is of the best setting, not the one with the luckiest seed.
    assert [trial.number for trial in summary.best(ledger)] == [3]
    assert board_rows.again(str(tmp_path / "s"), rows) == [
        "kerasft train head=mlp seed=1", f"kerasft export best-of {tmp_path / 's'}",
    ]  # fmt: skip


def test_why_trials_have_no_figure_is_said(begin, kerasft_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger = begin(tmp_path / "s", overrides=["head=linear,mlp", "batch_size=4,8,16"], n_trials=6)
    memory = "The step does not fit into memory: " + "much " * 100
    for end in (Outcome(DONE, values=[0.7]), Outcome(FAILED, "no <room>\nleft"),
                Outcome(PRUNED, "pruned after epoch 1"), Outcome(FAILED, "no <room>\nleft"),
                Outcome(FAILED, memory)):  # fmt: skip
        ledger.settle(ledger.claim(), end)
    done = kerasft_cli("leaderboard", "s", "--output", "board.csv")
    assert done.code == 0, done.err
    assert "\n1, 3 failed: no <room> left\n" in done.out
    (cut,) = [line for line in done.out.splitlines() if line.startswith("4 failed: The step")]
    assert len(cut) < 220 and cut.endswith("...")
    with open("board.csv", encoding="utf-8", newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert rows["1"]["reason"] == "no <room>\nleft" and rows["4"]["reason"] == memory
    assert rows["2"]["reason"] == "pruned after epoch 1"
    assert rows["0"]["objective_accuracy"] == "0.7" and rows["0"]["reason"] == ""
    assert kerasft_cli("leaderboard", "s", "--output", "board.html").code == 0
    page = Path("board.html").read_text("utf-8")
    assert page.count("no &lt;room&gt;") == 3 and "pruned after epoch 1" in page
    assert memory.strip() in page


def test_a_run_of_a_folder_says_why_it_failed(runs, kerasft_cli):
    right = np.random.default_rng(5).random(COUNT) < 0.9
    runs("a", right, epochs=1)
    failed = runs("b", right, epochs=2)
    (failed / "metrics.json").unlink()
    facts = read_json(failed / "run.json") | {"status": "failed", "reason": "the disk is full"}
    write_json(failed / "run.json", facts)
    assert "b failed: the disk is full" in kerasft_cli("leaderboard", "runs").out


@pytest.mark.parametrize("where", ["board_plots", "board.html"])
def test_a_place_that_takes_no_page(where, begin, kerasft_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger = begin(tmp_path / "s")
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.7]))
    usual = os.mkdir

    def mkdir(path, *args, **kwargs):
        if Path(path).name == "full":
            raise OSError(28, "No space left on device", str(path))
        usual(path, *args, **kwargs)

    if where == "board_plots":
        Path("full").mkdir()
        Path("full/board_plots").write_text("in the way")
    else:
        monkeypatch.setattr(os, "mkdir", mkdir)
    ended = kerasft_cli("leaderboard", "s", "--output", "full/board.html")
    assert ended.code == 2 and "could not be written" in ended.err
    assert not Path("full/board.html").exists()


def test_lost_trials_stand_at_the_worst(tmp_path, monkeypatch):
    from kerasft.sweeps import plots as drawing

    drawn = {}
    monkeypatch.setattr(drawing, "save", lambda figure, path: drawn.setdefault("figure", figure))
    for lower, worst in ((True, 0.9), (False, 0.2)):
        drawn.clear()
        rows = [{"run": str(i), "validation": value, "metric": "$x^$"}
                for i, value in enumerate((0.9, None, 0.2))]  # fmt: skip
        drawing.history(rows, tmp_path / "h.png", lower=lower)
        (axes,) = drawn["figure"].axes
        (lost,) = [line for line in axes.lines if line.get_label() == "pruned or failed"]
        assert list(lost.get_xdata()) == [1] and list(lost.get_ydata()) == [worst]


def test_a_name_like_a_formula_is_drawn_as_it_is(tmp_path):
    """A dollar sign starts a formula, and half a formula is an error."""
    alone = {"runs": ["0"], "mean": 0.5, "sd": None, "interval": None, "p": None,
             "as_good_as_best": None}  # fmt: skip
    rows = [
        {"run": str(i), "settings": {"$a$_{": i + 1, "b": (i * 3) % 5 + 0.5}, "rank": i + 1,
         "metric": "$x^$", "validation": i / 10, "setting": {**alone, "runs": [str(i)]}}
        for i in range(6)
    ]  # fmt: skip
    assert len(plots.draw_all(rows, tmp_path / "p", lower=False)) == 5


@pytest.mark.parametrize(("low", "high", "log", "wanted"), [
    (1e-5, 1e-3, True, ["1e-05", "0.0001", "0.001"]),
    (3.43e-4, 3.77e-3, True, ["0.0005", "0.001", "0.002"]),
    (2, 6, False, ["2", "3", "4", "5", "6"]), (0.38, 0.91, False, ["0.4", "0.6", "0.8"]),
    (0.1, 0.1, False, ["0.1"]), (1e-30, 1, True, None),
])  # fmt: skip
def test_axes_have_a_few_round_numbers(low, high, log, wanted):
    scale = plots.Scale("x", (), low, high, log)
    words = [word for _, word in scale.ticks()]
    assert words == wanted if wanted else 3 < len(words) < 10


def test_what_was_trusted_is_trusted_again(begin, kerasft_cli, tmp_path):
    ledger = begin(tmp_path / "s", sampler=None)
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.7]))
    facts = read_json(tmp_path / "s" / "sweep.json")
    facts["search"]["sampler"] = {"_target_": "string.Template", "template": ""}
    write_json(tmp_path / "s" / "sweep.json", facts)
    assert kerasft_cli("leaderboard", str(tmp_path / "s")).code == 2
    done = kerasft_cli("leaderboard", str(tmp_path / "s"), "--trust", "string")
    assert done.code == 0, done.err
    assert "kerasft train head=linear batch_size=4 --trust string\n" in done.out
    assert f"kerasft export best-of {tmp_path / 's'} --trust string\n" in done.out


@pytest.mark.slow
def test_the_line_that_repeats_the_best_does(tiny_texts, kerasft_cli, tmp_path, monkeypatch):
    """It goes by what was frozen, not by the configs of today."""
    monkeypatch.chdir(tmp_path)
    own = Path("mine/head/own.yaml")
    own.parent.mkdir(parents=True)
    text = (kerasft.config.composition.config_dir() / "head" / "mlp.yaml").read_text("utf-8")
    own.write_text(text, "utf-8")
    done = kerasft_cli("sweep", *tiny_texts, "sweep=grid", "head=own", "callbacks=none",
                       "optimizer.learning_rate=1e-3,3e-3", "epochs=1", "output_dir=s",
                       "--config-dir", "mine")  # fmt: skip
    assert done.code == 0, done.err
    own.write_text(text.replace("dropout: 0.3", "dropout: 0.9"), "utf-8")
    assert own.read_text("utf-8") != text
    said = kerasft_cli("leaderboard", "s").out
    (line,) = [line for line in said.splitlines() if line.startswith("kerasft train")]
    (best,) = summary.best(ledgers.reopen("s"))
    again = kerasft_cli(*shlex.split(line)[1:])
    assert again.code == 0, again.err
    first, second = (read_json(Path(folder) / "metrics.json") for folder in
                     (f"s/{best.number}", "outputs/last"))  # fmt: skip
    assert second["validation"] == first["validation"] and "test" in second
    configs = [dict(run_folder.open_run(folder)[1]) for folder in
               (f"s/{best.number}", "outputs/last")]  # fmt: skip
    free = ("output_dir", "resume")
    assert len({json.dumps({k: v for k, v in one.items() if k not in free}, default=str)
                for one in configs}) == 1  # fmt: skip
    assert "kerasft export best-of s" in said


def test_trials_of_several_objectives_form_a_front(begin, tmp_path):
    from kerasft.config.composition import compose_search

    (tmp_path / "s").mkdir()
    asked = compose_search(["sweep=random", "sweep.n_trials=4"])
    ledger = beginning.create(
        tmp_path / "s", ["head=linear,mlp", "batch_size=4,8"], asked,
        objectives=["accuracy", "size_mb"], directions=["maximize", "minimize"], config_dirs=[],
        trusted=[],
    )  # fmt: skip
    for values in ([0.9, 5.0], [0.8, 1.0], [0.7, 2.0]):
        ledger.settle(ledger.claim(), Outcome(DONE, values=values))
    running = ledger.claim()
    rows = {row["run"]: row for row in kerasft.leaderboard(str(tmp_path / "s"))}
    assert [rows[n]["front"] for n in "012"] == [True, True, False]
    assert rows["3"]["status"] == "running" and rows["3"]["rank"] is None
    text = board_rows.as_text(list(rows.values()))
    assert "size_mb" in text and "front" in text
    said = board_rows.remarks(list(rows.values()))
    assert "Ranked by accuracy; in accuracy and size_mb together no run is better than any of " \
        "0, 1 (front)." in said
    by_size = kerasft.leaderboard(str(tmp_path / "s"), metric="size_mb")
    assert [row["run"] for row in by_size][:3] == ["1", "2", "0"]
    # No trial is the best: the one on top is repeated, and exported where its network is.
    lines = {n: "kerasft train head={head} batch_size={batch_size}".format(**rows[n]["settings"])
             for n in "01"}  # fmt: skip
    assert board_rows.again(str(tmp_path / "s"), list(rows.values())) == [lines["0"]]
    network = run_folder.RunFolder(tmp_path / "s" / "1").network
    network.parent.mkdir(parents=True)
    network.touch()
    assert board_rows.again(str(tmp_path / "s"), by_size) == [
        lines["1"], f"kerasft export {tmp_path / 's' / '1'}",
    ]  # fmt: skip
    boards.write(by_size, str(tmp_path / "board.csv"))
    with open(tmp_path / "board.csv", encoding="utf-8", newline="") as file:
        written = {row["run"]: row for row in csv.DictReader(file)}
    assert written["0"]["objective_size_mb"] == "5.0" and written["0"]["front"] == "True"
    assert written["2"]["front"] == "False"
    ledger.put_back(running)
