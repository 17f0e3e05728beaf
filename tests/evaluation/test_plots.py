from __future__ import annotations

import sys

import numpy as np
import pytest

from kerasft.evaluation import drawing, metrics, plots

NAMES = ("good", "চমৎকার", "খারাপ", "$x$", "日本語", "🙂", "two\nlines", "a" * 60)
HISTORY = [
    {
        "epoch": 1,
        "stage": "head",
        "loss": 0.9,
        "val_loss": 0.8,
        "accuracy": 0.6,
        "val_accuracy": 0.7,
    },
    {
        "epoch": 2,
        "stage": "full",
        "loss": 0.5,
        "val_loss": 0.6,
        "accuracy": 0.8,
        "val_accuracy": 0.9,
    },
    {"epoch": 3, "stage": "full", "loss": 0.4, "val_loss": float("nan"), "val_accuracy": None},
]


def check_png(path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 3  # something is drawn
        return image.size


@pytest.mark.parametrize(
    ("history", "monitor", "mode"),
    [
        (HISTORY, "val_accuracy", "max"),
        (HISTORY, "val_loss", "min"),
        (HISTORY[:1], "val_accuracy", "max"),
        (HISTORY, "val_absent", None),
    ],
)
def test_learning_curves(history, monitor, mode, tmp_path):
    check_png(plots.learning_curves(history, tmp_path / "a.png", monitor=monitor, mode=mode))


def test_the_best_epoch_is_the_monitors():
    losses = plots._column(HISTORY, "val_loss")
    assert plots._best(plots._column(HISTORY, "val_accuracy"), "max", losses) == 1
    assert plots._best(losses, "min", losses) == 1
    assert plots._best(plots._column(HISTORY, "val_absent"), "min", losses) is None


def test_of_equal_epochs_that_with_the_lowest_loss_is_marked():
    values, losses = np.array([0.5, 0.8, 0.8, 0.8]), np.array([0.1, 0.7, 0.4, np.nan])
    assert plots._best(values, "max", losses) == 2
    assert plots._best(values, "max", np.full(4, np.nan)) == 1


def test_epochs_at_another_size_are_not_marked_as_the_best(tmp_path, monkeypatch):
    marked, plain = [], plots._best
    monkeypatch.setattr(plots, "_best", lambda *given: marked.append(plain(*given)) or marked[-1])
    rows = [{**row, "image_size": "96x96"} if i == 1 else row for i, row in enumerate(HISTORY)]
    plots.learning_curves(rows, tmp_path / "a.png", monitor="val_accuracy")
    assert marked != [1] and len(marked) == 1


@pytest.mark.parametrize("size", [1, 2, 8, pytest.param(100, marks=pytest.mark.slow)])
def test_confusion_matrix(size, tmp_path):
    names = (NAMES * 13)[:size]
    y = np.random.default_rng(0).integers(0, size, 500)
    matrix = metrics.confusion(y, y[::-1], names)
    matrix[0] = 0  # a class that does not occur
    width, height = check_png(plots.confusion_matrix(matrix, names, tmp_path / "a.png"))
    assert max(width, height) < 2500


def test_names_that_the_font_lacks_stay_apart():
    ticks = drawing.ticks_of(["খারাপ", "খুশি", "good", "a$b", "two\nlines"], 24)
    assert ticks == ["0: U+0996...", "1: U+0996...", "good", r"a\$b", "two lines"]


def test_predicted_against_true(tmp_path):
    y = np.linspace(0, 1, 50)
    check_png(plots.predicted_against_true(y, y + 0.1, tmp_path / "a.png"))
    check_png(plots.predicted_against_true(y[:1], y[:1], tmp_path / "b.png"))
    check_png(plots.predicted_against_true(y, np.where(y > 0.5, np.nan, y), tmp_path / "c.png"))


def test_f1_by_class(tmp_path):
    p = np.random.default_rng(0).random((40, len(NAMES)))
    scores = metrics.multi(p > 0.6, p, p > 0.5, NAMES)
    check_png(plots.f1_by_class(scores["per_class"], tmp_path / "a.png"))


def test_no_global_state_is_touched(tmp_path):
    sys.modules.pop("matplotlib.pyplot", None)
    plots.learning_curves(HISTORY, tmp_path / "a.png", monitor="val_loss", mode="min")
    assert "matplotlib.pyplot" not in sys.modules
