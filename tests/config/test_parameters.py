"""Signatures read from source text are what Python itself would say."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from kerasft.config.parameters import NotFound, define


@pytest.mark.parametrize(
    "path",
    [
        "keras.optimizers.AdamW", "keras.optimizers.SGD", "keras.layers.RandomFlip",
        "keras.layers.CutMix", "keras.layers.RandAugment", "keras.losses.Huber",
        "keras.callbacks.EarlyStopping", "keras.callbacks.ReduceLROnPlateau",
        "keras.optimizers.schedules.CosineDecay", "keras.initializers.GlorotUniform",
        "kerasft.model.heads.pooled.mlp", "kerasft.data.sources.table.table",
        "kerasft.training.stages.Stage",
        "kerasft.tasks.classification.Classification", "kerasft.model.backbones.preset",
    ],
)  # fmt: skip
def test_the_same_parameters_as_at_run_time(path):
    import importlib

    module, _, name = path.rpartition(".")
    real = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    found = define(path)
    wanted = [n for n, p in real.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert list(found.parameters)[: len(wanted)] == wanted
    for name in wanted:
        required = real[name].default is inspect.Parameter.empty
        assert found.parameters[name].required == required, name
    assert found.file.is_file()
    assert found.docstring


def test_keywords_of_bases_are_known():
    found = define("keras.optimizers.AdamW")
    assert "clipnorm" in found.parameters
    assert not found.open
    layer = define("keras.layers.RandomFlip")
    assert {"mode", "seed", "name", "dtype"} <= set(layer.parameters)


def test_a_dataclass_has_its_fields():
    found = define("kerasft.training.stages.Stage")
    assert found.parameters["train"].default == "'all'"
    assert found.parameters["epochs"].annotation == "int"


def test_an_alias_leads_to_its_definition():
    assert define("keras.optimizers.AdamW").module.startswith("keras.src.optimizers")


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("keras.optimizers.Adamw", "Adamw"),
        ("keras.optimizer.Adam", "optimizer"),
        ("kerasft.model.heads.pooled.nothing", "nothing"),
        ("no_such_package.thing", "no_such_package"),
        ("kerasft.training.stages.Stage.nothing", "nothing"),
        ("kerasft.training.stages.HEAD_RATE", "HEAD_RATE"),
    ],
)
def test_what_is_not_there(path, part):
    with pytest.raises(NotFound) as caught:
        define(path)
    assert caught.value.part == part


def test_names_at_the_place_are_offered():
    with pytest.raises(NotFound) as caught:
        define("keras.optimizers.Adamw")
    assert "AdamW" in caught.value.allowed


def test_nothing_is_imported():
    code = (
        "import sys; from kerasft.config.parameters import define;"
        "define('keras.optimizers.AdamW'); define('keras_hub.layers.TransformerEncoder');"
        "heavy = {'keras', 'tensorflow', 'keras_hub'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_module_of_ones_own_is_read_again_where_it_was_written_or_has_changed(
    tmp_path, monkeypatch
):
    """As in a notebook, whose process goes on."""
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NotFound, match="own_parts"):
        define("own_parts.head")
    file = tmp_path / "own_parts.py"
    file.write_text("def head(features, *, units):\n    pass\n")
    importlib.invalidate_caches()  # as Python does by itself a moment later
    assert list(define("own_parts.head").parameters) == ["features", "units"]
    file.write_text("def head(features, *, units, scale=2.0):\n    pass\n")
    assert list(define("own_parts.head").parameters) == ["features", "units", "scale"]
