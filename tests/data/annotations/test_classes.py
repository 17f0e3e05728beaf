import math

import numpy as np
import pytest

from kerasft.data.annotations.classes import encode, natural
from kerasft.errors import UserError
from kerasft.system.console import listing


def ids(values):
    return [f"a.csv:{i}" for i in range(2, len(values) + 2)]


def ask(values, **settings):
    return encode(values, ids(values), **{"kind": "single", **settings})


def test_names_sort_naturally():
    assert sorted(["10", "2", "1.5", "b10", "b2", "A", "-1"], key=natural) == [
        "-1", "1.5", "2", "10", "A", "b2", "b10",
    ]  # fmt: skip


def test_single():
    labels, array, _ = ask(["10", "9", "10"])
    assert labels.names == ("9", "10")
    assert array.dtype == np.int64
    assert array.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([True, False], ("false", "true")),
        ([1.0, 2.0], ("1", "2")),
        ([3, 12], ("3", "12")),
        ([b"\xe0\xa6\x86", b"x"], ("x", "আ")),
        ([" a", "b"], (" a", "b")),  # kept as written
    ],
)
def test_values_become_names(values, names):
    assert ask(values)[0].names == names


def test_multi():
    labels, array, notices = ask(["b, a", "a", ""], kind="multi")
    assert labels.names == ("a", "b")
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert "1 example" in notices[0]


def test_multi_from_lists_and_named_numbers():
    labels, array, _ = ask([[0, 2], [1]], kind="multi", names=["x", "y", "z"])
    assert labels.names == ("x", "y", "z")
    assert array.tolist() == [[1, 0, 1], [0, 1, 0]]


def test_number():
    labels, array, _ = ask(["1.5", 2, " 3 "], kind="number")
    assert labels.names == ()
    assert array.dtype == np.float64
    assert array.tolist() == [1.5, 2, 3]


def test_numbers_keep_the_precision_of_the_file():
    times = [1_700_000_000 + i for i in range(4)]
    assert ask(times, kind="number")[1].tolist() == times
    assert ask([str(time) for time in times], kind="number")[1].tolist() == times


def test_a_huge_number_among_small_ones_is_named():
    _, _, notices = ask([*range(50), 1e12], kind="number")
    assert "1e+12" in notices[0]
    assert not ask([*range(50), 1e3], kind="number")[2]


def test_label_names_by_number_and_by_name():
    assert ask(["1", "0"], names=["neg", "pos"])[1].tolist() == [1, 0]
    assert ask(["pos", "neg"], names=["pos", "neg", "other"])[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "settings", "said"),
    [
        (["a", ""], {}, "a.csv:3"),
        (["a", None, math.nan, "\u200b"], {}, "3 labels"),
        (["cat", "Cat", "dog"], {}, "'Cat' and 'cat'"),
        (["cat", "cat ", "dog"], {}, "'cat' and 'cat '"),
        (["1", "1.0", "2"], {}, "'1' and '1.0'"),
        (["a", "a"], {}, "the only one is 'a'"),
        ([0.5, 0.7, 0.9], {}, "task=regression"),
        ([f"text {i}" for i in range(30)], {}, "right column"),
        (["", ""], {"kind": "multi"}, "there is none"),
        (["1", "x"], {"kind": "number"}, "a.csv:3 has 'x'"),
        (["score", "1", "2"], {"kind": "number"}, "data.header=true"),
        (["a", "b"], {"kind": "number"}, "task=classification"),
        (["1", "nan"], {"kind": "number"}, "a.csv:3"),
        (["1", None], {"kind": "number"}, "a.csv:3 has None"),
        (["1", "inf"], {"kind": "number"}, "no finite number"),
        (["1", "1"], {"kind": "number"}, "nothing to learn"),
        ([10**17, 10**17 + 1], {"kind": "number"}, "precision of float64"),
        (["pos\u00a0", "neg"], {"names": ["neg", "pos"]}, "is 'pos\\xa0' and not 'pos'"),
        (["2", "0"], {"names": ["x", "y"]}, "number from 0 to 1. Received: '2' (first at a.csv:2)"),
        (["plane", "car"], {"names": ["planes", "car"]}, "Did you mean 'planes'?"),
        (["x", "y"], {"names": ["x", "x"]}, "more than once"),
        (["x", "y"], {"names": ["x", " "]}, "an empty one"),
        (["x", "y"], {"names": ["x"], "kind": "multi"}, "'y'"),
        (["x"], {"kind": "other"}, "'other'"),
        ([], {}, "no examples"),
    ],
)
def test_bad_labels(values, settings, said):
    with pytest.raises(UserError) as caught:
        ask(values, **settings)
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", ["single", "multi"])
@pytest.mark.parametrize("word", ["nan", "NA", "None", "null", "N/A", "inf", "NaN", "<NA>"])
def test_a_class_may_be_called_like_a_missing_value(word, kind):
    labels, _, notices = ask([word, "other", word], kind=kind)
    assert set(labels.names) == {word, "other"}
    assert ("2 examples" in "".join(notices)) == (word != "inf")
    array = ask([word, "other"], kind=kind, names=["other", word])[1]
    assert (array if kind == "single" else array.argmax(1)).tolist() == [1, 0]


