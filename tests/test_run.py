"""The acts, end to end, on networks that train in seconds."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from once import returned_figures

import kerasft
from kerasft.errors import UserError
from kerasft.system.files import read_json


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Three digits as PNG files."""
    from kerasft.data.sources.digits import digits

    folder = tmp_path_factory.mktemp("digits")
    test = digits(kind="single", seed=0).test
    for i in range(3):
        (folder / f"{i}.png").write_bytes(test.inputs[i])
    return folder


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a table and gives the overrides to read it with."""
    import csv

    def write(rows, header):
        file = tmp_path / "table.csv"
        with open(file, "w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([header, *rows])
        return ["data=table", f"data.path={file}", "data.text=text", "data.label=label",
                "backbone=tiny_bert", "backbone.sequence_length=16", "batch_size=8",
                "plots=false", "progress=false"]  # fmt: skip

    return write


def close(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, dict):
            close(value, right[key])
        elif isinstance(value, float):
            assert value == pytest.approx(right[key], abs=1e-4), key
        else:
            assert value == right[key], key


# --- train -> evaluate -> predict -> export ----------------------------------------------------


@pytest.mark.parametrize("which", [
    "tiny_run", pytest.param("tiny_text_run", marks=pytest.mark.slow),
])  # fmt: skip
def test_evaluate_gives_the_numbers_of_training(request, which, kerasft_cli):
    run = request.getfixturevalue(which)
    kept = read_json(run / "metrics.json")
    assert returned_figures(run) == kept
    ended = kerasft_cli("evaluate", str(run), "split=test", "--json")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    close(json.loads(ended.out), {"test": kept["test"]})


@pytest.mark.slow
def test_evaluate_finds_what_training_kept(tiny_texts, monkeypatch):
    from kerasft.data import preprocessing

    result = kerasft.train([*tiny_texts, "cache.directory=cache"])
    made = []
    original = preprocessing._pieces
    monkeypatch.setattr(preprocessing, "_pieces", lambda *a: made.append(a) or original(*a))
    kerasft.evaluate(str(result.output_dir))
    assert not made
    kerasft.evaluate(str(result.output_dir), split="test")
    assert not made


def test_evaluate_says_which_splits_there_are(tiny_text_run):
    assert list(kerasft.evaluate(str(tiny_text_run))) == ["validation", "test"]
    assert list(kerasft.evaluate(str(tiny_text_run), split="train")) == ["train"]
    with pytest.raises(UserError, match="split must be one of train, validation, test"):
        kerasft.evaluate(str(tiny_text_run), split="dev")


@pytest.mark.slow
def test_evaluate_warns_when_the_data_has_changed(tiny_texts, tiny_text_run, tmp_path, capsys):
    shutil.copytree(tiny_text_run, tmp_path / "run")
    source = next(w for w in tiny_texts if w.startswith("data.path=")).partition("=")[2]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    (tmp_path / "texts.csv").write_text(text.replace("dull film, number 1", "new film"), "utf-8")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text("utf-8").replace(source, str(tmp_path / "texts.csv")))
    kerasft.evaluate("run")
    assert "the data has changed since the run" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("which", ["images", "texts"])
def test_a_run_and_its_export_answer_alike(which, request, digits, kerasft_cli, tmp_path):
    name = {"images": "tiny_run", "texts": "tiny_text_run"}[which]
    run = shutil.copytree(request.getfixturevalue(name), tmp_path / "run")
    ended = kerasft_cli("export", str(run))
    assert ended.code == 0, ended.err
    assert "proved in a fresh process" in ended.out
    export = run / "exports" / "saved_model"
    parity = read_json(export / "1" / "assets.extra" / "parity.json")
    assert parity["passed"]
    assert [one["label_flips"] for one in parity["signatures"].values()] == [0] * 4
    texts = ["a good film", "", "ein 電影 🙂"]
    given = [str(digits)] if which == "images" else texts
    answers = {}
    for model in (run, export):
        ended = kerasft_cli("predict", str(model), *given, "--output", f"{model.name}.jsonl")
        assert ended.code == 0, ended.err
        lines = (tmp_path / f"{model.name}.jsonl").read_text("utf-8").splitlines()
        answers[model] = [json.loads(line) for line in lines]
    assert len(answers[run]) == 3
    for one, other in zip(*answers.values(), strict=True):
        close(one, other)
    again = kerasft.predict(str(run), [str(digits / f"{i}.png") for i in range(3)]
                            if which == "images" else texts)  # fmt: skip
    for one, other in zip(again, answers[run], strict=True):
        close(one, other)


@pytest.mark.slow
def test_bytes_of_images_are_answered_too(tiny_run, digits):
    [row] = kerasft.predict(str(tiny_run), [(digits / "0.png").read_bytes()])
    [file] = kerasft.predict(str(tiny_run), [str(digits / "0.png")])
    assert row["probabilities"] == pytest.approx(file["probabilities"])
    assert row["input"].endswith("bytes>")


@pytest.mark.slow
def test_the_result_holds_the_model(tiny_text_result, tiny_text_run):
    texts = ["a good film", "a bad film"]
    answers = tiny_text_result.finetuned(texts)
    rows = kerasft.predict(str(tiny_text_run), texts)
    assert list(answers["label"]) == [r["label"] for r in rows]
    with pytest.raises(UserError, match="nothing to predict"):
        tiny_text_result.finetuned([])
    with pytest.raises(UserError, match="Inputs come as a list"):
        tiny_text_result.finetuned(texts[0])


@pytest.mark.slow
def test_arrays_are_answered_as_the_files_they_come_from(tiny_run, tiny_result, digits):
    from PIL import Image

    files = [str(digits / f"{i}.png") for i in range(3)]
    drawn = np.stack([np.asarray(Image.open(one)) for one in files])
    wanted = kerasft.predict(str(tiny_run), files)
    for given in (drawn, list(drawn), drawn / 255.0, [Image.open(one) for one in files]):
        answers = tiny_result.finetuned(given)
        assert list(answers["label"]) == [row["label"] for row in wanted]
        for row, one in zip(kerasft.predict(str(tiny_run), given), wanted, strict=True):
            assert row["probabilities"] == pytest.approx(one["probabilities"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["tiny_result", "tiny_text_result"])
def test_figures_do_not_depend_on_the_batch_size(request, which):
    from kerasft.data.preprocessing import prepare
    from kerasft.data.sources.digits import digits

    made = request.getfixturevalue(which).finetuned
    if which == "tiny_result":
        examples = digits(kind="single", seed=0).validation.take(range(23))
    else:
        from kerasft.spec import Examples

        texts = [f"a {'very ' * (i % 7)}long film" for i in range(23)]
        examples = Examples("text", texts, np.zeros(23, "int64"), tuple(map(str, range(23))))
    ready = prepare(examples, made.preprocess)
    whole = dataclasses.replace(made, batch_size=23).measure(ready).rows["logits"]
    for size in (1, 5, 64):
        part = dataclasses.replace(made, batch_size=size).measure(ready).rows["logits"]
        np.testing.assert_allclose(part, whole, atol=1e-4)


@pytest.mark.slow
def test_from_repeats_a_run_exactly(tiny_text_run, kerasft_cli, tmp_path):
    """The command line repeats what a Python call trained, to the last digit."""
    ended = kerasft_cli("train", "--from", str(tiny_text_run), "output_dir=again")
    assert ended.code == 0, ended.err
    assert read_json("again/metrics.json") == read_json(tiny_text_run / "metrics.json")
    for name in ("validation", "test"):
        file = f"predictions/{name}.csv"
        assert (tmp_path / "again" / file).read_text() == (tiny_text_run / file).read_text()
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in
         (folder / "logs" / "epochs.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "again", tiny_text_run)
    ]  # fmt: skip
    assert logs[0] == logs[1]


# --- tasks -------------------------------------------------------------------------------------


def answers_alike(run, given):
    """Export a run, and compare what both answer."""
    kerasft.export(str(run))
    rows = kerasft.predict(str(run), given)
    served = kerasft.predict(str(run / "exports" / "saved_model"), given)
    for one, other in zip(rows, served, strict=True):
        close(one, other)
    return rows


@pytest.mark.slow
def test_regression_of_pairs(table, tmp_path):
    rows = [(f"a {'big ' * (i % 5)}dog", f"one {'big ' * (i % 3)}cat", 10 + (i % 5) - (i % 3))
            for i in range(40)]  # fmt: skip
    words = table(rows, ("text", "second", "label"))
    result = kerasft.train([*words, "data.text_pair=second", "task=regression", "epochs=2",
                            f"output_dir={tmp_path / 'run'}"])  # fmt: skip
    assert {"mae", "r2", "pearson", "spearman"} <= set(result.metrics["test"])
    again = kerasft.evaluate("run", split="test", say=lambda line: None)
    close(again, {"test": result.metrics["test"]})
    rows = answers_alike(result.output_dir, [("a dog", "one cat"), ("", "one big cat")])
    assert 5 < rows[0]["value"] < 20, "values come back in the scale of the data"
    for model in ("run", "run/exports/saved_model"):
        with pytest.raises(UserError, match=r"This (model|export) takes .*Received"):
            kerasft.predict(model, ["a single text"])


@pytest.mark.slow
def test_several_numbers(table, tmp_path):
    rows = [(f"a {'big ' * (i % 5)}dog {i}", i % 5, 1000 + 7 * (i % 3)) for i in range(40)]
    words = [w for w in table(rows, ("text", "size", "weight")) if not w.startswith("data.label")]
    result = kerasft.train([*words, "data.label=[size,weight]", "task=multi_regression",
                            "epochs=2", f"output_dir={tmp_path / 'run'}"])  # fmt: skip
    assert set(result.metrics["test"]["per_number"]) == {"size", "weight"}
    close(kerasft.evaluate("run", split="test", say=lambda line: None),
          {"test": result.metrics["test"]})  # fmt: skip
    [row] = answers_alike(result.output_dir, ["a big dog"])
    assert 990 < row["values"]["weight"] < 1030, "values come back in the units of the data"
    (first, *_) = (tmp_path / "run" / "predictions" / "test.jsonl").read_text().splitlines()
    assert set(json.loads(first)["true"]) == {"size", "weight"}


@pytest.mark.slow
def test_several_labels(table, tmp_path):
    kinds = {0: "red,big", 1: "red", 2: "big", 3: ""}
    rows = [(f"a {kinds[i % 4].replace(',', ' ')} thing {i}", kinds[i % 4]) for i in range(48)]
    words = table(rows, ("text", "label"))
    result = kerasft.train([*words, "task=multi_label", "task.label_smoothing=0.1", "epochs=2",
                            f"output_dir={tmp_path / 'run'}"])  # fmt: skip
    assert {"f1_micro", "f1_macro"} <= set(result.metrics["test"])
    close(kerasft.evaluate("run", split="test", say=lambda line: None),
          {"test": result.metrics["test"]})  # fmt: skip
    [row] = answers_alike(result.output_dir, ["a red thing"])
    assert set(row["probabilities"]) == {"big", "red"}
    assert set(row["labels"]) <= {"big", "red"}


# --- recipes -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_phases_with_everything_that_regularizes(tiny_images, tmp_path, capsys):
    result = kerasft.train([
        *tiny_images, "augment=randaugment", "+augment.mixup={_target_: keras.layers.MixUp}",
        "task.label_smoothing=0.1", "task.class_weight=balanced", "regularize=l2", "head=mlp",
        "finetune=two_phase", "finetune.head.epochs=1", "epochs=1", "max_steps=1",
        "optimizer=sgd", f"output_dir={tmp_path / 'run'}",
    ])  # fmt: skip
    assert [row["stage"] for row in result.history.rows] == ["head", "all"]
    said = capsys.readouterr().out
    assert "stage head: 1 steps, learning rate up to 0.01," in said
    assert "stage all: 1 steps, learning rate up to 0.001," in said
    part = said[said.index("stage head"):said.index("activation cache: not used")]
    rows = [line for line in part.splitlines() if "%" in line]
    shares = {line.split()[0]: next(w for w in line.split() if w.endswith("%")) for line in rows}
    assert shares and all(share == ("100%" if name.startswith("head_") else "0%")
               for name, share in shares.items() if name != "head_norm")  # fmt: skip


@pytest.mark.slow
def test_cutmix_dropout_and_a_baseline_from_scratch(tiny_images, tmp_path, capsys):
    result = kerasft.train([
        *tiny_images, "augment=cutmix", "finetune=linear_probe", "epochs=1", "max_steps=1",
        "head.dropout=0.5", "baseline=scratch", f"output_dir={tmp_path / 'run'}",
    ])  # fmt: skip
    assert result.baseline == read_json("run/baseline.json")
    table = capsys.readouterr().out
    assert "fine-tuned  from scratch" in table
    line = next(x for x in table.splitlines() if x.startswith("test accuracy"))
    tuned, scratch, gain = map(float, line.split()[-3:])
    assert gain == pytest.approx(tuned - scratch, abs=1e-3)


@pytest.mark.slow
def test_early_stopping_names_the_epoch_and_gives_the_best_weights_back(tiny_texts, tmp_path,
                                                                        capsys):  # fmt: skip
    result = kerasft.train([
        *tiny_texts, "finetune=linear_probe", "epochs=6", "optimizer.learning_rate=1e-9",
        "callbacks.early_stopping.patience=2", "regularize=dropout", "schedule=constant",
        f"output_dir={tmp_path / 'run'}",
    ])  # fmt: skip
    history = result.history
    assert history.stopped_early == ("probe",)
    assert len(history.rows) == 3
    # Of epochs that are alike the one with the lowest loss, which differs by rounding here.
    assert history.best_epoch == min(history.rows, key=lambda row: row["val_loss"])["epoch"]
    said = capsys.readouterr().out
    assert f"best epoch: {history.best_epoch} [probe]" in said
    assert "stopped early: probe" in said
    row = history.rows[history.best_epoch - 1]
    assert result.metrics["validation"]["accuracy"] == pytest.approx(row["val_accuracy"])
    assert kerasft.evaluate("run", split="validation", say=lambda line: None)["validation"][
        "accuracy"] == pytest.approx(row["val_accuracy"])  # fmt: skip


@pytest.mark.slow
def test_fewer_examples_than_the_default_batch_make_one_batch(table, capsys):
    rows = [(f"a {('bad', 'good')[i % 2]} thing {i}", ("neg", "pos")[i % 2]) for i in range(24)]
    given = [one for one in table(rows, ("text", "label")) if not one.startswith("batch_size")]
    result = kerasft.train([*given, "epochs=2", "baseline=null", "output_dir=run"])
    said = capsys.readouterr()
    assert "examples, fewer than batch_size=32, the default: each step takes all" in said.err
    assert "stage full: 2 steps" in said.out and len(result.history.rows) == 2


# --- what does not fit together ----------------------------------------------------------------


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("which", "words", "said"),
    [
        ("tiny_images", ["batch_size=31"], "batch_size must not be larger than the training"),
        ("tiny_images", ["backbone=tiny_bert", "~backbone.image_size"],
         "The data is images, but the backbone tiny bert takes text"),
        ("tiny_texts", ["backbone=tiny_resnet", "~backbone.sequence_length", "~backbone.layers"],
         "The data is text, but the backbone tiny resnet takes images"),
        ("tiny_texts", ["augment=light"], "augment.flip changes images, but the data is text"),
        ("tiny_texts", ["task=regression"], "number"),
        ("tiny_texts", ["task.class_weight={pos: 2, nought: 1}"],
         "task.class_weight names a class"),
        ("tiny_texts", ["head.pooling=cls", "backbone=tiny_gpt2"], "head.pooling=cls needs"),
        ("tiny_texts", ["backbone.family=birt"], "backbone.family must be one of"),
        ("tiny_texts", ["regularize=dropout", "regularize.dropout.rate=2"], "regularize.dropout"),
        ("tiny_texts", ["task.monitor=val_f2", "max_steps=1"], "val_f2"),
        ("tiny_texts", ["schedule.warmup=-1"], "schedule.warmup"),
        ("tiny_texts", ["finetune.full.train=most"], "finetune.full.train must be"),
        ("tiny_texts", ["finetune.full.train=[nothing_like_this]"], "matches no variable"),
        ("tiny_texts", ["optimizer.clipnorm=1"], "optimizer"),
        ("tiny_texts", ["optimizer.learning_rate=1e30", "max_steps=3", "epochs=3",
                        "optimizer=sgd", "optimizer.global_clipnorm=null"], "learning_rate"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_one_message(request, which, words, said, kerasft_cli,
                                                   tmp_path):  # fmt: skip
    ended = kerasft_cli("train", *request.getfixturevalue(which), *words, "output_dir=run")
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("error: ") == 1
    facts = tmp_path / "run" / "run.json"
    assert not facts.exists() or read_json(facts)["status"] == "failed"


@pytest.mark.slow
def test_batches_by_tokens(tiny_texts, capsys):
    result = kerasft.train([*tiny_texts, "batch_tokens=96", "output_dir=run"])
    assert len(result.history.rows) == 2
    assert "compiled step" in capsys.readouterr().out
    assert result.metrics["test"]["accuracy"] >= 0.0


@pytest.mark.slow
def test_room_for_no_text(tiny_texts, tiny_images):
    with pytest.raises(UserError, match="length of the longest training text"):
        kerasft.train([*tiny_texts, "batch_tokens=3", "output_dir=run"])
    with pytest.raises(UserError, match="Set batch_size instead"):
        kerasft.train([*tiny_images, "batch_tokens=300", "output_dir=run2"])
    with pytest.raises(UserError, match="length_grouping=true"):
        kerasft.train([*tiny_texts, "batch_tokens=96", "length_grouping=false"])


def read(*words):
    from kerasft.config.composition import compose
    from kerasft.steps.preparing import prepare

    cfg = compose(words)
    parts = prepare.cheap_parts(cfg)
    return cfg, parts, prepare.read_data(cfg, parts, None)


def test_numbers_that_cannot_be_measured_or_exported_are_refused_before_training(tmp_path):
    from kerasft.steps.preparing import prepare

    rows = "".join(f"text {i},{1_700_000_000 + i}\n" for i in range(60))
    (tmp_path / "a.csv").write_text(f"text,label\n{rows}")
    (tmp_path / "v.csv").write_text("text,label\nx,5\ny,5\n")
    words = ("data=table", "data.path=a.csv", "data.text=text", "data.label=label",
             "backbone=tiny_bert", "task=regression", "batch_size=8", "cache.directory=cache")
    for more, said in (
        (("data.validation=v.csv", "data.test=0"), r"all alike \(5\)"),
        (("export=saved_model",), r"float32, whose precision near 1\.7e\+09 is 128"),
    ):
        cfg, parts, splits = read(*words, *more)
        with pytest.raises(UserError, match=said):
            prepare.make_ready(cfg, parts, splits, prepare.load_backbone(cfg, splits))


def test_a_strategy_is_refused_before_data_is_read(tiny_images, tmp_path):
    import tensorflow as tf

    words = [*tiny_images, f"output_dir={tmp_path / 'run'}"]
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        for act in (kerasft.train, kerasft.plan):
            with pytest.raises(UserError, match=r"outside of the scope.*OneDeviceStr"):
                act(words)
    assert not (tmp_path / "run").exists()
