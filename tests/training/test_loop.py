from __future__ import annotations

import csv
import dataclasses
import functools
import json
from typing import Any

import numpy as np
import pytest

from kerasft import testing
from kerasft.data import order, pipeline
from kerasft.data.preprocessing import prepare
from kerasft.errors import UserError
from kerasft.model.assemble import assemble
from kerasft.model.backbones import image_backbone
from kerasft.model.heads import pooled
from kerasft.model.preprocess import ImagePreprocess
from kerasft.tasks.classification import Classification
from kerasft.training import frozen, loop, schedules, stage_run
from kerasft.training import recipe as recipes
from kerasft.training.checkpoint import Policy, Saver
from kerasft.training.stages import Stage

SPLITS = testing.tiny_splits("images", size=8)
READY = ImagePreprocess(8, 8)
TASK = Classification()
STAGES = {"head": Stage("head", epochs=2), "all": Stage("all", epochs=2)}


def build(seed: int) -> Any:
    """Make a small network with batch normalization and dropout."""
    import keras

    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, name="conv")(image)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(name="norm")(x))
    network = keras.Model(image, keras.layers.Dropout(0.1)(x))
    backbone = image_backbone(network, READY, scale=1 / 255, name="small", pretrained=True)
    return assemble(backbone, lambda f: pooled.linear(f, units=3))


@dataclasses.dataclass
class Ran:
    model: Any
    history: loop.History
    at_epochs: list[list[np.ndarray]]
    lines: list[str]
    stages: list[tuple]
    fed: list[tuple] = dataclasses.field(default_factory=list)


def train(
    *, seed=0, model=None, stages=STAGES, task=TASK, optimizer=None, accuracies=None, sizes=None,
    mixes=False, **more,
) -> Ran:
    import keras

    ready = prepare(SPLITS.train, READY)
    targets = TASK.targets(SPLITS.train.annotations, SPLITS.labels, training=True)
    seen = prepare(SPLITS.validation, READY).inputs["images"]
    wanted = np.eye(len(SPLITS.labels.names), dtype="float32")[SPLITS.validation.labels]
    scripted, sizes = iter(accuracies or []), sizes or {}
    ran = Ran(model or build(seed), None, [], [], [])

    def validate(network: Any) -> dict[str, float]:
        ran.at_epochs.append(network.get_weights())
        logits = network(seen, training=False).numpy()
        right = float(np.mean(logits.argmax(1) == wanted.argmax(1)))
        loss = TASK.compile()["loss"](wanted, logits)
        return {"loss": float(loss), "accuracy": next(scripted, right)}

    def chosen(kind: type) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(kind)]
        return {name: more.pop(name) for name in names if name in more}

    batches = pipeline.Batches(
        ready, targets, order=order.Order(24, 8, seed=seed),
        batch=functools.partial(TASK.batch, labels=SPLITS.labels),
    )  # fmt: skip
    recipe = recipes.Recipe(
        stages, task, optimizer or keras.optimizers.Adam, schedules.constant,
        **{"usual_rate": 1e-3, "learning_rate": 0.05} | chosen(recipes.Recipe),
    )  # fmt: skip
    recovery = stage_run.Recovery(**chosen(stage_run.Recovery))
    reporting = stage_run.Reporting(
        say=ran.lines.append, on_stage=lambda *told: ran.stages.append(told),
        **chosen(stage_run.Reporting),
    )
    assert not more


    def feed(name, epochs, end):
        ran.fed.append((name, epochs, end))
        return dataclasses.replace(
            loop.Feed(batches, validate, frozen.cut(ran.model)), image_size=sizes.get(name),
            ends={"mix": end - 1, "never": end} if mixes else {},
        )  # fmt: skip

    examples = loop.Examples(feed, batches.steps, SPLITS.train.ids, validate)
    ran.history = loop.fit(ran.model, examples, recipe, recovery, reporting)
    return ran


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("run")
    for name in ("checkpoints", "logs"):
        (made / name).mkdir()
    return made


