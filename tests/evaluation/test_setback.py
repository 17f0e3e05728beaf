from __future__ import annotations

import pytest

from kerasft.evaluation.setback import setback

WON = {"stage": "head", "accuracy": 0.93, "loss": 0.2, "val_accuracy": 0.90, "val_loss": 0.3}
SIZES = {"train": 208, "validation": 153}


def told(*rows, monitor="val_accuracy", mode="max", **sizes):
    return setback(rows, monitor=monitor, mode=mode, **(SIZES | sizes))


def after(**figures):
    return WON | {"stage": "all"} | figures


def test_a_stage_that_loses_in_training_and_validation_is_told_with_its_keys():
    said = told(WON, after(accuracy=0.45, val_accuracy=0.5))
    assert said.startswith("stage all lost what stage head had won: val_accuracy went from 0.9000")
    assert "accuracy went from 0.9300 to 0.4500" in said and "finetune.all.rate" in said
    assert "\n" not in said


@pytest.mark.parametrize("figures", [
    {}, {"accuracy": 0.99, "val_accuracy": 0.95},
    {"accuracy": 0.99, "val_accuracy": 0.5},  # overfitting, told elsewhere
    {"accuracy": 0.45},  # augmentation that validation does not have
    {"accuracy": 0.90, "val_accuracy": 0.86},  # noise
    {"accuracy": 0.45, "val_accuracy": float("nan")},
])  # fmt: skip
def test_what_is_no_loss_or_no_more_than_noise_is_not(figures):
    assert told(WON, after(**figures)) is None


def test_stages_on_images_of_other_sizes_are_not_compared():
    lost = after(accuracy=0.45, val_accuracy=0.5)
    assert told(WON | {"image_size": "96x96"}, lost) is None
    assert told(WON, WON | {"stage": "small", "image_size": "96x96"}, lost)


def test_what_is_noise_is_a_matter_of_how_many_examples_there_are():
    rows = WON, after(accuracy=0.85, val_accuracy=0.82)
    assert told(*rows, train=50, validation=50) is None
    assert told(*rows, train=5000, validation=5000)
    ones = WON | {"accuracy": 1.0, "val_accuracy": 1.0}, after(accuracy=0.9, val_accuracy=0.9)
    assert told(*ones, train=10, validation=10) is None


def test_the_end_of_each_stage_counts_and_the_first_has_none_before_it():
    assert told() is None and told(WON) is None
    worst = after(accuracy=0.4, val_accuracy=0.4)
    assert told(WON | {"accuracy": 0.1, "val_accuracy": 0.1}, WON, worst, after()) is None
    assert told(WON | {"accuracy": 0.1, "val_accuracy": 0.1}, WON, after(), worst)


def test_without_the_figure_in_training_the_loss_decides():
    def rows(loss):
        return WON | {"val_f1_micro": 0.9}, after(val_f1_micro=0.3, loss=loss)

    assert told(*rows(0.9), monitor="val_f1_micro")
    assert told(*rows(0.21), monitor="val_f1_micro") is None
    lost = told(WON, after(loss=0.9, val_loss=0.8), monitor="val_loss", mode="min")
    assert "val_loss went from 0.3000 to 0.8000 and loss went from 0.2000 to 0.9000" in lost
    assert told(WON, after(loss=0.9, val_loss=0.32), monitor="val_loss", mode="min") is None


def test_small_figures_are_shown_with_their_digits():
    rows = [{"stage": "a", "loss": 1e-5, "val_loss": 2e-5}, {"stage": "b", "loss": 1e-4,
                                                             "val_loss": 3e-4}]
    said = setback(rows, monitor="val_loss", mode="min", train=100, validation=100)
    assert "val_loss went from 2e-05 to 0.0003" in said
