from __future__ import annotations

from functools import partial

import pytest

from kerasft.model import adapters, tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.training.depth import depth_of
from kerasft.training.rates import factors_of
from kerasft.training.stages import Stage, select
from kerasft.training.trainability import describe


@pytest.fixture(scope="module")
def texts():
    return assemble(tiny.text("bert"), lambda f: pooled.linear(f, units=2))


def described(model, stage, **more):
    select(model, stage, pretrained=True)
    depth = depth_of(model) if stage.layer_decay != 1 else None
    parts = describe(model, 1e-3, 0.01, factors_of(model, stage), depth, **more)
    assert sum(part.weights for part in parts) == model.count_params()
    trains = sum(int(v.value.shape.num_elements()) for v in model.trainable_variables)
    assert sum(part.trains for part in parts) == trains
    return parts


def test_every_weight_is_counted_once(texts):
    parts = described(texts, Stage("head"))
    assert len({part.name for part in parts}) == len(parts)
    assert "transformer_layer_*" in [part.name for part in parts]
    trains = {part.name: part for part in parts if part.trains}
    assert list(trains) == ["head_outputs"]
    head = trains["head_outputs"]
    assert (head.trains, head.learning_rate, head.weight_decay) == (66, 1e-3, 0.01)
    rests = parts[0]
    assert (rests.learning_rate, rests.weight_decay, rests.batch_norm) == (None, None, "")


def test_each_level_has_its_own_rate(texts):
    parts = described(texts, Stage(layer_decay=0.5))
    assert [(part.name.split(" ")[0], part.learning_rate) for part in parts] == [
        ("token_embedding", 1.25e-4), ("transformer_layer_0", 2.5e-4),
        ("transformer_layer_1", 5e-4), ("head_outputs", 1e-3),
    ]  # fmt: skip


def test_parts_are_split_where_their_factors_differ(texts):
    parts = described(texts, Stage(rates={"layer_1/": 0.1}, weight_decays={"^head_": 0}))
    layers = [part for part in parts if part.name == "transformer_layer_*"]
    assert [part.learning_rate for part in layers] == [1e-3, 1e-4]
    assert layers[0].trains == layers[1].trains
    head = next(part for part in parts if part.name == "head_outputs")
    assert head.weight_decay == 0
    norm = next(part for part in parts if part.name == "embeddings_layer_norm")
    assert norm.trains and norm.weight_decay is None


@pytest.mark.parametrize(("batch_norm", "says"), [("frozen", "frozen"), ("train", "trains")])
def test_batch_normalization_is_told(batch_norm, says):
    backbone = tiny.image("resnet", image_size=16)
    model = assemble(backbone, lambda f: pooled.mlp(f, units=2, width=8, norm="batch"))
    parts = described(model, Stage(batch_norm=batch_norm))
    assert {part.batch_norm for part in parts if part.name.startswith("conv")} == {says}
    assert {p.batch_norm for p in parts if p.name == "head_norm_0"} == {"trains"}
    assert next(p for p in parts if p.name == "head_outputs").batch_norm == ""


@pytest.mark.parametrize("kind", ["lora", "bias"])
def test_what_trains_as_an_adapter_is_told(kind):
    model = assemble(tiny.text("bert"), lambda f: pooled.linear(f, units=2))
    {"lora": partial(adapters.lora, rank=2), "bias": adapters.bias}[kind](model)
    parts = described(model, Stage())
    part = "transformer_layer_* (lora)" if kind == "lora" else "transformer_layer_*"
    assert part in [p.name for p in parts if p.adapter == kind]
    assert all(p.adapter == kind for p in parts if p.trains and not p.name.startswith("head"))
