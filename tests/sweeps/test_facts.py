"""A sweep's file that is damaged, or made by anybody, is a message and never a traceback."""

from __future__ import annotations

import copy
import json

import pytest

from kerasft.errors import UserError
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps import search, summary
from kerasft.sweeps.board_rows import as_text, remarks
from kerasft.sweeps.leaderboard import leaderboard
from kerasft.sweeps.ledger import DONE, Outcome

VALUES = [None, True, 5, 10**400, 1.5, float("nan"), float("inf"), "", "x", "a\nb", "../..", [],
          [5], [None], [[]], {}, {"x": 1}, {"_target_": "os.system"}, "${x}", "a=1,2", "\ud800",
          "x" * 100_000]  # fmt: skip


@pytest.fixture
def made(begin, tmp_path, monkeypatch):
    """A sweep that has most of what one may have, and its facts."""
    ledger = begin(
        tmp_path / "s", ["head=linear,mlp", "head.dropout=interval(0.0,0.5)"],
        sampler={"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 1},
        pruner={"_target_": "optuna.pruners.MedianPruner"}, max_time=5,
        known=[{"head": "mlp", "head.dropout": 0.1}],
        space={"batch_size": {"values": "4,8", "when": {"head": "mlp"}}},
        launcher={"name": "joblib", "settings": {"n_jobs": 2}},
    )  # fmt: skip
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.5]))
    monkeypatch.setattr(search, "go_on", lambda ledger: (
        ledger.space, ledger.wanted(), ledger.at_work(), summary.best(ledger)))  # fmt: skip
    facts = json.loads((ledger.path / "sweep.json").read_text())
    del facts["versions"]
    return ledger.path, facts


def places(node, above=()):
    """Yield the place of each value."""
    if above:
        yield above
    inner = node.items() if isinstance(node, dict) else enumerate(node) \
        if isinstance(node, list) else ()  # fmt: skip
    for key, value in inner:
        yield from places(value, (*above, key))


def changed(facts, place, value):
    """Return facts with another value in a place, or with none."""
    made = copy.deepcopy(facts)
    node = made
    for key in place[:-1]:
        node = node[key]
    if value is ...:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return made


@pytest.mark.slow
@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_any_value_in_any_place_is_taken_or_told(every, made):
    path, facts = made
    cases = [(place, value) for place in places(facts) for value in (..., *VALUES)]
    told = 0
    for place, value in cases[::every]:
        (path / "sweep.json").write_text(json.dumps(changed(facts, place, value)))
        try:
            search.take_up(str(path))
        except UserError as error:
            told += 1
            assert all(len(text.splitlines()) == 1 for text in error.problems), place
    assert told > len(cases) // every // 2


@pytest.mark.slow
def test_a_leaderboard_of_a_damaged_sweep(made):
    path, facts = made
    for place in places({key: facts[key] for key in facts if key != "search"}):
        for value in VALUES:
            (path / "sweep.json").write_text(json.dumps(changed(facts, place, value)))
            try:
                rows = leaderboard(str(path))
            except UserError:
                continue
            assert all(len(line.splitlines()) == 1 for line in (*remarks(rows), rows[0]["run"]))
            assert len(as_text(rows).splitlines()) == 2


@pytest.mark.every(3)
@pytest.mark.parametrize(("key", "value", "said"), [
    ("overrides", None, "overrides must be a list of texts. Received: None"),
    ("overrides", ["epochs=1", 5], "overrides must be a list of texts"),
    ("config_dirs", 5, "config_dirs must be a list of names such as 'conf_0'"),
    ("config_dirs", ["../../home"], "config_dirs must be a list of names such as 'conf_0'"),
    ("config_dirs", ["/etc"], "config_dirs must be a list of names"),
    ("config_dirs", ["conf_0\n"], "config_dirs must be a list of names"),
    ("search", [], "search must be a mapping"), ("study", 5, "study must be a name"),
    ("objectives", [], "objectives must be a list of names, at least one"),
    ("objectives", "accuracy", "objectives must be a list of names"),
    ("directions", ["up"], "directions must be a list of 'maximize' and 'minimize'"),
    ("directions", ["maximize", "minimize"], "1 objectives, and 2 directions"),
    ("overrides", [[[]]] * 3, "must be a list of texts"),
])  # fmt: skip
def test_what_is_damaged_is_named(key, value, said, made, kerasft_cli):
    path, facts = made
    (path / "sweep.json").write_text(json.dumps(facts | {key: value}))
    for command in (["resume"], ["leaderboard"], ["export", "best-of"]):
        done = kerasft_cli(*command, str(path))
        assert done.code == 2 and said in done.err, done.err
        assert len(done.err.splitlines()) == 1


def test_values_that_are_nested_deep_end_in_a_message(made):
    path, facts = made
    for deep in (60, 700, 100_000):
        text = json.dumps(facts | {"versions": "HERE"})
        (path / "sweep.json").write_text(text.replace('"HERE"', "[" * deep + "]" * deep))
        with pytest.raises(UserError, match=r"nested|cannot be read"):
            ledgers.reopen(path)


@pytest.mark.every(4)
@pytest.mark.parametrize(("key", "value", "said"), [
    ("workers", 10**6, "workers must be at most 1,000"), ("n_trials", 10**400, "1,329 bits"),
    ("max_time", 10**400, "max_time must be a number above 0"), ("seed", [1], "seed must be"),
    ("max_time", True, "max_time must be a number above 0"),
    ("known", [{"head": {"a": 1}}], "sweep.known.0.head must be one value"),
    ("space", {"a": {"values": "1,2", "when": 5}}, "sweep.space.a.when must be a mapping"),
    ("space", {"a": {"vals": "1,2"}}, "sweep.space.a may hold values and when"),
    ("space", {"a": {"values": {}}}, "sweep.space.a.values must be text"),
])  # fmt: skip
def test_values_of_a_search_are_of_their_kind(key, value, said, made):
    path, facts = made
    facts["search"][key] = value
    (path / "sweep.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=said):
        ledgers.reopen(path)
