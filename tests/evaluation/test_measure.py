from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kerasft.data import pipeline
from kerasft.data.store import Store
from kerasft.evaluation.measure import stream
from kerasft.rows import Column, Rows
from kerasft.runs.finetuned import FineTuned
from kerasft.spec import Labels
from kerasft.tasks.multi_label import MultiLabel

CLASSES = 21


def per_pixel(size=64):
    import keras

    image = keras.Input((size, size, 3), dtype="uint8")
    x = keras.ops.cast(image, "float32")
    return keras.Model(image, keras.layers.Conv2D(CLASSES, 1)(x))


def confusion(outputs, inputs, targets):
    import tensorflow as tf

    pairs = targets["mask"] * CLASSES + tf.argmax(outputs, -1, output_type=tf.int32)
    flat = tf.reshape(pairs, [tf.shape(pairs)[0], -1])
    counts = tf.math.bincount(flat, minlength=CLASSES**2, maxlength=CLASSES**2, axis=-1)
    return {"confusion": tf.reshape(counts, [-1, CLASSES, CLASSES])}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux' /proc")
def test_memory_does_not_grow_with_what_the_network_puts_out():
    count, size = 1000, 64
    random = np.random.default_rng(0)
    store = Store.of({"images": random.integers(0, 255, (count, size, size, 3), dtype="uint8")})
    masks = random.integers(0, CLASSES, (count, size, size)).astype("int32")
    data, order = pipeline.in_one_pass(store, 16, targets=Rows.of({"mask": masks}))
    model, peak, done = per_pixel(size), [0], threading.Event()

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], resident())
            time.sleep(0.005)

    before, watcher = resident(), threading.Thread(target=watch)
    watcher.start()
    try:
        found = stream(model, data, order, confusion, key="confusion").rows
    finally:
        done.set()
        watcher.join()
    # All outputs together would be 344 MB.
    assert peak[0] - before < 300e6 and found.nbytes == count * CLASSES**2 * 4
    assert (found["confusion"].sum((1, 2)) == size * size).all()
    wanted = np.argmax(model.predict(store.inputs["images"][:3], verbose=0), -1)
    for i, row in enumerate(found["confusion"][:3]):
        np.testing.assert_array_equal(np.bincount(wanted[i].ravel(), minlength=CLASSES), row.sum(0))


def test_ragged_values_come_back_in_the_order_of_the_examples():
    import keras
    import tensorflow as tf

    lengths = np.array([3, 9, 1, 5, 7])
    tokens = [np.arange(n) + 10 * i for i, n in enumerate(lengths)]
    store = Store.of({
        "token_ids": Column.ragged(tokens, group="tokens", dtype="int32"),
        "padding_mask": Column.ragged([np.ones(n) for n in lengths], group="tokens", dtype="int32"),
    })  # fmt: skip
    ids, mask = (keras.Input((None,), dtype="int32", name=n) for n in ("token_ids", "padding_mask"))
    model = keras.Model({"token_ids": ids, "padding_mask": mask}, ids * 2 * mask)

    def produce(outputs, inputs, targets):
        sizes = tf.reduce_sum(inputs["padding_mask"], -1)
        return {"twice": tf.RaggedTensor.from_tensor(outputs, sizes), "size": sizes}

    data, order = pipeline.in_one_pass(store, 2, targets=Rows.of({}, 5))
    found = stream(model, data, order, produce, key="twice").rows
    np.testing.assert_array_equal(found["size"], lengths)
    for i, one in enumerate(tokens):
        np.testing.assert_array_equal(found.row(i)["twice"], 2 * one)


def test_the_loss_is_the_models_own_over_all_examples():
    import keras

    random = np.random.default_rng(0)
    x, y = random.normal(size=(10, 4)).astype("float32"), random.normal(size=(10, 1))
    inputs = keras.Input((4,), name="x")
    outputs = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.1))(inputs)
    model = keras.Model({"x": inputs}, outputs)
    model.compile("sgd", "mae")
    store, targets = Store.of({"x": x}), Rows.of({"labels": y.astype("float32")})
    data, order = pipeline.in_one_pass(store, 4, targets=targets)

    def measured():
        return stream(model, data, order, lambda out, given, _: {"out": out}, key="loss",
                      batch=lambda given, found: (found["labels"], None)).loss  # fmt: skip

    assert measured() == pytest.approx(model.evaluate({"x": x}, y, verbose=0, batch_size=4))
    model.set_weights([w * 0 for w in model.get_weights()])
    assert measured() == pytest.approx(np.abs(y).mean())  # the same function, other weights


def dense(name="x"):
    import keras

    inputs = keras.Input((4,), name=name)
    return keras.Model({name: inputs}, keras.layers.Dense(2)(inputs))


def test_what_takes_turns_is_traced_once_until_the_model_trains():
    model, traced = dense(), []
    store = Store.of({"x": np.ones((3, 4), "float32")})

    def asked(key, **more):
        def produce(outputs, inputs, targets):
            traced.append(key)
            return {"kept": outputs}

        data, order = pipeline.in_one_pass(store, 2, targets=Rows.of({"y": np.zeros((3, 2))}))
        return stream(model, data, order, produce, key=key, **more).rows["kept"]

    for _ in range(2):
        for key in ("figures", "answers"):
            np.testing.assert_allclose(asked(key), model.predict({"x": np.ones((3, 4))}, verbose=0))
    assert traced == ["figures", "answers"]
    model.compile("sgd", "mse")
    asked("figures", batch=lambda inputs, found: (found["y"], None))
    model.layers[-1].activation = lambda x: x + 1  # as what computes faster ends with training
    before = model.layers[-1].bias.numpy()
    np.testing.assert_allclose(asked("figures") - 1, np.ones((3, 4)) @ model.layers[-1].kernel
                               + before, rtol=1e-5)  # fmt: skip
    assert traced == ["figures", "answers", "figures", "figures"]


def test_what_a_tuned_task_keeps_is_traced_already():
    store = Store.of({"x": np.random.default_rng(0).normal(size=(6, 4)).astype("float32")})
    annotations = Rows.of({"label": np.tile([[0, 1], [1, 1]], (3, 1))})
    made = FineTuned(dense(), None, MultiLabel(), Labels("multi_label", ("a", "b")), 4)
    kept = made.measure(store).rows
    traced = vars(made.model)["_kerasft_measure"]
    tuned = made.tuned(annotations, kept)
    assert tuned.task != made.task
    again = tuned.measure(store).rows
    assert vars(made.model)["_kerasft_measure"] is traced
    for name in kept.columns:
        np.testing.assert_array_equal(again[name], kept[name])
