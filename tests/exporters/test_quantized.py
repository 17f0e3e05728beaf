from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from kerasft.artifact.fresh import ExportError
from kerasft.artifact.layout import read_signature
from kerasft.errors import UserError
from kerasft.exporters import tensors
from kerasft.exporters.quantized import check_early, measured, quantized, small_saved_model
from kerasft.spec import Labels
from kerasft.steps.answers.exporting import _of_weights
from kerasft.tasks.classification import Classification
from kerasft.testing import check_export

NAMES = Labels("single", ("good", "খারাপ", "so, so"))


@pytest.fixture(scope="module")
def bert(make, texts):
    model, preprocess = make.texts("bert")
    return model, preprocess, tensors.feeds(preprocess, texts)


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "share"), [("int8", 0.4), ("bfloat16", 0.55)])
def test_texts(weights, share, bert, texts):
    model, _, batches = bert
    before = model.get_weights()
    smaller = quantized(model, weights)
    y = np.concatenate([model(one).numpy() for one in batches]).argmax(-1)[: len(texts)]
    y[0] = (y[0] + 1) % 3
    found = measured(
        model, smaller, batches, task=Classification(), labels=NAMES, tolerance=0.02, y=y
    )
    assert found["metrics"]["before"]["accuracy"] == pytest.approx(1 - 1 / len(texts))
    assert found["metrics"]["after"].keys() == found["metrics"]["before"].keys()
    moved = abs(found["metrics"]["after"]["log_loss"] - found["metrics"]["before"]["log_loss"])
    assert 0 < moved < 0.02
    assert 0 < found["largest_difference"]["probabilities"] < 0.02
    assert found["sizes"]["after"] < share * found["sizes"]["before"]
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert smaller(batches[0]).dtype == "float32"


@pytest.mark.slow
def test_images_in_bfloat16_alone(make, images):
    model, preprocess = make.images("resnet")
    with pytest.raises(UserError, match=r"hold only 0% of this network's weights.*bfloat16"):
        quantized(model, "int8")
    smaller = quantized(model, "bfloat16")
    found = measured(
        model, smaller, tensors.feeds(preprocess, images), task=Classification(), labels=NAMES,
        tolerance=0.02,
    )  # fmt: skip
    assert found["sizes"]["after"] < 0.55 * found["sizes"]["before"]


@pytest.mark.slow
def test_too_large_a_difference_is_refused(bert):
    model, _, batches = bert
    other = quantized(model, "int8")
    head = other.get_layer("head_outputs")
    head._kernel.assign(head._kernel.numpy()[:, [1, 0, 2]])
    with pytest.raises(ExportError, match=r"probabilities differs by .*get another label"):
        measured(model, other, batches, task=Classification(), labels=NAMES, tolerance=0.02)


@pytest.mark.slow
def test_other_words(bert):
    with pytest.raises(UserError, match=r"must be one of int8, bfloat16. Received: 'int4'"):
        quantized(bert[0], "int4")


@pytest.mark.slow
def test_a_network_that_does_not_come_back(bert, monkeypatch):
    model = bert[0]

    class Other:
        @classmethod
        def from_config(cls, config):
            return cls()

        get_weights = list

    monkeypatch.setattr(type(model), "from_config", Other.from_config)
    with pytest.raises(UserError, match="does not come back from its config"):
        quantized(model, "bfloat16")


@pytest.mark.slow
def test_a_small_saved_model(bert, make, texts, tmp_path):
    model, preprocess, _ = bert
    evidence = make.evidence(model, preprocess, texts, NAMES)
    evidence.examples.labels[0] = (evidence.examples.labels[0] + 1) % 3
    made = small_saved_model(
        model, tmp_path / "s", preprocess=preprocess, task=Classification(), labels=NAMES,
        examples=texts, evidence=evidence, signatures=["embed"], top_k=2, buckets=[24],
    )  # fmt: skip
    described = read_signature(made)
    assert list(described["signatures"]) == ["serving_default", "embed"]
    assert described["buckets"] == [24]
    found = json.loads((made / "assets.extra" / "weights.json").read_text("utf-8"))
    assert found["weights"] == "int8"
    assert found["sizes"]["after"] < 0.6 * found["sizes"]["before"]
    proof = json.loads((made / "assets.extra" / "parity.json").read_text("utf-8"))
    assert proof["passed"] is True
    figures = found["metrics"]
    assert figures["before"]["accuracy"] == pytest.approx(1 - 1 / len(texts))
    card = (made / "README.md").read_text("utf-8")
    before, after = (figures[way]["accuracy"] for way in ("before", "after"))
    assert f"| | whole | int8 |\n|---|---|---|\n| accuracy | {before:.4f} | {after:.4f} |" in card
    line = _of_weights({**found, "label_flips": 0}, Classification())
    assert line.endswith(f"; accuracy {before:.4f} before, {after:.4f} after")


def test_what_it_is_told_is_looked_at_before_training():
    with pytest.raises(UserError, match="golden must be at least 0"):
        check_early(task=Classification(), golden=-1)


@pytest.mark.slow
def test_contract(tmp_path):
    check_export(partial(small_saved_model, weights="bfloat16"), tmp_path / "made")
