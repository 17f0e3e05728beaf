"""Tagging from files to a served export, on made-up sentences about animals and things."""

from __future__ import annotations

import json

import numpy as np
import pytest
from interruption import require_equal, stopped_and_resumed

import kerasft
from kerasft.artifact.loading import load_export
from kerasft.errors import UserError
from kerasft.runs import evidence
from kerasft.serving.verify import verify
from kerasft.steps.looks.looking import look
from kerasft.steps.measuring.reopening import reopen

ENTITIES = {
    "animal": ["fox", "dog", "lazy dog", "brown fox"],
    "thing": ["box", "liquor jugs", "film"],
}
FILLERS = ["the", "is", "at", "once", "and", "how", "quick", "over", "my", "with"]


def sentence(random):
    """Return words with tags of IOB2."""
    rows = []
    for _ in range(int(random.integers(0, 4))):
        rows += [(str(word), "O") for word in random.choice(FILLERS, random.integers(1, 4))]
        kind = str(random.choice(list(ENTITIES)))
        words = str(random.choice(ENTITIES[kind])).split()
        rows += [(word, f"{'I' if place else 'B'}-{kind}") for place, word in enumerate(words)]
    return [*rows, (str(random.choice(FILLERS)), "O"), (".", "O")]


def write(file, count, seed):
    random = np.random.default_rng(seed)
    rows = ["\n".join("\t".join(row) for row in sentence(random)) for _ in range(count)]
    file.write_text("\n\n".join(rows) + "\n", "utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animals")
    for seed, (split, count) in enumerate({"train": 160, "dev": 24, "test": 20}.items()):
        write(folder / f"{split}.conll", count, seed)
    return folder


