"""Batches that lie on another device ahead, and a step that XLA compiles, give the same figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kerasft
from kerasft.steps.fitting import activations

TWO = '''
import json
import sys

import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import kerasft
from kerasft.training import stage_run

if sys.argv[1] == "ahead":
    # The second part of the processor stands for a GPU.
    plain, taken = stage_run.prefetched, []

    def prefetched(dataset, device):
        taken.append(device)
        return plain(dataset, "/CPU:1")

    stage_run.gpus, stage_run.prefetched = lambda: ["a GPU"], prefetched
result = kerasft.train([*sys.argv[2:], f"output_dir={sys.argv[1]}"])
if sys.argv[1] == "ahead":
    assert taken == ["/GPU:0"], taken
weights = [np.asarray(one, "float64").tolist() for one in result.finetuned.model.get_weights()]
losses = [row["loss"] for row in result.history.rows]
open(f"{sys.argv[1]}.json", "w").write(json.dumps([losses, weights]))
'''


@pytest.mark.slow
def test_batches_that_were_copied_ahead_are_the_same(tiny_texts):
    Path("two.py").write_text(TWO)
    found = []
    for name in ("plain", "ahead"):
        done = subprocess.run(
            [sys.executable, "two.py", name, *tiny_texts, "prefetch_to_device=true"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(Path(f"{name}.json").read_text()))
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["texts", "images"])
def test_a_step_that_xla_compiles_learns_the_same(kind, tiny_texts, tiny_images):
    # Keras' dropout in XLA draws other numbers; for images it is in the head alone.
    words = [*tiny_images, "head.dropout=0"]
    if kind == "texts":
        words = [*tiny_texts, "max_steps=3", "epochs=1"]
    runs = [
        kerasft.train([
            *words, "fast=false", "deterministic=false", f"jit_compile={word}",
            f"output_dir=run_{word}",
        ]) for word in ("false", "true")
    ]  # fmt: skip
    losses = [[row["loss"] for row in run.history.rows] for run in runs]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4 if kind == "images" else 0.05)
    assert all(np.isfinite(losses[1]))


def test_decisions_reckon_with_the_device(monkeypatch):
    assert activations.rate() == activations.RATE
    monkeypatch.setattr(activations, "gpus", lambda: ["a GPU"])
    assert activations.rate() == activations.GPU_RATE > activations.RATE
