from __future__ import annotations

import numpy as np
import pytest

from kerasft import testing
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.model.precision import in_float32, policy_of

FAMILIES = (*tiny.TEXT, *(family for family in tiny.IMAGE if family != "efficientnet"))


def made(family, policy):
    """Return a tiny network with a head, built under a policy, and its backbone."""
    import keras

    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        backbone = tiny.text(family) if family in tiny.TEXT else tiny.image(family)
        model = assemble(
            backbone, lambda f: pooled.mlp(f, units=3, depth=1, width=8, norm="batch")
        )
    finally:
        keras.config.set_dtype_policy("float32")
    return model, backbone


# The others are made of the same layers.
OFTEN = ("resnet",)


@pytest.mark.slow
@pytest.mark.parametrize("family", [
    family if family in OFTEN else pytest.param(family, marks=pytest.mark.slow)
    for family in FAMILIES
])  # fmt: skip
def test_a_network_of_mixed_precision_computes_as_one_of_float32(family, tmp_path):
    import keras

    half, backbone = made(family, "mixed_bfloat16")
    whole, _ = made(family, "float32")  # sets the seed again
    whole.set_weights(half.get_weights())
    splits = testing.tiny_splits(backbone.preprocess.modality, count=4)
    x = backbone.preprocess(list(splits.train.inputs))
    wanted = whole.predict(x, verbose=0)
    before = half.predict(x, verbose=0)  # traced, so that a function is there to be forgotten
    assert not np.array_equal(before, wanted)
    assert in_float32(half) is half
    np.testing.assert_array_equal(half.predict(x, verbose=0), wanted)
    assert {layer.compute_dtype for layer in half._flatten_layers()} == {"float32"}
    again, _ = made(family, "mixed_bfloat16")
    again.set_weights(half.get_weights())
    again.save(tmp_path / "model.keras")
    again = in_float32(keras.saving.load_model(tmp_path / "model.keras", compile=False))
    np.testing.assert_array_equal(again.predict(x, verbose=0), wanted)


@pytest.mark.slow
def test_a_run_in_mixed_precision_measures_what_it_serves(tiny_texts, tmp_path):
    import keras

    import kerasft

    result = kerasft.train(
        [*tiny_texts, "precision=mixed_bfloat16", "epochs=1", f"output_dir={tmp_path / 'run'}"]
    )
    assert keras.config.dtype_policy().name == "float32"
    raw = ["a good film, number 1", "a dull film"]
    here = result.finetuned(raw)["probabilities"]
    again = [row["probabilities"] for row in kerasft.predict(str(tmp_path / "run"), raw)]
    np.testing.assert_array_equal([list(row.values()) for row in again], here)
    kerasft.export(str(tmp_path / "run"), ["export.saved_model.tolerance=1e-5"])
    served = kerasft.predict(str(tmp_path / "run" / "exports" / "saved_model"), raw)
    np.testing.assert_allclose(
        [list(row["probabilities"].values()) for row in served], here, atol=1e-6
    )


@pytest.mark.parametrize(("flags", "policy"), [
    ("fpu avx512f avx512_bf16", "mixed_bfloat16"), ("amx_tile amx_bf16", "mixed_bfloat16"),
    ("fpu avx2 avx512f", "float32"), (None, "float32"),
])  # fmt: skip
def test_auto_takes_what_the_processor_has(tmp_path, flags, policy):
    file = tmp_path / "cpuinfo"
    if flags is not None:
        file.write_text(f"flags\t\t: {flags}\nbugs :\n")
    assert policy_of("auto", str(file)) == policy
    assert policy_of("float32", str(file)) == "float32"
    assert policy_of("mixed_float16", str(file)) == "mixed_float16"
