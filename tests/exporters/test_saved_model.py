"""What a SavedModel of ours takes, answers and refuses."""

from __future__ import annotations

import io
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from kerasft.artifact.comparison import apart
from kerasft.artifact.fresh import ask
from kerasft.artifact.golden import read_golden
from kerasft.artifact.layout import as_inputs, read_signature
from kerasft.artifact.loading import load_export
from kerasft.config.composition import compose
from kerasft.errors import UserError
from kerasft.exporters import card
from kerasft.exporters.saved_model import check_early, saved_model
from kerasft.exporters.served import Served, raw_examples
from kerasft.exporters.signatures import inputs_of, signatures_of
from kerasft.serving import ops
from kerasft.serving.verify import Export
from kerasft.spec import Labels
from kerasft.steps.preparing.prepare import build_task
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.regression import Regression

NAMES = ("good", "খারাপ", "so, so")
SINGLE = Labels("single", NAMES)


@pytest.fixture(scope="module")
def model(make):
    return make.images()


@pytest.fixture(scope="module")
def image_export(tmp_path_factory, make, model, images):
    network, preprocess = model
    return saved_model(
        network, tmp_path_factory.mktemp("images"), preprocess=preprocess,
        task=Classification(), labels=SINGLE, name="shapes", licence="CC0-1.0",
        evidence=make.evidence(network, preprocess, images, SINGLE),
    )  # fmt: skip


def test_what_lies_in_the_artifact(image_export):
    assert image_export.name == "1"
    extra = image_export / "assets.extra"
    assert (extra / "labels.txt").read_text("utf-8").split("\n")[:3] == list(NAMES)
    signature = read_signature(image_export)
    assert signature["labels"] == list(NAMES)
    assert signature["image_size"] == [16, 16]
    assert set(signature["signatures"]) == {"serving_default", "tensors", "classify", "embed"}
    default = signature["signatures"]["serving_default"]
    assert default["inputs"] == {"image_bytes": {"dtype": "string", "shape": [None]}}
    assert default["outputs"] == {
        "label": {"dtype": "string", "shape": [None]},
        "probabilities": {"dtype": "float32", "shape": [None, 3]},
        "score": {"dtype": "float32", "shape": [None]},
        "top_labels": {"dtype": "string", "shape": [None, 3]},
        "top_scores": {"dtype": "float32", "shape": [None, 3]},
    }
    tensors = signature["signatures"]["tensors"]
    assert tensors["inputs"] == {"images": {"dtype": "uint8", "shape": [None, 16, 16, 3]}}
    report = json.loads((extra / "parity.json").read_text("utf-8"))
    assert report["passed"] is True
    assert (report["examples"], report["singly"]) == (15, 8)
    assert report["metric"] == {"name": "accuracy", "examples": 15, "run": 1.0, "export": 1.0}
    for found in report["signatures"].values():
        assert max(found["largest_difference"].values()) < 1e-5
        assert found["label_flips"] == 0
    assert "CC0-1.0" in (image_export / "README.md").read_text("utf-8")
    # Nothing of the writing is left, and others may read the folder.
    assert sorted(p.name for p in image_export.parent.iterdir()) == ["1", "serving"]
    assert image_export.stat().st_mode & 0o400


def test_each_variable_is_kept_once(image_export, model):
    import tensorflow as tf

    kept = [name for name, _ in tf.train.list_variables(str(image_export / "variables/variables"))]
    assert len([name for name in kept if "VARIABLE_VALUE" in name]) == len(model[0].weights)


def test_each_signature_is_called_as_a_server_calls_it(image_export):
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.saved_model.fingerprinting import read_fingerprint

    saved = saved_model_pb2.SavedModel.FromString((image_export / "saved_model.pb").read_bytes())
    found = saved.meta_graphs[0].signature_def
    methods = {name: one.method_name for name, one in found.items() if not name.startswith("__")}
    assert methods == {
        "serving_default": "tensorflow/serving/predict", "tensors": "tensorflow/serving/predict",
        "embed": "tensorflow/serving/predict", "classify": "tensorflow/serving/classify",
    }  # fmt: skip
    for name in methods:
        both = [*found[name].inputs.values(), *found[name].outputs.values()]
        assert all(tensor.tensor_shape.dim[0].size == -1 for tensor in both), name
    assert read_fingerprint(str(image_export)).signature_def_hash


