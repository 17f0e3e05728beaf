import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.data.fingerprint import digests_of, hexed
from kerasft.data.splits import TEST, TRAIN, VALIDATION, check_ratios, divide, position, split_name
from kerasft.errors import UserError

ratios = st.sampled_from([0.0, 0.1, 0.15, 0.3])
groups = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=120)


@given(groups, ratios, ratios, st.sampled_from(["stratified", "hash"]), st.integers(0, 5))
def test_no_group_stands_in_two_splits(rows, validation, test, method, seed):
    keys = [str(key) for key, _ in rows]
    codes = divide(
        keys, strata=[c for _, c in rows], validation=validation, test=test, method=method,
        seed=seed,
    )  # fmt: skip
    for key in set(keys):
        assert len({int(c) for k, c in zip(keys, codes, strict=True) if k == key}) == 1
    if validation == 0:
        assert VALIDATION not in codes
    if test == 0:
        assert TEST not in codes


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 3))
def test_each_class_gives_its_part_and_keeps_some_to_train_on(sizes, seed):
    strata = np.repeat(np.arange(len(sizes)), sizes)
    keys = [f"file{i}" for i in range(len(strata))]
    codes = divide(keys, strata=strata, validation=0.2, test=0.1, seed=seed)
    for stratum, size in enumerate(sizes):
        found = np.bincount(codes[strata == stratum], minlength=3)
        assert found[TRAIN] >= 1
        if size == 1:
            assert found.tolist() == [1, 0, 0]
        elif size == 2:
            assert found.tolist() == [1, 1, 0]
        else:
            assert found[VALIDATION] == max(1, round(0.2 * size))
            assert found[TEST] == max(1, round(0.1 * size))


@given(st.sets(st.text(), min_size=1), st.sets(st.text()), st.integers(0, 3))
def test_hash_moves_nothing_when_examples_are_added(old, new, seed):
    def codes(keys):
        keys = sorted(keys)
        return dict(
            zip(keys, divide(keys, validation=0.2, test=0.2, method="hash", seed=seed), strict=True)
        )

    before, after = codes(old), codes(old | new)
    assert all(after[key] == before[key] for key in old)


def test_stratified_moves_little_when_examples_are_added():
    keys = [f"file{i}" for i in range(1000)]
    before = divide(keys[:900], validation=0.15, test=0.15)
    after = divide(keys, validation=0.15, test=0.15)[:900]
    assert (before != after).mean() < 0.05


def test_order_of_examples_does_not_matter_and_seed_does():
    keys = [f"file{i}" for i in range(200)]
    forward = divide(keys, validation=0.2, test=0.2, seed=1)
    backward = divide(keys[::-1], validation=0.2, test=0.2, seed=1)[::-1]
    assert (forward == backward).all()
    assert (forward != divide(keys, validation=0.2, test=0.2, seed=2)).any()


@given(groups, ratios, ratios, st.sampled_from(["stratified", "hash"]), st.data())
def test_the_order_of_rows_does_not_matter_whatever_the_groups(
    rows, validation, test, method, data
):
    def codes(rows):
        return divide([f"{key}" for key, _ in rows], strata=[c for _, c in rows],
                      validation=validation, test=test, method=method)

    order = data.draw(st.permutations(range(len(rows))))
    assert (codes([rows[i] for i in order]) == codes(rows)[list(order)]).all()


@given(groups, ratios, ratios, st.integers(0, 5))
def test_groups_bring_each_class_as_near_to_its_part_as_they_can(rows, validation, test, seed):
    # A class a group, so that no group counts for another class.
    rows = [(f"{key} of {c}", c) for key, c in rows]
    strata = np.array([c for _, c in rows])
    codes = divide([key for key, _ in rows], strata=strata, validation=validation, test=test,
                   seed=seed)
    assert set(codes) <= {TRAIN, VALIDATION, TEST}
    for stratum in set(strata):
        of_class = [key for key, c in rows if c == stratum]
        largest = max(map(of_class.count, of_class))
        found = np.bincount(codes[strata == stratum], minlength=3)
        assert found[TRAIN] >= 1
        for part, ratio in ((VALIDATION, validation), (TEST, test)):
            quota = max(1, round(ratio * len(of_class)))
            assert found[part] <= (quota + largest / 2 if ratio else 0)


@given(st.integers(1, 80), st.integers(1, 20), ratios, ratios, st.integers(0, 5))
def test_an_added_row_moves_three_of_its_class_at_most(count, more, validation, test, seed):
    def codes(count):
        return divide([f"file{i}" for i in range(count)], validation=validation, test=test,
                      seed=seed)

    assert (codes(count) != codes(count + more)[:count]).sum() <= 3 * more


def test_large_groups_fill_the_quota_as_nearly_as_they_can():
    keys = [f"patient{i % 5}" for i in range(100)]
    codes = divide(keys, validation=0.15, test=0.15)
    assert np.bincount(codes).tolist() == [60, 20, 20]


def test_hash_meets_the_parts_on_average():
    codes = divide([str(i) for i in range(20_000)], validation=0.15, test=0.1, method="hash")
    assert np.bincount(codes) / 20_000 == pytest.approx([0.75, 0.15, 0.1], abs=0.01)


@given(st.text(), st.integers())
def test_position_is_in_the_unit_interval(key, seed):
    assert 0 <= position(key, seed) < 1


def test_words_for_splits():
    assert [split_name(w) for w in ("Train", "val", "valid", "dev", "TEST", "cats")] == [
        "train", "validation", "validation", "validation", "test", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("validation", "test", "method", "said"),
    [
        (0.5, 0.5, "stratified", "below 1"),
        (0, 0.1, "stratified", "data.validation must be above 0"),
        (1.5, 0.1, "stratified", "data.validation=1.5"),
        (0.1, -0.1, "hash", "data.test=-0.1"),
        (True, 0.1, "hash", "data.validation=True"),
        (0.1, 0.1, "stratifed", "Did you mean 'stratified'?"),
    ],
)
def test_bad_ratios(validation, test, method, said):
    with pytest.raises(UserError) as caught:
        check_ratios(validation, test, method)
    assert said in " ".join(caught.value.problems)


def test_all_bad_ratios_at_once():
    with pytest.raises(UserError) as caught:
        check_ratios(2, 2, "x")
    assert len(caught.value.problems) == 3


def test_ratios_of_splits_that_the_data_brings_are_not_asked():
    check_ratios(0, 7, "hash", brought=["train", "validation", "test"])


@pytest.mark.parametrize("method", ["stratified", "hash"])
def test_fingerprints_as_numbers_divide_as_their_names_do(method):
    random = np.random.default_rng(0)
    digests = digests_of([f"text {n}" for n in random.integers(0, 300, 400)], "text")
    strata = random.integers(0, 3, 400)
    how = {"strata": strata, "validation": 0.2, "test": 0.1, "method": method, "seed": 3}
    np.testing.assert_array_equal(divide(digests, **how), divide(hexed(digests), **how))
