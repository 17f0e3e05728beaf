from __future__ import annotations

import pytest

from kerasft.config.checks import check
from kerasft.config.composition import compose
from kerasft.config.explanation import explain
from kerasft.errors import UserError


@pytest.mark.every(4)
@pytest.mark.parametrize("overrides", [
    ["adapt=none"], ["adapt=lora"], ["adapt=bias"], ["adapt=norm"],
    ["adapt=saved", "adapt.saved.path=adapter.safetensors", "finetune=linear_probe"],
    ["adapt=lora", "+adapt.bias._target_=kerasft.model.adapters.bias"],
    ["adapt=lora", "adapt.lora=null", "finetune=linear_probe"],
    ["adapt=lora", "finetune=two_phase", 'adapt.lora.targets=["query$","value$"]'],
])  # fmt: skip
def test_what_is_sound_passes(overrides):
    check(compose(overrides))


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(UserError) as raised:
        check(compose([
            "adapt=lora", "adapt.lora.rank=0", "adapt.lora.alpha=-1", "adapt.lora.dropout=1",
            'adapt.lora.targets=["("]', "adapt.lora.layers=2", "adapt.lora.base=int4",
        ]))  # fmt: skip
    told = "\n".join(raised.value.problems)
    for key in ("rank", "alpha", "dropout", "targets", "layers", "base"):
        assert f"adapt.lora.{key}" in told, key


@pytest.mark.parametrize(("overrides", "message"), [
    (["adapt=lora", "finetune=linear_probe"], r"each stage trains the head alone \(probe\)"),
    (["adapt=saved", "adapt.saved.path=a", "+adapt.bias._target_=kerasft.model.adapters.bias"],
     r"adapt\.saved goes with no other adapter: .*Received: saved, bias"),
    (["adapt=saved"], r"adapt\.saved\.path has no value"),
    (["adapt=lora", "adapt.lora.ranks=2"], r"Did you mean 'rank'"),
    (["adapt=lorra"], r"Did you mean 'lora'"),
])  # fmt: skip
def test_mistakes(overrides, message):
    with pytest.raises(UserError, match=message):
        check(compose(overrides))


def test_explain_shows_an_example():
    told = explain("adapt.lora", ["adapt=lora"])
    assert "adapt.lora.rank" in told
    assert "kerasft train adapt=lora adapt.lora.rank=4" in told
    assert "bias, lora, none, norm, saved" in explain("adapt")