@pytest.fixture(scope="module")
def words(data):
    return (
        "task=tagging", "data=conll", f"data.path={data}", "backbone=tiny_bert", "head=tokens",
        "batch_size=8", "epochs=3", "optimizer.learning_rate=1e-2", "baseline=null",
        "progress=false", "callbacks=none",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagging") / "run"
    kerasft.train([*words, f"output_dir={folder}"])
    return folder


@pytest.fixture(scope="module")
def exported(trained):
    return kerasft.export(str(trained), ["export=saved_model"])["saved_model"]


def test_it_trains_and_what_it_came_to_is_written(trained, data):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["test"]["f1"] > 0.6 and metrics["test"]["partial_f1"] > 0.8
    assert metrics["test"]["per_class"]["animal"].keys() == {
        "precision", "recall", "f1", "partial_f1", "found", "entities",
    }  # fmt: skip
    epochs = [json.loads(line) for line in
              (trained / "logs/epochs.jsonl").read_text().splitlines()]  # fmt: skip
    assert epochs[-1]["loss"] < epochs[0]["loss"] and "val_f1" in epochs[0]
    lines = [json.loads(line) for line in
             (trained / "predictions/test.jsonl").read_text().splitlines()]  # fmt: skip
    tags = (data / "test.conll").read_text().count("\tB-")
    assert len(lines) == 20 and sum(len(line["true"]) for line in lines) == tags
    assert metrics["test"]["entities"] == tags
    for line in lines:
        assert list(line["predicted"]) == ["objects"]
        for one in [*line["true"], *line["predicted"]["objects"]]:
            assert line["input"][one["start"] : one["end"]] == one["text"]
        assert all(0 < one["score"] <= 1 for one in line["predicted"]["objects"])
    page = (trained / "plots/test_entities.html").read_text("utf-8")
    assert page.count("<tr>") == 21 and "<small>animal</small>" in page
    assert (trained / "plots/test_f1_by_type.png").is_file()


def test_what_it_was_measured_on_is_kept(trained):
    # Runs are compared, and decisions tuned, without predicting again.
    folder, finetuned, _ = reopen(str(trained))
    written = json.loads((trained / "metrics.json").read_text())
    for split, (labelled, kept) in evidence.read(folder).measured.items():
        found = finetuned.figures(labelled, kept)
        assert found["f1"] == pytest.approx(written[split]["f1"], abs=1e-9)


@pytest.mark.slow
def test_it_is_evaluated_again(trained):
    again = kerasft.evaluate(str(trained), split="test")
    written = json.loads((trained / "metrics.json").read_text())
    assert again["test"]["f1"] == pytest.approx(written["test"]["f1"], abs=1e-6)


@pytest.mark.slow
def test_it_answers_texts(trained):
    rows = kerasft.predict(str(trained), ["how is the brown fox and my 😀 dog .", "", "é is"])
    found = rows[0]["objects"]
    assert "fox" in found[0]["text"] and found[-1]["text"].endswith("dog")
    assert all(rows[0]["input"][one["start"] : one["end"]] == one["text"] for one in found)
    assert rows[1] == {"input": "", "objects": []}


def test_what_does_not_fit_is_told_before_any_data_is_read(words):
    for others, message in (
        (["backbone=tiny_resnet"], "The data is text, but the backbone"),
        (["head=linear"], "Choose head=tokens"),
        (["augment=text"], "augment: words that are left out or change places move the entities"),
        (["task=classification", "head=linear"], "data=conll reads entities in texts"),
    ):
        cfg = kerasft.compose([*words, *others])
        with pytest.raises(UserError) as told:
            look(cfg)
        assert message in " ".join(told.value.problems)


def test_augmentation_is_refused_before_training(words, tmp_path):
    with pytest.raises(UserError, match=r"augment\.delete"):
        kerasft.train([*words, "augment=text", f"output_dir={tmp_path / 'run'}"])


@pytest.mark.slow
def test_the_command_line_shows_and_answers(trained, words, kerasft_cli, tmp_path):
    said = kerasft_cli("predict", str(trained), "how is the dog?", "--output", "found.csv")
    assert said.code == 0, said.err
    said = kerasft_cli("predict", str(trained), "how is the dog and", "the", "--json")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert "dog" in [one["text"] for one in rows[0]["objects"]] and not rows[1]["objects"]
    drawn = kerasft_cli("predict", str(trained), "how is the dog?", "--draw", "drawn")
    assert drawn.code == 2 and "--draw draws the objects or masks" in drawn.err
    shown = kerasft_cli("show", *words, "--count", "4")
    assert shown.code == 0 and "animal" in shown.out, shown.err


@pytest.mark.slow
def test_an_export_answers_with_the_same_entities(trained, exported, data):
    texts = ["how is the brown fox?", "", "ein 😀 café with the fox and my box at once", "is"]
    texts += ["the fox " * n for n in range(40)]
    export, (_, finetuned, _) = load_export(exported), reopen(str(trained))
    one, other = export(texts), finetuned(texts)
    assert one.keys() == other.keys() == {"type", "text", "start", "end", "score", "count"}
    for i, text in enumerate(texts):
        count = int(one["count"][i])
        assert count == int(other["count"][i])
        for name in ("type", "text", "start", "end"):
            assert kerasft_text(one[name][i][:count]) == kerasft_text(other[name][i])
        spans = zip(one["start"][i], one["end"][i], one["text"][i], strict=True)
        assert all(text[a:b].encode() == part for a, b, part in list(spans)[:count])
    parity = json.loads((exported / "assets.extra/parity.json").read_text())
    assert parity["signatures"].keys() == {"serving_default", "tensors"}
    assert parity["run"]["largest_difference"] < 1e-5
    assert all(one.result != "FAILED" for one in verify(exported))
    signature = json.loads((exported / "assets.extra/signature.json").read_text())
    assert signature["positions"] == {"serving_default": "text", "tensors": "network"}
    assert signature["decides"]["tags"] == ["O", "B-animal", "I-animal", "B-thing", "I-thing"]


def kerasft_text(values):
    return [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]


@pytest.mark.slow
def test_names_that_are_marked_are_one_word_in_posts_and_in_their_export(words, tmp_path):
    rows = [f"@fox\tO\n{one}\tO\nfox\tB-animal\n{other}\tO\n#box\tB-thing\n"
            "http://a.b/box\tO\n" for one in FILLERS for other in FILLERS]  # fmt: skip
    (tmp_path / "posts.conll").write_text("\n".join(rows), "utf-8")
    kerasft.train([*words, f"data.path={tmp_path / 'posts.conll'}", "task.words=posts",
                   f"output_dir={tmp_path / 'run'}", "export=saved_model"])  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert metrics["test"]["f1"] == 1.0
    for place in (tmp_path / "run", tmp_path / "run" / "exports" / "saved_model"):
        (answer,) = kerasft.predict(str(place), ["@fox is fox at #box http://a.b/box"])
        assert [one["text"] for one in answer["objects"]] == ["fox", "#box"]
    assert kerasft.evaluate(str(tmp_path / "run"))["test"]["f1"] == 1.0


@pytest.mark.slow
def test_a_run_that_is_stopped_ends_as_one_that_was_not(trained, words, monkeypatch, tmp_path):
    stopped_and_resumed(list(words), tmp_path / "again", monkeypatch)
    require_equal(trained, tmp_path / "again")


@pytest.mark.slow
def test_an_adapter_in_half_precision_goes_on_as_it_would_have(words, monkeypatch, tmp_path):
    more = [*words, "adapt=lora", "precision=mixed_bfloat16", "task.class_weight=balanced",
            "optimizer.gradient_accumulation_steps=2", "plots=false"]  # fmt: skip
    kerasft.train([*more, f"output_dir={tmp_path / 'whole'}"])
    stopped_and_resumed(more, tmp_path / "again", monkeypatch)
    require_equal(tmp_path / "whole", tmp_path / "again")


@pytest.mark.slow
def test_a_sweep_compares_and_the_best_one_is_kept(words, kerasft_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rest = [word for word in words if not word.startswith("optimizer")]
    done = kerasft_cli("sweep", *rest, "output_dir=s", "sweep=grid", "launcher.name=basic",
                       "optimizer.learning_rate=1e-2,1e-5", "epochs=2")  # fmt: skip
    assert done.code == 0, done.err
    assert "trial 0  done  f1" in done.out and "2 done, 0 pruned, 0 failed" in done.out
    (tested,) = json.loads((tmp_path / "s/test.json").read_text())["trials"]
    assert tested["trial"] == 0 and tested["metrics"]["f1"] > 0.1
    board = kerasft_cli("leaderboard", "s", "--metric", "partial_f1")
    assert board.code == 0 and "partial_f1" in board.out, board.err


@pytest.mark.slow
def test_a_sweep_for_texts_takes_the_head_of_the_task(words, data, kerasft_cli, tmp_path,
                                                     monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = ("sweep", "task=tagging", "data=conll", f"data.path={data}", "backbone=tiny_bert",
            "batch_size=8", "epochs=1", "baseline=null", "callbacks=none", "output_dir=s",
            "launcher.name=basic", "sweep=text", "sweep.n_trials=4")  # fmt: skip
    refused = kerasft_cli(*said)
    assert refused.code == 2 and "Choose head=tokens" in refused.err
    assert not (tmp_path / "s").exists()
    done = kerasft_cli(*said, "head=tokens")
    assert done.code == 0, done.err
    assert "4 done, 0 pruned, 0 failed" in done.out and "head=" not in done.out
    board = kerasft_cli("leaderboard", "s")
    assert board.code == 0 and "The best of 4 was chosen" in board.out, board.out


@pytest.mark.slow
def test_what_a_frozen_network_computes_is_kept(words, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))
    probe = [*words, "finetune=linear_probe", "epochs=2"]
    for activations in ("always", "never"):
        kerasft.train([*probe, f"cache.activations={activations}",
                       f"output_dir={tmp_path / activations}"])  # fmt: skip
    said = capsys.readouterr().out
    assert "at the output of" in said and "activation cache: not used" not in said
    one, other = (json.loads((tmp_path / name / "metrics.json").read_text())["test"]
                  for name in ("always", "never"))  # fmt: skip
    assert one["f1"] == pytest.approx(other["f1"], abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["keras", "onnx", "litert", "preset"])
def test_other_exports_carry_it(trained, form):
    made = kerasft.export(str(trained), [f"export={form}"])[form]
    facts = json.loads((made / "preprocessing.json").read_text())
    assert facts["decision"]["tags"] == ["O", "B-animal", "I-animal", "B-thing", "I-thing"]
    assert all(one["shape"][0] is None for one in facts["outputs"].values())
    assert facts["outputs"]["logits"]["shape"][2] == 5
    parity = json.loads((made / "parity.json").read_text())
    assert max(parity["largest_difference"].values()) < 1e-4
