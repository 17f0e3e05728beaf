from __future__ import annotations

import pytest

from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.training.gradual import gradual
from kerasft.training.recipe import Recipe
from kerasft.training.stages import select


@pytest.fixture(scope="module")
def texts():
    return assemble(tiny.text("bert"), lambda f: pooled.linear(f, units=2))


def recipe(stages, optimizer=None):
    import keras

    return Recipe(
        stages, None, optimizer or keras.optimizers.AdamW, lambda peak, total: peak, usual_rate=1e-3
    )


def test_each_stage_trains_what_the_one_before_did_and_more(texts):
    stages = gradual(stages=4, epochs=5, rate=0.5, layer_decay=0.9, rates={"bias": 2})
    assert [stage.epochs for stage in stages.values()] == [1, 1, 1, 5]
    assert [stage.rate for stage in stages.values()] == [1.0, 0.5, 0.5, 0.5]
    before: set[str] = set()
    for stage in stages.values():
        paths = set(select(texts, stage, pretrained=True))
        assert before < paths
        before = paths
    recipe({f"gradual/{name}": stage for name, stage in stages.items()}).require(texts)


def test_more_stages_than_layers_are_refused(texts):
    stages = {f"slowly/{name}": stage for name, stage in gradual(stages=30).items()}
    with pytest.raises(UserError, match=r"slowly\.stages: stage slowly/2 .* Received: 30"):
        recipe(stages).require(texts)


def test_one_stage_is_not_gradual():
    with pytest.raises(UserError, match=r"stages must be at least 2.*choose finetune=full"):
        gradual(stages=1)


def test_rules_of_later_stages_are_looked_at_before_the_first(texts):
    import keras

    stages = {"head": gradual()["1"], "full": gradual(rates={"nowhere": 2})["4"]}
    with pytest.raises(UserError, match=r"finetune\.full\.rates: 'nowhere' is found in no path"):
        recipe(stages).require(texts)
    stages["full"] = gradual(weight_decays={"kernel": 2})["4"]
    with pytest.raises(UserError, match=r"finetune\.full\.weight_decays .* optimizer has none"):
        recipe(stages, keras.optimizers.Adam).require(texts)
    recipe(stages).require(texts)
