"""Regularizers of the network in whole runs: with one another, and with what else there is."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import kerasft
from kerasft.errors import UserError
from kerasft.model.regularizing.consistency import TwoPasses
from kerasft.model.regularizing.hooks import hook_of

ALL = (
    "regularize=[l1,l2_sp,stochastic_depth,embedding_noise,r_drop]", "cache.directory=cache",
    "regularize.stochastic_depth.rate=0.5",
)  # fmt: skip


@pytest.mark.slow
def test_all_of_them_in_one_run(tiny_texts, monkeypatch):
    passes, plain = [], TwoPasses.compute_loss

    def compute_loss(self, *args, **kwargs):
        passes.append(kwargs["training"])
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(TwoPasses, "compute_loss", compute_loss)
    result = kerasft.train([*tiny_texts, *ALL, "epochs=1", "output_dir=run"])
    assert True in passes
    model = result.finetuned.model
    assert sum(hook_of(layer) is not None for layer in model._flatten_layers()) == 3
    best = keras.saving.load_model("run/checkpoints/best.keras", compile=False)
    assert all(hook_of(layer) is None for layer in best._flatten_layers())
    for one, other in zip(best.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    again = kerasft.evaluate("run", split="test", say=lambda line: None)["test"]
    assert again["accuracy"] == result.metrics["test"]["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [
    ("precision=mixed_bfloat16", "optimizer.gradient_accumulation_steps=2"), ("fast=false",),
    ("precision=mixed_float16",), ("adapt=lora", "adapt.lora.rank=2"), ("adapt=bias",),
    ("finetune=two_phase", "finetune.head.epochs=1"), ("task.class_weight=balanced",),
    ("backbone.layers=3", "finetune.full.train=0.4", "cache.activations=always"),
    ("finetune.full.layer_decay=0.5", "optimizer.weight_decay=0"), ("baseline=scratch",),
    ("export=saved_model",), ("export=keras",), ("surgery=replace", "surgery.replace.dropout=0.3"),
])  # fmt: skip
def test_they_go_with_other_settings(more, tiny_texts):
    result = kerasft.train([*tiny_texts, *ALL, *more, "epochs=1", "output_dir=run"])
    best = keras.saving.load_model("run/checkpoints/best.keras", compile=False)
    assert all(hook_of(layer) is None for layer in best._flatten_layers())
    for one, other in zip(best.get_weights(), result.finetuned.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("more", [
    (), ("finetune=two_phase", "finetune.head.image_size=24", "finetune.head.train=all"),
    ("precision=mixed_bfloat16", "adapt=norm"),
    ("augment=light", "cache.activations=always", "finetune=two_phase", "finetune.all.train=0.3"),
])  # fmt: skip
def test_of_images(more, tiny_images):
    kerasft.train([
        *tiny_images, *more, "regularize=[l1,l2_sp,stochastic_depth,r_drop]", "head.dropout=0.1",
        "cache.directory=cache", "export=saved_model", "output_dir=run",
    ])  # fmt: skip
    assert Path("run/exports").is_dir() or list(Path("run").glob("**/saved_model.pb"))


def test_a_network_without_dropout_is_told_before_the_first_step(tiny_images, capsys):
    with pytest.raises(UserError, match=r"r_drop compares two passes with different dropout"):
        kerasft.train([*tiny_images, "regularize=r_drop", "head.dropout=0", "output_dir=run"])
    assert "stage full" not in capsys.readouterr().out