@pytest.fixture(scope="module")
def two_stages(folder) -> Ran:
    stages = {"head": Stage("head", epochs=2), "all": Stage("all", epochs=6, rate=0.5)}
    return train(stages=stages, output_dir=folder)


def test_stages_run_one_after_the_other_in_one_run(two_stages):
    rows = two_stages.history.rows
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert [row["stage"] for row in rows] == ["head"] * 2 + ["all"] * 6
    np.testing.assert_allclose(
        [row["learning_rate"] for row in rows], [0.05] * 2 + [0.025] * 6, rtol=1e-6
    )
    told = [(name, peak, steps) for name, _, peak, steps, _ in two_stages.stages]
    assert told == [("head", 0.05, 6), ("all", 0.025, 18)]
    conv = [sum(p.trains for p in rows if p.name == "conv") for *_, rows in two_stages.stages]
    assert conv == [0, 3 * 3 * 3 * 8 + 8]
    assert two_stages.lines[0].startswith("first step after ")
    assert [line.split(" [")[0] for line in two_stages.lines[1:]] == [
        f"epoch {i}/8" for i in range(1, 9)
    ]


@pytest.mark.slow
def test_without_a_chosen_rate_a_stage_has_its_part_of_the_usual_one():
    stages = {
        "head": Stage(["^head_"], epochs=1), "all": Stage("all", epochs=1, rate=0.1),
        "half": Stage("head", epochs=1, rate=0.5),
    }  # fmt: skip
    ended: list[list[str]] = []
    ran = train(
        stages=stages, learning_rate=None, usual_rate=4e-3,
        on_stage_end=lambda rows: ended.append([row["stage"] for row in rows]),
    )
    assert [peak for _, _, peak, *_ in ran.stages] == pytest.approx([1e-3, 4e-4, 5e-4])
    rates = [row["learning_rate"] for row in ran.history.rows]
    np.testing.assert_allclose(rates, [1e-3, 4e-4, 5e-4], rtol=1e-6)
    assert ended == [["head"], ["head", "all"], ["head", "all", "half"]]


@pytest.mark.slow
def test_the_best_epoch_is_among_those_at_the_models_own_size(tmp_path):
    for name in ("checkpoints", "logs"):
        (tmp_path / name).mkdir()
    ran = train(
        accuracies=[0.9, 0.8, 0.3, 0.4], sizes={"head": (6, 8)}, output_dir=tmp_path,
        saver=Saver(Policy(top=3), tmp_path / "checkpoints" / "states", lambda line: None),
    )
    assert (ran.history.best_epoch, ran.history.best_stage) == (4, "all")
    assert ran.history.best_value == 0.4
    assert [row.get("image_size") for row in ran.history.rows] == ["6x8", "6x8", None, None]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("epoch-*"))
    assert kept == ["epoch-0003.keras", "epoch-0004.keras"]


def test_it_learns(two_stages):
    assert two_stages.history.best_value > 0.9


