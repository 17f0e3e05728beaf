"""Kept compositions: equal to Hydra's own, read anew when a file changes, never shared."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError

from kerasft.config import composition, kept
from kerasft.config.composition import _hydra, compose, config_dir
from kerasft.errors import UserError


@pytest.mark.parametrize("overrides", [
    ["data=digits", "head=mlp", "head.dropout=0.3", "epochs=2"],
    ["experiment=sst2_minilm", "optimizer.learning_rate=1e-3", "++task.class_weight=auto"],
    ["~regularize", "augment=light", "~augment", "epochs=4"],
    ["finetune=two_phase", "head.units=[8,4]", "++data={path: x.csv}", "~seed"],
    ["recipe=best", "data=table", "data.path=x.csv"], ["head=mpl"], ["head=linear,mlp"],
    ["+head=mlp"], ["hed=mlp"], ["~head=mlp"],
])  # fmt: skip
def test_a_kept_composition_is_hydras_own(overrides, monkeypatch):
    whole = None
    with monkeypatch.context() as plain:
        plain.setattr(composition, "quick_lists", nullcontext)
        with _hydra():
            try:
                whole = hydra_compose("train", overrides=overrides, return_hydra_config=True)
            except Exception as error:
                said = type(error), str(error)
    with _hydra():
        for _ in range(2):  # made, then taken from what is kept
            if whole is None:
                with pytest.raises(said[0]) as found:
                    kept.composed("train", overrides, [config_dir()])
                assert str(found.value) == said[1]
                continue
            cfg = kept.composed("train", overrides, [config_dir()])
            chosen = kept.choices("train", overrides, [config_dir()])
            assert OmegaConf.to_yaml(cfg) == OmegaConf.to_yaml(
                OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
            )
            assert chosen == {
                group: name for group, name in whole.hydra.runtime.choices.items()
                if not group.startswith("hydra/")
            }  # fmt: skip
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


def test_a_defaults_list_may_name_what_is_chosen(tmp_path, monkeypatch):
    for folder in ("experiment", "notes"):
        (tmp_path / folder).mkdir()
    for name in ("mine", "yours"):
        (tmp_path / f"notes/{name}.yaml").write_text(f"said: of {name}\n", encoding="utf-8")

    def composed(name, asked="experiment"):
        kept._kept.clear()
        (tmp_path / f"experiment/{name}.yaml").write_text(
            f"# @package _global_\ndefaults: [/notes@head: '${{{asked}}}']\n", encoding="utf-8"
        )
        return compose([f"experiment={name}"], config_dirs=[tmp_path])

    quick = [composed(name) for name in ("mine", "yours")]
    assert [one.head.said for one in quick] == ["of mine", "of yours"]
    with pytest.raises(UserError, match=r"possible interpolation keys: .*experiment") as told:
        composed("mine", "experimant")
    monkeypatch.setattr(composition, "quick_lists", nullcontext)  # as Hydra does it
    assert quick == [composed(name) for name in ("mine", "yours")]
    with pytest.raises(UserError) as hydras:
        composed("mine", "experimant")
    assert str(hydras.value) == str(told.value)


def test_what_one_changes_another_does_not_see():
    first = compose(["data=digits"])
    first.head.dropout = 0.7
    first.epochs = 99
    again = compose(["data=digits"])
    assert (again.head.dropout, again.epochs) != (0.7, 99)
    assert compose(["data=digits", "epochs=98"]).epochs == 98
    assert compose(["data=digits"]).epochs == again.epochs


def test_files_of_keys_are_looked_for_once(tmp_path, monkeypatch):
    head = tmp_path / "head" / "mine.yaml"
    head.parent.mkdir()
    head.write_text("name: mlp\nunits: 8\n", encoding="utf-8")
    looks, look = [], composition._files_of_keys
    monkeypatch.setattr(composition, "_files_of_keys", lambda chosen: (
        looks.append(chosen) or look(chosen)))  # fmt: skip
    first = composition.origins(["head=mine", "head.units=4"], config_dirs=[tmp_path])
    assert first["head.units"] == "command line: head.units=4"
    assert composition.origins(["head=mine"], config_dirs=[tmp_path])["head.units"] == (
        "head/mine.yaml"
    )
    assert len(looks) == 1
    head.write_text("name: mlp\nwidth: 8\n", encoding="utf-8")
    again = composition.origins(["head=mine"], config_dirs=[tmp_path])
    assert "head.width" in again and "head.units" not in again


def test_only_so_many_are_kept(monkeypatch):
    monkeypatch.setattr(kept, "MOST", 2)
    for head in ("linear", "mlp", "tokens"):
        compose([f"head={head}"])
    assert len(kept._kept) == 2
