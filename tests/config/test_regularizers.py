from __future__ import annotations

import pytest

import kerasft
from kerasft.config.composition import compose
from kerasft.config.explanation import explain
from kerasft.errors import UserError

ALL = "regularize=[dropout,l1,l2,l2_sp,stochastic_depth,embedding_noise,r_drop]"


@pytest.mark.every(4)
@pytest.mark.parametrize("overrides", [
    [ALL, "backbone=tiny_bert", "data=table", "data.path=a.csv",
     "data.text=text", "data.label=label"],
    ["regularize=stochastic_depth", "backbone=tiny_resnet"],
    ["regularize=stochastic_depth", "backbone=applications", "backbone.name=ResNet50"],
    ["regularize=l2_sp", "finetune=two_phase"],
    ["regularize=l2_sp", "regularize.l2_sp=null", "finetune=linear_probe"],
    ["regularize=r_drop", "finetune=linear_probe"],
    ["regularize=r_drop", "task=regression"], ["regularize=r_drop", "task=multi_label"],
])  # fmt: skip
def test_what_is_sound_passes(overrides):
    kerasft.check(compose(overrides))


@pytest.mark.every(3)
@pytest.mark.parametrize(("overrides", "message"), [
    (["regularize=stochastic_depth", "regularize.stochastic_depth.rate=1"],
     r"stochastic_depth\.rate must lie above 0 and below 1\. Received: 1\."),
    (["regularize=l1", "regularize.l1.strength=-1"], r"l1\.strength must lie between 0 and 1e\+06"),
    (["regularize=l2", "regularize.l2.strength=.inf"], r"l2\.strength"),
    (["regularize=l2_sp", "regularize.l2_sp.head=-1"], r"l2_sp\.head must lie between"),
    (["regularize=dropout", "regularize.dropout.rate=2"], r"between 0 and 0\.99\. Received: 2\."),
    (["regularize=embedding_noise", "regularize.embedding_noise.alpha=-5"], r"\.alpha must lie"),
    (["regularize=embedding_noise", "backbone=tiny_resnet"],
     r"embedding_noise adds noise to embedded tokens: it is for texts"),
    (["regularize=stochastic_depth", "backbone=applications", "backbone.name=MobileNet"],
     r"drops residual branches, and MobileNet has none: nothing goes around its layers"),
    *[([f"regularize={kind}", "finetune=linear_probe"],
       rf"regularize\.{kind} acts on the backbone as it trains, but each stage trains the head")
      for kind in ("stochastic_depth", "embedding_noise", "l2_sp")],
    (["regularize=r_drop", "task=segmentation", "head=decoder", "data=mask_folder",
      "data.path=a", "backbone=tiny_resnet"],
     r"regularize\.r_drop compares two answers .* \(classification, multi_label, regression"),
    (["regularize=r_drop", "regularize.r_drop.alfa=2"], r"Did you mean 'alpha'"),
    (["regularize=rdrop"], r"Did you mean 'r_drop'"),
])  # fmt: skip
def test_mistakes(overrides, message):
    with pytest.raises(UserError, match=message):
        kerasft.check(compose(overrides))


@pytest.mark.every(5)
@pytest.mark.parametrize("kind", ["l1", "l2_sp", "stochastic_depth", "embedding_noise", "r_drop"])
def test_explain_shows_an_example(kind):
    told = explain(f"regularize.{kind}", [f"regularize={kind}"])
    assert f"kerasft.model.regularize.{kind}" in told
    assert "On the command line: `kerasft train" in told
    assert "l1, l2, l2_sp, none, r_drop, stochastic_depth" in explain("regularize")
