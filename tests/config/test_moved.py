"""Configs that name parts by their former paths are read as before."""

from __future__ import annotations

import importlib

import pytest
from omegaconf import OmegaConf

import kerasft
from kerasft.config.composition import compose, load, to_yaml
from kerasft.config.moved import MOVED, renew
from kerasft.config.targets import parts

# What the shipped configs named before their modules had rooms of their own.
FORMER = (
    "kerasft.cache.Cache", "kerasft.cache.temporary", "kerasft.data.digits.digits",
    "kerasft.data.image_folder.image_folder", "kerasft.data.table.table", "kerasft.data.tfds.tfds",
    "kerasft.data.tfrecord.tfrecord", "kerasft.model.heads.linear", "kerasft.model.heads.mlp",
)  # fmt: skip


@pytest.mark.parametrize("target", FORMER)
def test_a_former_path_is_that_of_a_part_of_today(target):
    node = {"_target_": target}
    cfg = OmegaConf.create({"part": node, "list": [node], "no": None})
    renew(cfg)
    found = cfg.part._target_
    assert found == cfg.list[0]._target_ != target
    assert found in parts()
    module, _, name = found.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    assert {name.rpartition(".")[0] for name in FORMER} == set(MOVED)


def test_nothing_else_is_changed():
    cfg = OmegaConf.create({
        "a": {"_target_": "kerasft.tasks.regression.Regression"}, "b": "${a}", "c": "???",
        "d": {"_target_": 3}, "e": {"_target_": "${name}"}, "name": "kerasft.model.heads.mlp",
        "f": {"_target_": "mine.data.table"},
    })  # fmt: skip
    before = cfg.copy()
    renew(cfg)
    assert cfg == before


def test_the_config_of_a_former_run_is_that_of_today(tmp_path):
    cfg = compose(["head=mlp", "data=table"])
    written = to_yaml(cfg)
    for former, today in MOVED.items():
        written = written.replace(f"{today}.", f"{former}.")
    assert "kerasft.model.heads.mlp" in written and "kerasft.data.table.table" in written
    (tmp_path / "config.yaml").write_text(written)
    assert to_yaml(load(tmp_path / "config.yaml")) == to_yaml(cfg)


def test_a_config_of_ones_own_and_an_override_may_say_it_as_before(tmp_path):
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine.yaml").write_text("_target_: kerasft.model.heads.mlp\nwidth: 8\n")
    found = compose(["head=mine"], config_dirs=[tmp_path]).head
    assert found == {"_target_": "kerasft.model.heads.pooled.mlp", "width": 8}
    kerasft.check(compose(["head._target_=kerasft.model.heads.linear"]))


@pytest.mark.slow
def test_a_leaderboard_shows_former_runs_and_those_of_today_alike(tiny_text_run, tmp_path):
    import shutil

    from kerasft.sweeps.entries import _settings

    shutil.copytree(tiny_text_run, tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    today = _settings(file)
    written = file.read_text("utf-8")
    file.write_text(written.replace("kerasft.model.heads.pooled.", "kerasft.model.heads."))
    assert _settings(file) == today
    assert kerasft.evaluate(str(tmp_path / "run")) == kerasft.evaluate(str(tiny_text_run))
