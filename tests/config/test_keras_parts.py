"""What of Keras a config may call is a list; what is new in Keras is not on it."""

from __future__ import annotations

import importlib
import inspect

import pytest
from omegaconf import OmegaConf

from kerasft.config.checks import settle
from kerasft.config.keras_parts import ALLOWED, REFUSED, REFUSED_NAMES
from kerasft.config.parameters import define
from kerasft.config.targets import node_problems
from kerasft.config.write_paths import WRITING
from kerasft.errors import UserError


def refusals(node, *trusted, key="callbacks.x"):
    found = node_problems(key, OmegaConf.create(node), frozenset(), trusted)
    return [text for place, text in found]


@pytest.mark.parametrize("module", ALLOWED)
def test_every_public_name_of_the_installed_keras_was_looked_at(module):
    installed = {name for name in dir(importlib.import_module(module)) if not name.startswith("_")}
    refused = {name.rpartition(".")[2] for name in REFUSED if name.rpartition(".")[0] == module}
    looked_at = ALLOWED[module] | refused | set(REFUSED_NAMES) | {"schedules"}
    assert not ALLOWED[module] & (refused | set(REFUSED_NAMES))
    assert sorted(installed - looked_at) == [], "new in Keras: look at it, then put it on a list"
    assert sorted((ALLOWED[module] | refused) - installed) == [], "gone from Keras"


@pytest.mark.parametrize("module", ALLOWED)
def test_what_is_on_the_list_takes_no_path_or_address(module):
    words = {"filename", "filepath", "path", "file", "directory", "dir", "url", "root",
             "vocabulary", "log_dir", "backup_dir", "preset", "proto"}  # fmt: skip
    for name in ALLOWED[module]:
        target = f"{module}.{name}"
        takes = set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
        known = {WRITING[target][0]} if target in WRITING else set()
        assert takes & words == known, target
        assert define(target), target


def test_a_name_that_nobody_looked_at_is_refused_until_it_is_trusted(monkeypatch):
    monkeypatch.setitem(ALLOWED, "keras.callbacks", ALLOWED["keras.callbacks"] - {"History"})
    (said,) = refusals({"_target_": "keras.callbacks.History"})
    assert "is not among the parts of keras.callbacks" in said
    assert "--trust keras.callbacks.History" in said
    for prefix in ("keras.callbacks.History", "keras.callbacks", "keras"):
        assert refusals({"_target_": "keras.callbacks.History"}, prefix) == []
    assert refusals({"_target_": "keras.callbacks.History"}, "keras.callbacks.Hist")


NESTED = {
    "in a list": lambda call: {"_target_": "keras.layers.Pipeline", "layers": [call]},
    "in a list of lists": lambda call: {"_target_": "keras.layers.Pipeline", "layers": [[[call]]]},
    "in a mapping": lambda call: {
        "_target_": "keras.layers.Pipeline", "layers": {"a": {"b": call}}},
    "positional": lambda call: {"_target_": "keras.layers.Pipeline", "_args_": [[call]]},
    "partial": lambda call: {"_target_": "keras.callbacks.LearningRateScheduler",
                             "schedule": {"_partial_": True, **call}},
    "below a call": lambda call: {"_target_": "keras.layers.TimeDistributed", "layer": {
        "_target_": "keras.layers.Bidirectional", "layer": call}},
    "not built": lambda call: {"_target_": "keras.layers.Pipeline", "_recursive_": False,
                               "layers": [call]},
}  # fmt: skip


@pytest.mark.parametrize("where", NESTED)
@pytest.mark.parametrize("target", sorted(REFUSED))
def test_what_is_refused_is_refused_at_any_depth(target, where):
    found = refusals(NESTED[where]({"_target_": target}))
    assert any(f"is refused: {REFUSED[target]}" in said for said in found), found


SAVED = {
    "a layer": {"class_name": "Lambda", "module": "keras.layers", "config": {"function": "x"}},
    "a graph": {"class_name": "TFSMLayer", "config": {"filepath": "x"}},
    "a function": {"class_name": "function", "module": "os", "config": "system",
                   "registered_name": "system"},
    "code": {"class_name": "__lambda__", "config": {"value": ["x", None, None]}},
    "deep": {"a": [{"b": {"class_name": "Lambda", "config": {}}}]},
}  # fmt: skip


@pytest.mark.parametrize("what", SAVED)
def test_a_part_as_keras_saves_it_is_refused_wherever_a_value_is(what):
    for node in (
        {"_target_": "keras.layers.Dense", "units": 3, "kernel_initializer": SAVED[what]},
        {"_target_": "keras.layers.Dense", "_args_": [3, SAVED[what]]},
        {"_target_": "keras.layers.Pipeline", "layers": [SAVED[what]]},
    ):
        assert any("is how Keras saves a part" in said for said in refusals(node)), node


def test_a_class_may_be_called_class_name():
    settle(["task.class_weight={class_name: 2.0, other: 1.0}"], (), ())


def test_calls_in_calls_are_looked_at_once_each():
    node = {"_target_": "keras.layers.Dense", "units": 3}
    for _ in range(20):
        node = {"_target_": "keras.layers.Pipeline", "layers": [node]}
    assert refusals(node) == []


def test_trust_of_a_module_of_ones_own_lifts_no_list_of_keras():
    with pytest.raises(UserError, match="RemoteMonitor"):
        settle(["+callbacks.x._target_=keras.callbacks.RemoteMonitor"], (), ("mine",))
    settle(["+callbacks.x._target_=keras.callbacks.RemoteMonitor"], (),
           ("keras.callbacks.RemoteMonitor",))  # fmt: skip
