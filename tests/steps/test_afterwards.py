"""How long exports will take is told before a run."""

from __future__ import annotations

import re

import pytest

import kerasft
from kerasft.config.building import beside
from kerasft.config.composition import options
from kerasft.steps.costs.afterwards import Afterwards, of_exports


def test_it_is_told_in_words():
    alone = "Measuring the result takes another 3 s or so"
    assert Afterwards(3.1, {}, ()).told() == alone
    assert Afterwards(3.1, {"saved_model": 31.4}, ("onnx", "litert")).told() == (
        f"{alone}; export saved_model another 31 s or so, with its proof; how long export onnx, "
        "litert takes is not known beforehand"
    )


def test_without_exports_no_model_is_looked_at():
    assert of_exports(kerasft.compose([]), None, None) == ({}, ())


def test_what_cannot_be_rehearsed_is_named():
    assert of_exports(kerasft.compose(["export=onnx"]), None, None) == ({}, ("onnx",))


def test_each_format_is_looked_up():
    nodes = {name: kerasft.compose([f"export={name}"]).export for name in options("export")}
    found = {
        name for name, node in nodes.items() if name in node and beside(node[name], "rehearse")
    }
    assert found == {"saved_model"}
    assert set(nodes) - found >= {"keras", "litert", "onnx", "preset", "adapter"}


@pytest.mark.slow
def test_a_plan_tells_it(tiny_images, capsys):
    kerasft.plan([*tiny_images, "export=saved_model", "precision=mixed_bfloat16"])
    said = re.search(r"s or so; export saved_model another (\d+) s or so", capsys.readouterr().out)
    assert said and 0 < int(said[1]) < 600


@pytest.mark.slow
def test_a_plan_of_an_adapted_network_tells_it(tiny_texts, capsys):
    kerasft.plan([*tiny_texts, "export=saved_model", "adapt=lora"])
    assert "export saved_model another" in capsys.readouterr().out
