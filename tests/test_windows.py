"""Tagging of texts that are longer than the network reads at once, from files to an export."""

from __future__ import annotations

import json

import numpy as np
import pytest
from interruption import require_equal, stopped_and_resumed

import kerasft
from kerasft.artifact.loading import load_export
from kerasft.errors import UserError
from kerasft.steps.measuring.reopening import reopen

FILLERS = ["the", "is", "at", "once", "and", "how", "quick", "over", "my", "with"]
THINGS = {"animal": ["fox", "dog"], "thing": ["box", "film"]}


def text(random, words):
    """Return a text and its entities, one of which is its last word."""
    made, found = "", []
    for place in range(words):
        if place == words - 1 or random.random() < 0.2:
            kind = str(random.choice(list(THINGS)))
            word = str(random.choice(THINGS[kind]))
            found.append([len(made), len(made) + len(word), kind])
        else:
            word = str(random.choice(FILLERS))
        made += f"{word} "
    return {"text": made.strip(), "entities": found}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    for seed, (split, count) in enumerate({"train": 120, "validation": 16, "test": 16}.items()):
        random = np.random.default_rng(seed)
        rows = [text(random, int(random.integers(3, 24))) for _ in range(count)]
        lines = "\n".join(map(json.dumps, rows))
        (folder / f"{split}.jsonl").write_text(lines, "utf-8")
    return (
        "task=tagging", "data=spans", f"data.path={folder}", "backbone=tiny_bert", "head=tokens",
        "backbone.sequence_length=12", "task.windows=4", "task.overlap=4", "batch_size=8",
        "epochs=3", "optimizer.learning_rate=1e-2", "baseline=null", "progress=false",
        "callbacks=none",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows") / "run"
    kerasft.train([*words, f"output_dir={folder}"])
    return folder


def test_windows_that_share_all_they_have_are_told_before_data_is_read(words):
    with pytest.raises(UserError, match=r"task\.overlap, .* below 12, .*sequence_length=12"):
        kerasft.check(kerasft.compose([*words, "task.overlap=12"]))


@pytest.mark.slow
def test_what_stands_in_the_tail_is_found(trained, words, tmp_path):
    test = json.loads((trained / "metrics.json").read_text())["test"]
    lines = (trained / "predictions/test.jsonl").read_text().splitlines()
    last = [
        row["true"][-1]["end"] in [one["end"] for one in row["predicted"]["objects"]]
        for row in map(json.loads, lines) if row["input"].count(" ") > 12
    ]
    assert test["unseen"] == 0 and test["f1"] > 0.8 and len(last) > 4 and np.mean(last) > 0.8
    short = [word for word in words if "windows" not in word and "overlap" not in word]
    kerasft.train([*short, "epochs=1", f"output_dir={tmp_path / 'short'}"])
    one = json.loads((tmp_path / "short/metrics.json").read_text())["test"]
    assert one["unseen"] > 10 and one["recall"] < test["recall"]


@pytest.mark.slow
def test_an_export_answers_long_texts(trained):
    exported = kerasft.export(str(trained), ["export=saved_model"])["saved_model"]
    export, (_, finetuned, _) = load_export(exported), reopen(str(trained))
    texts = [*(("the fox is " * n + "dog") for n in (0, 1, 4, 7)), "is", "the " * 90 + "fox"]
    one, other = export(texts), finetuned(texts)
    for i in range(len(texts)):
        count = int(one["count"][i])
        assert count == len(other["start"][i])
        assert one["start"][i][:count].tolist() == other["start"][i].tolist()
    ends = [len(text) for text in texts[:4]]
    assert [one["end"][i][: one["count"][i]].max() for i in range(4)] == ends
    assert one["count"][5] == 0  # beyond the last window
    assert json.loads((exported / "assets.extra/signature.json").read_text())[
        "sequence_length"] == 12 + 3 * 6  # fmt: skip


@pytest.mark.slow
def test_a_run_in_windows_that_is_stopped_ends_as_one_that_was_not(
    trained, words, monkeypatch, tmp_path
):
    stopped_and_resumed(list(words), tmp_path / "again", monkeypatch)
    require_equal(trained, tmp_path / "again")


@pytest.mark.slow
def test_what_is_frozen_is_kept_where_rows_are_whole(words, tmp_path, capsys):
    kept = [*words, "cache.activations=always", "epochs=1"]
    kerasft.train([*kept, "finetune=linear_probe", f"output_dir={tmp_path / 'probe'}"])
    assert "activation cache: " in (said := capsys.readouterr().out)
    assert "at the output of" in said and "not used" not in said
    kerasft.train([*kept, "finetune=two_phase", "finetune.all.train=0.5",
                   f"output_dir={tmp_path / 'last'}"])  # fmt: skip
    assert "long texts are in windows" in capsys.readouterr().out


@pytest.mark.slow
def test_it_is_shown_what_is_cut(words, kerasft_cli):
    told = kerasft_cli("show", *words, "--count", "1")
    assert "no training text is cut at 30, the most tokens of task.windows=4" in told.out
    told = kerasft_cli("show", *words, "task.windows=1", "task.overlap=null", "--count", "1")
    assert "cut at backbone.sequence_length=12" in told.out and "task.windows=4" in told.out


@pytest.mark.slow
def test_other_exports_carry_windows_or_say_why_not(trained):
    for form in ("keras", "onnx", "litert"):
        made = kerasft.export(str(trained), [f"export={form}"])[form]
        parity = json.loads((made / "parity.json").read_text())
        assert max(parity["largest_difference"].values()) < 1e-4, form
    with pytest.raises(UserError, match=r"reads no text in windows\. Received: task\.windows=4"):
        kerasft.export(str(trained), ["export=preset"])
