from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from other_weights import shifted

from kerasft.artifact.fresh import ExportError
from kerasft.errors import UserError
from kerasft.exporters import preset as module
from kerasft.exporters.preset import preset
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.testing import check_export

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
    return preset(directory=tmp_path_factory.mktemp("preset") / "films", **given)


@pytest.fixture(scope="module")
def of_images(make, tmp_path_factory):
    from kerasft.testing import tiny_splits

    model, preprocess = make.images("resnet")
    images = tiny_splits("images", count=12, size=16).train.inputs
    made = preset(
        model, tmp_path_factory.mktemp("preset") / "p", preprocess=preprocess,
        task=Classification(), labels=NAMES, examples=images,
    )  # fmt: skip
    return model, preprocess, made


@pytest.mark.slow
def test_the_backbone_and_the_tokenizer_are_a_preset(export, given):
    import keras_hub

    loaded = keras_hub.models.Backbone.from_preset(str(export))
    trained = given["model"]._parts.models["network"]
    assert type(loaded) is type(trained)
    for a, b in zip(loaded.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(export))
    assert tokenizer.vocabulary_size() == given["preprocess"].tokenizer.vocabulary_size()
    # So that it can be the backbone of another run.
    from kerasft.model.backbones import preset as backbone

    assert backbone(str(export), sequence_length=24).network.count_params() > 1000


@pytest.mark.slow
def test_the_model_is_left_as_it_is(export, given):
    model = given["model"]
    assert type(model).from_config(model.get_config()).count_params() == model.count_params()


@pytest.mark.slow
def test_figures(export, texts):
    found = parity(export)
    assert (found["format"], found["examples"]) == ("preset", len(texts))
    assert found["task"] == "kerasft_task.FineTunedTask"
    assert found["preprocessor"] == "carried"
    assert found["largest_difference"]["logits"] < 1e-6
    assert found["from_raw"]["largest_difference"]["probabilities"] < 1e-6


