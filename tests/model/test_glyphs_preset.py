"""The carried preset: small, complete, and better than chance at what it was not trained on."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "kerasft" / "presets" / "glyphs"
SCRIPT = ROOT / "scripts" / "pretrain_glyphs.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pretrain_glyphs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_preset_is_at_most_two_megabytes():
    sizes = [file.stat().st_size for file in PRESET.iterdir()]
    assert sizes and sum(sizes) <= 2_000_000


def test_preset_has_metadata_and_readme():
    metadata = json.loads((PRESET / "metadata.json").read_text())
    assert metadata["keras_hub_version"] and metadata["parameter_count"] <= 450_000
    readme = (PRESET / "README.md").read_text()
    assert all(word in readme for word in ("DejaVu", "STIX", "pretrain_glyphs.py"))


def test_image_converter_says_how_to_scale():
    import keras_hub

    converter = keras_hub.layers.ImageConverter.from_preset(str(PRESET))
    assert converter.image_size == (32, 32)
    assert converter.scale == pytest.approx(1 / 255)
    assert converter.offset is None


@pytest.mark.slow
def test_features_separate_digits_better_than_a_random_twin():
    """A linear probe on 10 images a class, so that weights that got lost are noticed."""
    import keras
    import keras_hub
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    digits = load_digits()
    # Drawn at random: the set is in the order of its writers, and the first few are not like all.
    drawn = np.random.default_rng(0).permutation(len(digits.target))[:600]
    images = np.repeat(digits.images[drawn][..., None] * (255 / 16), 3, -1).astype("float32")
    labels = digits.target[drawn]
    inputs = keras_hub.layers.ImageConverter.from_preset(str(PRESET))(images)
    train = np.concatenate([np.flatnonzero(labels == digit)[:10] for digit in range(10)])
    test = np.setdiff1d(np.arange(600), train)
    keras.utils.set_random_seed(0)
    accuracy = {}
    for load_weights in (True, False):
        network = keras_hub.models.Backbone.from_preset(str(PRESET), load_weights=load_weights)
        features = np.asarray(network(inputs, training=False)).mean((1, 2))
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        probe.fit(features[train], labels[train])
        accuracy[load_weights] = probe.score(features[test], labels[test])
    assert accuracy[True] > 0.93
    assert accuracy[True] > accuracy[False] + 0.03


def test_rendering_follows_from_the_seed(script):
    glyphs, labels, characters = script.load_glyphs(6)
    assert len(glyphs) == len(labels) >= 6 * 12
    first, first_labels = script.render(glyphs, labels, 24, seed=3)
    again, again_labels = script.render(glyphs, labels, 24, seed=3)
    other, _ = script.render(glyphs, labels, 24, seed=4)
    assert first.shape == (24, 32, 32) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_labels, again_labels)
    assert (first != other).any()
    assert np.bincount(first_labels).tolist() == [4] * len(characters)


def test_no_digit_is_among_the_glyphs(script):
    characters = "".join(script.ALPHABETS.values())
    assert len(characters) == len(set(characters)) > 200
    assert not [c for c in characters if c.isdigit() or c.isnumeric()]
