"""Runs with what frozen layers compute kept, beside the same runs without."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kerasft
from kerasft.steps.fitting.activations import Boundary
from kerasft.steps.fitting.fit import make_recipe
from kerasft.steps.preparing import prepare
from kerasft.steps.preparing.heads import with_head
from kerasft.system import cache_entry
from kerasft.system.cache import Cache, CacheError
from kerasft.training import frozen

PROBE = ("finetune=linear_probe", "epochs=3", "callbacks=none")
KEEP = "cache.activations=always"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "logs" / "epochs.jsonl").read_text().splitlines()]
    return [row[key] for row in rows for key in ("loss", "val_loss")]


def run(*overrides: str) -> kerasft.run.Result:
    return kerasft.train(list(overrides))


CASES = {
    "images": ("tiny_images", (*PROBE,)),
    "images, augmented": ("tiny_images", (*PROBE, "augment=light", "cache.views=3")),
    "images, upper half": ("tiny_images", (
        "finetune=full", "finetune.full.train=['stack1_','^head_']", "epochs=3",
    )),
    "images, two stages": ("tiny_images", ("finetune=two_phase", "epochs=2")),
    "texts": ("tiny_texts", (*PROBE, "head=mlp", "head.dropout=0.2")),
    "texts, changed": ("tiny_texts", (
        *PROBE, "augment=text", "augment.delete.rate=0.5", "cache.views=3",
        "head.pooling=attention",
    )),
    "texts, upper half": ("tiny_texts", (
        "finetune=full", "finetune.full.train=['transformer_layer_1/','^head_']", "epochs=3",
        "backbone.layers=2",
    )),
    "texts, GPT": ("tiny_texts", (*PROBE, "backbone=tiny_gpt2")),
}  # fmt: skip


@pytest.mark.slow  # tests/test_new_kind.py trains from kept activations in each run of the tests
@pytest.mark.parametrize("name", CASES)
def test_kept_activations_change_nothing(name, request, capsys):
    fixture, overrides = CASES[name]
    common = (*request.getfixturevalue(fixture), *overrides)
    without = run(*common, "output_dir=without", "cache.activations=never")
    assert "activation cache" not in capsys.readouterr().out
    kept = run(*common, "output_dir=kept", KEEP)
    said = capsys.readouterr().out
    assert re.search(r"activation cache: [\d,]+ MB at the output of \w+.*, computed in", said), said
    assert re.search(r"spent [\d.]+ s on it and saved", said)
    assert losses(Path("kept")) == pytest.approx(losses(Path("without")), rel=1e-4)
    for split, figures in without.metrics.items():
        for figure, value in figures.items():
            if isinstance(value, float):
                assert kept.metrics[split][figure] == pytest.approx(value, abs=1e-4)
    if name not in ("images, augmented", "texts", "texts, changed"):
        return
    again = run(*common, "output_dir=again", KEEP)
    assert ", found" in capsys.readouterr().out
    assert losses(Path("again")) == losses(Path("kept"))
    assert again.metrics == kept.metrics


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["tiny_images", "tiny_texts"])
def test_damaged_entries_of_any_kind_are_made_again_and_change_nothing(fixture, request, capsys):
    common = (*request.getfixturevalue(fixture), *PROBE, KEEP)
    whole = run(*common, "output_dir=whole")
    for entry in (entries := Cache().entries()):
        for file in entry.path.iterdir():
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
    assert {entry.kind for entry in entries} == {fixture.removeprefix("tiny_"), "activations"}
    capsys.readouterr()
    again = run(*common, "output_dir=again")
    said = capsys.readouterr()
    assert ", computed in" in said.out
    assert len(entries) == 3
    assert all(entry.key in said.err for entry in entries)
    assert losses(Path("again")) == losses(Path("whole"))
    assert again.metrics == whole.metrics


@pytest.mark.slow
def test_views_are_drawn_in_turn(tiny_images, capsys):
    """With fewer views than epochs images come back; with as many nothing changes."""
    common = (*tiny_images, *PROBE, "augment=light", "epochs=4")
    run(*common, "output_dir=few", KEEP, "cache.views=2")
    assert "2 views of each image" in capsys.readouterr().out
    run(*common, "output_dir=all", KEEP, "cache.views=9")
    assert "4 views of each image" in capsys.readouterr().out
    run(*common, "output_dir=never", "cache.activations=never")
    few, whole, never = (losses(Path(name)) for name in ("few", "all", "never"))
    assert whole == pytest.approx(never, rel=1e-4)
    assert few[:4] == pytest.approx(never[:4], rel=1e-4)
    assert few[4:] != pytest.approx(never[4:], rel=1e-4)


FLIP = ("+augment.flip._target_=keras.layers.RandomFlip", "+augment.flip.mode=horizontal")
TURN = ("+augment.turn._target_=keras.layers.RandomRotation", "+augment.turn.factor=0.2")


@pytest.mark.slow
def test_what_was_kept_is_not_served_to_another_setting(tiny_images, capsys):
    common = (*tiny_images, *PROBE, KEEP)
    run(*common, *FLIP, *TURN)
    run(*common, *FLIP, *TURN)
    assert ", found" in capsys.readouterr().out
    for changed in (
        (*FLIP, *TURN, "seed=5"), (*FLIP, *TURN, "augment.flip.mode=vertical"),
        (*FLIP, *TURN, "cache.views=2"), (*FLIP, *TURN, "backbone.image_size=24"),
        (*TURN, *FLIP),  # the same steps in another order
    ):  # fmt: skip
        run(*common, *changed)
        said = capsys.readouterr().out
        assert ", computed in" in said and ", found" not in said, changed


@pytest.mark.slow
def test_changed_weights_are_not_served_what_the_old_ones_computed(tiny_images, capsys, tmp_path):
    import keras

    from kerasft.model import tiny

    keras.utils.set_random_seed(0)
    network = tiny.image("resnet", image_size=16).network
    network.save("own.keras")
    common = (
        *[o for o in tiny_images if "backbone" not in o], *PROBE, "backbone=keras_file",
        "backbone.path=own.keras", KEEP,
    )  # fmt: skip
    run(*common)
    run(*common)
    assert ", found" in capsys.readouterr().out
    kernel = next(v for v in network.variables if v.path.endswith("kernel"))
    kernel.assign(kernel * 1.001)
    network.save("own.keras")
    run(*common)
    assert ", computed in" in capsys.readouterr().out.rpartition(", found")[2]


@pytest.mark.slow
def test_it_says_why_it_is_not_used(tiny_images, capsys):
    common = (*tiny_images, *PROBE)
    run(*common)
    assert "activation cache: not used, it would not pay" in capsys.readouterr().out
    run(*common, "augment=mixup", KEEP)
    assert "not used, MixUp and CutMix make each batch of several" in capsys.readouterr().out
    run(*common, KEEP, "cache.limit_gb=1e-9")
    assert re.search(r"not used, it would take 0.0 GB, and '.*' may take", capsys.readouterr().out)
    run(*tiny_images, KEEP)
    assert "activation cache" not in capsys.readouterr().out  # all of it trains


@pytest.mark.slow
def test_what_differs_from_the_network_is_not_used(tiny_texts, capsys, monkeypatch):
    from kerasft.data import activations

    original = activations._pieces

    def spoiled(*arguments):
        for values, lengths in original(*arguments):
            yield {name: value * 1.5 for name, value in values.items()}, lengths

    monkeypatch.setattr(activations, "_pieces", spoiled)
    common = (*tiny_texts, *PROBE, "cache=temporary")
    run(*common, KEEP, "output_dir=spoiled")
    assert "not used, its logits differ from the network's own by" in capsys.readouterr().out
    run(*common, "cache.activations=never", "output_dir=never")
    assert losses(Path("spoiled")) == losses(Path("never"))


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_a_run_that_goes_on(tiny_texts, capsys, monkeypatch):
    original = Cache.get

    def full(self, kind, parts, **more):
        if kind == "activations":
            raise CacheError("no space is left in 'cache'")
        return original(self, kind, parts, **more)

    monkeypatch.setattr(Cache, "get", full)
    result = run(*tiny_texts, *PROBE, KEEP)
    assert "activation cache: not used, no space is left in 'cache'" in capsys.readouterr().out
    assert len(result.history.rows) == 3


@pytest.mark.slow
def test_what_is_there_but_wrong_is_made_again(tiny_texts, capsys):
    common = (*tiny_texts, *PROBE, KEEP)
    run(*common, "output_dir=first")
    for entry in Cache().entries("activations"):
        for file in entry.path.glob("*.bin"):
            file.write_bytes(bytes(reversed(file.read_bytes())))
        # As if they were computed so, by code that their key does not know.
        (entry.path / cache_entry.ABOUT).unlink()
        cache_entry.close(entry.path, entry.about)
    capsys.readouterr()
    run(*common, "output_dir=second")
    said = capsys.readouterr().out
    assert ", found" in said and ", computed in" in said and "not used" not in said
    assert losses(Path("second")) == losses(Path("first"))
    run(*common, "output_dir=third")
    said = capsys.readouterr().out
    assert ", found" in said and ", computed in" not in said


@pytest.mark.slow
def test_what_is_there_is_used_though_the_disk_is_full(tiny_texts, capsys, monkeypatch):
    common = (*tiny_texts, *PROBE, KEEP)
    run(*common)
    monkeypatch.setattr(Cache, "free_space", lambda cache: 0)
    run(*common)
    assert ", found" in capsys.readouterr().out


@pytest.mark.slow
def test_epochs_that_never_ran_saved_nothing(tiny_texts, capsys):
    run(*tiny_texts, *PROBE, KEEP, "epochs=1")
    assert re.search(r"spent [\d.]+ s on it and saved about 0 s", capsys.readouterr().out)


@pytest.mark.slow
def test_kept_activations_of_half_precision_change_little(tiny_texts, capsys):
    common = (*tiny_texts, *PROBE, "precision=mixed_bfloat16")
    run(*common, "output_dir=without", "cache.activations=never")
    run(*common, "output_dir=kept", KEEP)
    said = capsys.readouterr().out
    assert ", computed in" in said and "not used" not in said
    assert losses(Path("kept")) == pytest.approx(losses(Path("without")), rel=1e-2)


@pytest.mark.slow
def test_texts_that_are_changed_up_to_an_epoch_are_not_kept(tiny_texts, capsys):
    run(*tiny_texts, *PROBE, KEEP, "augment=text", "augment.swap.stop=-1", "output_dir=ends")
    said = capsys.readouterr().out
    assert "not used, augment.swap ends, and kept views would come again" in said
    assert "augment.swap: left out from epoch 3 on" in said


@pytest.mark.every(2)
@pytest.mark.parametrize(("augment", "expected"), [
    ("masks", "each augmented view has labels of its own, which move too"), ("none", ""),
])  # fmt: skip
def test_views_whose_labels_move_with_the_pixels_are_not_kept(augment, expected, tmp_path):
    """Kept activations come with the targets of the image as it lies on the disk."""
    for split, count in {"train": 4, "val": 2, "test": 2}.items():
        for kind in ("images", "masks"):
            (folder := tmp_path / "data" / split / kind).mkdir(parents=True)
            for i in range(count):
                pixels = np.zeros((16, 16, 3) if kind == "images" else (16, 16), "uint8")
                pixels[:8] = i % 2
                Image.fromarray(pixels).save(folder / f"{split}{i}.png")
    cfg = kerasft.compose([
        "task=segmentation", "data=mask_folder", f"data.path={tmp_path / 'data'}",
        "data.classes={0:background,1:thing}", "backbone=tiny_resnet", "backbone.image_size=16",
        "head=decoder", "head.width=4", f"augment={augment}", "batch_size=2", "baseline=null",
        *PROBE, KEEP,
    ])  # fmt: skip
    with prepare.runtime(cfg):
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        backbone = prepare.load_backbone(cfg, splits)
        ready = prepare.make_ready(cfg, parts, splits, backbone)
        model = with_head(cfg, ready.task, splits.labels, backbone)
        make_recipe(cfg, parts, ready.task, backbone).select(model, "probe")
        boundary = Boundary(cfg, parts, ready, model, lambda *given: {}, say=print)
        assert boundary.plan(frozen.cut(model), epochs=3).against == expected