@pytest.mark.slow
def test_the_readme_runs_without_kerasft(export, given, tmp_path):
    code = (export / "README.md").read_text("utf-8").split("```")[1].removeprefix("python\n")
    script = f"""
import sys
sys.modules["kerasft"] = None
sys.path.insert(0, ".")
{code}
import numpy
assert backbone.count_params() and tokenizer.vocabulary_size()
numpy.save(sys.argv[1], task.predict(["a good film", "bad"], verbose=0))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "out.npy"], cwd=export, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    expected = given["model"](given["preprocess"](["a good film", "bad"]), training=False)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)


@pytest.mark.slow
def test_images_become_a_task_of_kerashub(of_images, images):
    import keras_hub
    import tensorflow as tf

    model, preprocess, made = of_images
    found = parity(made)
    assert found["task"] == "keras_hub.models.ImageClassifier"
    assert not list(made.glob("*.py"))
    assert found["preprocessor"] == "carried"
    assert found["from_raw"]["largest_difference"]["probabilities"] < 0.05
    task = keras_hub.models.ImageClassifier.from_preset(str(made))
    ready = preprocess(images[3:4])
    pixels = tf.cast(ready, tf.float32)  # of the size that the network takes
    np.testing.assert_allclose(task.predict(pixels, verbose=0), model(ready), atol=1e-3)
    facts = json.loads((made / "preprocessing.json").read_text("utf-8"))
    assert facts["normalization"]["offset"] == -1.0
    assert facts["inputs"]["images"]["dtype"] == "float32"


@pytest.mark.slow
def test_a_converter_that_sees_other_images_is_left_out(make, images, tmp_path):
    # Noise of odd sizes: KerasHub cuts first and then shrinks.
    model, preprocess = make.images("resnet")
    made = preset(model, tmp_path / "p", preprocess=preprocess, task=Classification(),
                  labels=NAMES, examples=images)  # fmt: skip
    said = parity(made)["preprocessor"]
    assert said.startswith("none: with KerasHub's own, probabilities differs by")
    assert said in (made / "README.md").read_text("utf-8")
    assert not (made / "image_converter.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "attention"])
def test_another_head_comes_back_with_its_own_class(head, images, tmp_path):
    def made(features):
        if head == "mlp":
            return pooled.mlp(features, units=3, width=8)
        return pooled.linear(features, units=3, pooling="attention")

    backbone = tiny.image("resnet", image_size=16)
    folder = preset(
        assemble(backbone, made), tmp_path / "p", preprocess=backbone.preprocess,
        task=Classification(), labels=NAMES, examples=images,
    )  # fmt: skip
    assert parity(folder)["task"] == "kerasft_task.FineTunedTask"
    assert (folder / "kerasft_task.py").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["roberta", "albert", "gpt2", "llama", "mistral", "distilbert"])
def test_families_of_texts(family, make, texts, tmp_path):
    model, preprocess = make.texts(family)
    made = preset(model, tmp_path / "t", preprocess=preprocess, task=Classification(),
                  labels=NAMES, examples=texts)  # fmt: skip
    found = parity(made)
    assert found["largest_difference"]["logits"] < 1e-5
    causal = family in ("gpt2", "llama", "mistral")
    assert found["preprocessor"].startswith("none: KerasHub has none" if causal else "carried")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit", "densenet", "vgg"])
def test_families_of_images(family, make, images, tmp_path):
    model, preprocess = make.images(family, size=32)
    made = preset(model, tmp_path / "p", preprocess=preprocess, task=Classification(),
                  labels=NAMES, examples=images)  # fmt: skip
    assert parity(made)["largest_difference"]["logits"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pairs(family, make, texts, tmp_path):
    model, preprocess = make.texts(family, pair=True)
    pairs = list(zip(texts, texts[::-1], strict=True))
    made = preset(model, tmp_path / "t", preprocess=preprocess, task=Classification(),
                  labels=NAMES, examples=pairs)  # fmt: skip
    # KerasHub's shortens pairs in another way, and RoBERTa's takes the second text for a label.
    assert "packs the examples into other tokens" in parity(made)["preprocessor"]
    assert parity(made)["largest_difference"]["logits"] < 1e-5


@pytest.mark.slow
def test_half_precision_comes_back_in_float32(texts, tmp_path):
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        backbone = tiny.text("bert", sequence_length=24)
    finally:
        keras.config.set_dtype_policy(before)
    from kerasft.model.precision import in_float32

    model = in_float32(assemble(backbone, lambda f: pooled.linear(f, units=3)))
    made = preset(model, tmp_path / "t", preprocess=backbone.preprocess, task=Classification(),
                  labels=NAMES, examples=texts)  # fmt: skip
    for file in ("config.json", "task.json"):
        assert "bfloat16" not in (made / file).read_text("utf-8")
    assert parity(made)["largest_difference"]["logits"] < 1e-5


@pytest.mark.slow
def test_other_weights_are_found(given, make, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "twin", shifted(module.twin))
    with pytest.raises(ExportError, match=r"logits differs by"):
        preset(directory=tmp_path / "films", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_networks_that_are_not_of_kerashub(make, images, tmp_path):
    model, preprocess = make.images("mobilenet", size=32)
    with pytest.raises(UserError, match=r"whose backbone is KerasHub's.*Received: a keras Funct"):
        preset(model, tmp_path / "p", preprocess=preprocess, task=Classification(),
               labels=NAMES, examples=images)  # fmt: skip
    with pytest.raises(UserError, match="at least one example"):
        preset(model, tmp_path / "p", preprocess=preprocess, task=Classification(), labels=NAMES)
    with pytest.raises(UserError, match="needs the task of its network"):
        preset(model, tmp_path / "p", preprocess=preprocess, task=None, labels=NAMES,
               examples=images)  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_contract(tmp_path):
    check_export(preset, tmp_path / "made")