@pytest.mark.slow
def test_every_signature_answers_alike(image_export, model, images):
    network, preprocess = model
    served = Served(network, preprocess, Classification(), SINGLE)
    raw = raw_examples(images, "images")
    names = ["serving_default", "tensors", "classify", "embed"]
    answers = ask(image_export, [(name, inputs_of(served, name, raw)) for name in names])
    default, tensors, classify, embed = answers.outputs
    assert apart(tensors["probabilities"], default["probabilities"]) < 1e-6
    assert apart(classify["scores"], default["probabilities"]) < 1e-6
    assert classify["classes"].tolist() == [[n.encode() for n in NAMES]] * len(images)
    assert default["top_labels"][:, 0].tolist() == default["label"].tolist()
    assert (np.diff(default["top_scores"], axis=-1) <= 0).all()
    # The head's last layer on the features gives what the whole network gives.
    kernel, bias = network.get_layer("head_outputs").get_weights()
    logits = network(preprocess(np.array(images, object).tolist()), training=False)
    assert apart(embed["embedding"] @ kernel + bias, logits.numpy()) < 1e-5


@pytest.mark.slow
def test_what_is_no_image_fails_its_request_alone(image_export, images):
    def saved(mode, kind, **how):
        file = io.BytesIO()
        image.convert(mode).save(file, kind, **how)
        return file.getvalue()

    image, good = Image.open(io.BytesIO(images[0])), images[0]
    moving = {"save_all": True, "append_images": [image.rotate(90)]}
    sound = b"RIFF\x24\0\0\0WAVEfmt " + bytes(28)
    # What is asked, and what the message says.
    cases = [
        ([good, b"<html>", images[1], b"", sound],
         ["no JPEG, PNG, GIF, BMP, WebP file, at these places:", "[1 3 4]"]),
        ([good, saved("RGB", "WEBP", **moving)], ["an animated WebP", "[1]"]),
        ([saved("RGBA", "WEBP", **moving)], ["an animated WebP", "[0]"]),
        ([good, saved("P", "BMP"), saved("1", "BMP"), saved("L", "BMP"), saved("RGBA", "BMP")],
         ["a BMP with a palette or packed pixels; save it as PNG", "[1 2]"]),
        # Broken further in: the decoder says what, and cannot say where.
        ([good, good[:200]], ["jpeg"]),
        ([good, images[3][:200]], ["PNG"]),
        ([b"\x89PNG and no more"], ["PNG"]),
    ]  # fmt: skip
    asked = [given for given, _ in cases] + [[good]]
    answers = ask(image_export, [
        ("serving_default", {"image_bytes": np.array(given, object)}) for given in asked
    ])  # fmt: skip
    for (_, said), error in zip(cases, answers.errors, strict=False):
        assert all(words.lower() in error.lower() for words in said), error
    assert answers.errors[-1] is None
    assert answers.outputs[-1]["label"][0].decode() in NAMES


@pytest.mark.slow
def test_transparency_is_left_out_alike_whatever_holds_it(image_export, images):
    def saved(kind, **how):
        file = io.BytesIO()
        Image.fromarray(pixels, "RGBA").save(file, kind, **how)
        return file.getvalue()

    pixels = np.random.default_rng(3).integers(0, 255, (16, 16, 4), np.uint8)
    opaque = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., :3])).save(opaque, "PNG")
    noted = {"icc_profile": b"x" * 200, "lossless": True, "exact": True}
    made = [saved("PNG"), saved("WEBP", lossless=True, exact=True), saved("WEBP", **noted),
            opaque.getvalue()]
    answers = load_export(image_export)(made)["probabilities"]
    assert apart(answers, np.repeat(answers[:1], 4, 0)) < 1e-6


