"""Any config at all is taken or refused in words, and what is taken reads back as it was."""

from __future__ import annotations

import copy

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kerasft.config import composition, schema
from kerasft.config.checks import check, settle
from kerasft.config.diff import differences
from kerasft.config.targets import walk
from kerasft.errors import UserError


def of_default(share: float):
    """Return settings with a share of the profile's examples, for what takes long."""
    return settings(
        max_examples=round(settings.default.max_examples * share),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


USUAL = OmegaConf.to_container(composition.compose(["head=mlp", "augment=light"]), resolve=True)
ODD = st.sampled_from([
    None, True, False, 0, -1, 1, 10**30, 1.5, -0.0, float("inf"), float("nan"), "", " ", "a", "é",
    "???", "${seed}", "${head}", "${head.width}", "${.x}", "${nope}", "${nope:1}", "${", "$", "}",
    "${oc.env:KERASFT_NO_SUCH}", "${oc.decode:'['}", "${oc.select:head}", "${oc.create:{a:1}}",
    "null", "1e3", "2026-01-01", "\0", "\ud800", "a\nb", "keras.layers.Lambda", "keras",
    "keras.optimizers.SGD", "kerasft.training.stages.Stage", "kerasft.model.heads.pooled",
    "os.system", "a..b", "_", "x" * 500, [], {}, [[]], {"a": {}},
    {"_target_": "keras.layers.RandomFlip"},
    {"_target_": None}, {"_partial_": True}, {"_args_": [1]}, {1: 2}, {"a.b": 1}, {"": 1},
    [{"_target_": "keras.layers.Dense"}], ["${seed}", "???"],
])
NAMES = st.sampled_from(
    ["_target_", "_partial_", "_args_", "_convert_", "_recursive_", "x", "train", "", "a.b", 1,
     "é", "width", "epochs", "defaults", "hydra", "${seed}"]
)
VALUES = st.recursive(
    ODD | st.text(max_size=6) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=4,
)


@st.composite
def mutated(draw):
    """Draw the tree of a config of which some places were changed, added or taken out."""
    tree = copy.deepcopy(USUAL)
    for _ in range(draw(st.integers(1, 4))):
        node = tree
        while True:
            inner = sorted(k for k, v in node.items() if isinstance(v, dict) and isinstance(k, str))
            if not inner or draw(st.integers(0, 3)) == 0:
                break
            node = node[draw(st.sampled_from(inner))]
        known = sorted(node, key=str)
        key = draw(st.sampled_from(known) | NAMES if known else NAMES)
        if draw(st.integers(0, 5)) == 0:
            node.pop(key, None)
        else:
            node[key] = draw(VALUES)
    return tree


def read_back(cfg, file):
    file.write_text(composition.to_yaml(cfg), "utf-8")
    again = composition.load(file)
    assert differences(cfg, again) == []
    assert differences(cfg, cfg) == []
    assert composition.to_yaml(again) == composition.to_yaml(cfg)


def test_what_a_run_wrote_reads_back(tmp_path):
    read_back(settle([], (), ()), tmp_path / "config.yaml")


@of_default(2)
@given(mutated())
def test_any_change_of_a_config_is_taken_or_refused(tmp_path, tree):
    file = tmp_path / "config.yaml"
    try:
        file.write_text(yaml.safe_dump(tree, allow_unicode=True), "utf-8")
    except UnicodeEncodeError:
        file.write_text(yaml.safe_dump(tree), "utf-8")
    try:
        cfg = composition.load(file)
        check(cfg)
    except UserError as error:
        assert all(problem.strip() for problem in error.problems)
        event("refused")
    else:
        event("taken")
        list(walk(cfg))
        read_back(cfg, file)


SIGNS = st.text(st.sampled_from("ab:[]{}&*!|>-?%@`'\"\n #,0~$"), max_size=40)


@of_default(0.25)
@given(st.binary(max_size=60) | SIGNS.map(str.encode))
def test_any_file_is_a_config_or_refused(tmp_path, content):
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    try:
        check(composition.load(file))
    except UserError as error:
        assert all(problem.strip() for problem in error.problems)


KEYS = st.sampled_from(
    [*schema.SCALARS, *composition.groups(), "data.path", "head.dropout", "optimizer._target_",
     "callbacks.early_stopping", "augment.x._target_", "a.b", "data@x", "head@", "/head", "", ".",
     "seed.x", "finetune.full.train.0"]
)
WRITTEN = st.sampled_from(
    ["null", "-1", "1e999", ".nan", "[1,2]", "{a: 1}", "{a: {_target_: x}}", "${epochs}", "${nope}",
     "${nope:1}", "${oc.env:NOPE}", "mlp", "none", "???", "''", "é", "choice(1,2)", "range(3)",
     "glob(*)", "sort(2,1)", "str(1)", "int(x)", "shuffle(a)", "[", "{", "'", "\\", "a,b",
     "a=b", "@", "${", "9" * 5000, "${head}", "${.}", "\ud800", "\0", "$", "..", "/", "../head"]
)
OVERRIDE = st.builds(
    "{}{}={}".format, st.sampled_from(["", "+", "++", "~", "+++", "~~"]), KEYS,
    WRITTEN | st.text(max_size=8),
) | st.text(max_size=20)


@of_default(0.25)
@given(st.lists(OVERRIDE, min_size=1, max_size=2))
def test_any_override_is_taken_or_refused(tmp_path, overrides):
    try:
        cfg = settle(overrides, (), ())
    except UserError as error:
        assert all(problem.strip() for problem in error.problems)
        event("refused")
    else:
        event("taken")
        read_back(cfg, tmp_path / "config.yaml")


@pytest.mark.parametrize("depth", [200, 3000])
def test_a_config_nested_without_end_is_refused(tmp_path, depth):
    file = tmp_path / "config.yaml"
    file.write_text("head: " + "[" * depth + "]" * depth, "utf-8")
    with pytest.raises(UserError):
        check(composition.load(file))
