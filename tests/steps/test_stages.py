"""Which stages a run has, of those that its config names."""

from __future__ import annotations

import pytest

import kerasft
from kerasft.errors import UserError
from kerasft.steps.preparing.prepare import cheap_parts
from kerasft.steps.preparing.stages import build_stages

GLYPHS = ("backbone=preset", "finetune=auto")


@pytest.mark.parametrize(("overrides", "expected"), [
    (GLYPHS, ["head", "full"]),
    ((*GLYPHS, "head=mlp"), ["full"]),
    ((*GLYPHS, "head.pooling=attention"), ["full"]),
    ((*GLYPHS, "backbone=tiny_resnet"), ["full"]),
    ((*GLYPHS, "backbone=applications", "backbone.name=MobileNet", "backbone.weights=null"),
     ["full"]),
    ((*GLYPHS, "task=detection", "data=coco", "data.path=x", "head=anchor_free"), ["full"]),
    ((*GLYPHS, "task=regression"), ["head", "full"]),
    (("backbone=preset", "finetune=solved", "head=mlp"), ["head", "all"]),  # refused later
])  # fmt: skip
def test_a_head_is_computed_where_it_can_be(overrides, expected):
    assert list(cheap_parts(kerasft.compose(list(overrides))).stages) == expected


@pytest.mark.parametrize(("overrides", "solve", "epochs"), [
    (("backbone=preset",), "auto", 1),
    (("backbone=preset", "head=mlp"), False, 7),
    (("backbone=tiny_resnet",), False, 7),
])  # fmt: skip
def test_a_stage_that_stands_alone_is_trained_where_it_cannot_be_computed(overrides, solve, epochs):
    cfg = kerasft.compose([*overrides, "recipe=quick", "epochs=7"])
    (stage,) = cheap_parts(cfg).stages.values()
    assert (stage.solve, stage.epochs) == (solve, epochs)


def test_no_other_word_will_do():
    with pytest.raises(UserError, match=r"finetune\.a\.solve must be true, false or auto"):
        build_stages({"a": {"_target_": "kerasft.training.stages.Stage", "solve": "yes"}})
