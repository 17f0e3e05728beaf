from __future__ import annotations

import numpy as np
import pytest

from kerasft.training import fused as update
from kerasft.training.fused import add_up_rows, ask_schedule_once, clip, fuse
from kerasft.training.schedules import warmup_cosine


def network(seed=0, *, dense=False):
    """A small network whose embedding has more rows than a batch reads.

    Args:
        dense: Whether the embedding is a product with a matrix, whose gradient has all rows.
    """
    import keras

    keras.utils.set_random_seed(seed)
    ids = keras.Input((5,), dtype="int32")
    if dense:
        x = keras.layers.Dense(6, use_bias=False)(keras.ops.one_hot(ids, 50))
    else:
        x = keras.layers.Embedding(50, 6)(ids)
    x = keras.layers.LayerNormalization()(keras.layers.Flatten()(x))
    return keras.Model(ids, keras.layers.Dense(3)(keras.layers.Dense(8, "gelu")(x)))


def trained(optimizer, *, fused: bool, steps=6, dense=False, to_come=0):
    import keras

    model = network(dense=dense)
    model.set_weights(network().get_weights())
    if getattr(optimizer, "weight_decay", None):
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in model.trainable_variables if len(v.shape) < 2]
        )
    if not dense:
        add_up_rows(optimizer)
    if fused:
        assert fuse(optimizer, steps=to_come)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    random = np.random.default_rng(0)
    # A batch reads the same rows several times, and never most of them.
    x = random.integers(0, 20, (8 * steps, 5)).astype("int32")
    y = np.eye(3, dtype="float32")[random.integers(0, 3, 8 * steps)]
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    return model.get_weights()


CASES = {
    "Adam": lambda keras: keras.optimizers.Adam(0.01),
    "AdamW, clipped": lambda keras: keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.5),
    "not clipped": lambda keras: keras.optimizers.AdamW(0.01, global_clipnorm=1e6),
    "own settings": lambda keras: keras.optimizers.Adam(
        0.01, beta_1=0.7, beta_2=0.95, epsilon=1e-4, clipnorm=0.1),
    "clipped values": lambda keras: keras.optimizers.Adam(0.01, clipvalue=0.01),
    "schedule": lambda keras: keras.optimizers.AdamW(
        warmup_cosine(0.01, 6), weight_decay=0.1, global_clipnorm=1.0),
    "accumulated": lambda keras: keras.optimizers.Adam(
        0.01, gradient_accumulation_steps=2, global_clipnorm=0.5),
    "averaged": lambda keras: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5),
}  # fmt: skip


@pytest.mark.every(9)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_the_fused_update_is_that_of_keras(name, compiled, monkeypatch):
    import keras

    # Of 30 weights on, so that the embedding and a matrix are compiled, and another is not.
    monkeypatch.setattr(update, "LARGE", 30)
    plain = trained(CASES[name](keras), fused=False)
    quick = trained(CASES[name](keras), fused=True, to_come=update.STEPS_WORTH * compiled)
    start = network().get_weights()
    for before, wanted, got in zip(start, plain, quick, strict=True):
        assert not np.array_equal(before, wanted)
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5)


@pytest.mark.slow
def test_a_long_run_compiles_what_is_large(monkeypatch):
    import keras

    made = []
    compile_ = update._compiled
    monkeypatch.setattr(update, "LARGE", 200)
    monkeypatch.setattr(update, "_compiled", lambda optimizer, variables, factors: (
        made.append([tuple(v.shape) for v in variables])
        or compile_(optimizer, variables, factors)))
    trained(keras.optimizers.AdamW(0.01), fused=True, to_come=update.STEPS_WORTH)
    assert made and all(shapes == [(50, 6), (30, 8)] for shapes in made)
    before = len(made)
    trained(keras.optimizers.AdamW(0.01), fused=True, to_come=update.STEPS_WORTH - 1)
    assert len(made) == before


@pytest.mark.every(9)
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", [
    "Adam", pytest.param("AdamW, clipped", marks=pytest.mark.slow),
    pytest.param("schedule", marks=pytest.mark.slow),
])  # fmt: skip
def test_an_embedding_moves_as_the_matrix_that_it_is(name, fused):
    """The same arithmetic with a gradient of all rows, by Keras alone."""
    import keras

    wanted = trained(CASES[name](keras), fused=False, dense=True)
    got = trained(CASES[name](keras), fused=fused)
    np.testing.assert_allclose(got[0], wanted[0], rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{"gradient_accumulation_steps": 2}, {}])
def test_the_schedule_is_asked_once_an_update(settings):
    import keras
    import tensorflow as tf

    asked = []

    class Falling(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            asked.append(step)
            return 0.1 / (keras.ops.cast(step, "float32") + 1.0)

    def moved(*changes):
        variables = [keras.Variable(np.full((2, 3), i + 1.0, "float32")) for i in range(3)]
        optimizer = keras.optimizers.AdamW(Falling(), weight_decay=0.1, **settings)
        for change in changes:
            change(optimizer)
        optimizer.build(variables)
        asked.clear()

        @tf.function(autograph=False)
        def step(gradient):
            optimizer.apply([gradient * i for i in (1.0, -2.0, 3.0)], variables)

        for i in range(6):
            step(tf.fill([2, 3], 0.5 + i))
        often = len(asked)
        # Between updates it is asked for the step that it stands at.
        assert float(optimizer.learning_rate) == pytest.approx(0.1 / 7)
        return often, [variable.numpy() for variable in variables]

    often, plain = moved(fuse)
    once, same = moved(ask_schedule_once, fuse)
    assert (often, once) == (4, 1)  # for the update, and for each variable that decays
    np.testing.assert_array_equal(same, plain)


@pytest.mark.parametrize("make", [
    lambda keras: keras.optimizers.SGD(0.1), lambda keras: keras.optimizers.Adam(0.1, amsgrad=True),
    lambda keras: keras.optimizers.Nadam(0.1),
])  # fmt: skip
def test_other_optimizers_stay_as_they_are(make):
    import keras

    optimizer = make(keras)
    assert not fuse(optimizer)
    assert "update_step" not in vars(optimizer)


def test_clipping_scales_all_by_the_norm_of_all():
    import tensorflow as tf

    rows = tf.IndexedSlices(tf.constant([[3.0, 0.0], [0.0, 4.0]]), tf.constant([1, 3]), [5, 2])
    dense, scaled, nothing = clip([tf.constant([12.0]), rows, None], 6.5)
    # The norm is that of (12, 3, 4): 13, and half of it is allowed.
    np.testing.assert_allclose(dense, [6.0])
    assert nothing is None and isinstance(scaled, tf.IndexedSlices)
    np.testing.assert_allclose(tf.convert_to_tensor(scaled)[1], [1.5, 0.0])
    small = clip([tf.constant([0.3])], 1.0)[0]
    np.testing.assert_array_equal(small, np.float32([0.3]))


def test_a_gradient_that_is_no_number_spoils_all_so_that_it_is_seen():
    import tensorflow as tf

    one, other = clip([tf.constant([np.nan]), tf.constant([1.0])], 1.0)
    assert np.isnan(one).all() and np.isnan(other).all()
