from decimal import Decimal

import numpy as np
import pytest

from kerasft.data.annotations.classes import encode
from kerasft.errors import UserError


def ask(values, kind="multi", **settings):
    return encode(values, [f"a:{i}" for i in range(1, len(values) + 1)], kind=kind, **settings)


def sets(values, **settings):
    labels, array, _ = ask(values, **settings)
    return [{n for n, on in zip(labels.names, row, strict=True) if on} for row in array]


def fails(values, *words, **settings):
    with pytest.raises(UserError) as caught:
        ask(values, **settings)
    for word in words:
        assert word in str(caught.value)


WRITTEN = {
    "python": ["['red', 'blue']", "['red']", "[]"],
    "json": ['["red", "blue"]', '["red"]', "[]"],
    "numpy": ["['red' 'blue']", "['red']", "[]"],
    "array": ["array(['red', 'blue'], dtype='<U4')", "array(['red'])", "array([], dtype=str)"],
    "numpy scalars": ["[np.str_('red'), np.str_('blue')]", "[np.str_('red')]", ""],
    "tuple": ["('red', 'blue')", "('red',)", "()"],
    "set": ["{'red', 'blue'}", "{'red'}", "set()"],
    "postgres": ["{red,blue}", "{red}", "{}"],
    "bare": ["[red, blue]", "[red]", "[]"],
    "bytes": [b"['red', 'blue']", b"['red']", b""],
    "blanks": [" [ 'red' ,'blue' ] ", "['red']", " "],
}  # fmt: skip


@pytest.mark.parametrize("delimiter", [",", "|", None])
@pytest.mark.parametrize("cells", WRITTEN.values(), ids=list(WRITTEN))
def test_a_text_of_a_list_is_read_as_a_list(cells, delimiter):
    assert sets(cells, delimiter=delimiter) == [{"red", "blue"}, {"red"}, set()]


def test_commas_quotes_and_escapes_within_an_item_belong_to_it():
    assert sets([r'["a, b", "c"]', r'["caf\u00e9\/x"]', r"""['it\'s', "d'e"]"""]) == [
        {"a, b", "c"}, {"café/x"}, {"it's", "d'e"},
    ]  # fmt: skip
    assert sets(["[new york, paris]", "[paris]"]) == [{"new york", "paris"}, {"paris"}]


@pytest.mark.parametrize(
    "cells",
    [["['a', 'b']", "a", "b"], ["['a', 'b']", "[a"], ["[a, b]", "c"], ["[]", "a"],
     ['{"a": 1}', '{"b": 1}'], ["[['a'], ['b']]", "['a']"], ["[0 1 ... 0]", "[1 0 ... 1]"]],
)  # fmt: skip
def test_texts_of_which_some_are_no_lists_are_refused(cells):
    fails(cells, "list", "a:")


def test_brackets_that_belong_to_a_name_stay():
    assert sets(["[UNK]", "b,[UNK]"]) == [{"[UNK]"}, {"b", "[UNK]"}]
    assert sets(["f (x)", "g"]) == [{"f (x)"}, {"g"}]
    assert ask(["[bug]", "[feature]"], kind="single")[0].names == ("[bug]", "[feature]")
    assert sets(["['a', 'b']"], names=["['a', 'b']"], delimiter=None) == [{"['a', 'b']"}]


