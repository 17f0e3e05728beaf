"""What trains, told without training, and runs of the recipes that go from the head down."""

from __future__ import annotations

from pathlib import Path

import pytest

import kerasft
from kerasft.errors import UserError
from kerasft.run import trainable
from kerasft.steps.fitting.trainable import as_table
from kerasft.steps.preparing.stages import build_stages
from kerasft.training.trainability import Part


def test_the_table_alone_trains_nothing(tiny_images, kerasft_cli):
    said = kerasft_cli(
        "train", "--trainable", *tiny_images, "finetune=fastai", "finetune.all.rates.head_=2"
    )
    assert said.code == 0, said.err
    assert "stage head: learning rate up to 0.001, " in said.out
    assert "part  " in said.out and "learning rate  weight decay  batch norm" in said.out
    assert "adapter" not in said.out
    head = said.out.splitlines()[-1].split()
    assert head[0] == "head_outputs" and head[4:6] == ["0.002", "0.01"]
    assert "first step" not in said.out and not Path("outputs").exists()


def test_the_best_recipe_lowers_the_rates_of_images_alone(tiny_images, tiny_texts, kerasft_cli):
    best = ["recipe=best", "finetune.head=null", "optimizer.learning_rate=0.01"]
    said = [
        kerasft_cli("train", "--trainable", *data, *best).out for data in (tiny_images, tiny_texts)
    ]
    assert all("stage full: learning rate up to 0.01, " in one for one in said)
    images, texts = ([row.split()[-3:] for row in one.partition("\npart ")[2].splitlines()[1:]]
                     for one in said)  # fmt: skip
    assert images[-1][0] == "0.01" and images[-2][0] == "0.008" and float(images[0][0]) < 0.008
    assert len(texts) > 2 and {row[-2] for row in texts} == {"0.01"}


@pytest.mark.parametrize("other", ["--plan", "-m"])
def test_it_stands_alone(kerasft_cli, other):
    said = kerasft_cli("train", "--trainable", other)
    assert said.code == 2 and "leave out --plan and -m" in said.err


def test_rules_that_match_nothing_are_told_with_the_stage(tiny_images):
    with pytest.raises(UserError, match=r"finetune\.full\.rates: 'heads_.*mean 'head_outputs'"):
        trainable([*tiny_images, "finetune.full.rates.heads_output=2"])


@pytest.mark.parametrize(("override", "said"), [
    ("finetune.full.layer_decay=2", r"finetune\.full\.layer_decay is the factor"),
    ("finetune.full.rates.head_=-1", r"finetune\.full\.rates: the factor of 'head_' must be"),
    ("finetune=gradual finetune.gradual.stages=1", r"finetune\.gradual\.stages must be at least 2"),
])  # fmt: skip
def test_check_tells_of_values_that_make_no_sense(override, said):
    from kerasft.run import check

    with pytest.raises(UserError, match=said):
        check(kerasft.compose(override.split()))


def test_stages_of_one_node_are_told_apart():
    found = build_stages(kerasft.compose(["finetune=gradual", "epochs=4"]).finetune)
    assert list(found) == ["gradual/1", "gradual/2", "gradual/3", "gradual/4"]
    assert [stage.epochs for stage in found.values()] == [1, 1, 1, 4]
    assert list(build_stages(kerasft.compose(["finetune=two_phase"]).finetune)) == ["head", "all"]


def test_the_schedule_comes_with_the_recipe_and_can_be_another():
    cfg = kerasft.compose(["finetune=fastai"])
    assert cfg.schedule._target_.endswith(".one_cycle")
    cfg = kerasft.compose(["finetune=fastai", "schedule=constant"])
    assert cfg.schedule._target_.endswith(".constant")


def test_long_tables_show_both_ends():
    parts = [Part(f"block_{i}", 10, 10, 1e-3 * 0.5**i, None, "frozen") for i in range(20)]
    lines = as_table(parts, 12).splitlines()
    assert len(lines) == 13 and lines[7].split()[:6] == ["(9", "more", "parts)", "90", "90", "100%"]
    assert "weight decay" not in lines[0] and len(as_table(parts).splitlines()) == 21


@pytest.mark.slow
@pytest.mark.parametrize(("finetune", "stages"), [
    ("fastai", ["head", "all"]), ("gradual", [f"gradual/{i}" for i in (1, 2, 3, 4)]),
])  # fmt: skip
def test_the_recipes_run(tiny_images, tmp_path, finetune, stages, capsys):
    result = kerasft.train([*tiny_images, f"finetune={finetune}", f"output_dir={tmp_path / 'run'}"])
    assert list(dict.fromkeys(row["stage"] for row in result.history.rows)) == stages
    said = capsys.readouterr().out
    assert ("of the learning rate, as set" in said) == (finetune == "fastai")
