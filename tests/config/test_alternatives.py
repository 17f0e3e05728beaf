"""Overrides that stand for several choices of one part."""

from __future__ import annotations

import pytest

from kerasft.config.alternatives import alternatives
from kerasft.errors import UserError


def overrides(*given, sets=()):
    return [" ".join(one.overrides) for one in alternatives(given, "backbone", sets)]


def test_each_value_is_a_choice():
    assert overrides("seed=1", "backbone=a,b") == ["seed=1 backbone=a", "seed=1 backbone=b"]
    assert overrides("backbone=preset", "backbone.preset=x,y") == [
        "backbone=preset backbone.preset=x", "backbone=preset backbone.preset=y",
    ]  # fmt: skip


def test_one_value_is_one_choice_with_its_own_overrides():
    (one,) = alternatives(["backbone=a", "backbone.image_size=32", "epochs=2"], "backbone")
    assert one.own == ("backbone=a", "backbone.image_size=32")
    assert [choice.own for choice in alternatives(["epochs=2"], "backbone")] == [()]


def test_sets_choose_anew_and_stand_beside_values():
    given = ("epochs=2", "backbone=a", "backbone.size=3")
    assert overrides(*given, sets=[["backbone.size=4"], ["backbone=b"]]) == [
        "epochs=2 backbone=a backbone.size=4", "epochs=2 backbone=b",
    ]  # fmt: skip
    assert overrides("backbone=a,b", sets=[["backbone=c"]]) == [
        "backbone=a", "backbone=b", "backbone=c",
    ]  # fmt: skip


def test_a_named_part_that_no_set_goes_on_with_is_a_choice():
    given = ("seed=1", "backbone=a", "backbone.size=3")
    assert overrides(*given, sets=[["backbone=b"], ["backbone=c", "backbone.size=4"]]) == [
        "seed=1 backbone=a backbone.size=3", "seed=1 backbone=b",
        "seed=1 backbone=c backbone.size=4",
    ]  # fmt: skip
    assert overrides("backbone.size=3", sets=[["backbone=b"]]) == ["backbone=b"]


def test_other_parts_have_one_value():
    with pytest.raises(UserError, match=r"Only backbone .* Received: 'head=linear,mlp'"):
        alternatives(["head=linear,mlp", "backbone=a"], "backbone")
    with pytest.raises(UserError, match="each of them listed"):
        alternatives(["backbone.size=interval(1,3)"], "backbone")
    with pytest.raises(UserError, match="101 choices of backbone; at most 100"):
        alternatives(["backbone.size=range(0,101)"], "backbone")
    with pytest.raises(UserError, match="cannot be read"):
        alternatives([], "backbone", [["nonsense"]])