@pytest.mark.every(9)
@pytest.mark.parametrize("value", range(1, 9))
def test_a_image_that_is_stored_turned_is_answered_as_the_upright_one(image_export, value):
    pixels = np.random.default_rng(5).integers(0, 255, (30, 18, 3), np.uint8)
    # The same turn undoes itself, but for the quarters.
    back = {6: 8, 8: 6}.get(value, value)
    turns = [None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270",
             "TRANSVERSE", "ROTATE_90"]  # fmt: skip
    image = Image.fromarray(pixels)
    stored = image.transpose(Image.Transpose[turns[back - 1]]) if back > 1 else image
    exif = Image.Exif()
    exif[0x0112] = value
    made = []
    for kind, how in (("PNG", {}), ("WEBP", {"lossless": True})):
        for one, note in ((image, {}), (stored, {"exif": exif})):
            file = io.BytesIO()
            one.save(file, kind, **how, **note)
            made.append(file.getvalue())
    answers = load_export(image_export)(made)["probabilities"]
    # Rows of one batch may be rounded otherwise than one another.
    for other in answers[1:]:
        np.testing.assert_allclose(other, answers[0], rtol=2e-6)


@pytest.mark.slow
def test_golden_requests_hold_what_was_answered(image_export):
    golden, tolerance = read_golden(image_export)
    assert tolerance == 1e-4
    counts = {len(next(iter(one.inputs.values()))) for one in golden}
    assert counts == {1, 4}
    answers = ask(image_export, [(one.signature, one.inputs) for one in golden])
    for one, outputs in zip(golden, answers.outputs, strict=True):
        assert outputs.keys() == one.outputs.keys()
        assert all(apart(outputs[key], value) <= 1e-6 for key, value in one.outputs.items())


def test_an_export_predicts(image_export, images, tmp_path):
    predictor = load_export(image_export.parent)
    assert predictor.path == image_export
    outputs = predictor(images)
    assert outputs["probabilities"].shape == (15, 3)
    assert outputs["label"][0].decode() in NAMES
    file = tmp_path / "a.jpg"
    file.write_bytes(images[0])
    np.testing.assert_allclose(
        predictor([str(file)])["probabilities"], outputs["probabilities"][:1], atol=1e-6
    )
    with pytest.raises(UserError, match="cannot read one of the examples 0 to 0"):
        predictor([b"no image"])
    with pytest.raises(UserError, match="nothing to predict"):
        predictor([])
    with pytest.raises(UserError, match="takes image_bytes"):
        predictor([(b"a", b"b")])
    with pytest.raises(UserError, match=r"Received: 2 in example 1"):
        predictor([images[0], (b"a", b"b")])
    with pytest.raises(UserError, match=r"image '.*none.png' cannot be read: No such file"):
        predictor([str(tmp_path / "none.png")])


@pytest.mark.slow
def test_several_labels_are_decided_at_the_tuned_thresholds(make, tmp_path, images):
    network, preprocess = make.images()
    labels = Labels("multi", NAMES)
    evidence = make.evidence(network, preprocess, images, labels)
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=MultiLabel(tuned=0.3), labels=labels,
        evidence=evidence, temperature="auto", goal="recall", at_least=0.9,
        signatures=["serving_default"],
    )  # fmt: skip
    signature = read_signature(path)
    assert set(signature["signatures"]) == {"serving_default"}
    decision = signature["decision"]
    assert (decision["goal"], decision["at_least"]) == ("recall", 0.9)
    assert decision["temperature"] != 1.0
    assert all(one["recall"] >= 0.9 for one in decision["validation"]["classes"].values())
    task = MultiLabel(tuned=0.3)
    figures = task.figures(task.statistics(*evidence.measured["validation"], labels), labels)
    changed = decision["validation"]["figures"]["f1_micro"]
    assert changed["before"] == pytest.approx(figures["f1_micro"])
    assert changed["after"] != pytest.approx(figures["f1_micro"])
    assert f"| f1_micro | {changed['before']:.4f} | {changed['after']:.4f} |" in (
        path / "README.md").read_text("utf-8")  # fmt: skip
    outputs = load_export(path)(images)
    cuts = np.array([decision["thresholds"][name] for name in NAMES], np.float32)
    np.testing.assert_array_equal(outputs["labels"], outputs["probabilities"] >= cuts)
    logits = evidence.kept["logits"] / decision["temperature"]
    np.testing.assert_allclose(outputs["probabilities"], 1 / (1 + np.exp(-logits)), atol=1e-5)


