"""What a sweep varies: read from config and command line, ordered, and put into overrides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from kerasft.errors import UserError
from kerasft.sweeps.space import Axis, name_of, read

HANGING = {"head": "linear,mlp", "head.dropout": {"values": "0.1,0.2", "when": {"head": "mlp"}}}


def test_the_command_line_has_the_last_word():
    made = read(
        ["epochs=3", "optimizer.learning_rate=1e-4", "batch_size=8,16"],
        {"optimizer.learning_rate": "tag(log, interval(1e-5, 1e-3))", "batch_size": "32,64",
         "precision": "float32", "length_grouping": True},
    )  # fmt: skip
    assert made.fixed == (
        "precision=float32", "length_grouping=true", "epochs=3", "optimizer.learning_rate=1e-4"
    )  # fmt: skip
    assert [(axis.key, axis.values) for axis in made.axes] == [("batch_size", ("8", "16"))]


def test_intervals():
    rate, width, share = read(
        [], {"rate": "tag(log,interval(1e-5,1e-3))", "width": "int(interval(8,64))",
             "share": "interval(0.0,0.5)"}
    ).axes  # fmt: skip
    assert (rate.low, rate.high, rate.log, rate.whole) == (1e-5, 1e-3, True, False)
    assert (width.low, width.high, width.log, width.whole) == (8, 64, False, True)
    assert rate.override(0.000123456789) == "rate=0.000123457"
    assert width.override(12) == "width=12"
    assert (width.ends(), share.ends()) == ((8, 64), (0.0, 0.5))


def test_an_axis_counts_only_where_it_hangs_on():
    made = read([], {"head.dropout": HANGING["head.dropout"], "head": "linear,mlp"})
    assert [axis.key for axis in made.axes] == ["head", "head.dropout"]
    assert list(made.grid()) == [
        {"head": "linear"}, {"head": "mlp", "head.dropout": "0.1"},
        {"head": "mlp", "head.dropout": "0.2"},
    ]  # fmt: skip
    assert made.overrides({"head": "linear"}) == ["head=linear"]
    corners = [name_of(point) for point in made.corners()]
    assert {"head=linear", "head=mlp head.dropout=0.1", "head=mlp head.dropout=0.2"} == {*corners}
    # What the command line varies hangs on the same.
    again = read(["head.dropout=0.3,0.4"], HANGING)
    assert list(again.grid())[1] == {"head": "mlp", "head.dropout": "0.3"}


@pytest.mark.parametrize(("overrides", "space", "said"), [
    (["head=linear,mlp", "a"], {}, "An override cannot be read"),
    (["a=interval(1,0)"], {}, "from a number to a larger one"),
    (["a=tag(log,interval(0,1))"], {}, "must begin above 0"),
    (["a=glob(x*)"], {}, "cannot be expanded"),
    ([], {"a": {"values": "1,2", "when": {"b": 1}}}, "a hangs on b, which is not varied"),
    ([], {"a": {"values": "1,2", "when": {"b": 1}}, "b": {"values": "1,2", "when": {"a": 1}}},
     "hang on each other"),
])  # fmt: skip
def test_what_is_no_space(overrides, space, said):
    with pytest.raises(UserError, match=said):
        read(overrides, space)


WORDS = some.text("abcdefgh", min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(some.dictionaries(WORDS, some.lists(WORDS, min_size=2, max_size=3, unique=True),
                         min_size=1, max_size=4))  # fmt: skip
def test_a_grid_has_every_combination_once(axes):
    made = read([f"{key}={','.join(values)}" for key, values in axes.items()], {})
    points = [name_of(point) for point in made.grid()]
    expected = 1
    for values in axes.values():
        expected *= len(values)
    assert len(points) == len(set(points)) == expected
    ends = {(key, value) for point in made.corners() for key, value in point.items()}
    assert ends == {(key, value) for key, values in axes.items() for value in values}


def test_a_value_is_written_as_hydra_reads_it():
    assert Axis("a").override("[1,2]") == "a=[1,2]"
    assert name_of({"b": 1e-05, "a": "x"}) == "a=x b=1e-05"
