"""Kept compositions: equal to Hydra's own, read anew when a file changes, never shared."""

from __future__ import annotations

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError

from kerasft.config import kept
from kerasft.config.composition import _hydra, compose, config_dir


@pytest.mark.parametrize("overrides", [
    ["data=digits", "head=mlp", "head.dropout=0.3", "epochs=2"],
    ["experiment=sst2_minilm", "optimizer.learning_rate=1e-3", "++task.class_weight=auto"],
    ["~regularize", "augment=light", "~augment", "epochs=4"],
    ["finetune=two_phase", "head.units=[8,4]", "++data={path: x.csv}", "~seed"],
])  # fmt: skip
def test_a_kept_composition_is_hydras_own(overrides):
    for _ in range(2):  # made, then taken from what is kept
        with _hydra():
            try:
                whole = hydra_compose("train", overrides=overrides)
            except Exception as error:
                with pytest.raises(type(error)) as found:
                    kept.composed("train", overrides, [config_dir()])
                assert str(found.value) == str(error)
                continue
            cfg = kept.composed("train", overrides, [config_dir()])
        assert OmegaConf.to_yaml(cfg) == OmegaConf.to_yaml(whole)
        assert OmegaConf.get_type(cfg) is OmegaConf.get_type(whole)
        with pytest.raises(ConfigAttributeError):
            OmegaConf.update(cfg, "no_such_key", 1)


def test_a_changed_file_is_read_anew(tmp_path):
    head = tmp_path / "head" / "mine.yaml"
    head.parent.mkdir()
    head.write_text("name: mlp\nunits: 8\n", encoding="utf-8")
    first = compose(["head=mine"], config_dirs=[tmp_path])
    head.write_text("name: mlp\nunits: 16\n", encoding="utf-8")
    assert first.head.units == 8
    assert compose(["head=mine"], config_dirs=[tmp_path]).head.units == 16


def test_what_one_changes_another_does_not_see():
    first = compose(["data=digits"])
    first.head.dropout = 0.7
    first.epochs = 99
    again = compose(["data=digits"])
    assert (again.head.dropout, again.epochs) != (0.7, 99)
    assert compose(["data=digits", "epochs=98"]).epochs == 98
    assert compose(["data=digits"]).epochs == again.epochs


def test_only_so_many_are_kept(monkeypatch):
    monkeypatch.setattr(kept, "MOST", 2)
    for head in ("linear", "mlp", "tokens"):
        compose([f"head={head}"])
    assert len(kept._kept) == 2