VECTORS = {
    "ints": [[0, 0, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]],
    "bools": [[False, False, True], [True, False, True], [False, True, False], [False] * 3],
    "floats": [[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0] * 3],
    "arrays": list(np.array([[0, 0, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]])),
    "python": ["[0, 0, 1]", "[1, 0, 1]", "[0, 1, 0]", "[0, 0, 0]"],
    "truth": ["[False, False, True]", "[True, False, True]", "[False, True, False]",
              "[False, False, False]"],
    "json truth": ["[false,false,true]", "[true,false,true]", "[false,true,false]",
                   "[false,false,false]"],
    "numpy": ["[0 0 1]", "[1 0 1]", "[0 1 0]", "[0 0 0]"],
    "numpy floats": ["[0. 0. 1.]", "[1. 0. 1.]", "[0. 1. 0.]", "[0. 0. 0.]"],
    "numpy scalars": ["[np.int64(0), np.int64(0), np.int64(1)]", "[1, 0, 1]", "[0, 1, 0]",
                      "[0, 0, 0]"],
    "bare": ["0,0,1", "1,0,1", "0,1,0", "0,0,0"],
    "other delimiter": ["0 0 1", "1 0 1", "0 1 0", "0 0 0"],
    "texts": [["0", "0", "1"], ["1", "0", "1"], ["0", "1", "0"], ["0", "0", "0"]],
    "blanks around": [["0 ", " 0", "1"], ["1", "0", "1"], ["0", "1", "0"], ["0", "0", "0"]],
    "bytes": [[b"0", b"0", b"1"], [b"1", b"0", b"1"], [b"0", b"1", b"0"], [b"0", b"0", b"0"]],
    "texts of truth": [["False", "False", "True"], ["True", "False", "True"],
                       ["False", "True", "False"], ["False", "False", "False"]],
    "decimals": [[Decimal(n) for n in row] for row in ("001", "101", "010", "000")],
    "quoted": ["['0', '0', '1']", "['1', '0', '1']", "['0', '1', '0']", "['0', '0', '0']"],
    "comma at the end": ["0,0,1,", "1,0,1,", "0,1,0,", "0,0,0,"],
    "semicolon at the end": ["0;0;1;", "1;0;1;", "0;1;0;", "0;0;0;"],
    "yes and no": ["no,no,yes", "yes,no,yes", "no,yes,no", "no,no,no"],
    "yes and no, other delimiter": ["no;no;yes", "yes;no;yes", "no;yes;no", "no;no;no"],
    "lists of yes and no": [["N", "N", "Y"], ["Y", "N", "Y"], ["N", "Y", "N"], ["N", "N", "N"]],
    "truth with bars": ["False|False|True", "True|False|True", "False|True|False",
                        "False|False|False"],
    "tensor": ["tensor([0, 0, 1])", "tensor([1, 0, 1], dtype=torch.int32)",
               "tensor([0, 1, 0], device='cuda:0')", "tensor([0, 0, 0])"],
    "tf.Tensor": ["tf.Tensor([0 0 1], shape=(3,), dtype=int32)",
                  "tf.Tensor([1 0 1], shape=(3,), dtype=int32)",
                  "<tf.Tensor: shape=(3,), dtype=int32, numpy=array([0, 1, 0], dtype=int32)>",
                  "tf.Tensor([0 0 0], shape=(3,), dtype=int32)"],
    "list of tensors": ["[tensor(0), tensor(0), tensor(1)]", "[tensor(1), tensor(0), tensor(1)]",
                        "[tensor(0), tensor(1), tensor(0)]", "[tensor(0), tensor(0), tensor(0)]"],
    "dashes": ["0-0-1", "1-0-1", "0-1-0", "0-0-0"],
    "quoted cells": ['"[0, 0, 1]"', '"[1, 0, 1]"', '"[0, 1, 0]"', '"[0, 0, 0]"'],
}  # fmt: skip


@pytest.mark.parametrize("cells", VECTORS.values(), ids=list(VECTORS))
def test_a_vector_of_0_and_1_has_a_class_for_each_number(cells):
    labels, array, notices = ask(cells)
    assert labels.names == ("0", "1", "2")
    assert array.tolist() == [[0, 0, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert "data.label_names" in " ".join(notices)
    assert sets(cells, names=["a", "b", "c"]) == [{"c"}, {"a", "c"}, {"b"}, set()]


def test_names_that_are_numbers_do_not_change_the_places():
    assert sets([[0, 0, 1], [1, 0, 0]], names=["2", "1", "0"]) == [{"0"}, {"2"}]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([[0, 0, 1], [1, 0]], "a:2 has 2"),
        ([[True, False], [True]], "one length"),
        ([[0, 0, 1], []], "a:2 has 0"),
        ([[0, 0, 1], [0, 0, 2]], "a:2 has [0, 0, 2]"),
        ([[0, -1, 1], [0, 0, 1]], "a:1 has [0, -1, 1]"),
        ([[0.2, 0.8], [1.0, 0.0]], "a:1 has [0.2, 0.8]"),
        ([[0, float("nan")], [1, 0]], "a:1"),
        ([[0, None, 0], [1, 0, 0]], "a:1"),
        ([[[0, 1]], [[1, 0]]], "lists or objects"),
        ([[{"name": "a"}], [{"name": "b"}]], "lists or objects"),
        (["001", "110", "100"], "0,1,0"),
        (["1,,0", "0,1,1"], "a:1 has [1, None, 0]"),
        ([["yes", "no", "no"], ["yes", "no"]], "one length"),
        ([["high", "low", "low"], ["low", "low", "low"]], "data.label_names"),
        (["ja;nein;nein", "nein;nein;ja"], "a:1 has ['ja', 'nein', 'nein']"),
    ],
)
def test_what_is_neither_a_vector_nor_labels_is_refused_with_its_row(cells, said):
    fails(cells, said, delimiter=";" if "ja" in str(cells[0]) else ",")


