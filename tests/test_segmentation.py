"""Segmentation from files to a served export, on small images of bright rectangles."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from interruption import require_equal, stopped_and_resumed
from masked_rectangles import SIZE, words_of
from PIL import Image

import kerasft
from kerasft.artifact.loading import load_export
from kerasft.errors import UserError
from kerasft.serving.verify import verify
from kerasft.steps.measuring.reopening import reopen


@pytest.fixture(scope="module")
def data(masked_rectangles):
    return masked_rectangles


@pytest.fixture(scope="module")
def words(data):
    return words_of(data)


@pytest.fixture(scope="module")
def trained(tiny_segmenter):
    return tiny_segmenter


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    run = tmp_path_factory.mktemp("segmentation") / "run"
    shutil.copytree(trained, run)
    return kerasft.export(str(run), ["export=saved_model"])["saved_model"]


def test_it_trains_and_what_it_came_to_is_written(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"mean_iou", "mean_dice", "boundary_f1", "pixel_accuracy"} <= metrics["test"].keys()
    assert metrics["test"]["per_class"]["red"].keys() >= {"iou", "dice", "boundary_f1", "pixels"}
    epochs = [json.loads(line) for line in
              (trained / "logs/epochs.jsonl").read_text().splitlines()]  # fmt: skip
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert epochs[-1]["val_mean_iou"] == pytest.approx(metrics["validation"]["mean_iou"])
    lines = [json.loads(line) for line in
             (trained / "predictions/test.jsonl").read_text().splitlines()]  # fmt: skip
    assert len(lines) == 9
    assert lines[0]["true"] == {"background": 1.0, "red": 0.0, "green": 0.0}
    assert list(lines[0]["predicted"]) == ["shares"]
    assert sum(lines[0]["predicted"]["shares"].values()) == pytest.approx(1.0, abs=1e-5)
    with Image.open(trained / "plots/test_masks.png") as image:
        assert image.width > 3 * 400
    assert (trained / "plots/test_confusion.png").is_file()
    assert (trained / "plots/test_iou_by_class.png").is_file()


def test_ignored_pixels_are_not_counted(trained, data):
    counted = 0
    for path in (data / "test" / "masks").iterdir():
        with Image.open(path) as image:
            counted += int((np.asarray(image) != 9).sum())
    matrix = json.loads((trained / "metrics.json").read_text())["test"]["confusion_matrix"]
    assert np.sum(matrix) == counted


def test_it_is_evaluated_again(trained):
    again = kerasft.evaluate(str(trained), split="test")
    written = json.loads((trained / "metrics.json").read_text())
    assert again["test"]["mean_iou"] == pytest.approx(written["test"]["mean_iou"], abs=1e-6)


@pytest.mark.slow
def test_masks_are_as_large_as_the_images(trained, data, kerasft_cli, tmp_path):
    images = [str(data / "test" / "images" / f"test{i}.png") for i in (1, 4)]
    said = kerasft_cli("predict", str(trained), *images, "--draw", str(tmp_path / "drawn"))
    assert said.code == 0, said.err
    assert "red" in said.out
    assert "png" not in said.out.replace(".png", "")
    for path in images:
        stem = Path(path).stem
        with (Image.open(path) as image, Image.open(tmp_path / "drawn" / f"{stem}.png") as shown,
              Image.open(tmp_path / "drawn" / f"{stem}_mask.png") as mask):
            assert image.size == shown.size == mask.size
            assert mask.mode == "P"
            assert np.asarray(mask).max() <= 2
    lines = kerasft_cli("predict", str(trained), *images, "--json").out.splitlines()
    answer = json.loads(lines[0])
    with Image.open(io.BytesIO(base64.b64decode(answer["png_bytes"]["b64"]))) as mask:
        found = np.bincount(np.asarray(mask).ravel(), minlength=3) / (mask.width * mask.height)
    assert list(answer["shares"].values()) == pytest.approx(found.tolist(), abs=1e-6)


@pytest.mark.slow
def test_an_export_answers_with_the_same_masks(trained, exported, data):
    images = [str(data / "test" / "images" / f"test{i}.png") for i in range(9)]
    export, (_, finetuned, _) = load_export(exported), reopen(str(trained))
    one, other = export(images), finetuned(images)
    assert one["png_bytes"].tolist() == other["png_bytes"].tolist()
    parity = json.loads((exported / "assets.extra/parity.json").read_text())
    assert parity["signatures"].keys() == {"serving_default", "tensors", "class_map"}
    assert parity["run"]["largest_difference"] == 0.0
    assert all(one.result != "FAILED" for one in verify(exported))


@pytest.mark.slow
def test_a_class_map_of_images_of_several_sizes(exported, data):
    import tensorflow as tf

    images = [(data / "test" / "images" / f"test{i}.png").read_bytes() for i in (2, 5)]
    loaded = tf.saved_model.load(str(exported))
    made = loaded.signatures["class_map"](image_bytes=tf.constant(images))
    maps, sizes = made["class_map"].numpy(), made["size"].numpy()
    assert maps.shape[1:] == tuple(sizes.max(axis=0))
    plain = loaded.signatures["serving_default"](image_bytes=tf.constant(images))
    for found, (rows, columns), png in zip(maps, sizes, plain["png_bytes"].numpy(), strict=True):
        mask = tf.io.decode_png(png).numpy()[..., 0]
        np.testing.assert_array_equal(found[:rows, :columns], mask)
        assert (found[rows:] == -1).all()
        assert (found[:, columns:] == -1).all()


@pytest.mark.slow
def test_heads_that_do_not_fit(words):
    with pytest.raises(UserError, match="Choose head=decoder"):
        kerasft.train([*words, "head=linear", "~head.width"])


@pytest.mark.slow  # tests/test_new_kind.py stops one in each run of the tests
def test_a_run_that_is_stopped_ends_as_one_that_was_not(trained, words, tmp_path, monkeypatch):
    stopped_and_resumed(words, tmp_path / "run", monkeypatch)
    require_equal(trained, tmp_path / "run")


@pytest.mark.slow
def test_small_images_first(words, tmp_path, monkeypatch):
    more = [
        *words, "finetune=two_phase", "finetune.head.train=all", "finetune.head.image_size=[18,25]",
        "finetune.head.epochs=2", "epochs=2",
    ]  # fmt: skip
    plain = kerasft.train([*more, f"output_dir={tmp_path}/plain"])
    rows = [json.loads(line) for line in
            (tmp_path / "plain/logs/epochs.jsonl").read_text().splitlines()]  # fmt: skip
    assert [row.get("image_size") for row in rows] == ["18x25", "18x25", None, None]
    assert plain.history.best_epoch > 2
    assert plain.finetuned.model.output_shape == (None, *SIZE, 3)
    stopped_and_resumed(more, tmp_path / "run", monkeypatch)
    require_equal(tmp_path / "plain", tmp_path / "run")
