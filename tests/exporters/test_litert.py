from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kerasft.artifact.fresh import ExportError
from kerasft.errors import UserError
from kerasft.exporters import litert as module
from kerasft.exporters import tensors
from kerasft.exporters.litert import litert
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.regression import Regression
from kerasft.testing import check_export

pytest.importorskip("ai_edge_litert.interpreter")
NAMES = Labels("single", ("good", "খারাপ", "so, so"))


def parity(folder) -> dict:
    return json.loads((folder / "parity.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def given(make, texts):
    model, preprocess = make.texts("bert")
    return {"model": model, "preprocess": preprocess, "task": Classification(), "labels": NAMES,
            "examples": texts}  # fmt: skip


@pytest.fixture(scope="module")
def export(given, tmp_path_factory):
    return litert(directory=tmp_path_factory.mktemp("litert") / "films", **given)


def test_what_lies_in_the_folder(export, texts):
    files = {p.name for p in export.iterdir()}
    assert files == {"model.tflite", "preprocessing.json", "labels.txt", "parity.json",
                     "README.md", "tokenizer"}  # fmt: skip
    assert [p.name for p in export.parent.iterdir()] == ["films"]
    found = parity(export)
    assert found["format"] == "litert"
    assert found["examples"] == len(texts)
    assert found["largest_difference"]["probabilities"] < 1e-5
    assert found["label_flips"] == 0
    assert found["sizes"]["model.tflite"] == (export / "model.tflite").stat().st_size


def test_the_readme_runs_on_any_batch(export, given, monkeypatch):
    monkeypatch.chdir(export)
    facts = json.loads((export / "preprocessing.json").read_text("utf-8"))
    assert facts["inputs"]["token_ids"] == {"dtype": "int32", "shape": [None, None]}
    ready = given["preprocess"](["a good film", "bad"])
    inputs = {name: ready[name].numpy() for name in facts["inputs"]}
    code = (export / "README.md").read_text("utf-8").split("```")[1].removeprefix("python\n")
    said: dict = {"inputs": inputs}
    exec(code, said)
    expected = given["model"](ready, training=False).numpy()
    np.testing.assert_allclose(said["outputs"]["logits"], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "share"), [("float16", 0.6), ("dynamic", 0.4), ("int8", 0.4)])
def test_quantized_images(quantize, share, make, images, tmp_path):
    model, preprocess = make.images("resnet")
    made = litert(
        model, tmp_path / "small", preprocess=preprocess, task=MultiLabel(tuned=0.5),
        labels=Labels("multi", NAMES.names), examples=images, quantize=quantize,
    )  # fmt: skip
    found = parity(made)
    assert found["tolerance"] == module.TOLERANCES[quantize]
    assert 0 < found["largest_difference"]["probabilities"] <= found["tolerance"]
    assert found["sizes"]["model.tflite"] < share * found["sizes"]["weights_in_memory"]
    facts = json.loads((made / "preprocessing.json").read_text("utf-8"))
    assert facts["inputs"] == {"images": {"dtype": "uint8", "shape": [None, 16, 16, 3]}}
    assert facts["decision"]["threshold"] == 0.5


@pytest.mark.slow
def test_numbers(make, texts, tmp_path):
    model, preprocess = make.texts("gpt2", units=1)
    made = litert(
        model, tmp_path / "n", preprocess=preprocess, task=Regression(mean=1000.0, std=500.0),
        labels=Labels("number"), examples=texts,
    )  # fmt: skip
    assert set(parity(made)["largest_difference"]) == {"value", "logits"}
    assert not (made / "labels.txt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_where_an_op_needs_one_length_it_is_written_down(family, make, texts, tmp_path):
    model, preprocess = make.texts(family)
    made = litert(model, tmp_path / "l", preprocess=preprocess, task=Classification(),
                  labels=NAMES, examples=texts)  # fmt: skip
    facts = json.loads((made / "preprocessing.json").read_text("utf-8"))
    assert facts["inputs"]["token_ids"]["shape"] == [None, 24]
    assert facts["padding"]["to"] == "24 positions"
    assert parity(made)["largest_difference"]["logits"] < 1e-4


@pytest.mark.slow
def test_other_weights_in_the_file_are_found(given, make, tmp_path, monkeypatch):
    other, _ = make.texts("bert")
    kernel = other.get_layer("head_outputs").kernel
    kernel.assign(kernel.numpy()[:, [1, 0, 2]])
    right = module._convert
    monkeypatch.setattr(module, "_convert", lambda model, *rest: right(other, *rest))
    with pytest.raises(ExportError, match=r"probabilities differs by .*get another label"):
        litert(directory=tmp_path / "films", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_too_coarse_rounding_is_refused(make, images, tmp_path):
    model, preprocess = make.images("resnet")
    with pytest.raises(ExportError, match="quantize=dynamic, or allow more"):
        litert(model, tmp_path / "l", preprocess=preprocess, task=Classification(), labels=NAMES,
               examples=images, quantize="int8", tolerance=1e-6)  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_op_that_litert_lacks(tmp_path, make, images):
    import keras
    import tensorflow as tf

    class Unknown(keras.layers.Layer):
        def call(self, x):
            return tf.math.digamma(tf.abs(x) + 1.0)

    model, preprocess = make.images("resnet")
    odd = keras.Model(model.input, Unknown()(model.output))
    with pytest.raises(UserError, match=r"LiteRT cannot carry this network \(.*Digamma"):
        litert(odd, tmp_path / "l", preprocess=preprocess, task=Classification(), labels=NAMES,
               examples=images)  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_places(given, export, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"something else lies there.*Received: a folder with n"):
        litert(directory=tmp_path / "mine", **given)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Received: a file"):
        litert(directory=tmp_path / "file", **given)
    with pytest.raises(UserError, match="cannot be written"):
        litert(directory=tmp_path / "file" / "deeper", **given)
    before = (export / "model.tflite").stat().st_ino
    assert litert(directory=export, **given) == export
    assert (export / "model.tflite").stat().st_ino != before
    assert [p.name for p in export.parent.iterdir()] == ["films"]


def test_what_killed_exports_left(tmp_path):
    """The export that one had moved aside goes back; what is young may still be written."""
    final = tmp_path / "films"
    old, young = tmp_path / ".films-part-a", tmp_path / ".films-part-b"
    (old / "before").mkdir(parents=True)
    (old / "before" / "parity.json").write_text('{"format": "litert"}')
    (young / "new").mkdir(parents=True)
    os.utime(old, (1e9, 1e9))
    with pytest.raises(ZeroDivisionError), tensors.placed(final, "litert") as folder:
        (folder / "model.tflite").write_text("half")
        _ = 1 / 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [".films-part-b", "films"]
    assert [p.name for p in final.iterdir()] == ["parity.json"]


def earlier_export(place: Path) -> Path:
    place.mkdir()
    (place / "parity.json").write_text('{"format": "litert"}')
    return place


@pytest.mark.skipif(sys.platform != "linux", reason="needs a system that exchanges names")
def test_an_export_that_is_replaced_is_never_missing(tmp_path, monkeypatch):
    """A kill between moving one away and the other one in would leave neither."""
    final, moved, rename = earlier_export(tmp_path / "films"), [], Path.rename
    monkeypatch.setattr(Path, "rename", lambda one, to: (moved.append(one), rename(one, to))[1])
    with tensors.placed(final, "litert") as folder:
        (folder / "model.tflite").write_text("new")
    assert moved and final not in moved
    assert [p.name for p in final.iterdir()] == ["model.tflite"]
    assert [p.name for p in tmp_path.iterdir()] == ["films"]


def test_without_names_that_change_places_an_export_is_replaced_all_the_same(
    tmp_path, monkeypatch
):
    final = earlier_export(tmp_path / "films")
    monkeypatch.setattr(tensors, "exchange", lambda one, other: False)
    with tensors.placed(final, "litert") as folder:
        (folder / "model.tflite").write_text("new")
    assert [p.name for p in final.iterdir()] == ["model.tflite"]
    assert [p.name for p in tmp_path.iterdir()] == ["films"]


def test_of_two_exports_at_once_the_last_one_stays(tmp_path):
    final = tmp_path / "films"
    with tensors.placed(final, "litert") as slow:
        (slow / "model.tflite").write_text("slow")
        with tensors.placed(final, "litert") as fast:
            (fast / "model.tflite").write_text("fast")
    assert (final / "model.tflite").read_text() == "slow"
    assert [p.name for p in tmp_path.iterdir()] == ["films"]


def test_an_export_that_cannot_be_put_into_place_leaves_the_earlier_one(tmp_path, monkeypatch):
    final = tmp_path / "films"
    final.mkdir()
    (final / "parity.json").write_text('{"format": "litert"}')
    rename = Path.rename

    def fails(self, target):
        if self.name == "new":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(UserError, match="Input/output error"), tensors.placed(final, "litert"):
        pass
    assert [p.name for p in final.iterdir()] == ["parity.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["films"]


def test_mistakes(given, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"must be null, float16, dynamic or int8.*'int8'"):
        litert(directory=tmp_path / "a", **given, quantize="int")
    with pytest.raises(UserError, match="at least one example"):
        litert(directory=tmp_path / "a", **{**given, "examples": []})
    with pytest.raises(UserError, match="3 outputs, and there are 2 labels"):
        litert(directory=tmp_path / "a", **{**given, "labels": Labels("single", ("a", "b"))})
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(UserError, match=r"pip install 'kerasft\[litert\]'"):
        litert(directory=tmp_path / "a", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_contract(tmp_path):
    check_export(partial(litert, quantize="dynamic"), tmp_path / "made")
