"""Which runs cannot be told apart from the best; seeds together; the page and its plots."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import kerasft
from kerasft import evidence, record
from kerasft.artifact.replay import pack
from kerasft.files import read_json, write_json
from kerasft.sweeps import leaderboard as boards
from kerasft.sweeps import outcome, plots
from kerasft.sweeps.ledger import DONE, Outcome

COUNT = 400


@pytest.fixture
def runs(tiny_run, tmp_path, monkeypatch):
    """Return a function that makes a folder of runs with the answers that are wanted."""
    monkeypatch.chdir(tmp_path)
    kept = evidence.read(record.RunFolder(tiny_run))

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
    said = boards.remarks(kerasft.leaderboard("runs"))
    assert said[0].startswith("1 of the 2 other settings cannot be told apart")
    assert "What another seed would change is not in them" in said[1]


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
    first, second, third = boards.heads(rows)
    assert first["setting"]["mean"] == pytest.approx(0.905)
    assert second["setting"]["sd"] == pytest.approx(0.14 / 2**0.5)
    assert second["setting"]["as_good_as_best"] and not third["setting"]["as_good_as_best"]
    low, high = first["setting"]["interval"]
    assert high - low > 0.1  # the seeds of all settings tell how far another one may lie
    said = kerasft_cli("leaderboard", "runs")
    assert "2_0, 2_1" in said.out and " sd " in said.out
    assert "What another seed would change" not in said.out


def test_other_examples_are_not_compared_pairwise(runs):
    random = np.random.default_rng(2)
    right = random.random(COUNT) < 0.9
    runs("a", right, epochs=1)
    other = runs("b", right & (random.random(COUNT) < 0.97), epochs=2)
    paired = kerasft.leaderboard("runs")[1]["setting"]["p"]
    manifest = read_json(other / "manifest.json")
    manifest["splits"]["validation"][0][0] = "another example"
    write_json(other / "manifest.json", manifest)
    assert paired < 0.01 < kerasft.leaderboard("runs")[1]["setting"]["p"]


def test_runs_without_evidence_are_ranked_without_interval(runs):
    right = np.random.default_rng(3).random(COUNT) < 0.9
    runs("a", right, epochs=1)
    (runs("b", ~right, epochs=2) / "evidence.npz").write_text("spoilt")
    first, second = kerasft.leaderboard("runs")
    assert first["interval"] and second["interval"] is None
    assert second["setting"]["p"] is None and second["rank"] == 2


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
    """Trials that were given up or are running are listed with what is known of them."""
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
    assert [trial.number for trial in outcome.best(ledger)] == [3]
    assert boards.again(str(tmp_path / "s"), rows) == [
        "kerasft train head=mlp seed=1", f"kerasft export best-of {tmp_path / 's'}",
    ]  # fmt: skip


def test_trials_of_several_objectives_form_a_front(begin, tmp_path):
    from kerasft.config import compose_search
    from kerasft.sweeps import ledger as ledgers

    (tmp_path / "s").mkdir()
    asked = compose_search(["sweep=random", "sweep.n_trials=4"])
    ledger = ledgers.create(
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
    text = boards.as_text(list(rows.values()))
    assert "size_mb" in text and "front" in text
    by_size = kerasft.leaderboard(str(tmp_path / "s"), metric="size_mb")
    assert [row["run"] for row in by_size][:3] == ["1", "2", "0"]
    ledger.put_back(running)
