"""The head that tags each token."""

import keras
import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model.heads.tokens import tokens
from kerasft.spec import Features


def test_tokens_are_tagged_each_by_itself():
    sequence = keras.Input((None, 8), dtype="float32")
    model = keras.Model(sequence, tokens(Features(sequence), tags=5, dropout=0.5))
    assert model.output.dtype == "float32" and model.output.shape == (None, None, 5)
    assert all(layer.name.startswith("head_") for layer in model.layers[1:])
    x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype("float32")
    np.testing.assert_allclose(model(x)[:, :3], model(x[:, :3]), atol=1e-6)


def test_a_backbone_without_a_sequence_is_refused():
    with pytest.raises(UserError, match=r"takes one sequence"):
        tokens(Features(None, missing="this head takes one sequence"), tags=3)
