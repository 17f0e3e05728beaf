from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerasft.errors import UserError
from kerasft.model import adapters, tiny
from kerasft.model.adapting import adaptation, adapter_file, low_rank
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.model.layers import Assembled
from kerasft.training import frozen
from kerasft.training.fused import fuse
from kerasft.training.stages import Stage, select
from kerasft.training.trainability import describe

TEXTS = {
    "token_ids": np.array([[2, 7, 8, 3, 0, 0], [2, 9, 7, 8, 9, 3]], "int32"),
    "segment_ids": np.zeros((2, 6), "int32"),
    "padding_mask": np.array([[1] * 4 + [0] * 2, [1] * 6], "int32"),
}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")


def made(family: str = "bert", units: int = 2, seed: int = 1):
    """Assemble a tiny network, and inputs for it."""
    keras.utils.set_random_seed(seed)
    backbone = (
        tiny.image(family, image_size=32) if family in tiny.IMAGE else tiny.text(family)
    )
    inputs = IMAGES if family in tiny.IMAGE else {
        name: TEXTS[name] for name in backbone.network.input
    }
    return assemble(backbone, lambda f: pooled.linear(f, units=units)), inputs


@functools.cache
def untouched(family: str = "bert", use: str = ""):
    """Return a model for what is refused, and so leaves it as it is; one for each use."""
    return made(family)[0]


def adapted(family: str = "bert", adapter=adapters.lora, **settings):
    model, inputs = made(family)
    return adapter(model, **settings), inputs


def small(width: int = 16):
    """Return a model of two dense layers below its head, and inputs for it."""
    keras.utils.set_random_seed(1)
    rows = keras.Input((width,))
    x = keras.layers.Dense(width, "gelu", name="lower")(rows)
    x = keras.layers.Dense(width, "gelu", name="upper")(x)
    model = Assembled(keras.Model(rows, x), keras.layers.Dense(2, name="head_outputs")(x))
    return model, np.random.default_rng(0).normal(size=(4, width)).astype("float32")


def stir(model, seed: int = 3) -> None:
    """Give what may train numbers as training would."""
    random = np.random.default_rng(seed)
    for variable in model.adaptation.own.values():
        variable.assign(variable.numpy() + 0.2 * random.normal(size=variable.shape))


def computed(model, inputs) -> np.ndarray:
    return np.asarray(model(inputs, training=False))


def trained_paths(model, stage: Stage | None = None) -> list[str]:
    return select(model, stage or Stage("all"), pretrained=True)


FAMILIES = [
    pytest.param(family, marks=pytest.mark.slow if family in ("mobilenet", "efficientnet") else ())
    for family in ("bert", "gpt2", "albert", "llama", "resnet", "vgg", "mobilenet", "efficientnet",
                   "vit")
]  # fmt: skip


@pytest.mark.every(12)
@pytest.mark.parametrize("family", FAMILIES)
def test_lora_fits_networks_for_texts_and_images_as_it_comes(family, tmp_path):
    model, inputs = made(family)
    plain, count = computed(model, inputs), len(model.variables)
    adapters.lora(model, rank=2)
    np.testing.assert_array_equal(computed(model, inputs), plain)
    paths = trained_paths(model)
    assert all(re.search(r"/lora_[ab]$|^head_", path) for path in paths)
    assert len(paths) > 5
    stir(model)
    beside = computed(model, inputs)
    assert np.abs(beside - plain).max() > 1e-3
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(computed(model, inputs), beside)
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(computed(again, inputs), beside, atol=2e-5, rtol=1e-4)
    adaptation.merge(model)
    np.testing.assert_allclose(computed(model, inputs), beside, atol=2e-5, rtol=1e-4)
    assert len(model.variables) == count
    assert not any(isinstance(one, low_rank.LowRank) for one in model._flatten_layers())


def test_weights_alone_are_written_merged(tmp_path):
    model, inputs = adapted()
    stir(model)
    model.save_weights(tmp_path / "model.weights.h5")
    other, _ = made(seed=5)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(computed(other, inputs), computed(model, inputs), atol=1e-5)


def test_stages_choose_among_head_and_adapters():
    model, _ = adapted(rank=2)
    assert all(path.startswith("head_") for path in trained_paths(model, Stage("head")))
    upper = trained_paths(model, Stage(["transformer_layer_1/", "^head_"]))
    assert upper
    assert all(re.search(r"^transformer_layer_1/.*lora_[ab]$|^head_", path) for path in upper)
    assert trained_paths(model, Stage(0.2)) == upper
    rows = {part.name: (part.weights, part.trains) for part in describe(model, 1e-3)}
    total, trains = rows["transformer_layer_* (lora)"]
    assert rows["transformer_layer_*"][1] == 0 < trains == total / 2
    with pytest.raises(UserError, match=r"with adapt\.lora only the head and the adapters train, "
                       r"and 'query/kernel' matches none of them\. Their paths are, for instance, "
                       r".*lora_a"):  # fmt: skip
        trained_paths(model, Stage(["^head_", "query/kernel"]))


