"""Surgery in a run: trained, stopped and resumed, cached, exported, checked and shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from interruption import require_equal, stopped_and_resumed

import kerasft
from kerasft.errors import UserError
from kerasft.steps.measuring.reopening import reopen

TEXTS = (
    "surgery=[cut,replace,insert_after]", "surgery.cut.layer=transformer_layer_0",
    "surgery.replace.dropout=0.2", "surgery.insert_after.after=transformer_layer_0",
    "backbone.layers=2",
)  # fmt: skip
IMAGES = (
    "surgery=[input_channels,replace,reset]", "surgery.input_channels.channels=1",
    "surgery.replace.norm=layer",
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))


CASES = {"texts": ("tiny_texts", TEXTS), "images": ("tiny_images", IMAGES)}


@pytest.mark.slow
@pytest.mark.parametrize("case", list(CASES))
def test_a_run_resumes_exactly_and_exports(case, request, monkeypatch, capsys):
    fixture, steps = CASES[case]
    words = [*request.getfixturevalue(fixture), *steps, "batch_size=10", "epochs=3"]
    whole = kerasft.train([*words, "checkpoint.steps=1", "output_dir=whole",
                           "export=[saved_model,keras]"])  # fmt: skip
    said = capsys.readouterr().out
    assert said.count("surgery: of the weights, ") == 1
    assert "proved in a fresh process" in said
    parity = json.loads(Path("whole/exports/keras/parity.json").read_text("utf-8"))
    assert parity
    stopped_and_resumed(words, Path("resumed"), monkeypatch)
    require_equal(Path("whole"), Path("resumed"))
    # Opened again, it answers as it did; and so does what is served.
    again = reopen("whole")[1]
    for mine, theirs in zip(
        whole.finetuned.model.get_weights(), again.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_another_process_opens_the_run(tiny_texts):
    kerasft.train([*tiny_texts, *TEXTS, "max_steps=1", "output_dir=run"])
    done = subprocess.run(
        [sys.executable, "-m", "kerasft", "predict", "run", "a fine film", "--json"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] in ("pos", "neg")


@pytest.mark.slow
@pytest.mark.parametrize("case", list(CASES))
def test_kept_activations_give_what_the_whole_network_gives(case, request, capsys):
    fixture, steps = CASES[case]
    words = [*request.getfixturevalue(fixture), *steps, "finetune=linear_probe"]
    kept = kerasft.train([*words, "cache.activations=always", "output_dir=kept"])
    assert " MB at the output of " in capsys.readouterr().out
    plain = kerasft.train([*words, "cache.activations=never", "output_dir=plain"])
    for one, other in zip(
        kept.finetuned.model.get_weights(), plain.finetuned.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_images_are_decoded_to_the_channels_of_the_network(tiny_images, tmp_path):
    words = [*tiny_images, *IMAGES[:2], "surgery=input_channels", "augment=light"]
    result = kerasft.train([*words, "max_steps=1", "epochs=1", "finetune=linear_probe"])
    made = result.finetuned.preprocess
    assert made.channels == 1
    assert result.finetuned.model.input_shape == (None, 16, 16, 1)
    kept = json.loads((result.output_dir / "preprocess" / "preprocess.json").read_text("utf-8"))
    assert kept["channels"] == 1
    sheet = kerasft.show([*words], count=2, output=str(tmp_path / "sheet.png"))
    assert sheet.is_file()


@pytest.mark.slow
def test_a_stage_at_another_size_has_the_surgery_too(tiny_images):
    result = kerasft.train([
        *tiny_images, "surgery=remove", "surgery.remove.layers=^stack1_block0_[12]_relu",
        "finetune=two_phase", "finetune.head.image_size=32", "max_steps=1",
    ])  # fmt: skip
    assert "stack1_block0_1_relu" not in {one.name for one in result.finetuned.model.layers}


@pytest.mark.slow
def test_a_size_by_surgery_is_that_of_the_run(tiny_images):
    result = kerasft.train([
        *tiny_images, "surgery=image_size", "surgery.image_size.size=[24,32]", "max_steps=1",
        "finetune=linear_probe",
    ])  # fmt: skip
    assert result.finetuned.preprocess.height == 24
    assert result.finetuned.model.input_shape == (None, 24, 32, 3)


# --- what is wrong -----------------------------------------------------------------------------


@pytest.mark.every(3)
@pytest.mark.parametrize(("words", "message"), [
    (["surgery=cut"], r"surgery.cut.layer has no value"),
    (["surgery=input_channels", "surgery.input_channels.channels=7"],
     r"surgery.input_channels.channels must be what image files can have: 1 \(grey\), .* 7"),
    (["surgery=image_size", "surgery.image_size.size=[1,2,3]"],
     r"surgery.image_size.size must be a number of pixels, or two"),
    (["surgery=replace"], r"surgery.replace replaces one of activation, norm, dropout, pooling"),
    (["surgery=replace", "surgery.replace.activation=gelo"], r"activation must be one of .*'gelo'"),
    (["surgery=replace", "surgery.replace.norm=lair"], r"surgery.replace.norm must be .*'layer'"),
    (["surgery=replace", "surgery.replace.dropout=1.5"], r"dropout is a share"),
    (["surgery=reset", "surgery.reset.blocks=0"], r"surgery.reset.blocks must be at least 1"),
    (["surgery=reset", "surgery.reset.layers=a"], r"surgery.reset resets either blocks"),
    (["surgery=insert_after", "surgery.insert_after.after=a",
      "surgery.insert_after.layer._target_=keras.layers.Lambda"], r"Lambda"),
    (["surgery=cutt"], r"surgery.*cut"),
    (["backbone=tiny_bert", "surgery=input_channels", "surgery.input_channels.channels=1"],
     r"surgery.input_channels is of images, and the backbone takes texts"),
])  # fmt: skip
def test_check_tells_what_it_can_know(kerasft_cli, words, message):
    import re

    told = kerasft_cli("check", *words)
    assert told.code == 2
    assert re.search(message, told.err), told.err


def test_a_pattern_that_means_nothing_ends_the_run_before_its_first_step(tiny_texts):
    with pytest.raises(UserError, match=r"surgery.cut: No layer matches 'transformer_layer_9'"):
        kerasft.train([*tiny_texts, "surgery=cut", "surgery.cut.layer=transformer_layer_9"])


def test_a_pattern_needs_no_quotes_within_those_of_the_shell():
    cfg = kerasft.compose(["surgery=cut", r"surgery.cut.layer=^(stack)0_[a-z]+\d_out$"])
    assert cfg.surgery.cut.layer == r"^(stack)0_[a-z]+\d_out$"
    cfg = kerasft.compose(["surgery=remove", "surgery.remove.layers=['^a[1]','b*']"])
    assert list(cfg.surgery.remove.layers) == ["^a[1]", "b*"]
    cfg = kerasft.compose(["surgery=reset", "surgery.reset.layers=null"])
    assert cfg.surgery.reset.layers is None


# --- the command -------------------------------------------------------------------------------


def test_the_command_prints_two_trees_and_writes_nothing(kerasft_cli, tmp_path):
    told = kerasft_cli("surgery", "backbone=tiny_bert", "surgery=cut",
                       "surgery.cut.layer=transformer_layer_0", "--dry-run")  # fmt: skip
    assert told.code == 0, told.err
    first, second = told.out.split("tiny bert after surgery")
    assert "tiny bert before surgery:" in first
    assert "- transformer_layer_1" in first
    assert "surgery.cut: cut at transformer_layer_0" in first
    assert "transformer_layer_1" not in second
    assert not list(Path().iterdir())


def test_without_steps_the_command_shows_the_network_once(kerasft_cli):
    told = kerasft_cli("surgery", "backbone=tiny_bert")
    assert told.code == 0, told.err
    assert "surgery=none: it stays as it is" in told.out
    assert "transformer_layer_1" in told.out
    assert "tensorflow" in sys.modules


def test_explain_tells_each_step_with_an_example(kerasft_cli):
    told = kerasft_cli("explain", "surgery.cut", "surgery=cut")
    assert told.code == 0, told.err
    assert "surgery=cut surgery.cut.layer=" in told.out