@pytest.mark.slow
def test_a_threshold_of_one_class_changes_the_figures(make, tmp_path, images):
    """The figures are those of the labels that are served, not of the likeliest classes."""
    network, preprocess = make.images()
    evidence = make.evidence(network, preprocess, images, SINGLE)
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=Classification(), labels=SINGLE,
        evidence=evidence, goal="recall", at_least=1.0, positive=NAMES[1],
        signatures=["serving_default"],
    )  # fmt: skip
    decision = read_signature(path)["decision"]
    figures, found = decision["validation"]["figures"], decision["validation"]["classes"][NAMES[1]]
    assert found["recall"] == 1.0
    assert figures["accuracy"]["after"] != figures["accuracy"]["before"]
    annotations, kept = evidence.measured["validation"]
    y, logits = annotations["label"], kept["logits"]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    positive = probabilities[:, 1] >= decision["thresholds"][NAMES[1]]
    others = np.where(logits[:, 0] >= logits[:, 2], 0, 2)
    decided = np.where(positive, 1, others)
    assert figures["accuracy"]["after"] == pytest.approx((decided == y).mean())
    labels = [one.decode() for one in load_export(path)(images)["label"]]
    right = np.mean([NAMES.index(one) == true
                     for one, true in zip(labels, evidence.examples.labels, strict=True)])
    metric = json.loads((path / "assets.extra" / "parity.json").read_text())["metric"]
    assert metric["export"] == metric["run"] == pytest.approx(right)


@pytest.mark.slow
def test_a_fixed_temperature_needs_no_evidence_and_moves_the_threshold(make, tmp_path, images):
    network, preprocess = make.images()
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=MultiLabel(threshold=0.2),
        labels=Labels("multi", NAMES), examples=images, temperature=3.0,
        signatures=["serving_default"],
    )  # fmt: skip
    signature = read_signature(path)
    assert signature["decision"]["temperature"] == 3.0
    assert signature["threshold"] == pytest.approx(1 / (1 + 4 ** (1 / 3)))  # its logit is -ln 4
    outputs = load_export(path)(images)
    told = np.float32(signature["threshold"])
    np.testing.assert_array_equal(outputs["labels"], outputs["probabilities"] >= told)


@pytest.mark.slow
def test_half_precision_exports_float32_outputs(tmp_path, images):
    import keras

    from kerasft.model import tiny
    from kerasft.model.assemble import assemble
    from kerasft.model.heads.pooled import linear

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        backbone = tiny.image(image_size=16)
        network = assemble(backbone, lambda features: linear(features, units=3))
    finally:
        keras.config.set_dtype_policy(before)
    path = saved_model(
        network, tmp_path, preprocess=backbone.preprocess, task=MultiLabel(tuned=0.3),
        labels=Labels("multi", NAMES), examples=images,
    )  # fmt: skip
    signature = read_signature(path)
    assert signature["threshold"] == 0.3
    for one in signature["signatures"].values():
        assert {spec["dtype"] for spec in one["outputs"].values()} <= {"float32", "string", "bool"}
    assert json.loads((path / "assets.extra" / "parity.json").read_text())["tolerance"] == 2e-2
    outputs = load_export(path)(images)
    np.testing.assert_array_equal(outputs["labels"], outputs["probabilities"] >= 0.3)


