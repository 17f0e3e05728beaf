import time

import numpy as np
import pytest
from table_files import ask, write

from kerasft.data.annotations import cover
from kerasft.spec import Labels


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


def limited(train, limit, seed, labels, array):
    """What a limit keeps, by the rule as it is written."""
    order = np.random.default_rng(seed).permutation(train)
    held = array[:, None] == np.arange(len(labels.names)) if array.ndim == 1 else array > 0
    chosen, counts = list(order[:limit]), held[order[:limit]].sum(axis=0)
    for unit in np.flatnonzero((counts == 0) & held[order].any(axis=0)):
        if counts[unit]:
            continue
        new = next(i for i in order[limit:] if held[i, unit])
        spare = (n for n in reversed(range(limit)) if (counts[held[chosen[n]]] > 1).all())
        if (place := next(spare, None)) is not None:
            counts = counts + held[new] - held[chosen[place]].astype(int)
            chosen[place] = new
    return chosen


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_limit_keeps_what_the_rule_says(kind):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        classes, count = int(rng.integers(2, 30)), int(rng.integers(5, 120))
        labels = Labels(kind, tuple(map(str, range(classes))))
        array = (rng.exponential(classes / 4, count) % classes).astype("int64")
        if kind == "multi":
            array = (rng.random((count, classes)) < rng.random(classes) * 0.2).astype("float32")
        train = np.flatnonzero(rng.random(count) < 0.8)
        limit = int(rng.integers(1, max(2, len(train))))
        found = cover.limited(train, limit, seed, labels, array)
        assert found.tolist() == limited(train, min(limit, len(train)), seed, labels, array)


def test_a_limit_among_thousands_of_classes_takes_seconds():
    labels = Labels("single", tuple(map(str, range(5000))))
    array = np.concatenate([np.arange(5000), np.zeros(95_000, "int64")])
    began = time.perf_counter()
    assert len(set(array[cover.limited(np.arange(100_000), 2000, 0, labels, array)])) == 2000
    assert time.perf_counter() - began < 10  # once it was two minutes