def test_words_that_are_listed_as_names_are_labels():
    votes = [["high", "low", "low"], ["low", "low", "low"]]
    assert sets(votes, names=["low", "high"]) == [{"high", "low"}, {"low"}]
    assert sets([["yes", "no"], ["no", "no"]], names=["yes", "no"]) == [{"yes", "no"}, {"no"}]
    assert sets([["1", "2", "2"], ["2", "2", "2"]], names=["1", "2"]) == [{"1", "2"}, {"2"}]


def test_lists_of_words_stay_lists_of_labels():
    assert sets([["yes", "maybe"], ["no"]]) == [{"yes", "maybe"}, {"no"}]
    assert sets([["yes"], ["no"]]) == [{"yes"}, {"no"}]
    assert sets([["007", "008"], ["007"]]) == [{"007", "008"}, {"007"}]
    assert sets(["a,b,", "a,"]) == [{"a", "b"}, {"a"}]
    assert sets(["1-0", "1-1", "0-0"]) == [{"1-0"}, {"1-1"}, {"0-0"}]  # scores of a match
    notices = ask([["a", "a", "b"], ["b", "b", "c"]])[2]
    assert "a:1 has ['a', 'a', 'b']" in " ".join(notices)


def test_labels_that_a_delimiter_cuts_out_of_brackets_or_quotes_are_refused():
    for cell in ("f (x, y),z", '"[""a,"",""b]', "[a, b], c", '"a,b"', "(0, 18]"):
        fails([cell, "z"], "a:1 has", "data.label_delimiter", "data.label_names")
    assert sets(["f (x, y)", "z"], delimiter=None) == [{"f (x, y)"}, {"z"}]
    assert sets(["(0, 18]", "z"], names=["(0", "18]", "z"]) == [{"(0", "18]"}, {"z"}]
    assert sets([":(,:)", ":),a", '5" disk,b']) == [{":(", ":)"}, {":)", "a"}, {'5" disk', "b"}]


def test_a_list_that_is_quoted_like_a_cell_is_read():
    assert sets(['"[""a"",""b""]"', '"[""b""]"']) == [{"a", "b"}, {"b"}]


def test_objects_and_lists_that_numpy_cut_have_words_of_their_own():
    fails(['{"red": 1}', '{"blue": 1}'], "objects", "data.label_names")
    fails(["[0 1 ... 0]", "[1 0 ... 1]"], "numpy has shortened", "tolist()")


def test_names_must_be_as_many_as_the_numbers_of_a_vector():
    fails([[0, 0, 1], [1, 0, 1]], "must list 3 names", names=["a", "b"])


def test_lists_of_class_numbers_stay_what_they_are():
    assert sets([[0, 2], [1], []]) == [{"0", "2"}, {"1"}, set()]
    assert sets([[3, 7], [2, 5]]) == [{"3", "7"}, {"2", "5"}]
    assert sets([[0], [1], [0, 1]]) == [{"0"}, {"1"}, {"0", "1"}]
    assert sets([[1, 1, 3], [2]]) == [{"1", "3"}, {"2"}]  # a class that is seen twice
    assert sets([[0, 1], [0, 1]], names=["a", "b", "c"]) == [{"a", "b"}, {"a", "b"}]


