from __future__ import annotations

import functools
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from kerasft import testing
from kerasft.errors import UserError
from kerasft.model.assemble import assemble
from kerasft.model.backbones import keras_file
from kerasft.model.heads import pooled
from kerasft.model.layers import ImageNetwork
from kerasft.model.network_file import read_network
from kerasft.system.folders import looked_up_in
from kerasft.training.stages import Stage, select

L = keras.layers
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("uint8")


def block(name="conv"):
    return [L.Rescaling(1 / 255), L.Conv2D(4, 3, name=name), L.BatchNormalization(), L.ReLU()]


def functional(*layers, shape=(16, 16, 3), name=None):
    image = x = keras.Input(shape)
    for layer in layers or block():
        x = layer(x)
    return keras.Model(image, x, name=name)


def called(model):
    model(PIXELS.astype("float32"))
    return model


SEQUENTIAL = {
    "with an input shape": lambda: keras.Sequential([keras.Input((16, 16, 3)), *block()]),
    "built by a call": lambda: called(keras.Sequential(block())),
    "around a functional network": lambda: keras.Sequential([
        keras.Input((16, 16, 3)), functional(name="inner"), L.GlobalAveragePooling2D(),
    ]),
    "in a Sequential": lambda: keras.Sequential([
        keras.Sequential([keras.Input((16, 16, 3)), *block()]), L.GlobalAveragePooling2D(),
    ]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("make", SEQUENTIAL.values(), ids=SEQUENTIAL)
def test_a_sequential_is_a_network_like_any_other(tmp_path, make):
    own = make()
    own.save(tmp_path / "own.keras")
    backbone = keras_file(str(tmp_path / "own.keras"))
    np.testing.assert_allclose(backbone.network(PIXELS), own(PIXELS.astype("float32")), rtol=1e-5)
    testing.check_backbone(backbone)
    fresh = keras_file(str(tmp_path / "own.keras"), pretrained=False)
    gap = fresh.network(PIXELS) - own(PIXELS.astype("float32"))
    assert np.abs(gap).max() > 1e-3


def test_a_sequential_is_cut_at_a_layer(tmp_path):
    keras.Sequential([keras.Input((16, 16, 3)), *block(), L.Flatten()]).save(tmp_path / "a.keras")
    cut = keras_file(str(tmp_path / "a.keras"), layer="conv")
    assert cut.network.output_shape == (None, 14, 14, 4)
    with pytest.raises(UserError, match=r"must be one of .*Did you mean 'conv'"):
        keras_file(str(tmp_path / "a.keras"), layer="convv")


def test_a_network_within_the_network_is_no_place_to_cut(tmp_path):
    SEQUENTIAL["around a functional network"]().save(tmp_path / "a.keras")
    with pytest.raises(UserError, match="'inner' is a network within the network"):
        keras_file(str(tmp_path / "a.keras"), layer="inner")


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"image": x}], ids=["list", "dict"])
def test_one_input_in_a_list_or_dict_is_one_input(tmp_path, wrap):
    image = keras.Input((16, 16, 3), name="image")
    keras.Model(wrap(image), L.Conv2D(4, 3)(image)).save(tmp_path / "a.keras")
    assert read_network(str(tmp_path / "a.keras")).input_shape == (None, 16, 16, 3)
    testing.check_backbone(keras_file(str(tmp_path / "a.keras")))


def test_a_network_on_oblong_images_gets_them_so(tmp_path):
    functional(L.Flatten(), shape=(16, 24, 3)).save(tmp_path / "a.keras")
    backbone = keras_file(str(tmp_path / "a.keras"))
    assert (backbone.preprocess.height, backbone.preprocess.width) == (16, 24)
    assert backbone.network.output_shape == (None, 16 * 24 * 3)


@keras.saving.register_keras_serializable("kerasft_tests")
class Subclassed(keras.Model):
    def __init__(self, **more):
        super().__init__(**more)
        self.conv = L.Conv2D(4, 3)

    def call(self, x):
        return self.conv(x)