@pytest.mark.slow
def test_a_number_is_regressed(make, texts, tmp_path):
    network, preprocess = make.texts(units=1)
    labels = Labels("number")
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=Regression(mean=1000.0, std=500.0),
        labels=labels, examples=texts, signatures=["regress"],
    )  # fmt: skip
    signature = read_signature(path)
    assert signature["signatures"]["regress"]["method"] == "regress"
    assert signature["spread"] == 500.0
    assert signature["signatures"]["regress"]["outputs"] == {
        "outputs": {"dtype": "float32", "shape": [None]}
    }
    assert (path / "assets.extra" / "labels.txt").read_text() == ""
    assert abs(load_export(path)(["a film"])["value"][0] - 1000) < 5000


@pytest.mark.slow
def test_pairs_and_buckets(make, texts, tmp_path):
    network, preprocess = make.texts(pair=True)
    pairs = [("", ""), ("the film", ""), *zip(texts, texts[::-1], strict=True)]
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=Classification(), labels=SINGLE,
        examples=pairs, buckets=[24, 12, 16], golden=8,
    )  # fmt: skip
    signature = read_signature(path)
    default = signature["signatures"]["serving_default"]
    assert list(default["inputs"]) == ["text", "text_pair"]
    assert (signature["sequence_length"], signature["buckets"]) == (24, [12, 16, 24])
    golden, _ = read_golden(path)
    widths = {one.inputs["token_ids"].shape[1] for one in golden if one.signature == "tensors"}
    assert widths <= {12, 16, 24}
    assert len(widths) > 1
    assert load_export(path)(pairs)["probabilities"].shape == (len(pairs), 3)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if not shutil.which("mount") or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True
    ).returncode:
        pytest.skip("a file system can be mounted by root on Linux alone")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("share", [
    pytest.param(0.05, marks=pytest.mark.slow), 0.9,
])  # fmt: skip
def test_a_full_disk_leaves_the_versions_that_were_there(share, model, small_disk):
    network, preprocess = model

    def export():
        return saved_model(
            network, small_disk / "shapes", preprocess=preprocess, task=Classification(),
            labels=SINGLE, signatures=["serving_default"],
        )  # fmt: skip

    first = export()
    size = sum(file.stat().st_size for file in first.rglob("*") if file.is_file())
    filler, free = small_disk / "filler", shutil.disk_usage(small_disk).free
    filler.write_bytes(bytes(free - int(size * share)))
    with pytest.raises(UserError, match=r"cannot be written to .*: No space left on device. Ch"):
        export()
    assert sorted(p.name for p in first.parent.iterdir()) == ["1", "serving"]
    filler.unlink()
    assert export().name == "2"


def test_the_card_tells_figures_and_limits(image_export, tmp_path):
    about = {"metrics": {"validation": {"accuracy": 0.91234, "threshold": 0.5, "matrix": [[1]]},
                         "test": {"accuracy": 0.9, "f1_macro": None}}}  # fmt: skip
    signature = read_signature(image_export)
    read = {}
    for limits in (None, "Not for photographs."):
        file = card.write(tmp_path, signature, None, about, licence=None, limits=limits)
        text = file.read_text("utf-8")
        read[limits] = text.partition("## Limits\n\n")[2].partition("\n\n## ")[0]
    assert read["Not for photographs."] == "Not for photographs."
    assert "None were stated" in read[None]
    table = "| | validation | test |\n|---|---|---|\n| accuracy | 0.9123 | 0.9000 |\n"
    assert table in text
    assert "threshold |" not in text
    assert "## Weights" not in text