def test_a_part_that_trains_is_cut_at_the_lowest_adapter_that_does():
    model, inputs = adapted(rank=2, targets=["transformer_layer_1/"])
    trained_paths(model)
    cut = frozen.cut(model)
    assert cut is not None
    assert "transformer_layer_0" in cut.layers and "transformer_layer_1" not in cut.layers
    stir(model)
    np.testing.assert_array_equal(cut.suffix(cut.prefix(inputs)), computed(model, inputs))


def test_what_is_kept_below_a_cut_depends_on_the_scale_of_updates_there():
    keys = []
    for alpha in (4.0, 8.0):
        model, _ = adapted(rank=2, alpha=alpha)
        stir(model)
        trained_paths(model, Stage("head"))
        keys.append(frozen.identity(frozen.cut(model)))
    assert keys[0] != keys[1]


def test_the_share_of_layers_that_get_an_update():
    model, _ = adapted(rank=2, layers=0.2)
    parts = {one.lora_a.path.split("/")[0] for one in model.adaptation.layers}
    assert parts == {"transformer_layer_1"}


def test_layers_that_would_not_shrink_are_left_out_where_nobody_names_them():
    # A rank of 8 for kernels of 32 x 2 x 16 and 32 x 64, and none for the head's.
    model, _ = adapted(rank=8)
    assert {low_rank.name_of(one) for one in model.adaptation.layers} == {"EinsumDense", "Dense"}
    with pytest.raises(UserError, match=r"no layer in this backbone whose update would be smaller "
                       r"than its kernel: the largest kernel has a side of 32\. Received: rank=32"):
        adapters.lora(untouched(), rank=32)


@pytest.mark.parametrize(("settings", "message"), [
    ({"targets": ["querry$"]},
     r"'querry\$' matches no layer of the backbone\. Paths near it: .*/query"),
    ({"targets": ["layer_norm$"]},
     r"'layer_norm\$' matches only layers that take no update: embeddings_layer_norm "
     r"\(LayerNormalization\), .* Allowed are Dense, EinsumDense"),
    ({"targets": ["^head_"]}, "matches no layer of the backbone"),
    ({"targets": ["token_embedding", "query$"], "rank": 33},
     r"rank must not be larger than the smaller side of a kernel: token_embedding.* \(32\).*"
     r"Received: 33"),
    ({"rank": 0}, r"rank must be a whole number of at least 1\. Received: 0"),
    ({"rank": 2.0}, r"rank must be a whole number"),
    ({"alpha": 0}, r"alpha must be a number above 0"),
    ({"dropout": 1.0}, r"dropout is a share: from 0 to below 1"),
    ({"layers": 0}, r"layers is a share of the backbone's layers"),
    ({"base": "int4"}, r"base must be float or int8"),
    ({"targets": []}, r"targets must be a list of regular expressions"),
    ({"targets": ["("]}, r"'\(' is no regular expression"),
])  # fmt: skip
def test_mistakes_are_told_in_words(settings, message):
    with pytest.raises(UserError, match=message):
        adapters.lora(untouched(), **settings)
    assert untouched().adaptation is None


def test_a_layer_that_is_adapted_already_is_named():
    model, _ = adapted(rank=2, targets=["query$"])
    with pytest.raises(UserError, match="EinsumDense that is adapted already"):
        adapters.lora(model, targets=["query$"])
    adapters.lora(model, rank=4, targets=["value$"])  # another one may have its own rank
    assert model.adaptation.names == "adapt.lora and adapt.lora"


def test_biases_and_norms():
    model, _ = adapted(adapter=adapters.bias)
    own = trained_paths(model)
    assert {path.rpartition("/")[2] for path in own if not path.startswith("head_")} == {
        "bias", "beta",
    }  # fmt: skip
    model, _ = adapted(adapter=adapters.norm)
    own = trained_paths(model)
    assert {path.rpartition("/")[2] for path in own if not path.startswith("head_")} == {
        "gamma", "beta",
    }  # fmt: skip
    adapters.bias(adapters.lora(model, rank=2))
    assert model.adaptation.names == "adapt.norm and adapt.lora and adapt.bias"
    assert len(trained_paths(model)) > len(own)


