import numpy as np
import pytest

from kerasft.data.labels import encode
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
    ],
)
def test_what_is_neither_a_vector_nor_labels_is_refused_with_its_row(cells, said):
    fails(cells, said)


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