FORMS = {
    "classification": ("classify", "regress"), "multi_label": ("classify", "generate"),
    "regression": ("regress", "classify"), "multi_regression": ("embed", "regress"),
    "detection": ("object_detection_api", "class_map"),
    "segmentation": ("class_map", "object_detection_api"), "tagging": ("tensors", "classify"),
    "causal_lm": ("generate", "classify"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_which_signatures_a_task_has_is_known_before_training(name):
    task = build_task(compose([f"task={name}"]))
    may, may_not = FORMS[name]
    check_early(task=task, signatures=["serving_default", "tensors", may])
    with pytest.raises(UserError, match=f"has no signature '{may_not}'. Allowed: .*{may}"):
        check_early(task=task, signatures=["serving_default", may_not])


REFUSED = {
    "signatures=[serving_defualt]": (
        {"signatures": ["serving_defualt"]}, "no signature 'serving_defualt'.*Did you mean"),
    "a regression of classes": (
        {"signatures": ["regress"]}, "Classification has no signature 'regress'. Allowed: serving"),
    "too few labels": (
        {"labels": Labels("single", NAMES[:2])}, "3 outputs, and there are 2 labels"),
    "no task": ({"task": None}, "needs the task of its network"),
    "buckets of images": ({"buckets": [16]}, "buckets are lengths of texts"),
    "a goal without evidence": ({"goal": "f1"}, "kept of its validation split"),
    "heat without evidence": ({"temperature": "auto"}, "kept of its validation split"),
    "no heat": ({"temperature": -1}, "number above 0, or 'auto'. Received: -1"),
    "negative golden": ({"golden": -1}, "golden must be at least 0"),
    "no top": ({"top_k": 0}, "top_k must be at least 1"),
    "warm-up of nobody": ({"warm_up": [0]}, "batch sizes above 0. Received: 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(case, model, tmp_path):
    network, preprocess = model
    given, words = REFUSED[case]
    options = {"task": Classification(), "labels": SINGLE, **given}
    with pytest.raises(UserError, match=words):
        saved_model(network, tmp_path / "export", preprocess=preprocess, **options)
    assert not (tmp_path / "export").exists()


@pytest.mark.slow
def test_a_head_without_pooled_features_has_no_embedding(tmp_path):
    import keras

    from kerasft.model import tiny
    from kerasft.model.assemble import assemble

    backbone = tiny.image(image_size=16)
    network = assemble(backbone, lambda features: keras.layers.Dense(3, name="head_outputs")(
        keras.layers.GlobalAveragePooling1D(name="head_average")(features.sequence)))
    served = Served(network, backbone.preprocess, Classification(), SINGLE)
    assert "embed" not in signatures_of(served)
    with pytest.raises(UserError, match="'embed' gives the output of a layer 'head_pooling'"):
        signatures_of(served, ["embed"])


def test_inputs_keep_every_byte():
    inputs = {"text": {}, "text_pair": {}}
    signature = {"modality": "text", "signatures": {"serving_default": {"inputs": inputs}}}
    columns = as_inputs([("ক্ষ", "b\0"), ("", "d")], signature)
    assert columns == {"text": ["ক্ষ".encode(), b""], "text_pair": [b"b\0", b"d"]}


@pytest.mark.slow
def test_a_network_at_rest_computes_less_and_is_left_as_it_was(make, images, tmp_path):
    import keras

    from kerasft.model.fast import at_rest

    network, preprocess = make.images()
    kinds = {}
    for name, how in (("plain", {}), ("rest", {"at_rest": at_rest})):
        path = saved_model(
            network, tmp_path / name, preprocess=preprocess, task=Classification(), labels=SINGLE,
            examples=images, signatures=["tensors"], **how,
        )  # fmt: skip
        graph = Export(path).graph
        kinds[name] = [node.op for node in ops.nodes_of(graph)]
        outputs = load_export(path)(images)
        np.testing.assert_allclose(
            outputs["probabilities"], load_export(tmp_path / "plain")(images)["probabilities"],
            atol=1e-5,
        )  # fmt: skip
    # Normalization is a bias of the convolution before it: fewer passes over the images.
    assert kinds["rest"].count("BiasAdd") > kinds["plain"].count("BiasAdd")
    norms = [n for n in network.layers if isinstance(n, keras.layers.BatchNormalization)]
    assert norms
    assert all(layer.trainable for layer in norms)
    assert not any("call" in vars(layer) for layer in network.layers)
