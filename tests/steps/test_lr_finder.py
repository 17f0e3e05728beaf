"""Learning rates by range tests: what is suggested, by the run's own pipeline; nothing stays."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasft
from kerasft.config.checks import settle
from kerasft.errors import UserError
from kerasft.steps.advice.lr_finder import Found, StageRates, Wanted, test_stages
from kerasft.steps.advice.lr_overrides import overrides_of
from kerasft.steps.preparing import prepare
from kerasft.steps.preparing.prepare import set_rate
from kerasft.steps.preparing.stages import build_stages
from kerasft.training.range_test import Curve

test_stages.__test__ = False  # it is what is tested
TWO = ("finetune=two_phase", "cache.activations=always", "head.dropout=0.2")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))


def content(folder: Path) -> dict[str, str]:
    """Return a digest of each file below a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*")) if file.is_file()
    }


def drawn() -> tuple:
    """Return where the random numbers are."""
    return random.getstate(), tuple(np.random.get_state()[1]), np.random.get_state()[2]


def of_stages(overrides, **wanted) -> list[StageRates]:
    """Test the stages of a config, without what is around it."""
    cfg = settle(list(overrides), (), ())
    with prepare.runtime(cfg):
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        backbone = prepare.load_backbone(cfg, splits)
        ready = prepare.make_ready(cfg, parts, splits, backbone)
        return test_stages(cfg, parts, ready, backbone, Wanted(**wanted))


@pytest.mark.slow
def test_the_command_writes_curves_and_says_what_to_paste(tiny_images, kerasft_cli, tmp_path):
    said = kerasft_cli("lr-find", *tiny_images, *TWO, "--updates", "20", "--start", "1e-5")
    assert said.code == 0, said.err
    assert {file.name for file in tmp_path.iterdir()} == {"lr_find.png", "lr_find.json", "cache"}
    assert (tmp_path / "lr_find.png").read_bytes()[:4] == b"\x89PNG"
    assert not list((tmp_path / "cache").glob("activations*/*"))  # though the run keeps them
    found = json.loads((tmp_path / "lr_find.json").read_text())
    head, rest = found["stages"]
    assert (head["stage"], rest["stage"]) == ("head", "all")
    assert head["kept_activations"] and not rest["kept_activations"]
    assert len(head["losses"]) == len(head["learning_rates"]) == len(head["smoothed"]) <= 20
    np.testing.assert_allclose(head["learning_rates"][:2], np.geomspace(1e-5, 10, 20)[:2])
    # The second one begins with the head that the first one's rate leads to.
    assert rest["start"] == f"6 updates of stage head at {head['suggested'] or 1e-3:g}"
    assert f"stage all: tested after {rest['start']}" in said.out
    pasted = said.out.strip().splitlines()[-1]
    assert pasted == f"suggested (valley, lowest): {' '.join(found['overrides'])}" or found["notes"]
    assert kerasft_cli("check", *tiny_images, *TWO, *found["overrides"]).code == 0


