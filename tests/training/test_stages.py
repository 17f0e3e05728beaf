from __future__ import annotations

import numpy as np
import pytest

from kerasft import testing
from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.training.stages import HEAD_RATE, Stage, is_head_alone, require_sizes, select


@pytest.fixture(scope="module")
def images():
    """A network with batch normalization below and in the head."""
    backbone = tiny.image("resnet", image_size=16)
    return assemble(backbone, lambda f: pooled.mlp(f, units=2, width=8, norm="batch"))


@pytest.fixture(scope="module")
def texts():
    return assemble(tiny.text("bert"), lambda f: pooled.linear(f, units=2))


def weights(model) -> set[str]:
    """The paths of all that could train."""
    return {v.path for v in model.variables if "seed" not in v.path and "moving" not in v.path}


def chosen(model, stage, *, pretrained: bool = True) -> set[str]:
    paths = select(model, stage, pretrained=pretrained)
    assert paths == [v.path for v in model.trainable_variables]
    assert len(set(paths)) == len(paths)
    return set(paths)


def test_all_trains_all(texts):
    assert chosen(texts, Stage("all")) == weights(texts)


def test_head_trains_the_head_and_all_undoes_it(texts):
    assert chosen(texts, Stage("head")) == {"head_outputs/kernel", "head_outputs/bias"}
    assert chosen(texts, Stage("all")) == weights(texts)


def test_a_share_trains_from_the_head_down(texts, images):
    head = {"head_outputs/kernel", "head_outputs/bias"}
    assert chosen(texts, Stage(0.0)) == head
    assert chosen(texts, Stage(1.0)) == weights(texts)
    upper = chosen(texts, Stage(0.2))
    assert head < upper < weights(texts)
    assert any("transformer_layer_1/" in path for path in upper)
    assert not any("embedding" in path or "transformer_layer_0" in path for path in upper)
    sizes = [len(chosen(images, Stage(share))) for share in (0.0, 0.3, 0.6, 1.0)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 4
    assert Stage(0).peak(None, 1e-5) == HEAD_RATE and Stage(0.5).peak(None, 1e-5) == 1e-5
    with pytest.raises(UserError, match=r"a share .* from 0 to 1, .* Received: 1\.5"):
        Stage(1.5)


def test_patterns_are_searched_in_the_paths(texts):
    got = chosen(texts, Stage(["transformer_layer_1/", "^head_", "/bias$"]))
    wanted = {
        path for path in weights(texts)
        if "transformer_layer_1/" in path or path.startswith("head_") or path.endswith("/bias")
    }  # fmt: skip
    assert got == wanted
    assert any("transformer_layer_0" in path for path in got)
    assert got != weights(texts)


@pytest.mark.parametrize(("batch_norm", "pretrained", "learns"), [
    ("auto", True, False), ("auto", False, True), ("frozen", False, False), ("train", True, True),
])  # fmt: skip
def test_batch_normalization(images, batch_norm, pretrained, learns):
    import keras

    got = chosen(images, Stage("all", batch_norm=batch_norm), pretrained=pretrained)
    norms = [
        layer for layer in images._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]  # fmt: skip
    below = [layer for layer in norms if not layer.name.startswith("head_")]
    assert len(norms) == len(below) + 1 > 3
    for layer in norms:
        wanted = learns or layer not in below
        assert layer.trainable == wanted
        assert ({v.path for v in layer.weights[:2]} <= got) == wanted
    # What a frozen layer keeps are its statistics too.
    before = [layer.moving_mean.numpy() for layer in below]
    images(np.full((2, 16, 16, 3), 200, "uint8"), training=True)
    moved = [
        not np.array_equal(layer.moving_mean, old) for layer, old in zip(below, before, strict=True)
    ]
    assert set(moved) == {learns}


def test_batch_normalization_below_a_trained_head_is_frozen_whatever_was_asked(images):
    got = chosen(images, Stage("head", batch_norm="train"))
    assert all(path.startswith("head_") for path in got)
    assert {"head_norm_0/gamma", "head_norm_0/beta"} <= got
    norm = next(layer for layer in images.layers if "bn" in layer.name)
    assert not norm.trainable


def test_a_pattern_that_matches_nothing_says_what_there_is(texts):
    with pytest.raises(UserError, match=r"matches no variable.*begin with: .*transformer_layer_0"):
        select(texts, Stage(["transformer_layer_7/"]), pretrained=True)


def test_stages_are_checked_when_made():
    with pytest.raises(UserError, match="train must be all, head, a share"):
        Stage("tail")
    with pytest.raises(UserError, match="epochs must be at least 1"):
        Stage(epochs=0)
    for wrong in ({"rate": 0.0}, {"learning_rate": -1e-3}):
        with pytest.raises(UserError, match="rate and learning_rate above 0"):
            Stage(**wrong)
    for wrong in (0, -3, [32], [32, 0], [1, 2, 3], "large", 1.5, True, 100_001):
        with pytest.raises(UserError, match=r"image_size must be a number of pixels, or two"):
            Stage(image_size=wrong)


def test_the_last_stage_has_the_size_of_the_model():
    assert Stage(image_size=32).size == (32, 32)
    assert Stage(image_size=[24, 32]).size == (24, 32)
    small, plain = Stage(image_size=[24, 32]), Stage()
    require_sizes({"a": plain, "b": plain}, None)
    require_sizes({"a": small, "b": plain, "c": small}, (24, 32))
    with pytest.raises(UserError, match=r"finetune.a.image_size is .* but the data is text"):
        require_sizes({"a": small, "b": plain}, None)
    with pytest.raises(UserError, match=(
        r"finetune.b.image_size: the last stage .* which is 64x64. Received: 24x32. Set "
        r"backbone.image_size=\[24,32\]"
    )):
        require_sizes({"a": plain, "b": small}, (64, 64))


def test_the_rate_is_the_stages_else_the_users_else_the_usual_one():
    assert Stage("head", learning_rate=3e-5, rate=0.5).peak(1e-2, 5e-5) == 3e-5
    assert Stage(rate=0.5).peak(1e-2, 5e-5) == 5e-3
    assert Stage("head").peak(None, 5e-5) == HEAD_RATE
    assert Stage("all").peak(None, 5e-5) == 5e-5
    assert Stage("all", rate=0.1).peak(None, 5e-5) == pytest.approx(5e-6)
    assert Stage("head", rate=0.5).peak(None, 5e-5) == HEAD_RATE / 2


def test_a_head_alone_is_known_by_what_trains(texts):
    for train in ("head", ["^head_"], ["outputs/"], 0.01):
        select(texts, Stage(train), pretrained=True)
        alone = is_head_alone(texts)
        assert alone and Stage(train).peak(None, 5e-5, head_alone=alone) == HEAD_RATE
    for train in ("all", ["^head_", "transformer_layer_1/"], 0.5):
        select(texts, Stage(train), pretrained=True)
        assert not is_head_alone(texts)


@pytest.mark.every(3)
@pytest.mark.parametrize("stage", [Stage(), Stage("head"), Stage(["^head_", "layer_1"], rate=0.1)])
def test_the_contract(stage):
    testing.check_stage(stage)
