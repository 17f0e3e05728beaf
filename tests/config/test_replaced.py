"""`GROUP._target_=...` on the command line: what was of the former part goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasft.config.checks import settle
from kerasft.errors import UserError

HERE = Path(__file__)


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """Let this module be found as one of the user's own."""
    monkeypatch.syspath_prepend(str(HERE.parent))


def mine(features, units, dropout=0.5):
    """Stand for a head of the user's own."""


def data(kind, seed, folder="here"):
    """Stand for a source of the user's own."""


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("overrides", "group", "left"),
    [
        (["head._target_={}.mine"], "head", {}),
        (["head._target_={}.mine", "head.dropout=0.2"], "head", {"dropout": 0.2}),
        (["head=mlp", "head._target_={}.mine"], "head", {}),
        (["data=table", "++data._target_={}.data"], "data", {}),
        (["data._target_={}.data", "data.folder=there"], "data", {"folder": "there"}),
        (["head._target_=kerasft.model.heads.pooled.mlp"], "head",
         {"pooling": "auto", "dropout": 0.1}),
        (["optimizer._target_=keras.optimizers.Lion"], "optimizer",
         {"learning_rate": None, "weight_decay": 0.01, "global_clipnorm": 1.0}),
        (["optimizer._target_=keras.optimizers.Adam", "~optimizer.weight_decay"], "optimizer",
         {"learning_rate": None, "global_clipnorm": 1.0}),
        (["callbacks.early_stopping._target_=keras.callbacks.TerminateOnNaN"], "callbacks",
         {"early_stopping": {"_target_": "keras.callbacks.TerminateOnNaN"},
          "tensorboard": {"_target_": "kerasft.training.callbacks.tensorboard"}}),
    ],
)  # fmt: skip
def test_keys_of_the_former_part_go(overrides, group, left):
    cfg = settle([one.format(HERE.stem) for one in overrides], (), (HERE.stem,))
    found = {key: value for key, value in cfg[group].items() if key != "_target_"}
    assert found == left


def test_what_is_given_beside_it_stays_and_is_held_against_it():
    with pytest.raises(UserError, match=r"head\.pooling is unknown.*Allowed: dropout"):
        settle([f"head._target_={HERE.stem}.mine", "head.pooling=avg"], (), (HERE.stem,))


def test_a_part_that_is_not_there_is_the_only_problem():
    with pytest.raises(UserError) as caught:
        settle(["head._target_=nowhere.head"], (), ("nowhere",))
    assert len(caught.value.problems) == 1


def test_groups_of_named_parts_say_how_one_is_added():
    with pytest.raises(UserError, match=r"\+augment\.NAME\._target_=keras\.layers\.RandomFlip"):
        settle(["augment._target_=keras.layers.RandomFlip"], (), ())