def two_inputs():
    one, other = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    return keras.Model([one, other], L.Add()([one, other]))


def a_number_each():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, keras.ops.sum(image, axis=(1, 2, 3)))


REFUSED = {
    "unbuilt": (
        lambda: keras.Sequential(block()), r"Sequential without one\. Put keras\.Input\(\(height",
    ),
    "empty": (lambda: keras.Sequential(), "a Sequential without layers"),
    "subclassed": (
        lambda: called(Subclassed()), r"Subclassed, a subclass of keras\.Model without a graph",
    ),
    "two inputs": (two_inputs, r"must hold a network on one image"),
    "grey": (lambda: functional(L.Conv2D(4, 3), shape=(16, 16, 1)), "on one image .*height"),
    "channels first": (lambda: functional(L.ReLU(), shape=(3, 16, 16)), "on one image"),
    "a number each": (
        a_number_each, r"must put out features, .*Received: \(None,\)",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_network_on_images_is_said_in_one_line(tmp_path, make, message):
    make().save(tmp_path / "own.keras")
    with pytest.raises(UserError, match=message) as raised:
        keras_file(str(tmp_path / "own.keras"))
    assert "\n" not in str(raised.value)


def described(file: Path, text: str) -> Path:
    """Write a file like one of Keras', with another description."""
    keras.Sequential([keras.Input((16, 16, 3)), *block()]).save(file.with_name("whole.keras"))
    with zipfile.ZipFile(file.with_name("whole.keras")) as whole, zipfile.ZipFile(file, "w") as out:
        for name in whole.namelist():
            out.writestr(name, text if name == "config.json" else whole.read(name))
    return file


LAYER = json.dumps({
    "module": "keras.layers", "class_name": "Dense", "config": {"units": 3},
    "registered_name": None,
})  # fmt: skip
DESCRIPTIONS = {
    "a layer": (LAYER, "Received: Dense, a layer"),
    "cut off": ("{", "no config.json that describes a network, or it is damaged"),
    **{f"JSON {text}": (text, "describes a network") for text in
       ("null", "[1]", "5", '"x"', "{}", '{"class_name": 5}', "[" * 9999)},
    "no config": ('{"class_name": "Sequential", "module": "keras"}', "could not be loaded"),
    "a number as config": (
        '{"class_name": "Sequential", "module": "keras", "config": 5}', "could not be loaded",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_description_of_something_else_is_told(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as raised:
        keras_file(str(described(tmp_path / "own.keras", text)))
    assert "\n" not in str(raised.value)


def test_what_is_no_archive_is_told_by_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    functional().save("whole.keras")
    functional().save_weights("w.weights.h5")
    Path("w.weights.h5").rename("hdf5.keras")
    Path("half.keras").write_bytes(Path("whole.keras").read_bytes()[:700])
    Path("empty.keras").touch()
    Path("folder.keras").mkdir()
    with zipfile.ZipFile("other.keras", "w") as other:
        other.writestr("a.txt", "b")
    for path, message in {
        "hdf5.keras": "an HDF5 file, the format before", "half.keras": "or cut off",
        "empty.keras": "or cut off", "folder.keras": r"must be a \.keras file",
        "other.keras": "no config.json", "missing.keras": "none of that name",
        "whole.h5": r"must be a \.keras file", "": "must be the path", "x" * 300: "too long",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message) as raised:
            keras_file(path)
        assert "backbone.path" in str(raised.value)
    for wrong in (5, None, ["whole.keras"]):
        with pytest.raises(UserError, match=r"must be the path of .*Received: "):
            keras_file(wrong)


def test_a_relative_file_is_looked_up_where_the_run_was_started(tmp_path):
    (tmp_path / "there").mkdir()
    functional().save(tmp_path / "there/own.keras")
    with looked_up_in([tmp_path / "here", tmp_path / "there"]):
        assert keras_file("own.keras").name == "own.keras"
        with pytest.raises(UserError, match=r"Looked for: .*here/no\.keras', .*there/no\.keras'"):
            keras_file("no.keras")


def test_a_lambda_with_code_is_refused_whatever_is_around_it(tmp_path):
    for i, model in enumerate((
        functional(L.Lambda(lambda x: x * 2)),
        keras.Sequential([keras.Input((16, 16, 3)), L.Lambda(lambda x: x * 2)]),
        keras.Sequential([keras.Input((16, 16, 3)), functional(L.Lambda(lambda x: x * 2))]),
    )):
        model.save(tmp_path / f"{i}.keras")
        with pytest.raises(UserError, match="Lambda") as raised:
            keras_file(str(tmp_path / f"{i}.keras"))
        assert "safe_mode" not in str(raised.value)


@pytest.mark.parametrize("value", [None, "x", [1.0, 2.0], float("nan"), [0, 0, "x"], True])
@pytest.mark.parametrize("key", ["scale", "offset"])
def test_a_scale_of_pixels_that_is_none_is_told(tmp_path, key, value):
    functional().save(tmp_path / "own.keras")
    with pytest.raises(UserError, match=rf"backbone\.{key} must be a number, or three"):
        keras_file(str(tmp_path / "own.keras"), **{key: value})
    assert keras_file(str(tmp_path / "own.keras"), **{key: [1.0, 2, 0.5]})


def with_linear(path, **settings):
    return assemble(keras_file(str(path), **settings), functools.partial(pooled.linear, units=2))


def test_a_layer_that_has_the_name_of_one_of_our_head_is_told(tmp_path):
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), L.Conv2D(4, 3, name="stem"), L.Flatten(name="head_outputs")]
    )
    model.save(tmp_path / "own.keras")
    with pytest.raises(UserError, match=r"is called 'head_outputs', as one of the head .*\.layer"):
        with_linear(tmp_path / "own.keras")
    assert with_linear(tmp_path / "own.keras", layer="stem").output_shape == (None, 2)


def test_a_backbone_may_have_layers_whose_names_begin_with_head(tmp_path):
    functional(L.Conv2D(4, 3, name="head_x"), L.ReLU(name="head_y")).save(tmp_path / "own.keras")
    model = with_linear(tmp_path / "own.keras")
    assert [one.name for one in model.head_layers if one.weights] == ["head_outputs"]
    select(model, Stage(train="head"), pretrained=True)
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {"head_outputs"}
    before = [v.numpy() for v in model.get_layer("head_x").variables]
    model.compile("sgd", "mse", run_eagerly=True)
    model.train_on_batch(PIXELS, np.ones((2, 2)))
    for one, other in zip(before, model.get_layer("head_x").variables, strict=True):
        np.testing.assert_array_equal(one, other)
    select(model, Stage(train="all"), pretrained=True)
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {"head_x", "head_outputs"}
    config = model.get_config()
    assert "head_x" in json.dumps(config["network"]) and "head_x" not in json.dumps(config["head"])
    assert "head_outputs" in json.dumps(config["head"])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert again.get_config()["network"] == config["network"]
    assert [one.name for one in again.head_layers] == [one.name for one in model.head_layers]
    np.testing.assert_array_equal(again(PIXELS), model(PIXELS))


def test_networks_of_the_first_runs_load(tmp_path):
    """The name in the files of runs is that of the first version, whatever the class is called."""
    image = keras.Input((16, 16, 3))
    network = ImageNetwork(keras.Model(image, L.Conv2D(2, 3)(image)), 16, 16, 1 / 255)
    file = str(tmp_path / "best.keras")
    network.save(file)
    with zipfile.ZipFile(file) as archive:
        assert b'"registered_name": "kerasft>PictureNetwork"' in archive.read("config.json")
    again = keras.saving.load_model(file)
    assert np.array_equal(again(PIXELS), network(PIXELS))