def test_one_hot_vectors_are_plain_classes():
    for cells in ([[0, 0, 1], [1, 0, 0]], ["[0, 0, 1]", "[1, 0, 0]"], [[0.0, 0, 1.0], [1, 0, 0]]):
        labels, array, _ = ask(cells, kind="single", names=["a", "b", "c"])
        assert labels.names == ("a", "b", "c")
        assert array.dtype == np.int64
        assert array.tolist() == [2, 0]
    assert ask([[0, 1], [1, 0]], kind="single")[0].names == ("0", "1")


@pytest.mark.parametrize(
    "cells",
    [[[0, 0, 1], [1, 1, 0]], [[0, 1], [0, 0]], [[0, 1], [1]], [[0.2, 0.8], [1, 0]],
     ["['a', 'b']", "['b']"], ["[a, b]", "[b]"], ["['a', 'b']", "b"]],
)  # fmt: skip
def test_several_labels_are_refused_where_an_example_has_one(cells):
    fails(cells, "a:", kind="single")


def test_intervals_may_be_classes():
    cells = ["[0, 18]", "[19, 25]"]
    fails(cells, "data.label_names", kind="single")
    assert ask(cells, kind="single", names=cells)[0].names == tuple(cells)


@pytest.mark.parametrize(
    "cells",
    [["0 0 1", "1 0 0"], ["0,0,1", "1,0,0"], [["0", "0", "1"], ["1", "0", "0"]],
     ["tensor([0, 0, 1])", "tensor([1, 0, 0])"], [["no", "no", "yes"], ["yes", "no", "no"]]],
)  # fmt: skip
def test_one_hot_vectors_are_plain_classes_however_they_are_written(cells):
    labels, array, notices = ask(cells, kind="single")
    assert labels.names == ("0", "1", "2") and array.tolist() == [2, 0]
    assert "vectors of 0 and 1" in " ".join(notices)


def test_classes_that_look_like_several_labels_are_mentioned():
    for cells in (["red", "blue", "red,blue"], ["a;b", "b;c", "c;a"], ["a|b", "a", "b"],
                  ["1 0 1", "0 1 1", "0 0 1"], ["101", "011", "001"]):  # fmt: skip
        assert "task=multi_label" in " ".join(ask(cells, kind="single")[2])
    for cells in (["very good", "good", "very bad", "bad"], ["C", "C++"], ["new york, ny", "b"],
                  ["animal|cat", "animal|dog"], ["1,0", "2,0"], ["2020-01-01", "2020-01-02"]):
        assert not ask(cells, kind="single")[2]


def test_a_number_in_brackets_is_that_number():
    assert ask(["[0]", "[1]"], kind="single")[0].names == ("0", "1")
    assert ask(["tensor(1)", "np.int64(0)"], kind="single")[0].names == ("0", "1")


def test_labels_and_lists_of_one_are_not_mixed():
    fails([["a"], "b"], "lists of one, and others are not", "a:1 has ['a']", kind="single")
    fails([{"a": 1}, "b"], "out of each object", "a:1 has {'a': 1}", kind="single")


def test_a_list_of_one_label_is_that_label():
    assert ask([["a"], ["b"]], kind="single")[0].names == ("a", "b")
    assert ask(["['a']", "['b']"], kind="single")[0].names == ("a", "b")


@pytest.mark.parametrize("sign", ["|", ";", "/", " ", "\t", "+", "、"])
def test_labels_joined_by_another_delimiter_are_mentioned(sign):
    cells = [f"a{sign}b", "b", f"c{sign}a", "c"]
    _, _, notices = ask(cells)
    assert f"set data.label_delimiter={sign!r} (it is ',')" in " ".join(notices)
    assert sets(cells, delimiter=sign) == [{"a", "b"}, {"b"}, {"a", "c"}, {"c"}]
    assert "label_delimiter" not in " ".join(ask(cells, delimiter=sign)[2])


def test_names_of_several_words_are_no_lists():
    for cells in (["red wine", "white wine", "red meat", "white meat"], ["a/b", "c"], ["new york"]):
        assert not [notice for notice in ask(cells)[2] if "delimiter" in notice]
