"""Workers share out a split, and all get the figures that one process has, to the last bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from two_workers import together, workers

from kerasft.data import pipeline
from kerasft.data.store import Store
from kerasft.distributed.group import ALONE, Group, working
from kerasft.evaluation.measure import stream
from kerasft.rows import Column, Rows
from kerasft.runs.finetuned import FineTuned, eval_batch_size, loss_batch_size
from kerasft.spec import Labels
from kerasft.steps.fitting.activations import agreed
from kerasft.tasks.tagging import Tagging

LENGTHS = np.array([3, 9, 1, 5, 7, 2, 8, 4, 6, 11, 10])


def network():
    import keras

    keras.utils.set_random_seed(0)
    ids, mask = (keras.Input((None,), dtype="int32", name=n) for n in ("token_ids", "padding_mask"))
    vectors = keras.layers.Embedding(130, 4)(ids)
    pooled = keras.layers.GlobalAveragePooling1D()(vectors, mask=mask)
    model = keras.Model({"token_ids": ids, "padding_mask": mask}, keras.layers.Dense(1)(pooled))
    model.compile("sgd", "mse")
    return model


def examples(count):
    lengths = LENGTHS[:count]
    tokens = [np.arange(n) + 10 * i for i, n in enumerate(lengths)]
    store = Store.of({
        "token_ids": Column.ragged(tokens, group="tokens", dtype="int32"),
        "padding_mask": Column.ragged([np.ones(n) for n in lengths], group="tokens", dtype="int32"),
    })  # fmt: skip
    texts = np.array([f"text {i}".encode() for i in range(count)], object)
    return store, Rows.of({"labels": np.arange(count, dtype="float32")[:, None], "text": texts})


def produce(outputs, inputs, targets):
    import tensorflow as tf

    sizes = tf.reduce_sum(inputs["padding_mask"], -1)
    return {
        "answer": outputs, "text": targets["text"], "size": sizes,
        "tokens": tf.RaggedTensor.from_tensor(inputs["token_ids"], sizes),
    }  # fmt: skip


def measured(store, targets, group=None, model=None):
    given = {} if group is None else {"share": (group.rank, group.workers)}
    data, order = pipeline.in_one_pass(store, 2, targets=targets, **given)
    found = stream(
        model or network(), data, order, produce, key="a test",
        batch=lambda inputs, learned: (learned["labels"], None),
        **({} if group is None else {"group": group}),
    )
    return found, order


@pytest.mark.parametrize("count", [11, 10, 2])  # 6 batches with a short one, 5 batches, 1 batch
def test_all_get_what_one_process_has(monkeypatch, count):
    store, targets = examples(count)
    alone, _ = measured(store, targets)
    models = [network(), network()]
    found = together(
        monkeypatch, lambda one: measured(store, targets, one, models[one.rank])
    )
    shares = [order for _, order in found]
    assert sorted(np.concatenate(shares).tolist()) == list(range(count))  # each once
    assert abs(len(shares[0]) - len(shares[1])) <= 2
    for both, _ in found:
        assert both.loss == alone.loss
        assert len(both.rows) == count
        assert set(both.rows.columns) == set(alone.rows.columns)
        for i in range(count):
            mine, theirs = both.rows.row(i), alone.rows.row(i)
            for name in mine:
                np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
    assert both.rows["text"].tolist() == targets["text"].tolist()
    assert both.rows["answer"].dtype == np.float32


def tagger():
    import keras

    class Further(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(x**2))
            return x

    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    x = Further()(keras.layers.Embedding(130, 4, embeddings_initializer="normal")(ids))
    outputs = keras.layers.Dense(3, kernel_regularizer="l2")(x)
    model = keras.Model({"token_ids": ids, "padding_mask": mask}, outputs)
    model.compile("sgd", **Tagging().compile())
    return model


def tagged(model, *, loss, most, group=ALONE):
    """Measure a tagger, and take the loss of so many examples at once."""
    store, targets = examples(11)
    words = [np.arange(n) for n in LENGTHS]
    parts = {"place": words, "start": words, "end": words, "tags": [n % 3 for n in words]}
    columns = {name: Column.ragged(rows, group="words", fill=-1, dtype="int32")
               for name, rows in parts.items()}  # fmt: skip
    made = FineTuned(model, None, Tagging(), Labels("spans", ("thing",)), most)
    targets = Rows.of({**columns, "text": targets["text"]})
    return made.measure(store, targets, loss=loss, group=group)


def test_a_mean_over_words_is_that_of_one_device(monkeypatch):
    cfg = OmegaConf.create({"batch_size": 2, "eval_batch_size": None})

    def sizes():
        return {"loss": loss_batch_size(cfg), "most": eval_batch_size(cfg)}

    model, others = tagger(), [tagger(), tagger()]
    one = tagged(model, **sizes())
    # The mean over smaller batches is another number.
    assert abs(tagged(model, loss=2, most=2).loss - one.loss) > 1e-4 * one.loss
    with working(Group(replicas=2)):
        assert sizes() == {"loss": 4, "most": 2}
        found = together(
            monkeypatch, lambda group: tagged(others[group.rank], **sizes(), group=group)
        )
    for many in found:
        assert many.loss == pytest.approx(one.loss, rel=1e-6)
        for i in range(11):
            mine, theirs = many.rows.row(i), one.rows.row(i)
            np.testing.assert_allclose(mine["probabilities"], theirs["probabilities"], rtol=1e-5)


@pytest.mark.parametrize(("another", "reasons"), [
    (True, {"": "another worker cannot keep them", "no room": "no room"}), (False, {"": ""}),
])  # fmt: skip
def test_activations_are_kept_by_all_workers_or_none(monkeypatch, another, reasons):
    monkeypatch.setattr(Group, "any", lambda self, *flags: [another or any(flags)])
    with working(workers()[0]):
        assert {own: agreed(own) for own in reasons} == reasons


def test_devices_share_the_default_batch():
    cfg = OmegaConf.create({"batch_size": 48, "eval_batch_size": None})
    assert eval_batch_size(cfg) == 96
    with working(Group(replicas=8)):
        assert eval_batch_size(cfg) == 12
        cfg.eval_batch_size = 100
        assert eval_batch_size(cfg) == 100


@pytest.mark.slow
def test_the_devices_of_a_process_share_the_work():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(root / "tests" / "shared" / "measured_on_two.py")],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["said"] == "devices: 2 in one process, CPU:0, CPU:1"
    assert found["read"] == ["CPU:0"] * 3 + ["CPU:1"] * 3  # an embedding, a kernel, a bias
    assert found["same"]
    assert found["loss"][0] == found["loss"][1]
    assert found["words"][0] == pytest.approx(found["words"][1], rel=1e-6)
    assert found["summed"] == [7, 2**31 - 1, -5]  # a number of 32 bits, not twice