def test_the_best_epochs_weights_are_back_and_kept(two_stages, folder):
    import keras

    history = two_stages.history
    values = [row["val_accuracy"] for row in history.rows]
    assert history.best_value == max(values)
    best = min((row for row in history.rows if row["val_accuracy"] == max(values)),
               key=lambda row: row["val_loss"])  # fmt: skip
    assert history.best_epoch == best["epoch"]
    assert history.best_stage == history.rows[history.best_epoch - 1]["stage"]
    for name, weights in (
        ("best", two_stages.at_epochs[history.best_epoch - 1]), ("last", two_stages.at_epochs[-1])
    ):  # fmt: skip
        saved = keras.saving.load_model(folder / "checkpoints" / f"{name}.keras", compile=False)
        for got, wanted in zip(saved.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(got, wanted)
    best = two_stages.at_epochs[history.best_epoch - 1]
    for got, wanted in zip(two_stages.model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_the_logs_are_whole(two_stages, folder):
    rows = two_stages.history.rows
    lines = (folder / "logs" / "epochs.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    with open(folder / "logs" / "epochs.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [{k: str(v) for k, v in row.items()} for row in rows] == table
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < set(table[0])


def test_a_stage_ends_early_and_the_next_one_begins():
    import keras

    def callbacks():
        return {"stop": keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=1)}

    stages = {"head": Stage("head", epochs=4), "all": Stage("all", epochs=3)}
    ran = train(
        stages=stages, callbacks=callbacks, accuracies=[0.5, 0.4, 0.6, 0.7, 0.65], mixes=True
    )  # fmt: skip
    history = ran.history
    # The last of the epochs that are left is the fifth, though seven were planned.
    assert ran.fed == [("head", 4, 7), ("all", 3, 5)]
    told = [i for i, line in enumerate(ran.lines) if line.startswith("augment.")]
    assert [ran.lines[i] for i in told] == ["augment.mix: left out from epoch 5 on"]
    assert ran.lines[told[0] - 1].startswith("epoch 4/")
    assert [row["stage"] for row in history.rows] == ["head"] * 2 + ["all"] * 3
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4, 5]
    assert "head" in history.stopped_early
    assert (history.best_epoch, history.best_stage, history.best_value) == (4, "all", 0.7)
    for got, wanted in zip(ran.model.get_weights(), ran.at_epochs[3], strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(("most", "epochs", "steps"), [(2, 1, 2), (3, 1, 3), (7, 2, 6)])
def test_max_steps_ends_each_stage(most, epochs, steps):
    ran = train(stages={"head": Stage("head", epochs=5)}, max_steps=most)
    assert len(ran.history.rows) == epochs
    assert int(ran.model.optimizer.iterations) == steps
    assert ran.stages[0][3] == steps


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    once, again, other = (train(seed=seed).model.get_weights() for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(once, other, strict=True))


class NoGradients(Classification):
    def compile(self):
        return {**super().compile(), "loss": lambda targets, logits: 0.0 * logits[:, 0]}


@pytest.mark.slow
def test_weight_decay_leaves_norms_and_biases_alone():
    import keras

    model = build(0)
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 0.5, "float32"))
    stages = {"all": Stage("all", batch_norm="train")}
    train(
        model=model, stages=stages, task=NoGradients(),
        optimizer=lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.1),
    )  # fmt: skip
    assert len(model.trainable_variables) == 6
    for variable in model.trainable_variables:
        is_kernel = variable.path.endswith("kernel")
        wanted = 0.5 * (1 - 0.1 * 0.05) ** 3 if is_kernel else 0.5
        np.testing.assert_allclose(variable, wanted, rtol=1e-5, err_msg=variable.path)


@pytest.mark.slow
def test_gradients_are_clipped_together():
    import keras

    model = build(0)
    before = [v.numpy() for v in model.trainable_variables]
    train(
        model=model, stages={"all": Stage(batch_norm="train")}, max_steps=1, learning_rate=1.0,
        optimizer=lambda rate: keras.optimizers.SGD(rate, global_clipnorm=1e-3),
    )  # fmt: skip
    moved = [v.numpy() - old for v, old in zip(model.trainable_variables, before, strict=True)]
    assert np.sqrt(sum((m**2).sum() for m in moved)) == pytest.approx(1e-3, rel=0.01)


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_training_with_advice():
    import keras

    with pytest.raises(UserError, match=r"training loss became (nan|inf) at step .* Lower"):
        train(optimizer=keras.optimizers.SGD, learning_rate=1e30)


@pytest.mark.slow
def test_nothing_that_moves_is_said():
    import keras

    ran = train(
        stages={"head": Stage("head")}, task=NoGradients(), optimizer=keras.optimizers.SGD
    )  # fmt: skip
    assert any("Nothing moved in the first step" in line for line in ran.lines)


