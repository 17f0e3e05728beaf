"""Each variable moves and decays by its own factors, whichever way its optimizer updates it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.training import fused
from kerasft.training.fused import add_up_rows, fuse
from kerasft.training.rates import (
    Factors,
    factors_of,
    innermost,
    require_obedient,
    scale_decay,
    scale_steps,
)
from kerasft.training.schedules import warmup_cosine
from kerasft.training.stages import Stage, select

OWN = {"table": Factors(0.1, 1.0), "middle": Factors(0.5, 0.0), "last": Factors(1.0, 2.0)}


def network():
    """Three matrices, of which the first is an embedding, and a bias."""
    import keras

    keras.utils.set_random_seed(0)
    ids = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(50, 6, name="table")(ids)
    x = keras.layers.Dense(8, "gelu", name="middle")(keras.layers.Flatten()(x))
    return keras.Model(ids, keras.layers.Dense(3, name="last")(x))


def updated(optimizer, *, factors=True, fast=False, to_come=0, steps=1, zero=False):
    """Return the weights before and after some updates with fixed gradients."""
    import keras
    import tensorflow as tf

    model = network()
    variables = model.trainable_variables
    inner = innermost(optimizer)
    own = [OWN[v.path.split("/")[0]] for v in variables] if factors else None
    add_up_rows(optimizer)
    if own:
        scale_decay(inner, own)
    if fast:
        assert fuse(inner, steps=to_come, factors=own)
    elif own:
        scale_steps(inner, own)
    optimizer.build(variables)
    before = [v.numpy() for v in variables]
    random = np.random.default_rng(0)
    rows = tf.IndexedSlices(
        tf.constant(random.normal(size=(7, 6)), "float32"), tf.constant([1, 3, 3, 9, 0, 2, 1]),
        tf.constant([50, 6]),
    )  # fmt: skip
    others = [random.normal(size=v.shape).astype("float32") for v in variables[1:]]
    gradients = [rows, *map(tf.constant, others)]
    if zero:
        gradients = [tf.zeros(v.shape) for v in variables]

    @tf.function
    def apply():
        optimizer.apply(gradients, variables)

    for _ in range(steps):
        apply()
    assert isinstance(optimizer, keras.optimizers.Optimizer)
    return {
        v.path: (old, v.numpy()) for v, old in zip(variables, before, strict=True)
    }  # fmt: skip


def ratios(one, other):
    """How far each variable moved in one case, as a share of how far it moved in the other."""
    found = {}
    for path in one:
        (start, a), (_, b) = one[path], other[path]
        moved, wanted = (a - start).ravel(), (b - start).ravel()
        found[path] = float(moved @ wanted / (wanted @ wanted)) if wanted.any() else None
    return found


KINDS = {
    "Adam": lambda keras: keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
    "AdamW": lambda keras: keras.optimizers.AdamW(
        warmup_cosine(1e-2, 400), weight_decay=1e-5, global_clipnorm=1.0),
    "SGD": lambda keras: keras.optimizers.SGD(1e-2),
    "SGD, momentum": lambda keras: keras.optimizers.SGD(1e-2, momentum=0.9, nesterov=True),
    "averaged": lambda keras: keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.5),
    "scaled": lambda keras: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.AdamW(1e-3, weight_decay=1e-5), initial_scale=1.0),
}  # fmt: skip
# Not fused, fused, and fused with large variables compiled: those of 30 weights on.
WAYS = [(False, 0), (True, 0), (True, fused.STEPS_WORTH)]


@pytest.mark.every(15)
@pytest.mark.parametrize(("name", "fast", "to_come"), [
    (name, *way) for way in WAYS for name in KINDS
    if not way[0] or not name.startswith("SGD")
])  # fmt: skip
def test_a_step_is_multiplied_by_its_own_factor(name, fast, to_come, monkeypatch):
    import keras

    monkeypatch.setattr(fused, "LARGE", 30)
    scaled = updated(KINDS[name](keras), fast=fast, to_come=to_come)
    plain = updated(KINDS[name](keras), factors=False)
    for path, ratio in ratios(scaled, plain).items():
        assert ratio == pytest.approx(OWN[path.split("/")[0]].rate, rel=2e-3), path


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "fast", "to_come"), [
    ("AdamW", False, 0), ("AdamW", True, 0), ("AdamW", True, fused.STEPS_WORTH),
    ("Adam", True, fused.STEPS_WORTH), ("SGD", False, 0),
])  # fmt: skip
def test_weight_decay_is_multiplied_by_both_factors(name, fast, to_come, monkeypatch):
    import keras

    def make():
        kind = getattr(keras.optimizers, name)
        return kind(0.1, weight_decay=0.5)

    monkeypatch.setattr(fused, "LARGE", 30)
    scaled = updated(make(), fast=fast, to_come=to_come, zero=True)
    plain = updated(make(), factors=False, zero=True)
    seen = 0
    for path, ratio in ratios(scaled, plain).items():
        own = OWN[path.split("/")[0]]
        if ratio is not None:  # biases are zeros, and stay so
            assert ratio == pytest.approx(own.rate * own.decay, rel=1e-4, abs=1e-6), path
            seen += 1
    assert seen == 3


@pytest.mark.slow
@pytest.mark.parametrize("fast", [pytest.param(False, marks=pytest.mark.slow), True])
def test_accumulated_gradients_move_at_their_rates_at_each_second_step(fast, monkeypatch):
    import keras

    def make():
        return keras.optimizers.Adam(1e-3, gradient_accumulation_steps=2, global_clipnorm=0.5)

    monkeypatch.setattr(fused, "LARGE", 30)
    way = {"fast": fast, "to_come": fused.STEPS_WORTH}
    still = updated(make(), steps=1, **way)
    assert all(np.array_equal(old, new) for old, new in still.values())
    found = ratios(updated(make(), steps=2, **way), updated(make(), steps=2, factors=False))
    for path, ratio in found.items():
        assert ratio == pytest.approx(OWN[path.split("/")[0]].rate, rel=2e-3), path


@pytest.mark.slow
def test_the_fused_updates_agree_over_many_steps(monkeypatch):
    """Fused, compiled and plain updates with factors end at the same weights."""
    import keras

    monkeypatch.setattr(fused, "LARGE", 30)
    ended = [
        updated(keras.optimizers.AdamW(1e-2, weight_decay=0.1), fast=fast, to_come=to_come, steps=5)
        for fast, to_come in WAYS
    ]
    for path, (_, wanted) in ended[0].items():
        for other in ended[1:]:
            np.testing.assert_allclose(other[path][1], wanted, rtol=2e-5, atol=1e-6)


@pytest.fixture(scope="module")
def texts():
    return assemble(tiny.text("bert"), lambda f: pooled.linear(f, units=2))


def factors(model, stage):
    select(model, stage, pretrained=True)
    found = factors_of(model, stage)
    paths = [v.path for v in model.trainable_variables]
    return found if found is None else dict(zip(paths, found, strict=True))


def test_a_stage_without_rules_has_no_factors(texts):
    assert factors(texts, Stage()) is None
    assert factors(texts, Stage(rates={})) is None


def test_rates_fall_from_level_to_level(texts):
    found = factors(texts, Stage(layer_decay=0.5))
    assert {one.decay for one in found.values()} == {1.0}
    by = {path.split("/")[0]: one.rate for path, one in found.items()}
    assert by == {
        "head_outputs": 1.0, "transformer_layer_1": 0.5, "transformer_layer_0": 0.25,
        "token_embedding": 0.125, "position_embedding": 0.125, "segment_embedding": 0.125,
        "embeddings_layer_norm": 0.125,
    }


def test_all_patterns_that_are_found_count(texts):
    found = factors(texts, Stage(
        layer_decay=0.5, rates={"transformer_layer_1/": 0.1, "bias$": 4, "^head_": 10},
        weight_decays={"transformer": 0.5, "kernel": 0},
    ))  # fmt: skip
    assert found["head_outputs/kernel"] == Factors(10.0, 0.0)
    assert found["head_outputs/bias"] == Factors(40.0, 1.0)
    inner = next(p for p in found if re.search("layer_1/.*bias$", p))
    assert found[inner] == Factors(pytest.approx(0.5 * 0.1 * 4), 1.0 if "norm" in inner else
                                   pytest.approx(found[inner].decay))  # fmt: skip


def test_a_factor_of_zero_has_a_variable_rest(texts):
    found = factors(texts, Stage(rates={"embedding": 0, "layer_0/": 0.5}))
    assert found and not any("embedding" in path for path in found)
    select(texts, Stage(), pretrained=True)
    assert any("embedding" in v.path for v in texts.trainable_variables)


@pytest.mark.parametrize(("stage", "said"), [
    (Stage(rates={"transfomer_layer_1/": 0.5}),
     r"rates: 'transfomer_layer_1/' is found in no path .* trains in this stage\. The paths begin "
     r"with: token_embedding, .*Did you mean 'transformer_layer_1'\?"),
    (Stage(rates={"tokn_embedding": 0}), r"rates: 'tokn_embedding' .*mean 'token_embedding'"),
    (Stage("head", rates={"embedding": 0.5}),
     r"rates: 'embedding' .* though in token_embedding/embeddings, .*: they rest in this stage"),
    (Stage(weight_decays={"norm/": 0}), r"weight_decays: 'norm/' .* norms and biases never are"),
    (Stage("head", layer_decay=0.5), r"layer_decay .* all that trains in this stage lies at one"),
])  # fmt: skip
def test_rules_that_do_nothing_are_refused(texts, stage, said):
    with pytest.raises(UserError, match=said):
        factors(texts, stage)


def test_a_network_of_one_layer_has_no_depth():
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    model = keras.Model(image, keras.layers.BatchNormalization()(x))
    with pytest.raises(UserError, match="this network has one layer below its head"):
        factors_of(model, Stage(layer_decay=0.9))


@pytest.mark.parametrize("wrong", [
    {"layer_decay": 0.0}, {"layer_decay": 1.5}, {"layer_decay": "automatic"},
    {"rates": {"a": -1}}, {"rates": {"a": True}}, {"rates": {"(": 1.0}}, {"rates": ["a"]},
    {"weight_decays": {"a": float("inf")}}, {"weight_decays": {"a": "much"}},
])  # fmt: skip
def test_values_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match=rf"finetune\.NAME\.{next(iter(wrong))}"):
        Stage(**wrong)


def test_an_optimizer_whose_step_is_not_its_rates_is_refused():
    import keras

    for kind in ("Adam", "SGD", "RMSprop", "Lion", "Adafactor", "Nadam"):
        require_obedient(getattr(keras.optimizers, kind)(1e-3))
    with pytest.raises(UserError, match=r"proportional to its learning rate\. Received: Ftrl"):
        require_obedient(keras.optimizers.Ftrl(1e-3))
