import numpy as np
from table_files import ask, write


def test_a_limit_keeps_an_example_of_each_class(tmp_path):
    rows = [(f"text {i}", f"c{i % 10}") for i in range(400)]
    splits = ask(write(tmp_path / "a.csv", rows), limit=12)
    assert sorted(set(splits.train.labels)) == list(range(10))
    assert len(splits.train) == len(set(splits.train.ids)) == 12
    assert not splits.notices


def test_a_limit_below_the_number_of_classes_names_those_that_are_left_out(tmp_path):
    rows = [(f"text {i}", f"c{i % 10}") for i in range(400)]
    splits = ask(write(tmp_path / "a.csv", rows), limit=7)
    assert len(set(splits.train.labels)) == len(splits.train) == 7
    assert "No training example carries the label" in splits.notices[-1]
    assert "data.limit=7" in splits.notices[-1]


def test_a_limit_keeps_an_example_of_each_of_several_labels(tmp_path):
    rows = [(f"text {i}", f"a,c{i // 40}" if i % 40 < 4 else "a") for i in range(400)]
    splits = ask(write(tmp_path / "a.csv", rows), kind="multi", limit=12)
    assert splits.train.labels.any(axis=0).all()
    assert len(set(splits.train.ids)) == 12


def test_a_limit_that_holds_all_classes_takes_the_first_of_a_shuffle(tmp_path):
    path = write(tmp_path / "a.csv")
    whole, part = ask(path), ask(path, limit=10)
    order = np.random.default_rng(0).permutation(len(whole.train))
    assert set(part.train.ids) == {whole.train.ids[i] for i in order[:10]}


def test_a_limit_that_leaves_numbers_all_alike_is_told(tmp_path):
    rows = [(f"text {i}", 7 if i else 8) for i in range(100)]
    assert "all alike" in ask(write(tmp_path / "a.csv", rows), kind="number", limit=3).notices[-1]


def test_times_stay_apart(tmp_path):
    rows = [(f"text {i}", 1_700_000_000 + i) for i in range(40)]
    splits = ask(write(tmp_path / "a.csv", rows), kind="number")
    assert len({y for part in splits.parts.values() for y in part.labels}) == 40
