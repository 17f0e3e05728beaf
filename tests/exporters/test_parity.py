"""A change between the trained network and the artifact is found, and the export refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kerasft.artifact import standalone
from kerasft.artifact.comparison import apart, rules_of
from kerasft.artifact.digests import digests
from kerasft.artifact.fresh import ExportError, ask, fresh_environment
from kerasft.artifact.layout import EXTRA
from kerasft.exporters import graph
from kerasft.exporters.parity import (
    MOST_CHARACTERS,
    TOLERANCE,
    _characters,
    certify,
)
from kerasft.exporters.saved_model import saved_model
from kerasft.exporters.served import Served, raw_examples
from kerasft.exporters.signatures import signatures_of
from kerasft.model.preprocess import ImagePreprocess, TextPreprocess
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification

NAMES = ("good", "bad", "so, so")
LABELS = Labels("single", NAMES)


def test_the_fresh_process_finds_no_keras():
    bar = standalone.Bar(sys.meta_path)
    assert bar.find_spec("keras") is None
    assert bar.find_spec("kerasft.spec") is None
    assert bar.find_spec("numpy") is not None


def test_packed_tables_come_back(tmp_path):
    tables = [
        {"text": np.array([[b"x", b"yy\0"], [b"", "ক্ষ".encode()]], object)},
        {"ids": np.arange(6, dtype="int32").reshape(2, 3), "none": np.zeros((0,), object)},
    ]
    standalone.pack(tmp_path / "x.npz", {"repeats": 3}, tables)
    facts, back = standalone.unpack(tmp_path / "x.npz")
    assert facts == {"repeats": 3}
    for table, again in zip(tables, back, strict=True):
        assert table.keys() == again.keys()
        assert all(again[key].tolist() == value.tolist() for key, value in table.items())


def export_of(make, kind, tmp_path, raw, served_as, **options):
    """Export a model of which the artifact gets another one than the comparison."""
    network, preprocess = make
    served = Served(network, preprocess, Classification(), LABELS)
    planted = served_as(served)
    possible = signatures_of(planted, ["serving_default"])
    write = graph.write_graph

    def other_graph(directory, signatures, trackables):
        return write(directory, possible, tuple(getattr(planted.preprocess, "trackables", ())))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kerasft.exporters.saved_model.write_graph", other_graph)
        with pytest.raises(ExportError) as refused:
            saved_model(
                network, tmp_path / kind, preprocess=preprocess, task=Classification(),
                labels=LABELS, examples=raw, signatures=["serving_default"], **options,
            )  # fmt: skip
    assert not (tmp_path / kind).exists()
    return str(refused.value)


@pytest.fixture(scope="module")
def photos():
    """Images with structure, of which resizing methods make different pixels."""
    import io

    from PIL import Image

    made = []
    for i in range(6):
        x, y = np.meshgrid(np.arange(60 + i), np.arange(45))
        pixels = np.stack([(x * 7 * y) % 251, (x + y * i) % 200, (x // 3) * 11 % 255], axis=-1)
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        made.append(file.getvalue())
    return made


def with_preprocess(preprocess):
    return lambda served: dataclasses.replace(served, preprocess=preprocess)


@pytest.mark.slow
@pytest.mark.parametrize("other", [
    {"antialias": False},
    pytest.param({"interpolation": "nearest"}, marks=pytest.mark.slow),
    pytest.param({"resize": "stretch"}, marks=pytest.mark.slow),
])  # fmt: skip
def test_another_way_to_resize_is_found(other, make, photos, tmp_path):
    resized = with_preprocess(ImagePreprocess(16, 16, **other))
    said = export_of(make.images(), "other", tmp_path, photos, resized)
    assert "serving_default: probabilities differs by" in said


@pytest.mark.slow
def test_letters_that_are_not_lowered_are_found(make, tmp_path):
    from keras_hub.models import BertTokenizer

    network, preprocess = make.texts()
    cased = BertTokenizer(vocabulary=preprocess.tokenizer.get_vocabulary(), lowercase=False)
    other = TextPreprocess(cased, inputs=preprocess.inputs, sequence_length=24)
    texts = ["A good FILM", "THE QUICK fox", "dull"]
    said = export_of((network, preprocess), "cased", tmp_path, texts, with_preprocess(other))
    assert "probabilities differs by" in said


@pytest.mark.slow
def test_labels_in_another_order_are_found(make, photos, tmp_path):
    given = make.images()
    turned = Labels("single", NAMES[::-1])
    said = export_of(
        given, "labels", tmp_path, photos, lambda s: dataclasses.replace(s, labels=turned)
    )
    assert "6 of 6 examples get another label" in said


@pytest.mark.slow
def test_an_adapter_that_was_not_merged_is_found(make, photos, tmp_path):
    import keras

    network, preprocess = make.images()
    plain = keras.models.clone_model(network)
    plain.set_weights(network.get_weights())
    adapted = network.get_layer("head_outputs")
    adapted.enable_lora(2)
    adapted.lora_kernel_b.assign(np.random.default_rng(0).normal(size=(2, 3)))
    said = export_of(
        (network, preprocess), "lora", tmp_path, photos,
        lambda s: dataclasses.replace(s, model=plain),
    )  # fmt: skip
    assert "probabilities differs by" in said
    # With its adapter the same network passes.
    path = saved_model(
        network, tmp_path / "whole", preprocess=preprocess, task=Classification(), labels=LABELS,
        examples=photos, signatures=["serving_default"],
    )  # fmt: skip
    assert json.loads((path / EXTRA / "parity.json").read_text())["passed"]


@pytest.mark.slow
def test_a_network_other_than_the_one_that_was_measured_is_found(make, photos, tmp_path):
    network, preprocess = make.images()
    evidence = make.evidence(network, preprocess, photos, LABELS)
    kernel = network.get_layer("head_outputs").kernel
    kernel.assign(kernel * 1.01)
    with pytest.raises(ExportError, match="other outputs than the run measured"):
        saved_model(
            network, tmp_path / "x", preprocess=preprocess, task=Classification(), labels=LABELS,
            evidence=evidence, signatures=["serving_default"],
        )  # fmt: skip
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def one(make, photos, tmp_path_factory):
    network, preprocess = make.images()
    served = Served(network, preprocess, Classification(), LABELS)
    path = saved_model(
        network, tmp_path_factory.mktemp("one"), preprocess=preprocess, task=Classification(),
        labels=LABELS, examples=photos, signatures=["serving_default"],
    )  # fmt: skip
    return served, path


@pytest.mark.slow
def test_an_artifact_that_only_python_can_load_is_refused(one, photos, tmp_path):
    import tensorflow as tf

    served, path = one
    module = tf.Module()
    module.model, ready = served.model, served.preprocess

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes):
        return {"probabilities": tf.nn.softmax(module.model(ready(image_bytes)))}

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": serve})
    shutil.copytree(path / EXTRA, tmp_path / "1" / EXTRA)
    raw = raw_examples(photos, "images")
    with pytest.raises(ExportError, match=r"serving_default fails|does not run in a fresh process"):
        certify(tmp_path / "1", served, ["serving_default"], raw)


@pytest.mark.slow
def test_what_cannot_be_asked_is_said(one, tmp_path):
    _, path = one
    with pytest.raises(ExportError, match=r"(?s)does not run in a fresh process.*no signature"):
        ask(path, [("no such signature", {})])
    with pytest.raises(ExportError, match="does not run in a fresh process"):
        ask(tmp_path, [])
    with pytest.raises(ExportError, match=r"did not answer within 0\.01 s"):
        ask(path, [], timeout=0.01)


@pytest.mark.slow
def test_digests_tell_what_the_answers_hang_on(one, tmp_path):
    _, path = one
    report = json.loads((path / EXTRA / "parity.json").read_text())
    assert report["digests"] == digests(path)
    assert {"saved_model.pb", "variables/variables.index", f"{EXTRA}/signature.json"} <= set(
        report["digests"]
    )
    copy = shutil.copytree(path, tmp_path / "1")
    with open(copy / "variables" / "variables.data-00000-of-00001", "r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    changed = digests(copy)
    assert [k for k, v in changed.items() if report["digests"][k] != v] == [
        "variables/variables.data-00000-of-00001"
    ]


@pytest.mark.slow
def test_the_fresh_process_finds_packages_where_this_one_does(one, monkeypatch, tmp_path):
    """Packages of a user's own folder, or on PYTHONPATH, are no reason to refuse an export."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "sitecustomize_probe.py").write_text("")
    environment = fresh_environment()
    found = subprocess.run(
        [sys.executable, "-P", "-c", "import sitecustomize_probe, sys; print(sys.path[0])"],
        env=environment, capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert found.stdout.strip() not in ("", str(tmp_path))
    assert environment["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.mark.parametrize(("spread", "difference", "passes"), [
    (1e-6, 1e-6, False), (1e-6, 1e-12, True), (1.0, 0.05, True), (1.0, 1.0, False),
])  # fmt: skip
def test_numbers_are_held_against_how_far_labels_spread(spread, difference, passes):
    """Labels of a millionth are proved as well as labels around a million."""
    at = 1e6 if spread == 1.0 else 0.0
    wanted = np.array([at, at + spread], np.float64)
    found = apart(wanted + difference, wanted, rules_of({"spread": spread})["value"].unit)
    assert (found <= TOLERANCE) == passes
    assert "embedding" not in rules_of({"spread": spread})


def test_golden_requests_are_bounded_by_what_they_take():
    images = np.array([b"x" * 7_000_000], object)
    assert _characters({"x": images}) > MOST_CHARACTERS > _characters({"x": images[:0]})
    assert _characters({"x": np.zeros((224, 224, 3), "uint8")}) < MOST_CHARACTERS
