"""Where the processor time of a training step goes, for boxes and for masks.

    KERASFT_DATA=DIR python benchmarks/drawn.py bccd_mobilenet nuclei_mobilenet

Settings are those of the experiment: image size, batch, and what trains in its last stage. Words
with an equals sign are overrides of each experiment, to look at a shrunk one: `batch_size=2`.

Each line is processor time for a step, of the same batches: all of it (gathering, augmentation, the
loss with its assignment, forward and backward, the optimizer); without the batches, which are then
held ready; and with a loss that costs nothing, which leaves forward, backward and optimizer. The
share is what all of it takes beyond the last.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

import kerasft
from kerasft.steps.fitting.fit import make_recipe
from kerasft.steps.preparing import prepare
from kerasft.steps.preparing.heads import with_head

STEPS, ROUNDS = 12, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="+", metavar="EXPERIMENT|KEY=VALUE")
    words = parser.parse_args().words
    overrides = [word for word in words if "=" in word]
    for name in words:
        if name not in overrides:
            measure([f"experiment={name}", *overrides])


def measure(words: Sequence[str], steps: int = STEPS, rounds: int = ROUNDS) -> None:
    """Print where the time of a step goes, in the last stage of a run."""
    cfg = kerasft.compose(list(words))
    with prepare.runtime(cfg):
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        backbone = prepare.load_backbone(cfg, splits)
        ready = prepare.make_ready(cfg, parts, splits, backbone)
        model = with_head(cfg, ready.task, splits.labels, backbone)
        stage = list(parts.stages)[-1]
        make_recipe(cfg, parts, ready.task, backbone).select(model, stage)
        norms = [layer for layer in backbone.network.layers
                 if isinstance(layer, keras.layers.BatchNormalization)]  # fmt: skip
        height, width = model.input_shape[1:3]
        print(f"{cfg.name or words[0]}, stage {stage}: {height} x {width} pixels, batches of "
              f"{ready.batches.order.batch_size}, {sum(layer.trainable for layer in norms)} of "
              f"{len(norms)} batch normalizations of the backbone train")  # fmt: skip
        data = ready.batches.from_step()
        held = list(itertools.islice(iter(data), 4))
        loss = ready.task.compile()["loss"]
        whole = step_of(model, loss)
        plain = step_of(model, lambda y, outputs: tf.reduce_mean(tf.square(outputs)))
        ways: dict[str, tuple[Any, Callable[..., Any]]] = {
            "all": (data, whole), "without the batches": (held, whole),
            "forward, backward and optimizer": (held, plain),
        }  # fmt: skip
        took: dict[str, list[float]] = {way: [] for way in ways}
        for place in range(rounds + 1):
            for way, (batches, step) in ways.items():
                spent = seconds(batches, step, steps)
                if place:  # the first round traces
                    took[way].append(spent)
    found = {way: statistics.median(each) for way, each in took.items()}
    for way, spent in found.items():
        print(f"  {way}: {1000 * spent:.0f} ms")
    least = found["forward, backward and optimizer"]
    print(f"  share beyond the last: {1 - least / found['all']:.1%}")


def step_of(model: keras.Model, loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], None]:
    """Return a training step with a loss, in an optimizer of its own."""
    optimizer = keras.optimizers.AdamW(1e-9)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        variables = [v.value for v in model.trainable_variables]
        optimizer.apply(tape.gradient(value, variables), model.trainable_variables)

    return step


def seconds(batches: Any, step: Callable[[Any, Any], None], steps: int) -> float:
    """Return the processor time of a step."""
    found = iter(batches) if not isinstance(batches, list) else itertools.cycle(batches)
    step(*next(found))
    began = time.process_time()
    for _ in range(steps):
        step(*next(found))
    return (time.process_time() - began) / steps


if __name__ == "__main__":
    main()
