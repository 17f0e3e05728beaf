"""Tuned decisions and padded lengths, as the graph of a real artifact gives them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.artifact.layout import read_signature
from kerasft.artifact.loading import load_export
from kerasft.exporters.saved_model import saved_model
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.regression import Regression

TWO, THREE = ("good", "খারাপ"), ("good", "খারাপ", "so, so")


def exported(make, images, tmp_path, names, **wanted):
    network, preprocess = make.images(units=len(names))
    labels = Labels("single", names)
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=Classification(), labels=labels,
        evidence=make.evidence(network, preprocess, images, labels), **wanted,
        signatures=["serving_default"],
    )  # fmt: skip
    return read_signature(path), load_export(path)(images)


@pytest.mark.slow
@pytest.mark.parametrize(("goal", "at_least"), [
    ("precision", 0.8), pytest.param("f1", None, marks=pytest.mark.slow)
])  # fmt: skip
def test_the_second_of_two_classes_is_answered_from_its_threshold_on(
    goal, at_least, make, images, tmp_path
):
    signature, outputs = exported(make, images, tmp_path, TWO, goal=goal, at_least=at_least)
    decision = signature["decision"]
    assert (decision["goal"], decision["at_least"]) == (goal, at_least)
    assert decision["positive"] == TWO[1]
    assert decision["validation"]["classes"][TWO[1]]["precision"] >= (at_least or 0.5)
    chance = outputs["probabilities"][:, 1]
    cut = np.float32(decision["thresholds"][TWO[1]])
    assert cut != 0.5
    wanted = np.where(chance >= cut, 1, 0)
    assert [label.decode() for label in outputs["label"]] == [TWO[i] for i in wanted]
    np.testing.assert_array_equal(
        outputs["score"], np.take_along_axis(outputs["probabilities"], wanted[:, None], 1)[:, 0]
    )
    assert "decided" not in outputs


@pytest.mark.slow
def test_each_label_of_many_is_decided_on_as_it_is_certain(make, images, tmp_path):
    signature, outputs = exported(
        make, images, tmp_path, THREE, goal="precision", at_least=0.8, top_k=2
    )
    decision, described = signature["decision"], signature["signatures"]["serving_default"]
    assert decision["positive"] is None
    assert described["outputs"]["decided"] == {"dtype": "bool", "shape": [None]}
    cuts = np.array([decision["thresholds"][name] for name in THREE], np.float32)
    best = outputs["probabilities"].argmax(-1)
    assert [label.decode() for label in outputs["label"]] == [THREE[i] for i in best]
    np.testing.assert_array_equal(outputs["decided"], outputs["score"] >= cuts[best])
    assert 0 < outputs["decided"].sum() < len(images)
    # Two of the three likeliest are named.
    assert described["outputs"]["top_labels"] == {"dtype": "string", "shape": [None, 2]}
    order = np.argsort(-outputs["probabilities"], axis=-1)[:, :2]
    assert [[one.decode() for one in row] for row in outputs["top_labels"]] == [
        [THREE[i] for i in row] for row in order
    ]
    np.testing.assert_array_equal(
        outputs["top_scores"], np.take_along_axis(outputs["probabilities"], order, 1)
    )


class Width(keras.layers.Layer):
    """Tells how wide its input is."""

    def call(self, inputs):
        mask = inputs["padding_mask"]
        return tf.fill([tf.shape(mask)[0], 1], tf.cast(tf.shape(mask)[1], tf.float32))


@pytest.mark.slow
def test_the_served_graph_pads_to_the_next_bucket(make, tmp_path):
    _, preprocess = make.texts(length=24)
    inputs = {key: keras.Input((None,), dtype="int32", name=key) for key in preprocess.inputs}
    path = saved_model(
        keras.Model(inputs, Width()(inputs)), tmp_path, preprocess=preprocess, task=Regression(),
        labels=Labels("number"), buckets=[8, 16], signatures=["serving_default"],
    )  # fmt: skip
    serve = load_export(path)
    lengths = {text: preprocess([text])["token_ids"].shape[1]
               for text in ("a", "a b c d e f", "a b c d e f g", "a " * 14, "a " * 15, "a " * 99)}
    assert set(lengths.values()) == {3, 8, 9, 16, 17, 24}
    for text, length in lengths.items():
        # Beyond the largest bucket a batch is as long as its longest text.
        wanted = next((bucket for bucket in (8, 16) if bucket >= length), length)
        assert serve([text])["value"].tolist() == [wanted], length
    assert serve(["a", "a b c d e f g"])["value"].tolist() == [16, 16]
