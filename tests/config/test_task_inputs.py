"""Which networks tasks are for, those of a user's own among them, which kerasft does not know."""

from __future__ import annotations

import json

import pytest

import kerasft
from kerasft.catalogue import networks
from kerasft.catalogue.networks import Takes
from kerasft.config.task_inputs import tasks_of
from kerasft.steps.advice.backbone_choice import _at_hand

MODULE = """
from dataclasses import dataclass
from typing import ClassVar

from kerasft.tasks.classification import Classification
from kerasft.tasks.causal_lm import CausalLM


@dataclass(frozen=True)
class Topics(Classification):
    modalities: ClassVar[tuple[str, ...]] = ("text",)


class Verses(CausalLM):
    pass


raise SystemExit("nobody need import this to list networks")
"""
PART = MODULE.rpartition("\n\n\n")[0]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of configs with tasks of one's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_listed.py").write_text(MODULE)
    (tmp_path / "own_topics.py").write_text(PART)
    folder = tmp_path / "configs" / "task"
    folder.mkdir(parents=True)
    for name, target in {
        "listed_topics": "own_listed.Topics", "listed_verses": "own_listed.Verses",
        "topics": "own_topics.Topics", "lost": "no_such_module.Task",
    }.items():
        (folder / f"{name}.yaml").write_text(f"_target_: {target}\n")
    (folder / "broken.yaml").write_text("_target_: [")
    return folder.parent


def test_tasks_say_themselves_which_networks_they_are_for():
    tasks = tasks_of()
    both = {"classification", "multi_label", "regression", "multi_regression"}
    assert {name for name, takes in tasks.items() if takes == Takes()} == both
    assert {name for name, takes in tasks.items() if takes.left_to_right} == {"causal_lm"}


def test_a_task_of_ones_own_is_listed_without_being_imported(own, kerasft_cli):
    tasks = tasks_of([own])
    assert tasks["listed_topics"] == Takes(("text",))
    assert tasks["listed_verses"] == Takes(("text",), left_to_right=True)
    assert tasks["lost"] == tasks["broken"] == Takes()
    rows = json.loads(kerasft_cli("models", "--json", "--config-dir", str(own)).out)
    of = {row["name"]: set(row["tasks"]) for row in rows}
    assert {"listed_topics", "topics", "lost"} <= of["bert_tiny_en_uncased"]
    assert "listed_verses" not in of["bert_tiny_en_uncased"]
    assert "listed_verses" in of["gpt2_base_en"]
    assert "lost" in of["MobileNetV2"] and "topics" not in of["MobileNetV2"]
    assert "topics" not in {task for row in kerasft.models() for task in row["tasks"]}


def test_check_tells_where_a_task_of_ones_own_does_not_fit_the_data(own, kerasft_cli):
    words = ("check", "task=topics", "--config-dir", str(own), "--trust", "own_topics")
    ended = kerasft_cli(*words)  # the digits are images
    assert ended.code == 2
    assert "The data is images, but the task own_topics.Topics learns from text." in ended.err


def test_networks_at_hand_are_those_that_a_task_of_ones_own_is_for(own, monkeypatch):
    rows = [
        networks._row("a", "bert", "ours", "text", 4, True, "preset=bert_tiny_en_uncased"),
        networks._row("b", "gpt2", "ours", "text", 5, True, "preset=gpt2_base_en",
                      left_to_right=True),
    ]  # fmt: skip
    monkeypatch.setattr(networks, "_rows", lambda: rows)
    for task, chosen in (("listed_topics", {"bert_tiny_en_uncased": 4, "gpt2_base_en": 5}),
                         ("listed_verses", {"gpt2_base_en": 5})):  # fmt: skip
        cfg = kerasft.compose([f"task={task}"], config_dirs=[own])
        assert _at_hand(cfg, "text") == [
            ((f"backbone.preset={name}",), size) for name, size in chosen.items()
        ]
