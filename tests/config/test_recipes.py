"""`recipe=NAME`, and what an experiment says of steps that are not chosen in the end."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

import kerasft
from kerasft.config.checks import settle
from kerasft.config.composition import options
from kerasft.config.explanation import explain

FULL = {"full": {"_target_": "kerasft.training.stages.Stage", "train": "all", "epochs": 15}}
ANTS = "experiment=hymenoptera_mobilenet"


def finetune(*overrides):
    return OmegaConf.to_container(kerasft.compose(list(overrides)), resolve=True)["finetune"]


def test_the_default_recipe_changes_nothing():
    assert kerasft.compose(["recipe=default", ANTS]) == kerasft.compose([ANTS])


@pytest.mark.parametrize("recipe", options("recipe"))
def test_a_recipe_chooses_for_an_experiment_too(recipe):
    alone, beside = finetune(f"recipe={recipe}", "epochs=15"), finetune(f"recipe={recipe}", ANTS)
    if recipe == "default":
        assert list(beside) == ["head", "all"] and beside["head"]["learning_rate"] == 1e-2
    else:
        assert beside == alone, "what the experiment says of its own stages is not left over"
        settle([f"recipe={recipe}", ANTS], (), ())


@pytest.mark.parametrize(
    ("overrides", "stages"),
    [
        (["finetune=full", ANTS], FULL),
        (["finetune=full", ANTS, "finetune.full.rate=0.5"], {"full": FULL["full"] | {"rate": 0.5}}),
        (["recipe=best", "finetune=full", "epochs=15"], FULL),
        (["recipe=best", "finetune=full", ANTS], FULL),
    ],
)  # fmt: skip
def test_what_is_said_of_other_stages_goes_with_them(overrides, stages):
    assert finetune(*overrides) == stages


def test_what_an_experiment_says_of_the_stages_that_are_chosen_stays():
    assert finetune("finetune=two_phase", ANTS) == finetune(ANTS)
    assert finetune("finetune=two_phase", ANTS)["head"]["epochs"] == 8


def test_the_command_line_has_the_last_word():
    cfg = kerasft.compose(["recipe=quick", "augment=light", "finetune.probe.solve=false"])
    assert list(cfg.augment) == ["flip", "shift", "brightness"]
    assert cfg.finetune.probe.solve is False


def test_a_recipe_is_explained():
    said = [" ".join(line.split()) for line in explain("recipe=quick").splitlines()]
    assert "finetune linear_probe finetune/linear_probe.yaml" in said
    assert "finetune.probe.solve auto" in said
    assert said[-1] == "choose with recipe=NAME: best, default, quick"


def test_another_backbone_has_nothing_of_the_former_network_but_the_size_of_images():
    cfg = kerasft.compose([ANTS, "backbone=tiny_resnet"])
    alone = kerasft.compose(["data=image_folder", "backbone=tiny_resnet"])
    assert dict(cfg.backbone) == {**alone.backbone, "image_size": 288}
    settle([ANTS, "backbone=tiny_resnet"], (), ())


def test_weights_of_another_network_are_never_those_of_the_experiment():
    cfg = kerasft.compose([ANTS, "backbone=efficientnet_lite0"])
    assert cfg.backbone.weights.startswith("package://")
    assert cfg.backbone.image_size == kerasft.compose([ANTS]).backbone.image_size
    own = kerasft.compose([ANTS, "backbone=efficientnet_lite0", "backbone.weights=mine.pth"])
    assert own.backbone.weights == "mine.pth"


def test_other_parts_keep_what_the_experiment_says_where_they_take_it():
    cfg = kerasft.compose(["experiment=sst2_minilm", "optimizer=sgd"])
    assert cfg.optimizer.learning_rate == kerasft.compose(["experiment=sst2_minilm"]).optimizer[
        "learning_rate"
    ]  # fmt: skip
    settle(["experiment=sst2_minilm", "optimizer=sgd"], (), ())


def test_values_that_need_the_experiments_own_choices_are_no_hindrance():
    cfg = kerasft.compose([ANTS, "head=mlp", "backbone.alpha=0.5", "~task.label_smoothing"])
    assert cfg.backbone.alpha == 0.5 and "label_smoothing" not in cfg.task