def test_classes_called_nan_beside_numbers_are_no_measurements():
    assert ask(["nan", "1", "2"])[0].names == ("1", "2", "nan")
    assert ask(["inf", "infinity", "1_0", "10"])[0].names == ("10", "1_0", "inf", "infinity")


@pytest.mark.parametrize(
    ("values", "names", "units"),
    [
        (["1.0", "0.0"], ["neg", "pos"], [1, 0]),
        (["1.", "00"], ["neg", "pos"], [1, 0]),
        (["2.0", "1.0"], ["1", "2"], [1, 0]),
        ([1.0, 0.0], ["neg", "pos"], [1, 0]),
        (["1.0", "1"], ["neg", "pos"], [1, 1]),
        ([True, False], ["False", "True"], [1, 0]),
        (["True", "False"], ["false", "true"], [1, 0]),
    ],
)
def test_whole_numbers_written_with_a_point_are_class_numbers(values, names, units):
    assert ask(values, names=names)[1].tolist() == units


def test_classes_of_a_column_of_floats_are_called_by_whole_numbers():
    labels, array, (said,) = ask(["5.0", "1.0", "10.0", "5.0"])
    assert labels.names == ("1", "5", "10") and array.tolist() == [1, 0, 2, 1]
    assert "1.0 is class 1" in said
    assert ask(["0.0", "1.0", "-1"])[0].names == ("-1", "0", "1")
    assert ask(["1.5", "2.0", "1.5", "2.0"])[0].names == ("1.5", "2.0")
    assert ask(["v1.0", "2.0"])[0].names == ("2.0", "v1.0")
    with pytest.raises(UserError):
        ask(["1.0", "1", "2"])


def test_a_number_between_two_classes_is_no_class_number():
    with pytest.raises(UserError, match=r"Received: '0\.5'"):
        ask(["0.5", "1.0"], names=["neg", "pos"])


def test_many_measured_values_may_be_named_as_classes():
    values = [0.5, 0.7, 0.9]
    assert ask(values, names=["0.5", "0.7", "0.9"])[1].tolist() == [0, 1, 2]


def test_listing():
    assert listing("abcdefg", 5) == "a, b, c, d, e and 2 more"


def test_numbers_that_are_one_in_two_ways_of_writing_are_alike():
    for values in (["100", "1e2"], ["0", "-0.0"], ["1.50", "1.5"]):
        with pytest.raises(UserError, match="Check that the right column"):
            encode(values, ["1", "2"], kind="number")
    with pytest.raises(UserError, match="beyond the precision"):
        encode(["100000000000000000", "100000000000000001"], ["1", "2"], kind="number")