def test_norms_of_networks_for_images_learn_unless_a_stage_keeps_them():
    model, inputs = adapted("resnet", adapters.norm)
    paths = trained_paths(model)
    assert {path.rpartition("/")[2] for path in paths if not path.startswith("head_")} == {
        "gamma", "beta",
    }  # fmt: skip
    before = [v.numpy() for v in model.variables if "moving" in v.path]
    model(inputs, training=True)
    after = [v.numpy() for v in model.variables if "moving" in v.path]
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    kept = trained_paths(model, Stage("all", batch_norm="frozen"))
    assert all(path.startswith("head_") for path in kept)
    assert {v.path.rpartition("/")[2] for v in model.adaptation.state} == {
        "gamma", "beta", "moving_mean", "moving_variance",
    }  # fmt: skip


def test_updates_leave_statistics_of_norms_alone():
    model, inputs = adapted("resnet", rank=2)
    trained_paths(model)
    before = [v.numpy() for v in model.variables if "moving" in v.path]
    model(inputs, training=True)
    for value, v in zip(before, (v for v in model.variables if "moving" in v.path), strict=True):
        np.testing.assert_array_equal(value, v.numpy())


def test_networks_without_biases_or_norms_say_what_to_choose():
    with pytest.raises(UserError, match=r"finds no bias in this backbone.*adapt=norm or adapt=lor"):
        adapters.bias(untouched("llama"))
    with pytest.raises(UserError, match=r"finds no norm with weights.*adapt=bias"):
        adapters.norm(untouched("vgg"))


def test_convolutions_are_not_quantized():
    with pytest.raises(UserError, match=r"Keras quantizes Dense, EinsumDense and Embedding layers, "
                       r"and the targets are Conv2D\. Set adapt\.lora\.base=float"):
        adapters.lora(untouched("vgg"), rank=2, base="int8")


@pytest.mark.slow
def test_kernels_in_int8_train_and_become_float(tmp_path):
    model, inputs = small()
    adapters.lora(model, rank=2, base="int8")
    int8 = [v for v in model.variables if v.dtype == "int8"]
    assert len(int8) == len(model.adaptation.layers) == 2
    paths = trained_paths(model)
    assert all(re.search(r"/lora_[ab]$|^head_", path) for path in paths)
    model.compile("adam", "mse", jit_compile=False)
    model.fit(inputs, np.ones((4, 2)), epochs=3, verbose=0)
    assert any(np.abs(one.lora_b.numpy()).max() > 0 for one in model.adaptation.layers)
    beside = computed(model, inputs)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert {v.dtype for v in again.variables} == {"float32"}
    np.testing.assert_allclose(computed(again, inputs), beside, atol=1e-5)


@pytest.mark.slow
def test_the_fused_optimizer_moves_adapters_as_the_plain_one():
    moved = []
    for fast in (True, False):
        # Factors of as many weights as are updated in one compiled pass.
        model, inputs = small(512)
        adapters.lora(model, rank=128, targets=["lower", "upper"])
        trained_paths(model)
        optimizer = keras.optimizers.AdamW(1e-2)
        assert not fast or fuse(optimizer, steps=1000)
        model.compile(optimizer, "mse", jit_compile=False)
        model.fit(inputs, np.ones((4, 2)), epochs=3, verbose=0, shuffle=False)
        moved.append([v.numpy() for v in model.trainable_variables])
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


# --- the file -----------------------------------------------------------------------------------


def written(model, path: Path) -> Path:
    adapter_file.write_adapter(path, model, backbone="tiny bert")
    return path


@pytest.mark.every(4)
@pytest.mark.parametrize(("adapter", "settings"), [
    (adapters.lora, {"rank": 2, "alpha": 3.0, "targets": ["query$", "token_embedding"]}),
    (adapters.bias, {}), (adapters.norm, {}),
    (adapters.lora, {"rank": 2, "base": "int8", "targets": ["query$", "token_embedding"]}),
])  # fmt: skip
def test_an_adapter_comes_back_on_the_same_base(adapter, settings, tmp_path):
    model, inputs = adapted(adapter=adapter, **settings)
    stir(model)
    model.get_layer("head_outputs").kernel.assign(np.ones((32, 2)))
    file = written(model, tmp_path / "adapter.safetensors")
    other, _ = made()  # the same seed: the same weights
    adapters.saved(other, path=str(file))
    np.testing.assert_array_equal(computed(other, inputs), computed(model, inputs))
    assert other.adaptation.records == model.adaptation.records
    assert file.stat().st_size < 4 * sum(v.numpy().size for v in model.variables)


