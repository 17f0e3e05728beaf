"""Averages of weights: by their formulas, in the model's place where it is judged and kept."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import kerasft
from kerasft.config.checks import check
from kerasft.errors import UserError
from kerasft.training import averages
from kerasft.training.averages import Ema, Swa, sort_out
from kerasft.training.fused import STEPS_WORTH, fuse
from kerasft.training.keep_best import KeepBest, Rank
from kerasft.training.schedules import Held, warmup_cosine
from kerasft.training.soup import Ingredients, Soup

STEPS = 9


def stepped(make, running, *, fused=False, wrap=None):
    """Train a tiny network with batch normalization; return it, and its weights after each step."""
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((5,))
    norm = keras.layers.BatchNormalization(momentum=0.5, name="norm")
    model = keras.Model(x, keras.layers.Dense(3)(norm(keras.layers.Dense(4)(x))))
    optimizer = make(keras)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if fused:
        assert fuse(inner, steps=STEPS_WORTH)
    averages.follow(inner, running, STEPS)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "mse")
    averages.begin(model)
    random, seen = np.random.default_rng(0), []
    for _ in range(STEPS):
        batch = random.normal(size=(8, 5)).astype("float32")
        model.train_on_batch(batch, random.normal(size=(8, 3)).astype("float32"))
        seen.append(model.get_weights())
    return model, seen


def averaged(model):
    with averages.in_place(model):
        return model.get_weights()


def moving(seen, stays):
    """The average by its definition, of the weights after each update."""
    found = seen[0]
    for number, weights in enumerate(seen, 1):
        share = stays(number)
        found = [share * a + (1 - share) * w for a, w in zip(found, weights, strict=True)]
    return found


def adam(keras, **more):
    return keras.optimizers.Adam(0.05, **more)


@pytest.mark.every(4)
@pytest.mark.parametrize(("fused", "running", "stays"), [
    (True, Ema(decay=0.6), lambda n: min(0.6, (n - 1) / (n + 9))),
    (False, Ema(decay=0.2), lambda n: min(0.2, (n - 1) / (n + 9))),
    (False, Ema(decay=0.6, warm_up=False), lambda n: 0.6 if n > 1 else 0.0),
    # From update 4 on, each counts alike.
    (True, Swa(start=0.4), lambda n: max(n - 4, 0) / max(n - 3, 1)),
])  # fmt: skip
def test_an_average_is_that_of_its_formula(fused, running, stays):
    model, seen = stepped(adam, running, fused=fused)
    wanted = moving(seen, stays)
    for got, one, last in zip(averaged(model), wanted, seen[-1], strict=True):
        np.testing.assert_allclose(got, one, rtol=1e-4, atol=1e-6)
        assert not np.allclose(got, last, rtol=1e-3)  # statistics of the norm among them
    for now, last in zip(model.get_weights(), seen[-1], strict=True):
        np.testing.assert_array_equal(now, last)


def test_swa_is_the_mean_of_the_last_weights():
    model, seen = stepped(adam, Swa(start=0.4))
    tail = seen[int(0.4 * STEPS):]
    for got, *those in zip(averaged(model), *tail, strict=True):
        np.testing.assert_allclose(got, np.mean(those, axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.every(2)
@pytest.mark.parametrize("running", [Ema(decay=0.6), Swa(start=0.3)])
def test_micro_steps_are_no_updates(running):
    """Keras itself would average three times as often."""
    model, seen = stepped(lambda keras: adam(keras, gradient_accumulation_steps=3), running)
    updates = seen[2::3]
    assert not np.array_equal(updates[0][0], updates[1][0])
    in_stage = running.of_stage(STEPS, 3)
    wanted = moving(updates, lambda n: float(in_stage.stays(float(n))))
    kernel = next(i for i, v in enumerate(model.weights) if v.path.endswith("kernel"))
    np.testing.assert_allclose(averaged(model)[kernel], wanted[kernel], rtol=1e-4, atol=1e-6)


def test_the_optimizer_s_own_average_is_right_too():
    model, seen = stepped(
        lambda keras: adam(keras, use_ema=True, ema_momentum=0.6, gradient_accumulation_steps=3),
        None,
    )
    wanted = moving(seen[2::3], lambda n: 0.6 if n > 1 else 0.0)
    np.testing.assert_allclose(averaged(model)[0], wanted[0], rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_scaled_for_half_precision_changes_nothing():
    model, seen = stepped(
        lambda keras: keras.optimizers.LossScaleOptimizer(adam(keras), initial_scale=8.0),
        Ema(decay=0.6),
    )
    wanted = moving(seen, lambda n: min(0.6, (n - 1) / (n + 9)))
    np.testing.assert_allclose(averaged(model)[0], wanted[0], rtol=1e-4, atol=1e-6)


def test_without_an_average_nothing_is_in_the_model_s_place():
    model, seen = stepped(adam, None)
    for got, last in zip(averaged(model), seen[-1], strict=True):
        np.testing.assert_array_equal(got, last)
    assert not averages.pairs_of(model.optimizer)


def test_a_held_rate_is_that_of_the_step_where_it_is_held():
    import keras

    plain = warmup_cosine(0.1, 100)
    held = Swa(start=0.75).schedule(plain, 100)
    assert isinstance(held, Held)
    np.testing.assert_allclose(held(40), plain(40))
    np.testing.assert_allclose([held(75), held(99)], [plain(75)] * 2)
    assert Swa(start=0.75, hold=False).schedule(plain, 100) is plain
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(held))
    np.testing.assert_allclose(again(90), held(90))


@pytest.fixture(scope="module")
def averaged_run(tmp_path_factory, tiny_texts):
    folder = tmp_path_factory.mktemp("averaged") / "run"
    return kerasft.train([
        *tiny_texts, "average=[ema,soup]", "average.ema.decay=0.8", "average.soup.size=3",
        "epochs=5", f"output_dir={folder}", "callbacks=none", "optimizer.learning_rate=3e-3",
        "task.monitor=val_loss",
    ])  # fmt: skip


@pytest.mark.slow
def test_what_is_validated_is_what_is_kept_and_measured(averaged_run):
    import keras

    folder, history = averaged_run.output_dir, averaged_run.history
    losses = {row["epoch"]: row["val_loss"] for row in history.rows}
    tried = sorted((loss, epoch) for epoch, loss in losses.items())[:3]
    assert [(one.value, one.epoch) for one in history.soup.tried] == tried
    files = sorted(path.name for path in (folder / "checkpoints/soup").iterdir())
    assert files == sorted(f"epoch-{epoch:04d}.npz" for _, epoch in tried)
    assert history.best_value == tried[0][0] and history.kept_value <= history.best_value
    assert averaged_run.metrics["validation"]["log_loss"] == pytest.approx(
        history.kept_value, abs=1e-5
    )
    best = keras.models.load_model(folder / "checkpoints/best.keras")
    now = averaged_run.finetuned.model.get_weights()
    for kept, one in zip(best.get_weights(), now, strict=True):
        np.testing.assert_array_equal(kept, one)
    # The last epoch, as it was validated: the average, and not what the optimizer had.
    last = keras.models.load_model(folder / "checkpoints/last.keras")
    finetuned = dataclasses.replace(averaged_run.finetuned, model=last)
    written = (folder / "predictions/validation.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in written]
    answers = finetuned([row["input"] for row in rows])["probabilities"]
    names = list(finetuned.labels.names)
    losses_of = [-np.log(answers[i][names.index(row["true"])]) for i, row in enumerate(rows)]
    assert np.mean(losses_of) == pytest.approx(losses[5], abs=1e-5)


class Weights:
    """A model of one number, of which a soup needs no more."""

    def __init__(self, value):
        import keras

        self.weights = [keras.Variable([value], dtype="float32"), keras.Variable(7, dtype="int32")]

    def set_weights(self, values):
        for variable, value in zip(self.weights, values, strict=True):
            variable.assign(value)


@pytest.fixture
def ingredients(tmp_path):
    return Ingredients(Soup(size=3), KeepBest("val_accuracy", "max", None), tmp_path / "soup")


def cooked(ingredients, epochs):
    for epoch, (weight, value) in enumerate(epochs, 1):
        ingredients.add(Weights(weight), Rank(value, 0.5, epoch))
    return ingredients


def test_a_soup_takes_in_what_is_no_worse(ingredients):
    # The nearer to 2, the better: 1 and 3 are, together; 9 is not.
    cooked(ingredients, [(1.0, 0.9), (9.0, 0.8), (3.0, 0.7), (-50.0, 0.1)])
    model = Weights(0.0)
    made = ingredients.mixed(model, lambda one: -abs(float(one.weights[0][0]) - 2.0))
    assert [(one.value, one.epoch) for one in made.tried] == [(0.9, 1), (0.8, 2), (0.7, 3)]
    assert (list(made.taken), made.value) == ([1, 3], 0.0)
    assert float(model.weights[0][0]) == 2.0 and int(model.weights[1]) == 7


def test_a_soup_that_gains_nothing_is_the_best_epoch(ingredients):
    cooked(ingredients, [(1.0, 0.9), (9.0, 0.8)])
    model = Weights(0.0)
    made = ingredients.mixed(model, lambda one: -abs(float(one.weights[0][0]) - 1.0))
    assert list(made.taken) == [1] and float(model.weights[0][0]) == 1.0


def test_a_soup_goes_on_where_it_was(ingredients, tmp_path):
    cooked(ingredients, [(1.0, 0.9), (9.0, 0.8), (3.0, 0.7)])
    state = json.loads(json.dumps(ingredients.get_state()))
    ingredients.add(Weights(5.0), Rank(0.95, 0.5, 4))  # an epoch that the checkpoint does not know
    again = Ingredients(Soup(size=3), ingredients.keep, tmp_path / "soup")
    again.set_state(state)
    assert sorted(path.name for path in again.directory.iterdir()) == [
        "epoch-0001.npz", "epoch-0002.npz",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no list of epochs"):
        again.set_state({"best": [["1", 2]]})


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(path.read_bytes()[:-30]), lambda path: path.unlink(),
])  # fmt: skip
def test_weights_that_are_damaged_are_told(ingredients, spoil):
    cooked(ingredients, [(1.0, 0.9), (9.0, 0.8)])
    spoil(ingredients.directory / "epoch-0002.npz")
    with pytest.raises(UserError, match=r"epoch-0002\.npz"):
        ingredients.mixed(Weights(0.0), lambda one: 0.0)


@pytest.mark.parametrize(("overrides", "message"), [
    (["average=ema", "average.ema.decay=1"],
     "average.ema.decay must be at least 0 and below 1. Received: 1."),
    (["average=swa", "average.swa.start=1.5"],
     "average.swa.start is a share of a stage's steps: from 0 to below 1. Received: 1.5."),
    (["average=soup", "average.soup.size=1"],
     "average.soup.size must be a whole number of at least 2. Received: 1."),
    (["average=ema", "+optimizer.use_ema=true"],
     "optimizer.use_ema and average.ema both average the weights."),
])  # fmt: skip
def test_check_refuses_what_averages_nothing(overrides, message):
    with pytest.raises(UserError) as raised:
        check(kerasft.compose(overrides))
    assert message in str(raised.value)


def test_nodes_that_exclude_one_another_are_told():
    with pytest.raises(UserError, match=r"average: ema and swa exclude one another"):
        sort_out({"ema": Ema(), "swa": Swa()})
    with pytest.raises(UserError, match=r"average\.odd must be an average.*Received: dict"):
        sort_out({"odd": {}})
    with pytest.raises(UserError, match=r"average\.ema\.decay"):
        Ema(decay=2)
