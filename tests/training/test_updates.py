"""By how much weights move in an epoch is written for each part, as it is."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from kerasft.training import updates
from kerasft.training.updates import Updates


def network() -> keras.Model:
    """A network of an embedding, which is larger than what is looked at, and a head."""
    inputs = keras.Input([3], dtype="int32")
    x = keras.layers.Embedding(6000, 4, name="embedding")(inputs)
    x = keras.layers.GlobalAveragePooling1D()(x)
    head = keras.layers.Dense(2, name="head_outputs")
    model = keras.Model(inputs, head(x))
    model.head_layers = [head]
    return model


@pytest.fixture(scope="module")
def model():
    return network()


def begun(model, directory=None) -> Updates:
    made = Updates(directory)
    made.set_model(model)
    made.stage, made.peak = "full", 1e-3
    made.on_train_begin()
    made.on_epoch_begin(0)
    return made


def test_norms_of_each_part_are_written(model, tmp_path):
    rng = np.random.default_rng(0)
    embedding, kernel, bias = before = [rng.normal(size=v.shape) for v in model.weights]
    model.set_weights(before)
    (tmp_path / "logs").mkdir()
    made = begun(model, tmp_path / "logs")
    step = rng.normal(size=kernel.shape) * 0.01
    model.set_weights([embedding * 1.5, kernel + step, bias])
    made.on_epoch_end(0)
    row = json.loads((tmp_path / "logs" / "updates.jsonl").read_text())
    assert row == made.rows[0]
    assert (row["epoch"], row["stage"], row["peak"]) == (1, "full", 1e-3)
    assert list(row["parts"]) == ["embedding", "head"]
    head = row["parts"]["head"]
    assert head["weights"] == pytest.approx(np.sqrt((kernel**2).sum() + (bias**2).sum()), rel=1e-6)
    assert head["moved"] == pytest.approx(np.sqrt((step**2).sum()), rel=1e-4)
    # Estimated from 12,000 of 24,000 numbers.
    part = row["parts"]["embedding"]
    assert part["weights"] == pytest.approx(np.sqrt((embedding**2).sum()), rel=0.03)
    assert part["moved"] == pytest.approx(0.5 * part["weights"], rel=1e-6)


def test_only_what_trains_is_looked_at_and_little_of_it(model):
    made = begun(model)
    assert [one.size for one in made.before] == [12000, 8, 2]
    model.get_layer("embedding").trainable = False
    try:
        made = begun(model)
        assert made.parts == ["head", "head"] and len(made.before) == 2
    finally:
        model.get_layer("embedding").trainable = True


def test_an_epoch_is_told_the_same_after_a_stop_within_it(model, tmp_path):
    start = model.get_weights()
    whole = begun(model)
    model.set_weights([one + 0.1 for one in start])
    state = whole.get_state()
    again = begun(model, tmp_path)
    again.set_state(state)
    model.set_weights([one + 0.3 for one in start])
    for one in (whole, again):
        one.on_epoch_end(0)
    assert whole.rows == again.rows
    assert again.rows[0]["parts"]["head"]["moved"] > 0.5
    # What came later is dropped.
    again.set_state({"rows": [], "before": []})
    assert (tmp_path / "updates.jsonl").read_text() == ""
    for broken in ([{"epoch": "1"}], [{**whole.rows[0], "parts": {"head": {"moved": "far"}}}]):
        with pytest.raises((ValueError, KeyError)):
            again.set_state({"rows": broken, "before": []})


def test_a_run_has_a_row_for_each_epoch(tiny_run):
    rows = [json.loads(line) for line in
            (tiny_run / "logs" / updates.FILE).read_text().splitlines()]  # fmt: skip
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert len(row["parts"]) > 3 and "head" in row["parts"]
        assert all(0 < one["moved"] < one["weights"] for one in row["parts"].values())
