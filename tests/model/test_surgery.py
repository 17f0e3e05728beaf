"""Surgery on tiny networks of each family: what changes, and what stays to the last bit."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import backbones, tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.model.layers import nodes_of
from kerasft.model.preprocess import ImagePreprocess
from kerasft.model.surgery.operate import operate
from kerasft.model.surgery.operated import Graph
from kerasft.model.surgery.places import meant, places
from kerasft.model.surgery.resetting import blocks_of
from kerasft.model.surgery.steps import (
    Cut,
    ImageSize,
    InputChannels,
    InsertAfter,
    Remove,
    Replace,
    Reset,
)
from kerasft.model.surgery.tree import compared


def application(name: str, size: int = 32, scale=1 / 127.5, **settings):
    network = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(size, size, 3), **settings
    )
    return backbones.image_backbone(
        network, ImagePreprocess(size, size), scale=scale, offset=-1.0, name=name,
        pretrained=False,
    )  # fmt: skip


MAKE = {
    "bert": partial(tiny.text, "bert", layers=3),
    "gpt2": partial(tiny.text, "gpt2", layers=3),
    "llama": partial(tiny.text, "llama", layers=2),
    "resnet": partial(tiny.image, "resnet"),
    "vit": partial(tiny.image, "vit"),
    "mobilenet": partial(application, "MobileNet", alpha=0.25),
    "inception": partial(application, "InceptionV3", 75),
    "efficientnetv2": partial(application, "EfficientNetV2B0"),
}


def batch_of(network):
    rng = np.random.default_rng(0)
    if not isinstance(network.input, dict):
        return rng.integers(0, 256, (2, *network.input.shape[1:])).astype("uint8")
    made = {"token_ids": rng.integers(1, 40, (2, 8)), "segment_ids": np.zeros((2, 8)),
            "padding_mask": np.ones((2, 8))}  # fmt: skip
    return {name: made[name].astype("int32") for name in network.input}


def answers(network, batch):
    flat = keras.tree.flatten(network(batch, training=False))
    return np.asarray(flat[0] if len(flat) == 1 else flat[-1])


def weights_of(network) -> dict[str, np.ndarray]:
    return {v.path: v.numpy().copy() for v in network.weights}


def same(before: dict, network) -> set[str]:
    """Return the paths of the weights that are as they were, to the last bit."""
    return {
        v.path for v in network.weights
        if v.path in before and np.array_equal(before[v.path], v.numpy())
    }  # fmt: skip


def saved_and_loaded(backbone, tmp_path):
    model = assemble(backbone, lambda features: pooled.linear(features, units=2))
    model.save(tmp_path / "model.keras")
    return model, keras.saving.load_model(tmp_path / "model.keras", compile=False)


SLOW = ("inception", "efficientnetv2", "mobilenet", "vit")
CUTS = {
    "bert": "transformer_layer_1", "gpt2": "transformer_layer_0", "resnet": "stack0*_out",
    "vit": "vit_encoder/transformer_block_1", "mobilenet": "conv_pw_4_relu", "inception": "mixed1",
    "efficientnetv2": "^block2a_add|block2b_add",
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("family", [
    pytest.param(one, marks=pytest.mark.slow) if one in SLOW else one for one in CUTS
])  # fmt: skip
def test_a_cut_leaves_all_else_to_the_last_bit_and_comes_back(family, tmp_path):
    backbone = MAKE[family]()
    before = weights_of(backbone.network)
    batch = batch_of(backbone.network)
    path = CUTS[family]
    named = [node for node in nodes_of(backbone.network) if node.operation.name == path]
    wanted = None  # a pattern, or a layer within another one
    if named:
        wanted = answers(keras.Model(backbone.network.input, named[-1].outputs[0]), batch)
    made = operate(backbone, {"cut": Cut(CUTS[family])})
    now = made.backbone.network
    kept = same(before, now)
    assert {v.path for v in now.weights} == kept
    assert 0 < len(kept) < len(before)
    if wanted is not None:
        np.testing.assert_array_equal(answers(now, batch), wanted)
    model, loaded = saved_and_loaded(made.backbone, tmp_path)
    np.testing.assert_array_equal(answers(model, batch), answers(loaded, batch))
    assert "left out" in made.said[0]


def test_texts_can_be_cut_where_no_mask_is_needed():
    made = operate(MAKE["bert"](), {"cut": Cut("embeddings_dropout")}).backbone.network
    assert made.output_shape == (None, None, 32)
    assert sorted(made.input) == ["padding_mask", "segment_ids", "token_ids"]


@pytest.mark.every(3)
@pytest.mark.parametrize(("step", "message"), [
    (Cut("transformer_layr_1"), r"surgery.x: No layer matches 'transformer_layr_1'. Did you mean "
                                r"'transformer_layer_1'\?"),
    (Cut("transformer_layer_*"), r"surgery.x: .* must mean one layer .* It means 3: transformer_"),
    (Cut("transformer_layer_0/self_attention_layer"), r"computes with all of its layers"),
    (Remove("transformer_layer_0/self_attention_layer"), r"dropout and normalization can be left"),
    (Remove("embeddings_add"), r"embeddings_add cannot be left out: .* more than one"),
    (Remove("token_embedding"), r"token_embedding cannot be left out: .* nothing of that shape"),
    (Replace("embeddings_add", activation="relu"), r"none of the layers .* has an activation"),
    (Replace("**", pooling="max"), r"has pooling to replace"),
    (InsertAfter("transformer_layer_0/feedforward_dropout", keras.layers.Dropout(0.1)),
     r"nothing can be put between them"),
    (InsertAfter("transformer_layer_0", keras.layers.Dense(8)), r"must keep the shape"),
    (InsertAfter("transformer_layer_0", 3), r"must be a Keras layer"),
    (Reset(blocks=9), r"blocks must be at most 3"),
    (Reset(layers="embeddings_add"), r"have no weights"),
    (InputChannels(1), r"surgery.x is of images, and the backbone takes texts"),
])  # fmt: skip
def test_what_cannot_be_done_is_told(step, message):
    with pytest.raises(UserError, match=message):
        operate(MAKE["bert"](), {"x": step})


def test_a_network_that_is_no_graph_is_refused_before_any_step():
    from dataclasses import replace

    class Own(keras.Model):
        pass

    with pytest.raises(UserError, match=r"connected in a graph. tiny bert is a Own"):
        operate(replace(MAKE["bert"](), network=Own()), {"x": Cut("a")})


def test_layers_are_removed_and_the_rest_is_as_it_was(tmp_path):
    backbone = MAKE["bert"]()
    before = weights_of(backbone.network)
    made = operate(backbone, {"short": Remove("transformer_layer_[12]$")})
    now = made.backbone.network
    assert [layer.name for layer in now.layers if "transformer" in layer.name] == [
        "transformer_layer_0"
    ]
    assert same(before, now) == {v.path for v in now.weights}
    assert {p.split("/")[0] for p in set(before) - same(before, now)} == {
        "transformer_layer_1", "transformer_layer_2"
    }  # fmt: skip
    model, loaded = saved_and_loaded(made.backbone, tmp_path)
    batch = batch_of(now)
    np.testing.assert_array_equal(answers(model, batch), answers(loaded, batch))


def test_a_residual_block_is_removed_as_one_piece():
    inputs = x = keras.Input((8, 8, 3), name="images")
    x = stem = keras.layers.Conv2D(4, 3, padding="same", name="stem")(x)
    wide = keras.layers.Conv2D(16, 1, name="block_1_a")(x)
    narrow = keras.layers.Conv2D(4, 1, name="block_1_b")(wide)
    x = keras.layers.Add(name="block_1_add")([x, narrow])
    network = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="last")(x))
    graph = Graph(network)
    Remove("block_1_*")(graph)
    assert list(places(graph)) == ["stem", "last"]
    with pytest.raises(UserError, match=r"block_1_a cannot be left out: of \[batch, 8, 8, 4\]"):
        Remove("block_1_a")(Graph(network))
    assert stem.shape == (None, 8, 8, 4)


def test_activations_dropout_and_norms_within_layers_are_replaced(tmp_path):
    backbone = MAKE["bert"]()
    before = weights_of(backbone.network)
    batch = batch_of(backbone.network)
    first = answers(backbone.network, batch)
    made = operate(backbone, {
        "relu": Replace("**", activation="relu"), "rate": Replace("**", dropout=0.4),
        "rms": Replace("transformer_layer_0", norm="rms"),
        "quiet": Remove("transformer_layer_1/self_attention_dropout"),
    })  # fmt: skip
    now = made.backbone.network
    parts = {p: one.layer for p, one in places(Graph(now)).items()}
    dense = [parts[f"transformer_layer_{i}/feedforward_intermediate_dense"] for i in range(3)]
    assert {layer.activation.__name__ for layer in dense} == {"relu"}
    # The pooled output is a gate: it is left alone unless it is named.
    assert parts["pooled_dense"].activation.__name__ == "tanh"
    rates = {p: layer.rate for p, layer in parts.items() if hasattr(layer, "rate")}
    assert rates.pop("transformer_layer_1/self_attention_dropout") == 0.0
    assert set(rates.values()) == {0.4}
    kind = keras.layers.RMSNormalization
    assert isinstance(parts["transformer_layer_0/self_attention_layer_norm"], kind)
    assert isinstance(parts["transformer_layer_1/self_attention_layer_norm"],
                      keras.layers.LayerNormalization)  # fmt: skip
    untouched = {path for path in before if "transformer_layer_0" not in path or "norm" not in path}
    assert same(before, now) >= untouched
    assert np.abs(answers(now, batch) - first).max() > 0
    model, loaded = saved_and_loaded(made.backbone, tmp_path)
    np.testing.assert_array_equal(answers(model, batch), answers(loaded, batch))
    again = {p: one.layer for p, one in places(Graph(loaded)).items()}
    assert again["transformer_layer_0/feedforward_dropout"].rate == 0.4
    # Dropout drops: the training pass draws.
    assert np.abs(np.asarray(loaded(batch, training=True)) - answers(loaded, batch)).max() > 0


def test_layers_of_convolutional_networks_are_replaced(tmp_path):
    backbone = MAKE["resnet"]()
    before = weights_of(backbone.network)
    made = operate(backbone, {
        "gelu": Replace("**", activation="gelu"), "norm": Replace("**", norm="group"),
        "pool": Replace("pool1_pool", pooling="average"),
    })  # fmt: skip
    now = made.backbone.network
    kinds = {type(layer).__name__ for layer in now.layers}
    assert kinds >= {"GroupNormalization", "AveragePooling2D"}
    assert not kinds & {"BatchNormalization", "MaxPooling2D"}
    active = [layer for layer in now.layers if isinstance(layer, keras.layers.Activation)]
    assert {layer.activation.__name__ for layer in active} == {"gelu"}
    assert {path for path in before if "conv/" in path} <= same(before, now)
    model, loaded = saved_and_loaded(made.backbone, tmp_path)
    batch = batch_of(now)
    np.testing.assert_array_equal(answers(model, batch), answers(loaded, batch))


def test_a_new_norm_takes_over_scale_and_offset():
    inputs = keras.Input((4,), name="inputs")
    network = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(inputs))
    network.layers[-1].gamma.assign([1.0, 2.0, 3.0, 4.0])
    network.layers[-1].beta.assign([5.0, 6.0, 7.0, 8.0])
    graph = Graph(network)
    Replace("norm", norm="layer")(graph)
    new = places(graph)["norm"].layer
    np.testing.assert_array_equal(new.gamma, [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(new.beta, [5.0, 6.0, 7.0, 8.0])


def test_a_layer_is_inserted_after_each(tmp_path):
    backbone = MAKE["gpt2"]()
    before, batch = weights_of(backbone.network), batch_of(backbone.network)
    wanted = answers(backbone.network, batch)
    step = InsertAfter("transformer_layer_*", keras.layers.Dropout(0.3))
    made = operate(backbone, {"drop": step})
    now = made.backbone.network
    assert [layer.name for layer in now.layers if isinstance(layer, keras.layers.Dropout)][-3:] == [
        f"transformer_layer_{i}_dropout" for i in range(3)
    ]
    assert same(before, now) == set(before)
    np.testing.assert_array_equal(answers(now, batch), wanted)
    _, loaded = saved_and_loaded(made.backbone, tmp_path)
    assert loaded.get_layer("transformer_layer_1_dropout").rate == 0.3


@pytest.mark.every(4)
@pytest.mark.parametrize(("family", "touched"), [
    ("bert", {"transformer_layer_2", "pooled_dense"}),
    ("gpt2", {"transformer_layer_2", "layer_norm"}),
    ("resnet", {"stack1_block0_0_bn", "stack1_block0_0_conv", "stack1_block0_1_bn",
                "stack1_block0_1_conv", "stack1_block0_2_bn", "stack1_block0_2_conv"}),
    ("mobilenet", {"conv_dw_13", "conv_dw_13_bn", "conv_pw_13", "conv_pw_13_bn"}),
    pytest.param("llama", {"transformer_layer_1", "sequence_output_layernorm"},
                 marks=pytest.mark.slow),
])  # fmt: skip
def test_the_top_block_begins_anew(family, touched):
    backbone = MAKE[family]()
    for weight in backbone.network.trainable_weights:
        weight.assign(weight + 0.01)
    before = weights_of(backbone.network)
    made = operate(backbone, {"anew": Reset(blocks=1)})
    now = made.backbone.network
    moved = set(before) - same(before, now)
    assert {path.split("/")[0] for path in moved} <= touched
    kernels = {p for p in before if p.split("/")[0] in touched and p.endswith(("kernel", "gamma"))}
    assert kernels <= moved | {p for p in kernels if not np.ptp(before[p])}
    assert kernels
    assert "weights reinitialized in" in made.said[0]


@pytest.mark.slow
def test_a_block_within_a_layer_begins_anew():
    backbone = MAKE["vit"]()
    before = weights_of(backbone.network)
    made = operate(backbone, {"anew": Reset(layers="vit_encoder/transformer_block_2/mha")})
    moved = set(before) - same(before, made.backbone.network)
    assert moved
    assert all("transformer_block_2/mha" in path for path in moved)


@pytest.mark.slow
def test_a_network_within_a_network_is_unfolded(tmp_path):
    inner = keras.applications.MobileNet(
        weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.25
    )
    inputs = keras.Input((32, 32, 3), name="images")
    network = keras.Model(inputs, keras.layers.Activation("relu", name="top")(
        inner(inputs, training=False)))  # fmt: skip
    backbone = backbones.image_backbone(
        network, ImagePreprocess(32, 32), name="own", pretrained=True
    )
    before = weights_of(backbone.network)
    made = operate(backbone, {"cut": Cut("conv_pw_4_relu")})
    assert same(before, made.backbone.network) == {v.path for v in made.backbone.network.weights}
    model, loaded = saved_and_loaded(made.backbone, tmp_path)
    batch = batch_of(model)
    np.testing.assert_array_equal(answers(model, batch), answers(loaded, batch))


# --- inputs ------------------------------------------------------------------------------------


def test_zeros_for_new_channels_compute_what_was_computed():
    backbone = MAKE["resnet"]()
    batch = batch_of(backbone.network)
    wanted = answers(backbone.network, batch)
    made = operate(backbone, {"alpha": InputChannels(4)}).backbone
    alpha = np.random.default_rng(1).integers(0, 256, (*batch.shape[:3], 1)).astype("uint8")
    assert made.network.input_shape == (None, 32, 32, 4)
    assert made.preprocess.channels == 4
    found = answers(made.network, np.concatenate([batch, alpha], -1))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", [
    "resnet", pytest.param("vit", marks=pytest.mark.slow),
    pytest.param("mobilenet", marks=pytest.mark.slow),
    pytest.param("inception", marks=pytest.mark.slow),
    pytest.param("efficientnetv2", marks=pytest.mark.slow),
])  # fmt: skip
def test_grey_images_are_answered_as_they_were_in_colours(family, tmp_path):
    backbone = MAKE[family]()
    before = weights_of(backbone.network)
    grey = batch_of(backbone.network)[..., :1]
    wanted = answers(backbone.network, np.repeat(grey, 3, -1))
    made = operate(backbone, {"grey": InputChannels(1)}).backbone
    # Where the network scales each channel by itself, the mean of these stands in.
    loose = 0.05 if family == "efficientnetv2" else 1e-4
    np.testing.assert_allclose(answers(made.network, grey), wanted, rtol=loose, atol=loose)
    assert len(set(before) - same(before, made.network)) == 1
    model, loaded = saved_and_loaded(made, tmp_path)
    np.testing.assert_array_equal(answers(model, grey), answers(loaded, grey))


def test_kernels_are_averaged_and_repeated_with_the_right_scale():
    def kernel(channels, how):
        inputs = keras.Input((4, 4, 3), name="images")
        network = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="first")(inputs))
        old = network.layers[-1].kernel.numpy()
        graph = Graph(network)
        InputChannels(channels, how)(graph)
        return old, places(graph)["first"].layer.kernel.numpy()

    old, new = kernel(1, "average")
    np.testing.assert_allclose(new[:, :, 0], old.sum(2), rtol=1e-5)
    old, new = kernel(2, "average")
    np.testing.assert_allclose(new.sum(2), old.sum(2), rtol=1e-5)
    np.testing.assert_allclose(new[:, :, 0], new[:, :, 1])
    old, new = kernel(4, "repeat")
    np.testing.assert_allclose(new, old[:, :, [0, 1, 2, 0]] * 3 / 4, rtol=1e-6)
    old, new = kernel(4, "auto")
    np.testing.assert_array_equal(new[:, :, :3], old)
    assert not new[:, :, 3].any()


def test_blue_first_stays_where_it_was():
    inputs = keras.Input((8, 8, 3), name="images")
    backbone = backbones.image_backbone(
        keras.Model(inputs, keras.layers.Conv2D(2, 3, name="first")(inputs)),
        ImagePreprocess(8, 8), offset=[-103.9, -116.8, -123.7], bgr=True, name="own",
        pretrained=True,
    )  # fmt: skip
    batch = batch_of(backbone.network)
    wanted = answers(backbone.network, batch)
    more = np.concatenate([batch, batch[..., :1]], -1)
    found = answers(operate(backbone, {"x": InputChannels(4)}).backbone.network, more)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


def test_a_kernel_a_channel_cannot_be_adapted():
    inputs = keras.Input((8, 8, 3), name="images")
    network = keras.Model(inputs, keras.layers.DepthwiseConv2D(3, name="first")(inputs))
    with pytest.raises(UserError, match=r"'first', a DepthwiseConv2D, treats each channel"):
        InputChannels(1)(Graph(network))


@pytest.mark.slow
def test_positions_are_interpolated(tmp_path):
    backbone = MAKE["vit"]()
    before = weights_of(backbone.network)
    made = operate(backbone, {"size": ImageSize([48, 64])}).backbone
    assert (made.preprocess.height, made.preprocess.width) == (48, 64)
    now = weights_of(made.network)
    path = next(p for p in before if "position_embedding" in p)
    assert (before[path].shape, now[path].shape) == ((17, 32), (49, 32))
    np.testing.assert_array_equal(now[path][0], before[path][0])  # the class token's
    assert set(before) - same(before, made.network) == {path}
    model, loaded = saved_and_loaded(made, tmp_path)
    batch = batch_of(model)
    np.testing.assert_array_equal(answers(model, batch), answers(loaded, batch))


def test_convolutions_take_any_size():
    made = operate(MAKE["resnet"](), {"size": ImageSize(64)}).backbone
    assert made.network.input_shape == (None, 64, 64, 3)
    assert made.network.output_shape == (None, 8, 8, 64)


# --- blocks, names, trees ----------------------------------------------------------------------


def test_names_are_those_of_a_new_process():
    def network():
        inputs = x = keras.Input((4,), name="inputs")
        for _ in range(2):
            x = keras.layers.Dense(4)(x)
        return keras.Model(inputs, x)

    network()
    again = Graph(network())
    assert list(places(again)) == ["dense", "dense_1"]
    # The name in a file is understood too.
    own = again.nodes[-1].operation.name
    assert own != "dense_1"
    assert [place.path for place in meant(again, own)] == ["dense_1"]


def test_blocks_are_counted_from_the_input_on():
    blocks = blocks_of(Graph(MAKE["bert"]().network))
    assert [[place.path for place in block] for block in blocks] == [
        ["transformer_layer_0"], ["transformer_layer_1"], ["transformer_layer_2", "pooled_dense"],
    ]  # fmt: skip


def test_the_tree_marks_what_changed():
    made = operate(MAKE["bert"](), {
        "cut": Cut("transformer_layer_1"), "rate": Replace("transformer_layer_1", dropout=0.3),
        "more": InsertAfter("transformer_layer_0", keras.layers.Dropout(0.2)),
    })  # fmt: skip
    before, after = compared(made.before, made.after)
    marks = {line[0] for line in before}
    assert marks == {" ", "-", "~"}
    assert any(line.startswith("- pooled_dense") for line in before)
    assert any(line.startswith("+ transformer_layer_0_dropout") for line in after)
    assert any(line.startswith("~   feedforward_dropout") and "0.3" in line for line in after)
    assert not any("transformer_layer_2" in line for line in after)
