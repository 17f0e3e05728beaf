"""Whether a run computes the same bits each time is chosen, and what cannot is named."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from omegaconf import OmegaConf

import kerasft
from kerasft.errors import UserError
from kerasft.steps.preparing import determinism
from kerasft.system.accelerators import is_deterministic, set_deterministic
from kerasft.training.checkpoint import read


@pytest.fixture(autouse=True)
def as_before():
    before = is_deterministic()
    yield
    set_deterministic(before)


@pytest.mark.parametrize(("wanted", "comes"), [("auto", True), (True, True), (False, False)])
def test_it_holds_inside_the_block(wanted, comes):
    set_deterministic(True)
    with determinism.chosen(OmegaConf.create({"deterministic": wanted})):
        assert is_deterministic() is comes
    assert is_deterministic()


def test_an_operation_that_cannot_is_named_with_the_way_out():
    cfg = OmegaConf.create({"deterministic": "auto"})
    with pytest.raises(UserError) as told, determinism.chosen(cfg):
        tf.timestamp()  # the one that cannot on a processor either
    assert "Timestamp cannot be called when determinism is enabled. " in str(told.value)
    assert "deterministic=false" in str(told.value)
    assert "[Op:" not in str(told.value)
    with determinism.chosen(OmegaConf.create({"deterministic": False})):
        assert float(tf.timestamp()) > 0


def test_other_errors_stay_what_they_are():
    cfg = OmegaConf.create({"deterministic": True})
    with pytest.raises(tf.errors.InvalidArgumentError), determinism.chosen(cfg):
        tf.debugging.assert_equal(1, 2, message="not of this kind")


# What TensorFlow 2.21 holds for GPUs, from its library.
@pytest.mark.parametrize("sentence", [
    "A deterministic GPU implementation of ResizeNearestNeighborGrad is not currently available.",
    "Deterministic GPU implementation of CropAndResizeBackpropImage not available.",
    "Determinism is not yet supported in GPU implementation of DenseBincount.",
])
def test_the_sentence_is_found_in_what_stands_around_it(sentence):
    message = f"Graph execution error:\n\n{{{{node model/up}}}} {sentence} [Op:Step] name: \nmore"
    assert determinism.refusal(message) == sentence


@pytest.mark.slow
def test_a_run_holds_what_it_computed_with(tiny_images):
    forms = []

    def note(epoch, figures):
        for state in sorted(Path("run/checkpoints/states").glob("*.npz")):
            forms.append(read(state).plain["form"]["deterministic"])

    first = kerasft.train(
        [*tiny_images, "deterministic=false", "checkpoint.steps=1", "output_dir=run"],
        on_epoch=note,
    )
    again = kerasft.train([*tiny_images, "output_dir=other"])
    # The last bits differ on a processor too.
    for one, other in zip(
        first.finetuned.model.get_weights(), again.finetuned.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert OmegaConf.load("run/config.yaml").deterministic is False
    assert set(forms) == {"false"}
