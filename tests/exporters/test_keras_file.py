from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kerasft.artifact.fresh import ExportError
from kerasft.errors import UserError
from kerasft.exporters import keras_file as module
from kerasft.exporters import reload
from kerasft.exporters.keras_file import keras_file
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.testing import check_export

NAMES = Labels("single", ("good", "খারাপ", "so, so"))


@pytest.fixture(scope="module")
def given(make, texts):
    model, preprocess = make.texts("bert")
    return {"model": model, "preprocess": preprocess, "task": Classification(), "labels": NAMES,
            "examples": texts}  # fmt: skip


@pytest.fixture(scope="module")
def export(given, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # With it, Python leaves no compiled code in the folder, whatever we do.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        return keras_file(directory=tmp_path_factory.mktemp("keras") / "films", **given)


@pytest.mark.slow
def test_what_lies_in_the_folder(export, texts):
    files = {p.name for p in export.iterdir()}
    assert files == {"model.keras", "kerasft_layers.py", "preprocess", "labels.json",
                     "labels.txt", "preprocessing.json", "parity.json", "README.md"}  # fmt: skip
    found = json.loads((export / "parity.json").read_text("utf-8"))
    assert (found["format"], found["examples"]) == ("keras", len(texts))
    assert found["largest_difference"]["logits"] < 1e-6
    labels = json.loads((export / "labels.json").read_text("utf-8"))
    assert labels == {"kind": "single", "names": list(NAMES.names)}
    facts = json.loads((export / "preprocessing.json").read_text("utf-8"))
    assert all((export / file).is_file() for file in facts["tokenizer"]["files"])


@pytest.mark.slow
def test_its_preprocessing_comes_back(export, given, texts):
    from kerasft.model.preprocess import load

    again, before = load(export / "preprocess")(texts), given["preprocess"](texts)
    assert all(np.array_equal(again[key], before[key]) for key in before)


@pytest.mark.slow
def test_the_readme_runs_without_kerasft(export, given, tmp_path):
    copied = shutil.copytree(export, tmp_path / "copied")  # running it leaves compiled code there
    code = (copied / "README.md").read_text("utf-8").split("```")[1].removeprefix("python\n")
    ready = given["preprocess"](["a good film", "bad"])
    np.savez(tmp_path / "in.npz", **{key: value.numpy() for key, value in ready.items()})
    script = f"""
import sys
sys.modules["kerasft"] = None
sys.path.insert(0, ".")
{code}
import numpy
inputs = dict(numpy.load(sys.argv[1]))
numpy.save(sys.argv[2], model(inputs, training=False))
"""
    command = [sys.executable, "-c", script, tmp_path / "in.npz", tmp_path / "out.npy"]
    done = subprocess.run(command, cwd=copied, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = given["model"](ready, training=False)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)


def test_the_fresh_process_finds_no_kerasft():
    bar = reload.Bar(sys.meta_path)
    assert bar.find_spec("kerasft") is None
    assert bar.find_spec("kerasft.spec") is None
    assert bar.find_spec("numpy") is not None


@pytest.mark.slow
def test_other_weights_in_the_file_are_found(given, export, make, tmp_path, monkeypatch):
    other, _ = make.texts("bert")
    kernel = other.get_layer("head_outputs").kernel
    kernel.assign(kernel.numpy()[:, [1, 0, 2]])
    answers = {}

    def swapped(folder, form, batches, **rest):
        # What a fresh process would answer that loaded this other file.
        answers["logits"] = np.concatenate([other(b, training=False) for b in batches])
        return answers

    monkeypatch.setattr(module, "reloaded", swapped)
    with pytest.raises(ExportError, match=r"differs by .*get another label"):
        keras_file(directory=tmp_path / "films", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_layer_that_others_cannot_load(make, images, tmp_path):
    import keras

    @keras.saving.register_keras_serializable("mine")
    class Mine(keras.layers.Layer):
        __module__ = "nowhere.to_be_found"

        def call(self, x):
            return x * 2.0

    model, preprocess = make.images("resnet")
    odd = keras.Model(model.input, Mine()(model.output))
    with pytest.raises(ExportError, match=r"(?s)does not load in a fresh process.*No module named"):
        keras_file(odd, tmp_path / "k", preprocess=preprocess, task=Classification(),
                   labels=NAMES, examples=images)  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_layer_of_the_users_own(make, images, tmp_path, monkeypatch):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "my_layers.py").write_text(
        "import keras\n\n\n"
        '@keras.saving.register_keras_serializable("mine")\n'
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return x * 2.0\n"
    )
    monkeypatch.syspath_prepend(str(place))
    import keras
    import my_layers

    model, preprocess = make.images("resnet")
    odd = keras.Model(model.input, my_layers.Twice()(model.output))
    made = keras_file(odd, tmp_path / "k", preprocess=preprocess, task=Classification(),
                      labels=NAMES, examples=images)  # fmt: skip
    assert "import my_layers" in (made / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_only_its_own_folder_is_replaced(given, export, tmp_path, monkeypatch):
    copy = shutil.copytree(export, tmp_path / "films")
    said = (copy / "parity.json").read_text("utf-8")
    (copy / "parity.json").write_text(said.replace('"keras"', '"onnx"', 1), "utf-8")
    with pytest.raises(UserError, match="something else lies there"):
        keras_file(directory=copy, **given)
    with pytest.raises(UserError, match="at least one example"):
        keras_file(directory=copy, **{**given, "examples": []})
    with pytest.raises(UserError, match="3 outputs, and there are 2 labels"):
        keras_file(directory=copy, **{**given, "labels": Labels("single", ("a", "b"))})
    assert (copy / "model.keras").is_file()


@pytest.mark.slow
def test_contract(tmp_path):
    check_export(keras_file, tmp_path / "made")
