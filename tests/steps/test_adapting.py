"""Adapters in whole runs: what is said, written, merged, proved, exported and taken up again."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasft
from kerasft.artifact.fresh import ExportError
from kerasft.errors import UserError
from kerasft.model.adapting import low_rank
from kerasft.steps.preparing import adapting

LORA = ("adapt=lora", "adapt.lora.rank=2", "cache.directory=cache", "baseline=null")


def trained(overrides, *more: str, run: str = "run"):
    return kerasft.train([*overrides, *LORA, *more, f"output_dir={run}"])


def plain_layers(model) -> bool:
    return not any(isinstance(one, low_rank.LowRank) for one in model._flatten_layers())


@pytest.mark.slow
def test_a_run_with_adapters(tiny_texts, capsys):
    result = trained(tiny_texts, "adapt.lora.dropout=0.1")
    said = capsys.readouterr().out
    assert re.search(r"adapt: lora of rank 2, alpha 16, on 6 layers \(.*4 EinsumDense.*\): [\d,]+ "
                     r"weights", said)  # fmt: skip
    assert re.search(r"transformer_layer_\* \(lora\) +([\d,]+) +\1 +100%", said)
    assert re.search(r"transformer_layer_\* +[\d,]+ +0 +0%", said)
    assert "learning rate up to 0.01," in said, "ten times that of the whole backbone"
    assert re.search(r"merged: 6 adapters; largest difference \S+ on 8 held-out examples", said)
    model = result.finetuned.model
    assert plain_layers(model)
    file = Path("run/checkpoints/adapter.safetensors")
    assert f"adapter: {file}" in said
    assert file.stat().st_size < Path("run/checkpoints/best.keras").stat().st_size / 4
    best = keras.saving.load_model("run/checkpoints/best.keras", compile=False)
    assert plain_layers(best)
    for one, other in zip(best.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    again = kerasft.evaluate("run", split="test", say=lambda line: None)["test"]
    assert again["accuracy"] == result.metrics["test"]["accuracy"]

    # The adapter alone, on the backbone that it belongs to: what it has learned is there.
    more = kerasft.train([
        *tiny_texts, "adapt=saved", f"adapt.saved.path={file}", "epochs=1", "baseline=null",
        "optimizer.learning_rate=1e-12", "output_dir=more",
    ])  # fmt: skip
    for one, other in zip(more.finetuned.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.every(2)
@pytest.mark.parametrize("adapter", ["norm", "bias"])
def test_a_run_of_biases_or_norms(adapter, tiny_texts, capsys):
    kerasft.train([*tiny_texts, f"adapt={adapter}", "epochs=1", "output_dir=run"])
    said = capsys.readouterr().out
    assert f"adapt: {adapter}: " in said
    assert "learning rate up to 0.04," in said, "forty times"
    assert "merged" not in said
    assert Path("run/checkpoints/adapter.safetensors").is_file()


@pytest.mark.slow
def test_a_merge_that_is_left_out_ends_the_run(tiny_texts, monkeypatch):
    monkeypatch.setattr(low_rank, "delta", lambda layer: np.float32(0))
    with pytest.raises(RuntimeError, match=r"The merged model is not the one that was trained: the "
                       r"network in the run folder gives other outputs than the run measured"):
        trained(tiny_texts)


@pytest.mark.slow
def test_the_parity_proof_catches_a_merge_that_is_left_out(tiny_texts, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(low_rank, "delta", lambda layer: np.float32(0))
        # As if nobody had looked before.
        patch.setattr(adapting, "against_run", lambda *given: ({"largest_difference": 0.0}, []))
        trained(tiny_texts)
    with pytest.raises(ExportError, match=r"gives other outputs than the run measured"):
        kerasft.export("run")


@pytest.mark.slow
def test_adapters_of_the_upper_layers_train_on_kept_activations(tiny_texts, capsys):
    more = ("backbone.layers=2", "adapt.lora.layers=0.2", "cache.activations=always")
    kept = trained(tiny_texts, *more, run="kept")
    assert "activation cache: " in (said := capsys.readouterr().out)
    assert "not used" not in said
    computed = trained(tiny_texts, *more, "cache.activations=never", run="computed")
    for one, other in zip(kept.finetuned.model.get_weights(),
                          computed.finetuned.model.get_weights(), strict=True):  # fmt: skip
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("more", [
    ("precision=mixed_bfloat16",), ("precision=mixed_bfloat16", "adapt.lora.base=int8"),
    ("fast=false",), ("finetune=two_phase", "finetune.head.epochs=1"), ("regularize=l2",),
    ("regularize=dropout",), ("baseline=scratch",), ("export=saved_model",), ("export=keras",),
])  # fmt: skip
def test_adapters_go_with_other_settings(more, tiny_texts, capsys):
    result = trained(tiny_texts, *more)
    assert plain_layers(result.finetuned.model)
    assert "merged: 6 adapters" in capsys.readouterr().out
    if more == ("baseline=scratch",):
        assert result.baseline is not None


@pytest.mark.slow
@pytest.mark.parametrize("more", [
    (), ("finetune=two_phase", "finetune.head.image_size=24", "finetune.head.train=all"),
    ("augment=light", "cache.activations=always", "adapt.lora.layers=0.3"),
])  # fmt: skip
def test_adapters_of_convolutions(more, tiny_images, capsys):
    result = trained(tiny_images, *more, "export=saved_model")
    assert plain_layers(result.finetuned.model)
    said = capsys.readouterr().out
    assert re.search(r"on \d+ layers \(.*Conv2D", said)
    assert "proved in a fresh process" in said


@pytest.mark.slow
def test_a_stage_that_leaves_nothing_is_told_before_the_first_step(tiny_texts, capsys):
    with pytest.raises(UserError, match=r"finetune\.all\.train: with adapt\.lora only the head and "
                       r"the adapters train, and 'query/kernel' matches none of them"):  # fmt: skip
        trained(tiny_texts, "finetune=two_phase", "finetune.all.train=[query/kernel]")
    assert "stage head" not in capsys.readouterr().out


@pytest.mark.parametrize(("more", "chosen"), [
    ((), ["lora"]),
    (("adapt=none",), []),
    (("adapt=norm",), ["norm"]),
    (("finetune=linear_probe",), ["auto"]),
    (("task=classification", "head=linear"), ["auto"]),
])  # fmt: skip
def test_large_language_models_are_adapted_where_nobody_chooses(more, chosen, monkeypatch, capsys):
    from kerasft.config.composition import compose
    from kerasft.model.tiny import text
    from kerasft.steps.preparing.prepare import build_task

    backbone = text("gpt2")
    cfg = compose(["task=causal_lm", "head=language", *more])
    task = build_task(cfg)
    before = list(cfg.adapt)
    adapting.settle(cfg, task, backbone)
    assert list(cfg.adapt) == before, "it has fewer than 300 M weights"
    monkeypatch.setattr(adapting, "LARGE", backbone.network.count_params() - 1)
    adapting.settle(cfg, task, backbone)
    assert list(cfg.adapt) == chosen
    said = capsys.readouterr().out
    assert ("adapt=lora, as tiny gpt2 has" in said) == (chosen == ["lora"])
    assert ("adapt=none trains all" in said) == (chosen == ["lora"])


def test_an_export_of_an_adapter_needs_one(tiny_texts):
    with pytest.raises(UserError, match="export=adapter writes what an adapter has learned, and a"):
        kerasft.train([*tiny_texts, "export=adapter", "adapt=none", "output_dir=run"])
    assert not Path("run").exists()


@pytest.mark.slow
def test_an_adapter_is_exported_alone_and_taken_up_on_its_base(tiny_texts, capsys):
    result = trained(tiny_texts, "epochs=1", "export=adapter")
    folder = Path("run/exports/adapter")
    assert result.exports["adapter"] == folder or result.exports["adapter"].name == "adapter"
    held = {one.name for one in folder.iterdir()}
    assert held == {"adapter.safetensors", "adapter.json", "parity.json", "README.md", "peft"}
    assert "proved: 8 examples; largest difference" in capsys.readouterr().out
    more = kerasft.train([
        *tiny_texts, "adapt=saved", f"adapt.saved.path={folder}", "epochs=1", "baseline=null",
        "optimizer.learning_rate=1e-12", "output_dir=more",
    ])  # fmt: skip
    model = result.finetuned.model
    for one, other in zip(more.finetuned.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    kerasft.export("run", ["export=adapter"])
    Path("run/checkpoints/adapter.safetensors").unlink()
    with pytest.raises(UserError, match=r"this run has none.*Train with adapt=lora"):
        kerasft.export("run", ["export=adapter"])
