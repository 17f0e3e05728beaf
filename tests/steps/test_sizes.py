"""Stages with images of another size: what is refused, what is shown, and what comes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kerasft
from kerasft.errors import UserError

SMALL_FIRST = ("finetune=two_phase", "finetune.head.image_size=[12,16]")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))


def test_texts_have_no_size(tiny_texts):
    with pytest.raises(UserError, match=r"finetune.head.image_size is .* but the data is text"):
        kerasft.train([*tiny_texts, *SMALL_FIRST])


def test_the_last_stage_has_the_size_of_the_model(tiny_images):
    with pytest.raises(UserError, match=(
        r"finetune.all.image_size: the last stage .*, which is 16x16. Received: 32x32. Set "
    )):  # fmt: skip
        kerasft.train([*tiny_images, "finetune=two_phase", "finetune.all.image_size=32"])


@pytest.mark.slow
def test_a_network_for_one_size_is_refused_before_it_is_trained(tiny_images):
    with pytest.raises(UserError, match=(
        r"finetune.head.image_size: tiny vit cannot be trained on images of both 32x32 and 16x16 "
        r"pixels: the shape of the weight"
    )):  # fmt: skip
        kerasft.train([
            *tiny_images, "backbone.family=vit", "finetune=two_phase",
            "finetune.head.image_size=32",
        ])  # fmt: skip


@pytest.mark.slow
def test_a_size_that_the_network_does_not_take_is_refused(tiny_images):
    with pytest.raises(UserError, match=(
        r"finetune.head.image_size: tiny vit cannot be made for images of 18x16 pixels: .*18"
    )):  # fmt: skip
        kerasft.train([
            *tiny_images, "backbone.family=vit", "finetune=two_phase",
            "finetune.head.image_size=[18,16]",
        ])  # fmt: skip


OWN = """
from kerasft.model.tiny import image


def network():
    return image("resnet", image_size=16)
"""


@pytest.mark.slow
def test_a_backbone_without_a_size_is_refused(tiny_images, tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    rest = [one for one in tiny_images if not one.startswith("backbone")]
    with pytest.raises(UserError, match=(
        r"finetune.head.image_size needs a backbone that is made for a size .*own_network.network"
    )):  # fmt: skip
        kerasft.train(
            [*rest, "backbone=tiny_resnet", "~backbone.family",
             "backbone._target_=own_network.network", *SMALL_FIRST],
            trusted=["own_network"],
        )  # fmt: skip


@pytest.mark.slow
def test_each_stage_is_planned_at_its_size(tiny_images, capsys):
    plans = kerasft.plan([*tiny_images, *SMALL_FIRST])
    assert [plan.image_size for plan in plans] == [(12, 16), (16, 16)]
    assert [plan.to_dict()["image_size"] for plan in plans] == [[12, 16], [16, 16]]


@pytest.mark.slow
def test_small_images_first(tiny_images, capsys):
    result = kerasft.train([*tiny_images, *SMALL_FIRST, "output_dir=run", "augment=light"])
    said = capsys.readouterr().out
    assert "stage head: preparing images of 12x16 pixels" in said
    assert "stage head: 6 steps, images of 12x16, learning rate up to" in said
    rows = [json.loads(line) for line in Path("run/logs/epochs.jsonl").read_text().splitlines()]
    assert [row.get("image_size") for row in rows] == ["12x16"] * 3 + [None] * 2
    assert result.history.best_epoch in (4, 5)
    best = rows[result.history.best_epoch - 1]
    assert best["val_loss"] == pytest.approx(result.metrics["validation"]["log_loss"], rel=1e-3)
    ready = result.finetuned.preprocess
    assert (ready.height, ready.width) == (16, 16)
    again = kerasft.evaluate("run", split="validation")
    assert again["validation"]["accuracy"] == result.metrics["validation"]["accuracy"]
