"""`kerasft probe`: backbones side by side, and the first command to run."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest

import kerasft
from kerasft.data.sample import sample
from kerasft.errors import UserError
from kerasft.evaluation.uncertainty import wilson


@pytest.fixture(scope="module")
def probed(tmp_path_factory, tiny_images):
    """The carried network, a random one, and one for texts, on digits."""
    file = tmp_path_factory.mktemp("probe") / "probe.json"
    given = [one for one in tiny_images if not one.startswith("backbone")]
    return kerasft.probe(
        [*given, "data.train_per_class=5", "data.validation_per_class=10", "batch_size=32",
         "backbone=preset,tiny_resnet"],
        backbones=[["backbone=tiny_bert"], ["backbone.preset=gone_en"]], output=str(file),
    ), file  # fmt: skip


def test_backbones_are_compared_and_the_best_is_suggested(probed):
    found, file = probed
    assert found.metric == "accuracy"
    assert (found.train, found.validation) == (50, 100)
    assert found.suggested.backbone == ("backbone=preset",)
    figures = [row.figure for row in found.rows]
    assert figures == sorted(figures, reverse=True)
    by_layer = {(row.backbone, row.layer): row for row in found.rows}
    whole, random = by_layer[("backbone=preset",), None], by_layer[("backbone=tiny_resnet",), None]
    assert whole.figure > 0.7 > random.figure
    assert (whole.pretrained, random.pretrained) == (True, False)
    assert whole.low < whole.figure < whole.high
    depths = [row for row in found.rows if row.backbone == ("backbone=preset",)]
    assert len(depths) == 3
    shares = sorted(depths, key=lambda row: row.share)
    assert [row.megabytes for row in shares] == sorted(row.megabytes for row in depths)
    assert all(row.milliseconds > 0 and row.cut_short is None for row in found.rows)
    assert json.loads(file.read_text()) == json.loads(json.dumps(found.to_dict()))


def test_what_cannot_be_probed_is_named_with_the_reason(probed):
    found, _ = probed
    assert "takes text" in found.left_out["backbone=tiny_bert"]
    assert "there is no such network" in found.left_out["backbone.preset=gone_en"]
    assert "not probed: backbone=tiny_bert: The data is images" in str(found)
    assert "random weights" in str(found)


def test_the_first_command_passes_check(probed, kerasft_cli):
    found, _ = probed
    words = shlex.split(found.command)
    assert words[:2] == ["kerasft", "train"]
    assert kerasft_cli("check", *words[2:]).code == 0
    # So does one that cuts the network where a row says, and what is left has that many weights.
    row = next(row for row in found.rows if row.layer is not None)
    cut = [*words[2:], *row.backbone, "surgery=cut", f"surgery.cut.layer={row.layer}"]
    cut = list(dict.fromkeys(cut))
    assert kerasft_cli("check", *cut).code == 0
    from kerasft.config.composition import build, build_named, compose
    from kerasft.model.surgery.operate import operate

    cfg = compose(cut)
    network = operate(build(cfg.backbone), build_named(cfg.surgery)).backbone.network
    assert sum(np.size(v) for v in network.weights) * 4 / 1e6 == pytest.approx(row.megabytes)


@pytest.mark.slow
def test_a_second_probe_finds_the_features_and_the_test_split_is_not_looked_at(
    tiny_texts, texts_csv, tmp_path, monkeypatch
):
    from kerasft.data import activations
    from kerasft.steps.preparing import prepare

    given = [*tiny_texts, "cache.directory=cache"]
    first = kerasft.probe(given, size=30)
    assert first.train == 30
    assert first.rows[0].cut_short == 0

    def no_more(*_, **__):
        raise AssertionError("features are computed again")

    def without_test(*given):
        splits, found = read(*given)
        return replace(splits, test=None), found

    read = prepare.read_splits
    monkeypatch.setattr(prepare, "read_splits", without_test)
    monkeypatch.setattr(activations, "_pieces", no_more)
    again = kerasft.probe(given, size=30)
    assert [row.figure for row in again.rows] == [row.figure for row in first.rows]
    assert again.command == first.command


@pytest.mark.slow
def test_texts_that_are_cut_are_counted(tiny_texts):
    found = kerasft.probe([*tiny_texts, "backbone.sequence_length=8"], depths=1)
    assert found.rows[0].cut_short == 1
    assert "100.0%" in str(found)


def test_what_makes_no_sense_is_told(tiny_images, tiny_texts, kerasft_cli):
    with pytest.raises(UserError, match="size must be at least 10"):
        kerasft.probe(tiny_images, size=3)
    with pytest.raises(UserError, match="Only backbone"):
        kerasft.probe([*tiny_images, "head=linear,mlp"])
    with pytest.raises(UserError, match="tasks of classes"):
        kerasft.probe([*tiny_images, "task=segmentation", "head=decoder"])
    answer = kerasft_cli("probe", *tiny_texts, "backbone=tiny_resnet,efficientnet_lite9")
    assert answer.code == 2
    assert "efficientnet_lite9" in answer.err


def test_a_sample_has_each_class_as_often_as_its_share_says():
    labels = np.repeat([0, 1, 2], [700, 290, 10])
    drawn = sample(labels, 100, seed=3)
    assert np.bincount(labels[drawn]).tolist() == [70, 29, 1]
    assert (drawn == sample(labels, 100, seed=3)).all()
    assert (drawn != sample(labels, 100, seed=4)).any()
    rare = sample(np.repeat([0, 1], [999, 1]), 20, seed=0)
    assert 999 in rare
    assert len(set(sample(np.random.default_rng(0).normal(size=(50, 2)), 20, 0))) == 20


def test_wilson_is_as_its_formula_gives_it():
    # Brown, Cai and DasGupta, "Interval estimation for a binomial proportion", 2001.
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert wilson(0, 10)[0] == 0
