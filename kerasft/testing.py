"""Contract tests that anybody can call on their own part, and tiny pieces to call it with.

Each `check_*` raises `AssertionError` with a sentence that says what the part does wrong. They run
the part as a training run does, on random networks and a handful of examples, in seconds.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.contracts import Answered, Described, Task, Tunable
from kerasft.data import augment, order, pipeline, store
from kerasft.data.annotations.contract import as_logits, check_labels, check_names, made_up
from kerasft.data.changed_texts import check_text_step  # noqa: F401
from kerasft.data.following import boxes_follow_pixels, masks_follow_pixels  # noqa: F401
from kerasft.data.sampling import check_sampling  # noqa: F401
from kerasft.errors import UserError
from kerasft.model import preprocess, tiny
from kerasft.model.assemble import assemble, features_of
from kerasft.model.heads import pooled
from kerasft.raw_input import as_raw
from kerasft.rows import Rows
from kerasft.spec import (
    Backbone,
    Examples,
    Features,
    Kind,
    Labels,
    Modality,
    Splits,
)
from kerasft.system.tf_data import mapped
from kerasft.tasks import shared
from kerasft.tasks.classification import Classification
from kerasft.training import stages

if TYPE_CHECKING:
    import keras

COLOURS = ("red", "green", "blue")
WORDS = ("good", "bad")


def tiny_splits(
    modality: Modality, kind: Kind = "single", *, count: int = 24, size: int = 20, seed: int = 0
) -> Splits:
    """Draw a small data set with a signal that a tiny network learns.

    Images have a colour: its name is the class, the colours that are on are the classes, or
    the brightness is the number. Texts hold a word: which one, which ones, or how often.

    Args:
        modality: `"images"` (PNG bytes) or `"text"`.
        kind: `"single"`, `"multi"` or `"number"`.
        count: Training examples; validation and test have half as many each.
        size: Height and width of the images in pixels.
        seed: Decides the examples.

    Returns:
        `Splits`.

    Example:
        >>> len(tiny_splits("text", count=8).test)
        4
    """
    random = np.random.default_rng(seed)
    names = COLOURS if modality == "images" else WORDS
    draw = _image if modality == "images" else _text

    def part(split: str, length: int) -> Examples:
        labels: np.ndarray
        strengths: np.ndarray
        if kind == "single":
            labels = np.arange(length) % len(names)
            strengths = np.eye(len(names))[labels]
        elif kind == "multi":
            labels = (random.random((length, len(names))) < 0.5).astype("float32")
            strengths = labels
        else:
            labels = random.integers(0, 5, length).astype("float32")
            strengths = np.repeat(labels[:, None] / 4, len(names), axis=1)
        inputs = [draw(row, random, size) for row in strengths]
        rows = Rows.of({"label": labels})
        return Examples(modality, inputs, rows, tuple(f"{split} {i}" for i in range(length)))

    return Splits(
        part("train", count), part("validation", count // 2), part("test", count // 2),
        Labels(kind, () if kind == "number" else names), {"data": "tiny_splits", "seed": seed},
    )


def _image(strengths: np.ndarray, random: np.random.Generator, size: int) -> bytes:
    from PIL import Image

    pixels = random.integers(0, 60, (size, size, 3)) + (strengths * 190).astype("int64")
    file = io.BytesIO()
    Image.fromarray(pixels.astype("uint8")).save(file, "PNG")
    return file.getvalue()


def _text(strengths: np.ndarray, random: np.random.Generator, size: int) -> str:
    words = [w for w, s in zip(WORDS, strengths, strict=True) for _ in range(round(s * 4))]
    words += list(random.choice(["the", "film", "is", "at", "once", "fox"], random.integers(3, 9)))
    return " ".join(random.permutation(words))


def check_data(splits: Splits) -> None:
    """Check what a data node returned."""
    assert isinstance(splits, Splits), f"A data node must return Splits, not {type(splits)}."
    labels = splits.labels
    seen: set[str] = set()
    check_names(labels)
    json.dumps(dict(splits.source))  # plain values: they go into the manifest
    for name, part in splits.parts.items():
        assert len(part), f"The split {name} must not be empty."
        assert part.modality == splits.train.modality, f"{name} must be of the same modality."
        again = seen & set(part.ids)
        assert not again, f"An id must occur once in all splits, not again in {name}: {again}."
        assert len(set(part.ids)) == len(part), f"The ids of {name} must differ."
        seen |= set(part.ids)
        check_labels(name, part, labels)
        for value in part.inputs:
            if part.modality == "text":
                assert isinstance(value, str | tuple), f"Texts must be str or pairs: {value!r}."
            else:
                there = isinstance(value, bytes) or Path(value).is_file()
                assert there, f"Images must be bytes or paths of files: {value!r}."


def check_augment(layer: keras.Layer, size: tuple[int, int] = (32, 32)) -> None:
    """Check a layer for `augment.NAME`: it keeps shapes, and repeats for the same example."""
    random = np.random.default_rng(0)
    stored = store.Store.of(
        {"images": random.integers(0, 256, (12, *size, 3)).astype("uint8")}
    )
    task, labels = Classification(), Labels("single", COLOURS)
    targets = task.targets(Rows.of({"label": np.arange(12) % 3}), labels)

    def batches(first: int, count: int) -> list[Any]:
        try:
            step = augment.augmenter(
                {"step": layer}, seed=1, size=size, shares=partial(task.shares, labels=labels)
            )
        except UserError as error:
            raise AssertionError(str(error)) from error
        made = pipeline.Batches(
            stored, targets, order=order.Order(12, 4, seed=0), augment=step,
            batch=partial(task.batch, labels=labels),
        )
        return [(x.numpy(), y.numpy()) for x, y in made.from_step(first).take(count)]

    once, late = batches(0, 5), batches(3, 2)
    for images, labels in once:
        assert images.shape == (4, *size, 3), "Images must keep their shape."
        assert labels.shape == (4, 3), "Labels must keep their shape."
        assert np.allclose(labels.sum(axis=1), 1, atol=1e-5), "Shares of labels must add up to 1."
    same = all(np.array_equal(a, b) for p, q in zip(once[3:], late, strict=True)
               for a, b in zip(p, q, strict=True))
    assert same, "An example must come out alike whenever its (seed, epoch, index) is the same."


def check_backbone(backbone: Backbone) -> None:
    """Check a backbone: its preprocessing and network fit, and both come back from files."""
    import keras
    import tensorflow as tf

    assert isinstance(backbone, Backbone), f"A backbone node must return a Backbone: {backbone}."
    assert backbone.learning_rate > 0, "learning_rate must be above 0."
    ready = backbone.preprocess
    given = tiny_splits(ready.modality, count=4).train.inputs
    raw = tf.constant(as_raw(given, ready.modality).tolist())
    inputs = ready(raw)
    alone = keras.tree.map_structure(lambda x: x.numpy(), ready(raw[1:2]))
    (inside,) = mapped(tf.data.Dataset.from_tensors(raw), ready)
    with TemporaryDirectory() as folder:
        ready.save(folder)
        loaded = preprocess.load(folder)(raw)
        for other, where in ((inside, "in tf.data"), (loaded, "after save and load")):
            keras.tree.map_structure(
                lambda a, b, w=where: _same(a, b, f"Preprocessing must give the same {w}."),
                inputs, other,
            )
        sequence = features_of(backbone).sequence
        assert len(sequence.shape) == 3, f"Features must be of rank 3, not {sequence.shape}."
        model = assemble(backbone, lambda features: pooled.linear(features, units=2))
        logits = model(inputs, training=False).numpy()
        assert np.isfinite(logits).all(), "The network must give finite numbers."
        close = np.allclose(model(alone, training=False), logits[1:2], atol=1e-2, rtol=1e-2)
        assert close, "An example must get the same answer alone as in a batch."
        model.save(f"{folder}/model.keras")
        again = keras.saving.load_model(f"{folder}/model.keras", compile=False)
        _same(again(inputs, training=False), logits, "The saved network must answer alike.")


def _same(a: Any, b: Any, sentence: str) -> None:
    assert np.array_equal(np.asarray(a), np.asarray(b)), sentence


def check_head(head: Callable[..., Any], **asked: Any) -> None:
    """Check a head, of `units` or what it is asked for: float32 outputs, blind to padding."""
    import keras

    sequence, mask = keras.Input((None, 8)), keras.Input((None,), dtype="int32")
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 5, 8)).astype("float32")
    for causal in (False, True):
        outputs = head(Features(sequence, mask, causal=causal), **(asked or {"units": 3}))
        for output in keras.tree.flatten(outputs):
            batch, *_, last = output.shape
            fits = batch is None and (asked or last == 3)
            assert fits, f"Outputs must be [batch, ..., units]: {output.shape}."
            assert output.dtype == "float32", f"Outputs must be float32, not {output.dtype}."
        model = keras.Model([sequence, mask], outputs)
        short = model([x[:, :3], np.ones((4, 3))], training=False)
        padded = model([x, np.array([[1, 1, 1, 0, 0]] * 4)], training=False)
        for one, other in zip(*map(keras.tree.flatten, (short, padded)), strict=True):
            there = other[:, :one.shape[1]]  # of outputs for each position, those in both
            assert np.allclose(one, there, atol=1e-5), "Masked positions must not count."
        model.compile("sgd", keras.tree.map_structure(lambda _: "mse", outputs), run_eagerly=True)
        model.train_on_batch([x, np.ones((4, 5))], keras.tree.map_structure(np.ones_like, padded))
    places = keras.Input((5, 8))
    found = keras.Model(places, head(Features(places), **(asked or {"units": 1})))(x)
    assert all(len(output) == 4 for output in keras.tree.flatten(found))


def check_task(task: Task, labels: Labels) -> None:
    """Check a task: its encoding, loss, outputs and figures fit, and it comes back from JSON."""
    import tensorflow as tf

    assert labels.is_of(task.kind), f"The task is for {task.kind}, the labels are {labels}."
    y = made_up(labels)
    task = task.adapt(Rows.of({"label": y}))
    rows = task.targets(Rows.of({"label": y}), labels, training=True)
    assert len(rows) == 12, f"targets must have a row an example, not {len(rows)}."
    batch = {name: tf.constant(value) for name, value in rows.gather(np.arange(12)).items()}
    made = tf.function(lambda given: task.batch(None, given, labels), autograph=False)(batch)
    targets, weights = made[0].numpy(), made[1]
    units = task.head(labels)["units"]
    assert targets.shape == (12, units), f"batch must give [N, units], not {targets.shape}."
    assert targets.dtype == np.float32, f"batch must give float32, not {targets.dtype}."
    assert weights is None or weights.shape in ((12,), (12, units)), (
        "There must be one weight an example, or one a number that is learned of it."
    )
    if isinstance(task, Described):
        said = task.describe(rows.gather(np.arange(12)), labels)
        assert len(said) == 12 and all(isinstance(one, str) for one in said), (
            f"describe must give a text an example. Received: {said}."
        )
    logits = as_logits(targets, labels)
    compiled = task.compile()
    right, wrong = (float(compiled["loss"](targets, sign * logits)) for sign in (1, -1))
    assert right < wrong, "The loss of right logits must be below that of wrong ones."
    for metric in compiled.get("metrics", ()):
        metric.update_state(targets, logits)
    kept = Rows.of({n: v.numpy() for n, v in task.keep(tf.constant(logits), None, {}).items()})
    assert len(kept) == 12, f"keep must have the batch first, not {len(kept)} rows."
    made = tf.function(lambda x: task.answers(x, labels), autograph=False)(tf.constant(logits))
    outputs = {name: value.numpy() for name, value in made.items()}
    for name, value in outputs.items():
        assert len(value) == 12, f"The output {name!r} must have the batch first."
    annotations = Rows.of({"label": y})
    if isinstance(task, Tunable):
        task = task.tune(annotations, kept, labels)
    statistics = task.statistics(annotations, kept, labels)
    for name, value in statistics.items():
        assert len(value) == 12, f"The statistic {name!r} must have a row an example."
    figures = task.figures(statistics, labels)
    if isinstance(task, Answered):
        same = task.figures(task.statistics_of(annotations, outputs, labels), labels)
        assert set(same) == set(figures), "Metrics of answers must be those of what was kept."
    json.dumps(figures, allow_nan=False)
    for name in task.headlines:
        assert isinstance(figures.get(name, 0.0), float | int), f"{name!r} is no number to show."
    assert all(isinstance(name, str) for name in task.each_epoch)
    monitor = task.monitor.removeprefix("val_")
    assert monitor in (*figures, "loss"), f"The monitor must be one of the metrics: {monitor!r}."
    assert task.mode in ("min", "max"), f"mode must be 'min' or 'max', not {task.mode!r}."
    saved = json.loads(json.dumps(task.to_dict()))
    trusted = ("kerasft", type(task).__module__.split(".")[0])
    assert shared.load(saved, trusted=trusted) == task, "A task must come back from to_dict."


def _tiny_model() -> tuple[Any, np.ndarray, np.ndarray]:
    backbone, texts = tiny.text("bert"), tiny_splits("text", count=8).train
    model = assemble(backbone, lambda features: pooled.mlp(features, units=2, width=8))
    inputs = backbone.preprocess(as_raw(texts.inputs, "text").tolist())
    return model, inputs, np.eye(2, dtype="float32")[texts.labels]


def check_regularizer(regularize: Callable[[Any], Any]) -> None:
    """Check a function for `regularize.NAME`: the model that it returns still trains."""
    import keras

    model, x, y = _tiny_model()
    made = regularize(model)
    assert isinstance(made, keras.Model), f"A regularizer must return the model, not {made}."
    assert made.output_shape == (None, 2), "A regularizer must keep the outputs."
    before = {v.path: v.numpy() for v in made.trainable_variables}
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    made.compile("sgd", loss, run_eagerly=True)
    assert np.isfinite(made.train_on_batch(x, y)), "The loss must be finite."
    moved = [v.path for v in made.trainable_variables if np.any(v.numpy() != before[v.path])]
    assert moved, "The model must still learn."


def check_adapter(adapt: Callable[[Any], Any]) -> None:
    """Check a function for `adapt.NAME`: it changes no answer, and says what may train."""
    model, x, _ = _tiny_model()
    before = np.asarray(model(x, training=False))
    made = adapt(model)
    assert made is model, f"An adapter must return the model that it was given, not {made}."
    found = getattr(model, "adaptation", None)
    assert found is not None and found.own, "An adapter must say what of the backbone may train."
    _same(np.asarray(model(x, training=False)), before, "It must leave the answers as they are.")
    paths = stages.select(model, stages.Stage("all"), pretrained=True)
    assert {v.path for v in found.own.values()} <= set(paths), "What may train must train."
    assert len(paths) < len(model.variables), "An adapter must leave some of the backbone alone."


def check_optimizer(optimizer: keras.Optimizer) -> None:
    """Check an optimizer: it lowers a loss, tells its rate, and keeps all state in variables."""
    import keras

    is_one = isinstance(optimizer, keras.optimizers.Optimizer)
    assert is_one, f"An optimizer must be a keras.optimizers.Optimizer, not {type(optimizer)}."
    again = type(optimizer).from_config(optimizer.get_config())
    assert float(optimizer.learning_rate) == float(again.learning_rate), "The rate must come back."
    weight = keras.Variable(np.ones((4, 4), "float32"), name="kernel")
    optimizer.build([weight])
    for _ in range(3):
        optimizer.apply([weight.value * 2.0], [weight])
    assert np.abs(weight.numpy()).sum() < 16, "Steps along the gradient must lower the loss."
    assert int(optimizer.iterations) == 3, "The optimizer must count its steps."


def check_schedule(make: Callable[..., Any], *, peak: float = 0.1, steps: int = 50) -> None:
    """Check a function `(learning_rate, total_steps) -> schedule`."""
    import keras

    schedule = make(learning_rate=peak, total_steps=steps)
    rates = [float(schedule(step)) for step in range(steps + 3)]
    assert rates[0] > 0, "The first step must not be lost: its rate must be above 0."
    assert np.isfinite(rates).all() and min(rates) >= 0, "Rates must be finite, not negative."
    assert np.isclose(max(rates), peak, rtol=0.05), f"The peak must be {peak}, not {max(rates)}."
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    _same([float(again(step)) for step in range(steps)], rates[:steps], "It must come back alike.")


def check_stage(stage: stages.Stage) -> None:
    """Check a stage for `finetune.NAME` on a tiny network: what it names is there."""
    model, _, _ = _tiny_model()
    paths = stages.select(model, stage, pretrained=True)
    assert paths, "A stage must train something."
    assert paths == [v.path for v in model.trainable_variables], "Only these may train."
    assert stage.peak(None, 5e-5) > 0, "The rate must be above 0."


def check_callback(callback: keras.callbacks.Callback) -> None:
    """Check a callback for `callbacks.NAME`: it lives through a fit, and its state comes back."""
    import keras

    is_one = isinstance(callback, keras.callbacks.Callback)
    assert is_one, f"A callback must be a keras.callbacks.Callback, not {type(callback)}."
    both = {hasattr(callback, "get_state"), hasattr(callback, "set_state")}
    assert len(both) == 1, "A callback must have both get_state and set_state, or neither."
    x, y = np.eye(8, 4, dtype="float32"), np.eye(8, 2, dtype="float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    model.fit(x, y, validation_data=(x, y), epochs=2, verbose=0, callbacks=[callback])
    if both == {True}:
        state = json.loads(json.dumps(callback.get_state()))
        callback.set_state(state)
        assert callback.get_state() == state, "A callback's state must come back through JSON."


def check_export(export: Callable[..., Path], directory: str | Path) -> Path:
    """Check a function for `export.NAME` on a tiny network; return what it wrote."""
    backbone, splits = tiny.image(image_size=16), tiny_splits("images", count=4)
    model = assemble(backbone, lambda features: pooled.linear(features, units=3))
    before = model.get_weights()
    made = export(
        model=model, directory=str(directory), preprocess=backbone.preprocess,
        task=Classification(), labels=splits.labels, examples=splits.train.inputs, name="tiny",
    )
    made = Path(made)
    inside = made.exists() and made.resolve().is_relative_to(Path(directory).resolve())
    assert inside, f"An export must return what it wrote inside its directory, not {made}."
    files = [p for p in ([made] if made.is_file() else made.rglob("*")) if p.is_file()]
    assert any(p.stat().st_size for p in files), f"An export must write something to {made}."
    for a, b in zip(before, model.get_weights(), strict=True):
        _same(a, b, "An export must leave the model as it is.")
    return made
