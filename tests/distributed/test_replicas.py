"""A run on two devices gives the losses, figures and weights of one.

All cases of a table run in one process of their own: a processor is parted into two devices before
TensorFlow does anything.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerasft.distributed.group import Group
from kerasft.errors import UserError
from kerasft.training.replicated import require_alike

SHARED = Path(__file__).parents[1] / "shared"
SCRIPT = SHARED / "replica_cases.py"
# Of what was computed in half precision, rounding is coarser; and it differs with the shapes. A
# loss that is added up in half precision would be off by 7e-4.
LOOSE = {"bfloat16": 2e-4, "float16": 2e-5}
# The case of the default tests: uneven shares whose gradients accumulate and are clipped.
FEW = ("accumulated",)
# What is not compared with one device.
OTHERS = ("dropout", "activity")


def cases():
    """Return the names of all cases, without importing TensorFlow."""
    tree = ast.parse((SHARED / "traced_runs.py").read_text("utf-8"))
    (found,) = (node.value for node in tree.body if isinstance(node, ast.Assign)
                and getattr(node.targets[0], "id", "") == "CASES")  # fmt: skip
    return [key.value for key in found.keys]


def compared(folder, names, *options):
    """Run cases, and return what differed by case."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, str(folder), *names],
        capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("few"), FEW, "--as-traced")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("many"), [n for n in cases() if n not in FEW])


def require_equal(name, found):
    assert "error" not in found, found["error"]
    assert found["steps"] > 2
    assert found["same_count"]
    assert found["moved"]
    allowed = LOOSE.get(name, 1e-6)
    assert found["loss"] <= allowed
    assert found["val_loss"] <= max(allowed, 2e-6)
    # Of figures that rank examples two that are alike may change places: one pair of thousands. In
    # half precision an answer may change, of 8 examples maybe one.
    assert found["val"] <= (1e-4 if allowed <= 1e-6 else 0.15)


@pytest.mark.parametrize("name", FEW)
def test_losses_are_those_of_one_device(few, name):
    require_equal(name, few[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in cases() if n not in (*FEW, *OTHERS)])
def test_losses_of_all_cases_are_those_of_one_device(many, name):
    require_equal(name, many[name])


@pytest.mark.slow
def test_replicas_draw_other_masks(many):
    found = many["dropout"]
    assert "error" not in found, found["error"]
    assert found["masks"]
    for first, second in found["masks"]:
        assert first[0] != second[0]  # other seeds ...
        assert first[1:] == second[1:]  # ... that have come as far


def test_layers_with_a_penalty_on_outputs_are_for_one_device():
    import keras

    inner = keras.Sequential([
        keras.Input((2,)), keras.layers.Dense(3, activity_regularizer="l2", name="within"),
    ])  # fmt: skip
    model = keras.Sequential([
        keras.Input((2,)), inner, keras.layers.Dense(1, kernel_regularizer="l2"),
    ])  # fmt: skip
    require_alike(model, Group())
    two = Group(replicas=2)
    with pytest.raises(UserError, match=r"2 devices .* 1/2 of .* layer within with one\. Train on "
                                        r"one device \(distribute=null\)"):  # fmt: skip
        require_alike(model, two)
    inner.layers[-1].activity_regularizer = None
    require_alike(model, two)


@pytest.mark.slow
def test_a_penalty_on_outputs_is_refused_before_the_first_step(many):
    assert many["activity"]["kind"] == "UserError"
    said = " ".join(many["activity"]["error"].split())
    assert "with 2 devices an activity_regularizer would count 1/2 of what it counts" in said


def test_there_are_cases():
    assert len(cases()) > 15
    assert set(FEW) < set(cases())
