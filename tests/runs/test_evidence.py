"""What a run keeps is enough to export it where nothing else of it is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.rows import Column, Rows
from kerasft.runs import evidence, run_folder
from kerasft.spec import Examples, Labels, Splits
from kerasft.steps.measuring.reopening import reopen


def test_a_run_keeps_what_it_measured(tiny_text_run, texts_csv):
    kept = evidence.read(run_folder.open_run(tiny_text_run)[0])
    figures = json.loads((tiny_text_run / "metrics.json").read_text())
    finetuned = reopen(str(tiny_text_run))[1]
    assert set(kept.measured) == {"validation", "test"}
    for split, (labelled, of_network) in kept.measured.items():
        again = finetuned.figures(labelled, of_network)
        assert again["accuracy"] == pytest.approx(figures[split]["accuracy"])
    logits = finetuned.answers(None, kept.kept)["probabilities"]
    np.testing.assert_allclose(
        finetuned(kept.examples.inputs)["probabilities"], logits, atol=1e-5
    )
    texts = texts_csv.read_text("utf-8")
    assert all(text in texts for text in kept.examples.inputs)


def splits(modality, inputs, count):
    part = Examples(
        modality, inputs, np.arange(count) % 2, tuple(f"id {i}" for i in range(count))
    )
    return Splits(part, part, None, Labels("single", ("a", "b")))


@pytest.mark.parametrize(("modality", "inputs"), [
    ("text", [f"চলচ্চিত্র {i}\0" for i in range(70)]),
    ("text", [(f"a {i}", "") for i in range(70)]),
    ("images", [bytes([i, 0, 255, 0]) for i in range(70)]),
])  # fmt: skip
def test_examples_come_back(modality, inputs, tmp_path):
    folder = run_folder.RunFolder(tmp_path)
    given = splits(modality, inputs, 70)
    logits = np.random.default_rng(0).normal(size=(70, 2)).astype("float32")
    tags = [np.arange(i % 5) for i in range(70)]
    of_network = Rows.of({"logits": logits, "tags": Column.ragged(tags, group="tags", fill=-1)})
    evidence.keep(folder, given, evidence.choose(given), {"validation": of_network})
    kept = evidence.read(folder)
    rows = evidence.evenly_spaced(70, evidence.EXAMPLES)
    assert len(kept.examples) == evidence.EXAMPLES
    assert list(kept.examples.inputs) == [inputs[i] for i in rows]
    assert kept.examples.ids == tuple(f"id {i}" for i in rows)
    np.testing.assert_array_equal(kept.kept["logits"], logits[rows])
    annotations, everything = kept.measured["validation"]
    np.testing.assert_array_equal(everything["logits"], logits)
    np.testing.assert_array_equal(annotations["label"], given.train.labels)
    for place, i in enumerate(rows):
        np.testing.assert_array_equal(kept.kept.row(place)["tags"], tags[i])
        np.testing.assert_array_equal(everything.row(i)["tags"], tags[i])


def test_large_images_and_many_logits_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "MOST_BYTES", 1000)
    folder = run_folder.RunFolder(tmp_path)
    given = splits("images", [b"x" * 400] * 500, 500)
    logits = {"validation": Rows.of({"logits": np.zeros((500, 2), "float32")})}
    evidence.keep(folder, given, evidence.choose(given), logits)
    kept = evidence.read(folder)
    assert len(kept.examples) == 2
    assert len(kept.measured["validation"][1]) == 125
    assert folder.evidence.stat().st_size < 10_000


@pytest.mark.slow
def test_an_export_needs_the_run_folder_alone(tiny_text_run, tmp_path, kerasft_cli, monkeypatch):
    moved = Path(shutil.copytree(tiny_text_run, tmp_path / "elsewhere" / "run"))
    shutil.rmtree(moved / "exports", ignore_errors=True)
    cfg = (moved / "config.yaml").read_text()
    name = next(line.split(": ")[1] for line in cfg.splitlines() if ".csv" in line)
    (moved / "config.yaml").write_text(cfg.replace(name, "/nowhere/gone.csv"))
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "no cache yet"))
    target = tmp_path / "models" / "films"
    ended = kerasft_cli(
        "export", str(moved), f"export.saved_model.directory={target}",
        "export.saved_model.signatures=[classify]", "export.saved_model.temperature=auto",
        "export.saved_model.goal=recall", "export.saved_model.at_least=0.5",
        "export.saved_model.positive=pos",
    )
    assert ended.code == 0, ended.err
    assert "through serving_default, classify" in ended.out
    signature = json.loads((target / "1/assets.extra/signature.json").read_text())
    assert signature["decision"]["positive"] == "pos"
    card = (target / "1" / "README.md").read_text()
    assert "positive class: `pos`" in card
    assert "44 train" in card
    assert kerasft_cli("predict", str(target), "a fine film").code == 0


def moved_away(run: Path, folder: Path) -> Path:
    """Return a copy of a run that names no place of the machine that trained it."""
    copy = Path(shutil.copytree(run, folder / "elsewhere" / "run"))
    shutil.rmtree(copy / "exports", ignore_errors=True)
    found = 0
    for file in copy.rglob("*"):
        if file.suffix not in (".yaml", ".json"):
            continue
        text = file.read_text("utf-8")
        for place in (run, *re.findall(r"/[^\s'\"]*texts\.csv", text)):
            found += text.count(str(place))
            text = text.replace(str(place), "/nowhere/gone")
        file.write_text(text, "utf-8")
    assert found
    return copy


FORMATS = {
    "saved_model": ("1/saved_model.pb", ()), "keras": ("model.keras", ()),
    "saved_model_small": (
        "1/saved_model.pb", ("export.saved_model_small.weights=bfloat16",)),
    "preset": ("model.weights.h5", ()), "onnx": ("model.onnx", ()), "litert": ("model.tflite", ()),
}  # fmt: skip
NEEDS = {"onnx": "tf2onnx", "litert": "ai_edge_litert.interpreter"}


@pytest.mark.slow
@pytest.mark.parametrize(("run", "form"), [
    pytest.param(run, form, marks=() if run == "text" and form == "onnx" else
                 pytest.mark.slow)
    for run in ("text", "images") for form in FORMATS
])  # fmt: skip
def test_each_format_needs_the_run_folder_alone(run, form, tmp_path, kerasft_cli, request):
    if form in NEEDS:
        pytest.importorskip(NEEDS[form])
    trained = request.getfixturevalue("tiny_text_run" if run == "text" else "tiny_run")
    copy = moved_away(trained, tmp_path)
    file, further = FORMATS[form]
    ended = kerasft_cli("export", str(copy), f"export={form}", *further)
    assert ended.code == 0, ended.err
    assert "proved" in ended.out
    assert (copy / "exports" / form / file).is_file()
    if form == "saved_model_small":
        assert re.search(r"^weights in bfloat16: .* accuracy 0?1?\.\d+ before, ", ended.out, re.M)


@pytest.mark.slow
def test_missing_or_damaged_evidence_is_told(tiny_text_run, tmp_path, kerasft_cli):
    run = Path(shutil.copytree(tiny_text_run, tmp_path / "run"))
    file = run / "evidence.npz"
    whole = file.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2]):
        file.write_bytes(content)
        ended = kerasft_cli("export", str(run))
        assert ended.code == 2
        assert "evidence.npz' is damaged" in ended.err
    file.unlink()
    ended = kerasft_cli("export", str(run))
    assert ended.code == 2
    assert "has no evidence.npz" in ended.err
    assert "kerasft train --from" in ended.err
    with pytest.raises(UserError, match="has no evidence"):
        evidence.read(run_folder.RunFolder(run))
