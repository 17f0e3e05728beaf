from __future__ import annotations

import io
import json
import shutil
import sys

import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.artifact import replay
from kerasft.artifact.layout import as_inputs, versions
from kerasft.artifact.loading import load_export
from kerasft.exporters.parity import ExportError, _near_ties, certify
from kerasft.exporters.saved_model import saved_model
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.regression import Regression

TEXTS = ["a good film", "", "naïve café 日本語 🙂", "চমৎকার নাটক", "word " * 200, "A GOOD FILM!", "?"]
NAMES = ("good", "খারাপ", "so, so")


def picture(mode: str, size: tuple[int, int], kind: str) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(sum(size)).integers(0, 255, (size[1], size[0], 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").convert(mode).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [
        picture("RGB", (40, 30), "JPEG"),
        picture("L", (17, 50), "JPEG"),
        picture("RGBA", (64, 64), "PNG"),
        picture("L", (9, 9), "PNG"),
        picture("RGB", (33, 20), "BMP"),
    ]


class Decode:
    """The smallest preprocessing of pictures."""

    modality = "images"
    pair = False
    height = width = 16

    def __call__(self, raw):
        import tensorflow as tf

        def one(encoded):
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            image.set_shape([None, None, 3])
            return tf.image.resize(image, (16, 16)) / 255

        return tf.map_fn(one, raw, fn_output_signature=tf.TensorSpec([16, 16, 3]))

    def save(self, directory):
        raise NotImplementedError


def network(units: int, dtype: str = "float32"):
    import keras

    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, dtype=dtype)(inputs)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
    return keras.Model(inputs, keras.layers.Dense(units, dtype=dtype)(x))


@pytest.fixture(scope="module")
def image_export(tmp_path_factory, pictures):
    labels = Labels("single", NAMES)
    return saved_model(
        network(3), tmp_path_factory.mktemp("pictures"), preprocess=Decode(),
        task=Classification(), labels=labels, examples=pictures,
    )  # fmt: skip


def test_what_lies_in_the_artifact(image_export):
    assert image_export.name == "1"
    extra = image_export / "assets.extra"
    assert (extra / "labels.txt").read_text("utf-8").split("\n")[:3] == list(NAMES)
    signature = json.loads((extra / "signature.json").read_text("utf-8"))
    assert signature["labels"] == list(NAMES)
    assert signature["inputs"] == {"image_bytes": {"dtype": "string", "shape": [None]}}
    assert signature["outputs"]["probabilities"] == {"dtype": "float32", "shape": [None, 3]}
    assert set(signature["outputs"]) == {"probabilities", "label", "score"}
    assert signature["image_size"] == [16, 16]
    report = json.loads((extra / "parity.json").read_text("utf-8"))
    assert report["examples"] == report["singly"] == 5
    assert report["largest_difference"]["probabilities"] < 1e-5
    assert report["label_flips"] == 0
    # Nothing of the writing is left, and others may read the folder.
    assert [p.name for p in image_export.parent.iterdir()] == ["1"]
    assert image_export.stat().st_mode & 0o400


def test_each_variable_is_kept_once(image_export):
    import tensorflow as tf

    kept = [name for name, _ in tf.train.list_variables(str(image_export / "variables/variables"))]
    assert len([name for name in kept if "VARIABLE_VALUE" in name]) == len(network(3).variables)


def test_an_artifact_that_only_python_can_load_is_refused(image_export, pictures, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.model, decode = network(3), Decode()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes):
        return {"probabilities": tf.nn.softmax(module.model(decode(image_bytes)))}

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": serve})
    shutil.copytree(image_export / "assets.extra", tmp_path / "1" / "assets.extra")
    outputs = load_export(tmp_path)(pictures)
    with pytest.raises(ExportError, match="does not run in a fresh process without Keras"):
        certify(tmp_path / "1", np.array(pictures, object), outputs)


def test_the_fresh_process_finds_no_keras():
    bar = replay.Bar(sys.meta_path)
    assert bar.find_spec("keras") is None
    assert bar.find_spec("kerasft.spec") is None
    assert bar.find_spec("numpy") is not None


def test_a_label_within_the_tolerance_of_another_is_a_tie():
    p = {"probabilities": np.array([[0.5, 0.49, 0.01], [0.9, 0.1, 0.0]])}
    assert _near_ties(p, {"kind": "single"}, 0.01).tolist() == [True, False]
    assert _near_ties(p, {"kind": "multi", "threshold": 0.11}, 0.02).tolist() == [False, True]
    assert not _near_ties({"value": np.zeros(2)}, {"kind": "number"}, 0.01)