def test_a_frozen_variable_that_moves_ends_training():
    import keras

    class Meddler(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            kernel = self.model.get_layer("conv").kernel
            kernel.assign(kernel + 1.0)

    with pytest.raises(RuntimeError, match="should be frozen changed in the first step: conv/ker"):
        train(stages={"head": Stage("head")}, callbacks=lambda: {"meddler": Meddler()})


@pytest.mark.slow
def test_a_monitor_that_is_no_figure_is_named():
    with pytest.raises(UserError, match=r"monitor 'val_f1' is no metric of this run\. Allowed: "):
        train(task=Classification(monitor="val_f1"), max_steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("accuracies", [[0.1, 0.2, 0.9, 0.3], [0.1, 0.2, 0.3, 0.9]])
def test_slow_files_are_written_once_more_at_the_end(tmp_path, monkeypatch, accuracies):
    import keras

    from kerasft.training.keep_best import KeepBest

    monkeypatch.setattr(KeepBest, "TIMES", 1e9)
    stages = {"all": Stage("all", epochs=4)}
    ran = train(stages=stages, accuracies=accuracies, output_dir=tmp_path)
    written = {}
    for name in ("best", "last"):
        model = keras.saving.load_model(tmp_path / "checkpoints" / f"{name}.keras", compile=False)
        written[name] = model.get_weights()
    best = accuracies.index(max(accuracies))
    for name, epoch in (("best", best), ("last", 3)):
        for got, wanted in zip(written[name], ran.at_epochs[epoch], strict=True):
            np.testing.assert_array_equal(got, wanted)
    for got, wanted in zip(ran.model.get_weights(), ran.at_epochs[best], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_files_hold_the_network_and_nothing_of_its_training(two_stages, folder):
    import zipfile

    import h5py

    for name in ("best", "last"):
        with zipfile.ZipFile(folder / "checkpoints" / f"{name}.keras") as file:
            config = json.loads(file.read("config.json"))
            assert not config.get("compile_config")
            with h5py.File(file.open("model.weights.h5")) as weights:
                assert "optimizer" not in weights
                assert "layers" in weights
    assert two_stages.model.optimizer is not None and two_stages.model.compiled


def test_the_step_is_traced_once_a_stage():
    traced = []

    class Counting(type(TASK)):
        def compile(self):
            made = super().compile()

            def loss(y, logits):
                traced.append(logits.shape)
                return made["loss"](y, logits)

            return {**made, "loss": loss}

    train(
        stages={"head": Stage("head", epochs=2), "all": Stage("all", epochs=2)},
        task=Counting(**{one.name: getattr(TASK, one.name) for one in dataclasses.fields(TASK)}),
    )
    assert len(traced) == 2, traced


@pytest.mark.slow
def test_steps_that_run_several_at_once_are_the_same_steps(monkeypatch):
    def fed(steps_per_execution):
        plain = loop.Feed

        def feed(batches, validate, entry):
            return plain(batches, validate, entry, steps_per_execution=steps_per_execution)

        monkeypatch.setattr(loop, "Feed", feed)
        ran = train(stages={"all": Stage("all", epochs=3)})
        monkeypatch.setattr(loop, "Feed", plain)
        return ran

    one, several = fed(1), fed(3)
    assert one.history.rows[-1]["loss"] == several.history.rows[-1]["loss"]
    for a, b in zip(one.model.get_weights(), several.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert several.model.steps_per_execution == 3 and one.model.steps_per_execution == 1


@pytest.mark.parametrize(("steps", "most", "epochs"), [
    (100, None, [3, 2]), (100, 40, [1, 1]), (100, 250, [2, 2]), (40, 250, [3, 2]),
])  # fmt: skip
def test_epochs_are_planned_as_they_run(steps, most, epochs):
    stages = {"head": Stage("head", epochs=3), "all": Stage("all", epochs=2)}
    of_epoch, planned = recipes.planned(stages, steps, most)
    assert of_epoch == min(steps, most or steps)
    assert list(planned.values()) == epochs
