"""Which stages a run has, of those that its config names."""

from __future__ import annotations

import pytest

import kerasft
from kerasft.errors import UserError
from kerasft.steps.prepare import cheap_parts
from kerasft.steps.stages import build_stages

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


def test_no_other_word_will_do():
    with pytest.raises(UserError, match=r"finetune\.a\.solve must be true, false or auto"):
        build_stages({"a": {"_target_": "kerasft.training.stages.Stage", "solve": "yes"}})