def test_an_export_predicts(image_export, pictures, tmp_path):
    predictor = load_export(image_export.parent)
    assert predictor.path == image_export
    outputs = predictor(pictures)
    assert outputs["probabilities"].shape == (5, 3)
    assert outputs["label"][0].decode() in NAMES
    file = tmp_path / "a.jpg"
    file.write_bytes(pictures[0])
    np.testing.assert_allclose(
        predictor([str(file)])["probabilities"], outputs["probabilities"][:1], atol=1e-6
    )
    names = predictor.artifact.signatures["labels"]()["labels"].numpy()
    assert [name.decode() for name in names] == list(NAMES)
    with pytest.raises(UserError, match="cannot read one of the examples 0 to 0"):
        predictor([b"no picture"])
    with pytest.raises(UserError, match="nothing to predict"):
        predictor([])
    with pytest.raises(UserError, match="takes image_bytes"):
        predictor([(b"a", b"b")])


def test_an_artifact_that_disagrees_is_refused(image_export, pictures, tmp_path):
    outputs = load_export(image_export)(pictures)
    wrong = outputs | {"label": outputs["label"][::-1].copy()}
    wrong["label"][0] = b"other"
    wrong["probabilities"] = outputs["probabilities"] + np.float32(0.01)
    copy = shutil.copytree(image_export, tmp_path / "1")
    with pytest.raises(ExportError, match=r"probabilities differs by 0\.01.*another label"):
        certify(copy, np.array(pictures, object), wrong)
    report = json.loads((copy / "assets.extra" / "parity.json").read_text())
    assert report["label_flips"] >= 1
    assert report["largest_difference"]["probabilities"] == pytest.approx(0.01, rel=1e-3)


def test_preprocessing_that_differs_in_the_server_leaves_nothing(tmp_path, pictures):
    class Unlike(Decode):
        calls = 0

        def __call__(self, raw):
            # Another factor each time it is traced: for the artifact, and for the comparison.
            type(self).calls += 1
            return super().__call__(raw) * float(self.calls)

    with pytest.raises(ExportError, match="disagrees"):
        saved_model(
            network(1), tmp_path, preprocess=Unlike(), labels=Labels("number"),
            task=Regression(mean=1000.0, std=500.0), examples=pictures,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_versions_and_places(tmp_path):
    given = {
        "preprocess": Decode(), "task": Classification(), "labels": Labels("single", NAMES),
    }  # fmt: skip
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert saved_model(network(3), tmp_path, **given).name == "8"
    assert versions(tmp_path) == [7, 8]
    with pytest.raises(UserError, match="there already"):
        saved_model(network(3), tmp_path, version=7, **given)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        saved_model(network(3), file / "deeper", **given)
    with pytest.raises(UserError, match=r"no export at .*saved_model\.pb is missing"):
        load_export(tmp_path / "notes")


def test_half_precision_exports_float32_outputs(tmp_path, pictures):
    path = saved_model(
        network(3, "mixed_bfloat16"), tmp_path, preprocess=Decode(), task=MultiLabel(tuned=0.3),
        labels=Labels("multi", NAMES), examples=pictures,
    )  # fmt: skip
    signature = json.loads((path / "assets.extra" / "signature.json").read_text("utf-8"))
    assert signature["threshold"] == 0.3
    assert signature["outputs"]["probabilities"]["dtype"] == "float32"
    report = json.loads((path / "assets.extra" / "parity.json").read_text())
    assert report["tolerance"] == 2e-2
    outputs = load_export(path)(pictures)
    np.testing.assert_array_equal(outputs["labels"], outputs["probabilities"] >= 0.3)


@pytest.mark.parametrize(("family", "pair"), [
    ("bert", True), pytest.param("gpt2", False, marks=pytest.mark.slow),
])  # fmt: skip
def test_text_goes_in_as_it_is(family, pair, tmp_path):
    from kerasft.model import tiny
    from kerasft.model.assemble import assemble
    from kerasft.model.heads import linear

    backbone = tiny.text(family, sequence_length=24)
    preprocess = backbone.preprocess.paired(pair)
    model = assemble(backbone, lambda features: linear(features, units=3))
    examples = [(a, b) for a, b in zip(TEXTS, TEXTS[::-1], strict=True)] if pair else TEXTS
    path = saved_model(
        model, tmp_path, preprocess=preprocess, task=Classification(),
        labels=Labels("single", NAMES), examples=examples,
    )  # fmt: skip
    report = json.loads((path / "assets.extra" / "parity.json").read_text())
    assert report["examples"] == len(TEXTS)
    assert report["label_flips"] == 0
    predictor = load_export(path)
    assert list(predictor.signature["inputs"]) == (["text", "text_pair"] if pair else ["text"])
    assert predictor.signature["sequence_length"] == 24
    assert predictor(examples)["probabilities"].shape == (len(TEXTS), 3)


def test_inputs_keep_every_byte():
    signature = {"modality": "text", "inputs": {"text": {}, "text_pair": {}}}
    columns = as_inputs([("ক্ষ", "b\0"), ("", "d")], signature)
    assert columns == {"text": ["ক্ষ".encode(), b""], "text_pair": [b"b\0", b"d"]}
