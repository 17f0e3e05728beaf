"""Adapters in PEFT's layout: written, read again, and refused where they do not fit."""

from __future__ import annotations

import json

import keras
import keras_hub
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerasft.errors import UserError
from kerasft.model import adapters
from kerasft.model.adapting import low_rank, peft_layout
from kerasft.model.adapting.adaptation import adaptation_of
from kerasft.model.layers import Assembled

SIZE = {"vocabulary_size": 20, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
QUERY = {"num_query_heads": 2, "num_key_value_heads": 1}
NETWORKS = {
    "bert": lambda: keras_hub.models.BertBackbone(**SIZE, num_heads=2, max_sequence_length=16),
    "gpt2": lambda: keras_hub.models.GPT2Backbone(**SIZE, num_heads=2, max_sequence_length=16),
    "llama": lambda: keras_hub.models.LlamaBackbone(**SIZE, **QUERY),
    "mistral": lambda: keras_hub.models.MistralBackbone(**SIZE, **QUERY),
    "qwen": lambda: keras_hub.models.QwenBackbone(**SIZE, **QUERY),
    "gemma": lambda: keras_hub.models.GemmaBackbone(**SIZE, **QUERY, head_dim=8),
}
INPUTS = {"token_ids": np.array([[3, 4, 5, 6]], "int32"), "padding_mask": np.ones((1, 4), "int32"),
          "segment_ids": np.zeros((1, 4), "int32")}  # fmt: skip


def made(family):
    keras.utils.set_random_seed(1)
    network = NETWORKS[family]()
    output = network.output
    output = output["sequence_output"] if isinstance(output, dict) else output
    return Assembled(network, keras.layers.Dense(2, name="head_outputs")(output))


def trained(family, **settings):
    model = adapters.lora(made(family), **{"rank": 2, "dropout": 0.1, **settings})
    draw = np.random.default_rng(0)
    for layer in adaptation_of(model).layers:
        for factor in (layer.lora_a, layer.lora_b):
            factor.assign(0.3 * draw.normal(size=factor.shape))
    return model


def written(family, folder, **settings):
    model = trained(family, **settings)
    peft_layout.write(folder, model, adaptation_of(model), base="org/name")
    return model


def outputs(model):
    return np.asarray(model({name: INPUTS[name] for name in model.input}, training=False))


@pytest.mark.parametrize("family", [
    one if one in ("gpt2", "gemma") else pytest.param(one, marks=pytest.mark.slow)
    for one in NETWORKS
])  # fmt: skip
def test_what_is_written_is_read_as_it_was(family, tmp_path):
    model = written(family, tmp_path)
    again = made(family)
    before = outputs(again)
    adapters.saved(again, path=str(tmp_path))
    assert np.abs(outputs(again) - before).max() > 0.01
    np.testing.assert_allclose(outputs(again), outputs(model), atol=1e-5)
    ours, theirs = adaptation_of(model), adaptation_of(again)
    assert [one.lora_b.shape[0] for one in theirs.layers] == [2] * len(ours.layers)
    assert "in PEFT's layout" in theirs.notes[-1] and theirs.records[0]["dropout"] == 0.1
    config = json.loads((tmp_path / peft_layout.CONFIG).read_text("utf-8"))
    assert config["base_model_name_or_path"] == "org/name" and config["peft_type"] == "LORA"


def test_three_layers_of_ours_are_one_of_gpt2(tmp_path):
    model = written("gpt2", tmp_path, targets=["query$", "value$"])
    tensors = load_file(tmp_path / peft_layout.TENSORS)
    name = "base_model.model.transformer.h.1.attn.c_attn"
    first, second = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
    assert (first.shape, second.shape) == ((4, 16), (48, 4))
    assert not second[16:32].any(), "keys have no update"
    query, value = adaptation_of(model).layers[2:]  # of the last block
    by_path = {one.path.rpartition("/")[2]: one for one in (query, value)}
    delta = 8.0 * second @ first  # alpha 16 over rank 2; [outputs, inputs]
    for part, layer in ((0, by_path["query"]), (2, by_path["value"])):
        mine = low_rank.delta(layer).reshape(16, 16).T
        np.testing.assert_allclose(delta[16 * part : 16 * (part + 1)], mine, atol=1e-5)
    config = json.loads((tmp_path / peft_layout.CONFIG).read_text("utf-8"))
    assert config["fan_in_fan_out"] and (config["r"], config["lora_alpha"]) == (4, 32.0)


def test_other_ranks_and_scales_are_read_layer_by_layer(tmp_path):
    written("gpt2", tmp_path, targets=["query$", "feedforward_output_dense$"])
    file = tmp_path / peft_layout.TENSORS
    tensors = load_file(file)
    wide = {name: np.concatenate([one, one], axis=0 if "lora_A" in name else 1)
            for name, one in tensors.items() if "h.0.mlp" in name}  # fmt: skip
    save_file(tensors | wide, file)
    config = json.loads((tmp_path / peft_layout.CONFIG).read_text("utf-8"))
    config |= {"alpha_pattern": {"h.0.mlp.c_proj": 2.0}, "use_rslora": True}
    (tmp_path / peft_layout.CONFIG).write_text(json.dumps(config), "utf-8")
    model = adapters.saved(made("gpt2"), path=str(tmp_path))
    found = {one.path: one.low_rank for one in adaptation_of(model).layers}
    assert sorted((one.rank, round(one.scale, 4)) for one in found.values()) == [
        (2, round(16 / 2**0.5, 4))] * 7 + [(4, 1.0)]  # fmt: skip
    assert len(adaptation_of(model).records) == 2
    assert "does not say by a digest" in adaptation_of(model).notes[-1]


@pytest.mark.parametrize(("change", "message"), [
    ({"peft_type": "IA3"}, "its peft_type is 'IA3', and LORA can be read"),
    ({"use_dora": True}, "more than low-rank updates: use_dora=True"),
    ({"bias": "all"}, "more than low-rank updates: bias='all'"),
    ({"r": "two"}, "its r is 'two'"),
    ({"lora_dropout": 1.5}, r"its lora_dropout is 1\.5"),
    ({"alpha_pattern": {"a": "b"}}, r"its alpha_pattern\.a is 'b'"),
    ({"alpha_pattern": [1]}, "is no adapter in PEFT's layout, or it is damaged"),
    ({"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern"),
])  # fmt: skip
def test_what_is_no_plain_lora_is_refused(change, message, tmp_path):
    save_file({"a": np.zeros(1, "float32")}, tmp_path / peft_layout.TENSORS)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4} | change
    (tmp_path / peft_layout.CONFIG).write_text(json.dumps(config), "utf-8")
    with pytest.raises(UserError, match=message):
        peft_layout.read(tmp_path, None)


def test_other_backbones_and_other_weights_are_refused(tmp_path):
    written("gpt2", tmp_path, targets=["query$"])
    other = made("gpt2")
    other.layers[2].variables[0].assign_add(np.ones_like(other.layers[2].variables[0]))
    with pytest.raises(UserError, match="belongs to other weights: it was trained on org/name"):
        adapters.saved(other, path=str(tmp_path))
    keras.utils.set_random_seed(1)
    small = keras_hub.models.GPT2Backbone(**{**SIZE, "hidden_dim": 8}, num_heads=2,
                                          max_sequence_length=16)  # fmt: skip
    small = Assembled(small, keras.layers.Dense(2, name="head_outputs")(small.output))
    with pytest.raises(UserError, match=r"of transformer_layer_0/self_attention/query it has "
                       r"factors of the shapes \[2, 16\] and \[48, 2\], and it takes \[2, 8\]"):
        peft_layout.read(tmp_path, small)
    with pytest.raises(UserError, match=r"no layer of which is meant by: base_model\.model\.trans"):
        peft_layout.read(tmp_path, made("llama"))


def test_what_the_layout_cannot_hold_is_said(tmp_path):
    for model, message in (
        (adapters.norm(made("gpt2")), "this run has norm"),
        (trained("gpt2", targets=["token_embedding"]), "token_embedding has an update, and no"),
    ):
        with pytest.raises(peft_layout.Unfit, match=message):
            peft_layout.write(tmp_path, model, adaptation_of(model), base="x")