def test_a_file_says_what_it_belongs_to_and_holds_nothing_else(tmp_path):
    from safetensors import safe_open

    model, _ = adapted(rank=2, alpha=3.0, targets=["query$"])
    file = written(model, tmp_path / "adapter.safetensors")
    with safe_open(file, framework="numpy") as opened:
        about = opened.metadata()
    assert about["base"] == model.adaptation.base == adaptation.fingerprint(made()[0])
    [record] = json.loads(about["adapt"])
    assert (record["rank"], record["alpha"], len(record["targets"])) == (2, 3.0, 2)
    assert "transformer_layer/self_attention_layer/query" in record["targets"][0][1]
    names = sorted(load_file(file))
    assert len(names) == 2 * 2 + 2
    assert all(re.search(r"/lora_[ab]$|^head/", name) for name in names)


def test_another_base_is_refused(tmp_path):
    model, _ = adapted(rank=2)
    file = written(model, tmp_path / "adapter.safetensors")
    other, _ = made(seed=2)
    with pytest.raises(UserError, match=r"belongs to other weights: it was trained on tiny bert "
                       r"with the SHA-256 [0-9a-f]{12}\.\.\., and this backbone has [0-9a-f]{12}"):
        adapters.saved(other, path=str(file))


def test_a_head_of_another_shape_is_left_out(tmp_path):
    model, _ = adapted(rank=2)
    stir(model)
    file = written(model, tmp_path / "adapter.safetensors")
    other, _ = made(units=5)
    adapters.saved(other, path=str(file))
    assert "the head of the adapter's file is another one" in other.adaptation.notes[-1]
    for one, wanted in zip(other.adaptation.state, model.adaptation.state, strict=True):
        np.testing.assert_array_equal(one.numpy(), wanted.numpy())


def changed(file: Path, **about) -> Path:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        held = {**opened.metadata(), **about}
    target = file.with_name("changed.safetensors")
    save_file(load_file(file), target, metadata=held)
    return target


@functools.cache
def an_adapter() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        return written(adapted(rank=2)[0], Path(place) / "adapter.safetensors").read_bytes()


@pytest.mark.parametrize(("about", "message"), [
    ({"adapt": "[]"}, "does not say how a model is adapted"),
    ({"adapt": '[{"kind": "prefix"}]'}, "an adapter of no known kind"),
    ({"adapt": '[{"kind": "lora"}]'}, "an adapter of no known kind"),
    ({"adapt": "{"}, "is no adapter of kerasft, or it is damaged"),
    ({"format": "9"}, "its format is 9, and this version reads 1"),
    ({"adapt": '[{"kind":"lora","rank":2,"alpha":1.0,"dropout":0.0,"base":"float",'
               '"targets":[[0,"stem/conv"]]}]'}, "it adapts a layer 'stem/conv' that"),
    ({"adapt": '[{"kind":"lora","rank":999999999,"alpha":1.0,"dropout":0.0,"base":"float",'
               '"targets":[[0,"token_embedding"]]}]'}, "takes no such update"),
    ({"adapt": '[{"kind":"lora","rank":-1,"alpha":1.0,"dropout":0.0,"base":"float",'
               '"targets":[]}]'}, "is damaged: adapt.saved.rank must be"),
    ({"adapt": '[{"kind": "norm"}]'}, "it has other variables than this model gives"),
])  # fmt: skip
def test_files_from_anywhere_are_read_with_care(about, message, tmp_path):
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(an_adapter())
    model = made()[0] if "norm" in about.get("adapt", "") else untouched("bert", "to be given")
    with pytest.raises(UserError, match=message):
        adapters.saved(model, path=str(changed(file, **about)))


def test_what_is_no_adapter_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    for path, message in (("model.safetensors", "is no adapter of kerasft, or it is damaged"),
                          ("none.safetensors", "There is no file 'none.safetensors'")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            adapters.saved(untouched(), path=path)
    save_file({"a": np.zeros(3, "float32")}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is no adapter of kerasft"):
        adapters.saved(untouched(), path="other.safetensors")
    (tmp_path / "adapter.safetensors").write_bytes(an_adapter())
    model, _ = adapted(rank=2)
    with pytest.raises(UserError, match="goes with no other adapter"):
        adapters.saved(model, path="adapter.safetensors")


def test_names_do_not_hang_on_what_keras_has_counted(tmp_path):
    def network():
        images = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(16, 3, activation="relu")(images)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(16, 3)(x))
        backbone = keras.Model(images, x)
        return Assembled(backbone, keras.layers.Dense(2, name="head_outputs")(x))

    keras.utils.set_random_seed(1)
    model = adapters.lora(network(), rank=2)
    file = written(model, tmp_path / "adapter.safetensors")
    keras.utils.set_random_seed(1)
    other = network()
    assert other.layers[1].name != model.layers[1].name
    adapters.saved(other, path=str(file))
    assert len(other.adaptation.layers) == 2
