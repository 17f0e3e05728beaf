"""What a sweep varies: read from config and command line, ordered, and put into overrides."""

from __future__ import annotations

import pytest
from hypothesis import given
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
    ([], {"a": "1,2", "b": {"when": {"a": 1}}}, "space.b must have values.*Received: {'w"),
    ([], {"a": "1,2", "b": {"values": None, "when": {"a": 1}}}, "space.b must have values"),
    ([], {"a": {"values": ""}}, r"sweep\.space\.a must have values"),
    ([], {"a": {"values": []}}, r"sweep\.space\.a must have values"),
])  # fmt: skip
def test_what_is_no_space(overrides, space, said):
    with pytest.raises(UserError, match=said):
        read(overrides, space)


WORDS = some.text("abcdefgh", min_size=1, max_size=4)


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


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("override", "said"), [
    ("a=range(1,100000000)", "stands for 99,999,999 values, and at most 1,000 are tried"),
    ("a=sort(range(100000000,1,-1))", "stands for 99,999,999 values"),
    ("a=shuffle(range(1,10000000000))", "stands for 9,999,999,999 values"),
    ("a=float(range(1,1000000000))", "stands for 999,999,999 values"),
    ("a=tag(x,range(1,1000000000))", "stands for 999,999,999 values"),
    ("a=range(0,1,1e-9)", "stands for 1,000,000,000 values"),
    ("a=range(0.5,1e308)", "stands for more than 1,000,000,000,000,000 values"),
    (f"a=range(0,{10**400})", "stands for more than"), ("a=range(0,inf)", "cannot be expanded"),
    ("a=range(0,nan)", "cannot be expanded"), ("a=range(1.0,10,0)", "its step is 0"),
    ("a=interval(0,1e400)", "from a number to a larger one"),
    ("a=interval(-1e308,1e308)", "of at most 1e[+]300"),
    ("a=int(interval(1,1e30))", "from a number to a larger one"),
    (f"a=int(interval(1,{10**400}))", "An override cannot be read"),
    (f"a=interval(0,{'9' * 5000})", "An override cannot be read"),
    (f"a=interval(0,{10**400})", "An override cannot be read"),
    ("a=" + ",".join(map(str, range(2000))), "stands for 2,000 values"),
])  # fmt: skip
def test_absurd_numbers_are_told_at_once(override, said):
    with pytest.raises(UserError, match=said) as told:
        read([override], {})
    assert len(told.value.problems) == 1 and len(told.value.problems[0]) < 1000


@pytest.mark.timeout(10)
def test_a_space_that_no_machine_could_hold_is_gone_through_one_by_one():
    letters = ",".join("abcdefghij")
    wide = read([f"k{number}={letters}" for number in range(40)], {})
    assert wide.size() == 10**40
    points = wide.grid()
    assert next(points)["k39"] == "a" and next(points)["k39"] == "b"
    far = read(["a=int(interval(1,1000000000000000))"], {})
    assert far.size() == 10**15 and next(far.grid()) == {"a": 1}
    # Of what hangs on another key, combinations that come to the same are never made.
    hidden = read(["h=a,b"], {f"k{number}": {"values": letters, "when": {"h": "b"}}
                              for number in range(20)})  # fmt: skip
    assert hidden.size() == 1 + 10**20
    first = hidden.grid()
    assert next(first) == {"h": "a"} and next(first)["h"] == "b"


def test_one_value_counts_where_its_key_does():
    hanging = {"values": "5", "when": {"a": 1}}
    made = read([], {"a": "1,2", "b": hanging})
    assert not made.fixed and list(made.grid()) == [{"a": "1", "b": "5"}, {"a": "2"}]
    # Also where the command line has the last word on it.
    made = read(["b=7"], {"a": "1,2", "b": {"values": "5,6", "when": {"a": 1}}})
    assert not made.fixed and list(made.grid()) == [{"a": "1", "b": "7"}, {"a": "2"}]
    assert read(["~b"], {"a": "1,2", "b": hanging}).fixed == ("~b",)
    made = read([], {"a": "true,null", "b": {"values": True, "when": {"a": [True, None]}}})
    assert [axis.values for axis in made.axes] == [("True", "null"), ("True",)]
    assert made.size() == 2


@pytest.mark.timeout(10)
def test_what_hangs_on_much_is_counted_and_checked_at_once():
    apart = {f"a{n}": "0,1" for n in range(40)} | {
        f"b{n}": {"values": "0,1", "when": {f"a{n}": 1}} for n in range(40)}  # fmt: skip
    assert read([], apart).size() == 3**40
    chained = {"a0": "0,1", "a1": "0,1"} | {
        f"a{n}": {"values": "0,1", "when": {f"a{n - 1}": 0, f"a{n - 2}": 0}}
        for n in range(2, 60)}  # fmt: skip
    made = read([], chained)
    assert sum(1 for _ in made.corners()) == 1 + 2 * 60 and made.size() == 62
    on_all = {f"a{n}": "0,1" for n in range(60)} | {
        "b": {"values": "x,y", "when": {f"a{n}": 1 for n in range(60)}}}  # fmt: skip
    assert read([], on_all).size() == 2**60 + 1


@given(some.lists(some.tuples(
    some.sampled_from(["0,1", "0,1,2", "5", "int(interval(-1,1))", "None,0"]),
    some.dictionaries(some.integers(0, 4), some.lists(some.sampled_from(["0", "-1", "1", "None"]),
                                                      min_size=1, max_size=2), max_size=2),
), min_size=1, max_size=5))  # fmt: skip
def test_the_size_of_any_space_is_that_of_its_grid(drawn):
    space = {}
    for number, (values, when) in enumerate(drawn):
        above = {f"k{key}": wanted for key, wanted in when.items() if key < number}
        space[f"k{number}"] = {"values": values, "when": above}
    try:
        made = read([], space)
    except UserError:  # a value that a key never has
        return
    assert made.size() == sum(1 for _ in made.grid())


@pytest.mark.parametrize("space", [
    HANGING, {"n": "int(interval(1,5))", "z": {"values": "x,y", "when": {"n": [2, 3, 9]}}},
    {"a": "1,2,3", "b": {"values": "1,2", "when": {"a": [1, 2]}},
     "c": {"values": "x,y,z", "when": {"b": 2}}},
    {"a": "int(interval(-1,1))", "b": {"values": "x,y", "when": {"a": -1}}},
])  # fmt: skip
def test_the_size_of_a_space_is_that_of_its_grid(space):
    made = read([], {key: value for key, value in space.items() if "interval(0" not in str(value)})
    points = [tuple(sorted(point.items())) for point in made.grid()]
    assert made.size() == len(points) == len(set(points))


@pytest.mark.parametrize("value", ["x", None, [1], 10**400])
def test_a_known_point_of_an_interval_is_a_number(value):
    made = read(["a=interval(0.0,1.0)", "b=int(interval(1,5))"], {})
    for key in "ab":
        with pytest.raises(UserError, match=f"sweep.known: {key} is varied in an interval"):
            made.settled({key: value})


def test_of_many_numbers_the_ends_and_some_between_are_checked():
    many = read(["epochs=range(1,1000)", "head=linear,mlp"], {})
    checked = {point["epochs"] for point in many.corners()}
    assert len(checked) == 20 and {"1", "999"} <= checked
    assert many.size() == 2 * 999
    words = read(["head=" + ",".join(f"word{number}" for number in range(50))], {})
    assert len({point["head"] for point in words.corners()}) == 50
