from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from kerasft.artifact.fresh import ExportError
from kerasft.errors import UserError
from kerasft.exporters import onnx_file as module
from kerasft.exporters.onnx_file import onnx_file
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.testing import check_export

for package in ("onnx", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package)
NAMES = Labels("single", ("good", "খারাপ", "so, so"))


def parity(folder) -> dict:
    return json.loads((folder / "parity.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def given(make, texts):
    # DistilBERT: GELU by erfc, which ONNX lacks.
    model, preprocess = make.texts("distilbert")
    return {"model": model, "preprocess": preprocess, "task": Classification(), "labels": NAMES,
            "examples": texts}  # fmt: skip


@pytest.fixture(scope="module")
def export(given, tmp_path_factory):
    return onnx_file(directory=tmp_path_factory.mktemp("onnx") / "films", **given)


@pytest.mark.slow
def test_what_lies_in_the_folder(export, texts):
    import onnx

    files = {p.name for p in export.iterdir()}
    assert files == {"model.onnx", "preprocessing.json", "labels.txt", "parity.json",
                     "README.md", "tokenizer"}  # fmt: skip
    found = parity(export)
    assert (found["format"], found["examples"], found["opset"]) == ("onnx", len(texts), 18)
    assert found["largest_difference"]["logits"] < 1e-5
    assert found["label_flips"] == 0
    assert "no operators that tokenize" in found["not_raw"]
    assert found["not_raw"] in (export / "README.md").read_text("utf-8")
    made = onnx.load(export / "model.onnx")
    assert max(one.version for one in made.opset_import if one.domain in ("", "ai.onnx")) == 18
    sides = {i.name: [d.dim_param for d in i.type.tensor_type.shape.dim] for i in made.graph.input}
    assert sides == {key: ["batch", "positions"] for key in ("token_ids", "padding_mask")}


def test_the_readme_runs_on_any_batch(export, given, monkeypatch):
    monkeypatch.chdir(export)
    facts = json.loads((export / "preprocessing.json").read_text("utf-8"))
    ready = given["preprocess"](["a good film", "bad"])
    code = (export / "README.md").read_text("utf-8").split("```")[1].removeprefix("python\n")
    said: dict = {"inputs": {name: ready[name].numpy() for name in facts["inputs"]}}
    exec(code, said)
    logits = given["model"](ready, training=False).numpy().astype("float64")
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(said["outputs"][0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "opset"), [
    pytest.param("vit", 18, marks=pytest.mark.slow), ("resnet", 13),
])
def test_images(family, opset, make, images, tmp_path):
    # ViT: a constant from outside of the graph.
    model, preprocess = make.images(family)
    made = onnx_file(
        model, tmp_path / "p", preprocess=preprocess, task=MultiLabel(tuned=0.4), opset=opset,
        labels=Labels("multi", NAMES.names), examples=images,
    )  # fmt: skip
    found = parity(made)
    assert found["largest_difference"]["probabilities"] < 1e-5
    assert found["opset"] == opset
    facts = json.loads((made / "preprocessing.json").read_text("utf-8"))
    assert facts["inputs"] == {"images": {"dtype": "uint8", "shape": [None, 16, 16, 3]}}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "gpt2", "llama", "mistral"])
def test_families(family, make, texts, tmp_path):
    model, preprocess = make.texts(family)
    made = onnx_file(model, tmp_path / "t", preprocess=preprocess, task=Classification(),
                     labels=NAMES, examples=texts)  # fmt: skip
    assert parity(made)["largest_difference"]["logits"] < 1e-4


@pytest.mark.slow
def test_other_weights_in_the_file_are_found(given, make, tmp_path, monkeypatch):
    other, _ = make.texts("distilbert")
    kernel = other.get_layer("head_outputs").kernel
    kernel.assign(kernel.numpy()[:, [1, 0, 2]])
    right = module._convert
    monkeypatch.setattr(module, "_convert", lambda model, *rest: right(other, *rest))
    with pytest.raises(ExportError, match=r"probabilities differs by .*get another label"):
        onnx_file(directory=tmp_path / "films", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_op_that_onnx_lacks(make, images, tmp_path):
    import keras
    import tensorflow as tf

    class Unknown(keras.layers.Layer):
        def call(self, x):
            return tf.math.digamma(tf.abs(x) + 1.0)

    model, preprocess = make.images("resnet")
    odd = keras.Model(model.input, Unknown()(model.output))
    with pytest.raises(UserError, match=r"opset 18 cannot carry this network \(.*Digamma"):
        onnx_file(odd, tmp_path / "o", preprocess=preprocess, task=Classification(), labels=NAMES,
                  examples=images)  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_mistakes(given, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"opset must be from 13 to 18. Received: 5"):
        onnx_file(directory=tmp_path / "a", **given, opset=5)
    with pytest.raises(UserError, match="at least one example"):
        onnx_file(directory=tmp_path / "a", **{**given, "examples": None})
    with pytest.raises(UserError, match="needs the task of its network"):
        onnx_file(directory=tmp_path / "a", **{**given, "task": None})
    with pytest.raises(UserError, match="3 outputs, and there are 2 labels"):
        onnx_file(directory=tmp_path / "a", **{**given, "labels": Labels("single", ("a", "b"))})
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match=r"the weights take .* GiB"):
        onnx_file(directory=tmp_path / "a", **given)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match=r"pip install 'kerasft\[onnx\]'"):
        onnx_file(directory=tmp_path / "a", **given)
    assert list(tmp_path.iterdir()) == []


def test_contract(tmp_path):
    check_export(onnx_file, tmp_path / "made")


@pytest.mark.slow
def test_several_formats_of_a_run(kerasft_cli, tiny_run, tmp_path):
    pytest.importorskip("ai_edge_litert.interpreter")
    run = shutil.copytree(tiny_run, tmp_path / "run")
    ended = kerasft_cli("export", str(run), "export=[onnx,litert]", "export.onnx.opset=17")
    assert ended.code == 0, ended.err
    assert (run / "exports" / "onnx" / "model.onnx").is_file()
    assert (run / "exports" / "litert" / "model.tflite").is_file()
    assert ended.out.count("\nproved: 32 examples; largest difference ") == 2
    assert kerasft_cli("export", str(run), "export=onnx", "export.onnx.opst=1").code == 2