@pytest.mark.slow
def test_training_afterwards_is_as_without(tiny_images, tmp_path):
    words = [*tiny_images, *TWO, "augment=light", "batch_size=7"]
    first = kerasft.train([*words, f"output_dir={tmp_path / 'before'}"])
    cache, runs, random_numbers = content(tmp_path / "cache"), content(tmp_path / "before"), drawn()
    assert any("activations" in name for name in cache)
    kerasft.lr_find(words, updates=20, output=str(tmp_path / "rates.png"))
    assert content(tmp_path / "cache") == cache and content(tmp_path / "before") == runs
    assert drawn() == random_numbers
    second = kerasft.train([*words, f"output_dir={tmp_path / 'after'}"])
    assert second.metrics == first.metrics
    strip = lambda rows: [{k: v for k, v in r.items() if k != "seconds"} for r in rows]  # noqa: E731
    assert strip(second.history.rows) == strip(first.history.rows)
    for one, other in zip(
        first.finetuned.model.variables, second.finetuned.model.variables, strict=True
    ):
        np.testing.assert_array_equal(np.array(one), np.array(other), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("further", [(), ("augment=light", "cache.views=2"),
                                     ("optimizer.gradient_accumulation_steps=2",)])  # fmt: skip
def test_kept_activations_give_the_same_curve(tiny_images, further):
    words = [*tiny_images, "finetune=linear_probe", "batch_size=7", *further]
    wanted = {"updates": 20, "start": 1e-4, "end": 1e-1}
    (kept,) = of_stages([*words, "cache.activations=always"], **wanted)
    (whole,) = of_stages([*words, "cache.activations=never"], **wanted)
    assert kept.kept and not whole.kept
    # Two views come again from the third epoch on, where the whole network sees others.
    same = 10 if "augment=light" in further else None
    np.testing.assert_allclose(
        kept.curve.losses[:same], whole.curve.losses[:same], rtol=2e-3, atol=1e-3
    )
    np.testing.assert_array_equal(kept.curve.counts, whole.curve.counts)


@pytest.mark.slow
@pytest.mark.parametrize("further", [
    ("precision=mixed_bfloat16", "optimizer.gradient_accumulation_steps=2", "adapt=lora"),
    ("finetune=gradual", "finetune.gradual.stages=3", "optimizer=sgd", "batch_tokens=200"),
    ("finetune.full.layer_decay=0.5", "max_steps=4"),
], ids=["adapter", "gradual", "by depth"])  # fmt: skip
def test_texts(tiny_texts, further):
    found = kerasft.lr_find([*tiny_texts, "backbone.layers=2", *further], updates=20)
    for one in found.stages:
        assert len(one.curve.losses) >= 10 and np.isfinite(one.curve.losses).all()
        assert set(one.rates) == {"valley", "steep", "lowest"}
        assert one.rule == ("valley" if one.head_alone else "lowest")
    assert found.plot is None and not list(Path().glob("*.png"))


def stage_rates(name, rate, *, now=1e-3, head_alone=False) -> StageRates:
    curve = Curve(np.geomspace(1e-6, 1, 20), np.ones(20))
    return StageRates(name, now, curve, {"valley": rate, "steep": None}, "valley", head_alone,
                      False, "no training")  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize(("choice", "rates", "words"), [
    (["finetune=full"], {"full": 3e-4}, ["optimizer.learning_rate=0.0003"]),
    (["finetune=full", "finetune.full.rate=0.1"], {"full": 3e-4},
     ["optimizer.learning_rate=0.003"]),
    (["finetune=full", "finetune.full.learning_rate=1e-5"], {"full": 3e-4},
     ["finetune.full.learning_rate=0.0003"]),
    (["finetune=two_phase"], {"head": 1e-2, "all": 2e-5},
     ["finetune.head.learning_rate=0.01", "finetune.all.learning_rate=2e-05"]),
    (["finetune=gradual", "finetune.gradual.stages=3"],
     {"gradual/1": 1e-2, "gradual/2": 2e-4, "gradual/3": 1e-4},
     ["optimizer.learning_rate=0.01", "finetune.gradual.learning_rate=0.0001"]),
], ids=lambda value: value[-1] if isinstance(value, list) else None)  # fmt: skip
def test_what_is_pasted_sets_these_rates(choice, rates, words):
    cfg = settle(choice, (), ())
    found = [
        stage_rates(name, rate, head_alone=name in ("head", "gradual/1"))
        for name, rate in rates.items()
    ]
    pasted, notes = overrides_of(cfg, build_stages(cfg.finetune), found)
    assert pasted == words
    again = settle([*choice, *pasted], (), ())
    stages = build_stages(again.finetune)
    peaks = {name: stage.peak(set_rate(again), 5e-5) for name, stage in stages.items()}
    wanted = rates | ({"gradual/2": 1e-4} if "gradual/1" in rates else {})
    assert peaks == pytest.approx(wanted)
    assert notes == (
        ["finetune.gradual has one rate for 2 stages: the lowest of 0.0002, 0.0001"]
        if "gradual/1" in rates else []
    )


def test_a_stage_without_a_suggestion_keeps_its_rate():
    cfg = settle(["finetune=two_phase"], (), ())
    found = [stage_rates("head", None, now=1e-3), stage_rates("all", 2e-5)]
    pasted, notes = overrides_of(cfg, build_stages(cfg.finetune), found)
    assert pasted == ["finetune.all.learning_rate=2e-05"]
    assert notes == ["stage head: no rate lowers the loss in this test; 0.001 stays"]


@pytest.mark.parametrize(("given", "said"), [
    ({"start": 0.0}, "--start must be above 0"), ({"start": 1.0, "end": 0.1}, "--end above it"),
    ({"updates": 5}, "--updates must be at least 20. Received: 5"),
    ({"rule": "vally"}, "--rule must be one of auto, valley, steep, lowest. Received: 'vally'"),
    ({"output": "curves.pdf"}, "must end in .png"), ({"output": "no/where.png"}, "no folder 'no'"),
])  # fmt: skip
def test_what_cannot_be_tested_is_said_first(given, said):
    with pytest.raises(UserError, match=re.escape(said)):
        kerasft.lr_find(["head=nonsense"], **given)


@pytest.mark.parametrize(("batches", "each", "updates"), [
    (7, 1, 60), (80, 1, 80), (500, 1, 100), (500, 8, 62), (500, 10, 60),
])  # fmt: skip
def test_an_epoch_decides_how_long_a_test_is(batches, each, updates):
    assert Wanted().updates_of(batches, each) == updates


def test_nothing_is_public_that_is_not_described():
    assert Found([], ["x=1"]).to_dict() == {"overrides": ["x=1"], "notes": [], "stages": []}
    assert keras.saving.get_registered_object("kerasft>Rising") is not None
