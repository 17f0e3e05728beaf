"""Documents packed into one row are read as each is read alone."""

from __future__ import annotations

import keras
import keras_hub
import numpy as np
import pytest

from kerasft.model.text.isolation import Isolated, Unfit

SIZE = {"vocabulary_size": 40, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
QUERY = {"num_query_heads": 2, "num_key_value_heads": 1}
MODELS = {
    "Llama": lambda: keras_hub.models.LlamaBackbone(**SIZE, **QUERY),
    "GPT-2": lambda: keras_hub.models.GPT2Backbone(
        **SIZE, num_heads=2, max_sequence_length=64, dropout=0.0),
    "Gemma": lambda: keras_hub.models.GemmaBackbone(
        **SIZE, **QUERY, head_dim=8, query_head_dim_normalize=True),
    "Gemma 3": lambda: keras_hub.models.Gemma3Backbone(
        **SIZE, **QUERY, head_dim=8, image_size=None, vision_encoder=None,
        sliding_window_size=4, use_sliding_window_attention=True),
    "Qwen": lambda: keras_hub.models.QwenBackbone(**SIZE, **QUERY),
    "OPT": lambda: keras_hub.models.OPTBackbone(
        **SIZE, num_heads=2, max_sequence_length=64, dropout=0.0),
    "Mistral": lambda: keras_hub.models.MistralBackbone(**SIZE, **QUERY, sliding_window=6),
}  # fmt: skip
START, END = 1, 2


def documents(start, end):
    draw = np.random.default_rng(0)
    return [
        np.concatenate([[start], draw.integers(3, 40, length), [end]]).astype("int32")
        for length in (5, 9, 2)
    ]


def fed(rows, width):
    ids = np.zeros((len(rows), width), "int32")
    mask = np.zeros((len(rows), width), "int32")
    for row, place in zip(rows, range(len(rows)), strict=True):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return {"token_ids": ids, "padding_mask": mask}


def logits(network, backbone, given):
    hidden = network(given)
    return np.asarray(backbone.token_embedding(hidden, reverse=True))


@pytest.mark.parametrize("end", [END, START])
@pytest.mark.parametrize("family", [
    name if name in ("Llama", "Gemma") else pytest.param(name, marks=pytest.mark.slow)
    for name in MODELS
])  # fmt: skip
def test_each_document_gets_the_logits_that_it_gets_alone(family, end):
    if end == START and family not in ("Llama", "GPT-2"):
        pytest.skip("one token at both ends is told apart before any layer")
    keras.utils.set_random_seed(0)
    backbone = MODELS[family]()
    for variable in backbone.variables:  # position embeddings begin at almost nothing
        variable.assign(variable + 0.3 * keras.random.normal(variable.shape, seed=3))
    parts = documents(START, end)
    network = Isolated(backbone, START, end)
    assert {id(v) for v in network.variables} == {id(v) for v in backbone.variables}
    packed = logits(network, backbone, fed([np.concatenate(parts)], 24))[0]
    leaking = logits(backbone, backbone, fed([np.concatenate(parts)], 24))[0]
    alone = logits(backbone, backbone, fed(parts, 12))
    place, worst, leak = 0, 0.0, 0.0
    for part, own in zip(parts, alone, strict=True):
        here = slice(place, place + len(part))
        worst = max(worst, np.abs(packed[here] - own[: len(part)]).max())
        leak = max(leak, np.abs(leaking[here] - own[: len(part)]).max())
        place += len(part)
    assert worst < 1e-4
    assert leak > 1e-2  # or it would prove nothing
    # Alone in its row, a document is read as the network itself reads it.
    assert np.abs(logits(network, backbone, fed(parts, 12)) - alone)[0, :7].max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Llama", "GPT-2", "Gemma"])
def test_an_isolated_network_comes_back_from_a_file(family, tmp_path):
    backbone = MODELS[family]()
    network = Isolated(backbone, START, END)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    given = fed([np.concatenate(documents(START, END))], 24)
    assert np.array_equal(np.asarray(network(given)), np.asarray(again(given)))


def test_a_network_without_a_mask_of_attention_is_refused():
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    network = keras.Model({"token_ids": ids}, keras.layers.Embedding(8, 4)(ids))
    with pytest.raises(Unfit, match="no layers that take a mask"):
        Isolated(network, START, END)
