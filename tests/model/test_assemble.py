from __future__ import annotations

import keras
import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import regularize, tiny
from kerasft.model.assemble import assemble, features_of
from kerasft.model.heads import pooled
from kerasft.model.layers import Assembled
from kerasft.spec import Backbone, Features
from kerasft.training import frozen
from kerasft.training.stages import Stage, is_head_alone, select

TOKENS = {
    "token_ids": np.array([[3, 4, 5, 6, 0, 0]]), "padding_mask": np.array([[1, 1, 1, 1, 0, 0]]),
}  # fmt: skip


def backbone(network, **settings):
    return Backbone(network, None, name="ours", learning_rate=1e-3, **settings)


def pyramid():
    """A network with maps of two sizes, as detectors have."""
    image = keras.Input((16, 16, 3))
    fine = keras.layers.Conv2D(4, 3, 2, "same", name="fine")(image)
    coarse = keras.layers.Conv2D(6, 3, 2, "same", name="coarse")(fine)
    return keras.Model(image, {"P3": fine, "P4": coarse})


def language_model():
    body = tiny.text("gpt2")
    hidden = body.network.output
    return body, Assembled(body.network, body.network.token_embedding(hidden, reverse=True))


def test_a_network_of_several_outputs_is_refused_with_what_it_has():
    with pytest.raises(UserError, match=r"P3 \[batch, 8, 8, 4\], P4 \[batch, 4, 4, 6\]"):
        pooled.linear(features_of(backbone(pyramid())), units=2)
    image = keras.Input((8,))
    both = keras.Model(image, [keras.layers.Dense(2)(image), keras.layers.Dense(3)(image)])
    with pytest.raises(UserError, match=r"0 \[batch, 2\], 1 \[batch, 3\]"):
        pooled.linear(features_of(backbone(both)), units=2)


def test_a_detectors_own_network_is_refused():
    import keras_hub

    shape = (64, 64, 3)
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64] * 4,
        stackwise_num_blocks=[1] * 4, stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block", image_shape=shape,
    )
    network = keras_hub.models.RetinaNetBackbone(
        encoder, min_level=3, max_level=4, use_p5=False, image_shape=shape
    )
    with pytest.raises(UserError, match=r"several outputs.*P3 \[batch, 8, 8, 256\], P4"):
        assemble(backbone(network), lambda features: pooled.linear(features, units=2))


def test_a_named_feature_is_the_one_that_is_taken():
    features = features_of(backbone(pyramid(), feature="P4"))
    assert features.sequence.shape == (None, 16, 6)


def test_classifiers_that_put_out_all_stages_give_the_last_one():
    import keras_hub

    from kerasft.model.backbones import image_backbone
    from kerasft.model.preprocess import ImagePreprocess

    network = keras_hub.models.HGNetV2Backbone(
        depths=[1, 1], embedding_size=4, hidden_sizes=[4, 8], stem_channels=[3, 4, 4],
        hidden_act="relu", use_learnable_affine_block=False, image_shape=(32, 32, 3),
        stackwise_stage_filters=[(4, 4, 4, 1, 1, 3), (4, 4, 8, 1, 1, 3)],
        apply_downsample=[False, True], use_lightweight_conv_block=[False, False],
    )
    made = image_backbone(network, ImagePreprocess(32, 32), name="ours", pretrained=False)
    last = network.output["stage2"].shape
    assert features_of(made).sequence.shape == (None, last[1] * last[2], last[3])


def saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)


def test_a_head_that_shares_a_layer_with_the_network_comes_back(tmp_path):
    _, model = language_model()
    back = saved_and_loaded(model, tmp_path)
    np.testing.assert_array_equal(back(TOKENS), model(TOKENS))
    embedding = back.get_layer("token_embedding")
    embedding.embeddings.assign(embedding.embeddings * 0)
    assert not np.asarray(back(TOKENS)).any()  # still one embedding, at both ends
    again = saved_and_loaded(back, tmp_path)
    np.testing.assert_array_equal(again(TOKENS), back(TOKENS))


def test_a_head_without_weights_of_its_own_cannot_train_alone():
    _, model = language_model()
    assert model.head_layers == []
    with pytest.raises(UserError, match="it shares those of the backbone"):
        select(model, Stage("head"), pretrained=True)
    select(model, Stage("all"), pretrained=True)
    assert not is_head_alone(model)


def test_a_head_of_several_maps_and_outputs_comes_back(tmp_path):
    network = pyramid()
    maps = network.output
    outputs = {
        "sizes": keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(maps["P3"])),
        "map": keras.layers.Conv2D(3, 1)(maps["P4"]),
        "as_it_is": maps["P4"],
    }
    model = Assembled(network, outputs)
    back = saved_and_loaded(model, tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    for name, value in model(x).items():
        np.testing.assert_array_equal(back(x)[name], value)


def test_the_head_is_known_by_what_it_is_and_not_by_its_names():
    body = tiny.image("resnet")
    model = assemble(body, lambda f: keras.layers.Dense(2, name="box")(
        keras.layers.Dropout(0.5, name="rest")(keras.layers.GlobalAveragePooling1D()(f.sequence))
    ))  # fmt: skip
    assert [one.name for one in model.head_layers][-2:] == ["rest", "box"]
    assert select(model, Stage("head"), pretrained=True) == ["box/kernel", "box/bias"]
    assert is_head_alone(model)
    # Dropout of the head stays above the cut: it is there for the head.
    assert "rest" in {node.operation.name for node in frozen.cut(model).above}
    with pytest.raises(UserError, match="no dropout layer in the backbone"):
        regularize.dropout(model, rate=0.3)


def test_layers_of_the_network_are_no_head_whatever_they_are_called():
    x = keras.Input((8,))
    network = keras.Model(x, keras.layers.Dense(4, name="head_of_theirs")(x))
    model = assemble(backbone(network), lambda features: pooled.linear(features, units=2))
    paths = select(model, Stage("head"), pretrained=True)
    assert paths == ["head_outputs/kernel", "head_outputs/bias"]


def test_a_layer_that_is_called_twice_is_taken_at_the_right_call(tmp_path):
    x = keras.Input((4,))
    twice = keras.layers.Dense(4, name="twice", activation="tanh")
    network = keras.Model(x, {"first": (once := twice(x)), "second": twice(once)})
    model = assemble(
        backbone(network, feature="second"), lambda features: pooled.linear(features, units=2)
    )
    back = saved_and_loaded(model, tmp_path)
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    np.testing.assert_array_equal(back(rows), model(rows))


@pytest.mark.parametrize("kind", ["text", "images"])
def test_models_of_before_are_still_read(kind):
    body = tiny.text("bert") if kind == "text" else tiny.image("resnet")
    model = assemble(body, lambda features: pooled.linear(features, units=2))
    config = model.get_config()
    del config["places"], config["shared"]
    # The head began where a map had become a sequence.
    sequence = features_of(body).sequence
    taken = [keras.Input(sequence.shape[1:])]
    taken += [keras.Input((None,), dtype="int32")] if kind == "text" else []
    old = keras.Model(taken, pooled.linear(Features(*taken), units=2), name="head")
    config["head"] = keras.saving.serialize_keras_object(old)
    back = Assembled.from_config(config)
    back.set_weights(model.get_weights())
    given = TOKENS | {"segment_ids": np.zeros((1, 6), "int32")}
    if kind == "images":
        given = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype("uint8")
    np.testing.assert_array_equal(back(given), model(given))
    assert "places" in back.get_config()
