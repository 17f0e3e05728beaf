"""Words of other tools lead to the keys of this one."""

from __future__ import annotations

import pytest

from kerasft.commands import make_parser
from kerasft.config import leads
from kerasft.config.checks import settle
from kerasft.config.composition import compose, parsed
from kerasft.config.schema import RUNTIME, SCALARS
from kerasft.errors import UserError


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("lr=1e-3", "optimizer.learning_rate=1e-3?"),
        ("learning_rate=1e-3", "optimizer.learning_rate=1e-3?"),
        ("model=resnet50", "backbone=applications backbone.name=ResNet50?"),
        ("model=bert_tiny_en_uncased", "backbone.preset=bert_tiny_en_uncased?"),
        ("model=nonsense", "backbone=NAME, one of applications"),
        ("backbone=resnet50", "backbone=applications backbone.name=ResNet50?"),
        ("backbone=mobilenet_v2", "backbone=applications backbone.name=MobileNetV2?"),
        ("backbone=bert_tiny_en_uncased", "backbone.preset=bert_tiny_en_uncased?"),
        ("backbone=hf://a/b", "backbone.preset=hf://a/b?"),
        ("dropout=0.2", "head.dropout=0.2?"),
        ("label_smoothing=0.1", "task.label_smoothing=0.1?"),
        ("patience=3", "callbacks.early_stopping.patience=3?"),
        ("optimizer.learning_rate=loguniform(1e-5,1e-3)",
         "'optimizer.learning_rate=tag(log,interval(1e-5,1e-3))'?"),
        ("epoch=3", "'epochs'?"),
    ],
)  # fmt: skip
def test_a_mistake_leads_to_the_right_override(override, meant):
    with pytest.raises(UserError) as caught:
        settle([override], (), ())
    (problem,) = caught.value.problems
    assert f"Did you mean {meant}" in problem or f"Did you mean, with `kerasft sweep`, {meant}" in (
        problem), problem  # fmt: skip


def test_every_lead_is_a_key():
    cfg = compose(["data=table"])
    for word, key in leads._CALLED.items():
        first, *below = key.split()[-1].split(".")
        assert first in (*SCALARS, *RUNTIME), word
        if below and first not in ("task", "data", "backbone", "callbacks"):
            assert below[0] in cfg[first], word


def test_a_space_of_another_tool_is_read_as_ours():
    for override in ("x=uniform(0,1)", "x=tune.loguniform(1e-5,1e-3)", "x=randint(1,8)",
                     "x=grid_search([1,2])"):  # fmt: skip
        meant = leads.space(override)
        assert meant and parsed([meant])[0].is_sweep_override()
    assert leads.space("x=interval(0,1)") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--epochs", "5"], "keys are set without dashes: epochs=5"),
        (["check", "--batch-size=8"], "keys are set without dashes: batch_size=8"),
        (["check", "--lr", "1e-3"], "keys are set without dashes: optimizer.learning_rate=1e-3"),
        (["check", "--optimizer.learning_rate", "1"], "dashes: optimizer.learning_rate=1"),
        (["check", "--nonsense"], "see kerasft check --help"),
        (["predict", "--epochs", "5", "x"], "see kerasft predict --help"),
        (["evaluate", "outputs/last", "--epochs", "5"], "see kerasft evaluate --help"),
    ],
)
def test_keys_as_options(words, said, kerasft_cli):
    ended = kerasft_cli(*words)
    assert ended.code == 2
    assert said in ended.err


def test_every_command_that_takes_overrides_of_a_run_says_how_keys_are_set(kerasft_cli):
    choices = make_parser()._subparsers._group_actions[0].choices
    composing = [name for name, parser in choices.items() if "--config-dir" in parser.format_help()]
    assert {"train", "sweep", "lr-find", "probe", "surgery"} <= {*composing}
    for name in composing:
        key = ["head"] if name == "explain" else []
        ended = kerasft_cli(name, *key, "--epochs", "5")
        assert ended.code == 2
        assert "unknown option --epochs; keys are set without dashes: epochs=5" in ended.err
