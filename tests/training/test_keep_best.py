"""The files of the best and the last epoch."""

from __future__ import annotations

import tracemalloc
import zipfile

import keras
import numpy as np

from kerasft.training.keep_best import KeepBest

WIDTH = 512


def wide() -> keras.Model:
    """Return a network of eight layers of 1 MB each."""
    stack = [keras.Input((WIDTH,)), *(keras.layers.Dense(WIDTH) for _ in range(8))]
    return keras.Sequential(stack)


def kept(model: keras.Model, folder) -> KeepBest:
    keeper = KeepBest("val_accuracy", "max", folder)
    keeper.set_model(model)
    return keeper


def test_a_file_is_one_of_keras(tmp_path):
    model = wide()
    kept(model, tmp_path).on_epoch_end(0, {"val_accuracy": 0.5})
    assert sorted(one.name for one in tmp_path.iterdir()) == ["best.keras", "last.keras"]
    with zipfile.ZipFile(tmp_path / "best.keras") as archive:
        assert {one.filename for one in archive.infolist()} == {
            "config.json", "metadata.json", "model.weights.h5",
        }  # fmt: skip
    loaded = keras.models.load_model(tmp_path / "best.keras")
    for now, then in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(now, then)


def test_what_a_process_that_was_ended_left_is_no_part_of_a_file(tmp_path):
    left = tmp_path / ".last.part"
    left.mkdir()
    (left / "assets.txt").write_text("half")
    kept(wide(), tmp_path).on_epoch_end(0, {"val_accuracy": 0.5})
    with zipfile.ZipFile(tmp_path / "last.keras") as archive:
        assert "assets.txt" not in archive.namelist()
    assert not left.exists()


def test_weights_are_not_copied_in_memory_to_be_written(tmp_path):
    keeper = kept(wide(), tmp_path)
    keeper.weights = keeper._copied()  # that the best are held is on purpose
    keeper.stale = {"last.keras"}
    tracemalloc.start()
    try:
        keeper._write()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * 2**20, f"{most / 2**20:.1f} MB at most, of weights of 8 MB"
