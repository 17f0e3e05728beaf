from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from kerasft.data import fingerprint as fingerprinting
from kerasft.data.fingerprint import (
    digests_of,
    fingerprint,
    fingerprints,
    firsts,
    hexed,
    ranked,
)
from kerasft.data.order import Order, keys, shuffle
from kerasft.rows import padded
from kerasft.spec import Examples

seeds = st.integers(0, 2**70)
epochs = st.integers(0, 2**40)
sizes = st.integers(1, 40)


@st.composite
def orders(draw, kinds=("plain", "lengths", "positions")):
    """Draw the arguments of an order of up to 300 examples, of one of the kinds."""
    count = draw(st.integers(1, 300))
    made = {"count": count, "batch_size": draw(sizes), "seed": draw(seeds)}
    if draw(st.booleans()):
        different = draw(st.integers(1, 300))
        made["keys"] = keys(f"row {i % different}" for i in range(count))
    kind = draw(st.sampled_from(kinds))
    if kind != "plain":
        widest = draw(st.integers(1, 200))
        made["lengths"] = np.random.default_rng(count).integers(1, widest + 1, count)
    if kind == "positions":
        made["positions"] = draw(st.integers(1, 2000))
        made["longest"] = widest
    return made


def listed(batches) -> list[list[int]]:
    return [list(map(int, batch)) for batch in batches]


@given(orders(), epochs)
def test_an_epoch_holds_every_example_once(made, epoch):
    order = Order(**made)
    batches = order.epoch(epoch)
    assert len(batches) == order.steps
    assert all(len(batch) for batch in batches)
    assert sorted(np.concatenate(batches)) == list(range(order.count))


@given(orders(), epochs)
def test_no_batch_is_larger_than_it_may_be(made, epoch):
    for batch in Order(**made).epoch(epoch):
        if "positions" in made:
            room = len(batch) * int(padded(made["lengths"][batch].max(), made["longest"]))
            assert room <= made["positions"] or len(batch) == 1
        else:
            assert len(batch) <= made["batch_size"]


@given(orders(), st.data())
def test_a_step_is_the_same_wherever_one_begins(made, data):
    whole = Order(**made)
    steps = range(3 * whole.steps)
    wanted = [(epoch, list(batch)) for epoch, batch in map(whole.batch, steps)]
    first = data.draw(st.integers(0, len(steps) - 1))
    again = Order(**made)
    for step in (*steps[first:], *reversed(steps[:first])):
        epoch, batch = again.batch(step)
        assert (epoch, list(batch)) == wanted[step]


@given(orders(), st.integers(1, 50), st.integers(0, 10**6))
def test_the_shards_of_a_step_are_a_partition_of_it(made, of, step):
    epoch, batch = Order(**made).batch(step)
    # Each worker has an order of its own.
    shards = [Order(**made).shard(step, number, of) for number in range(of)]
    assert {e for e, _ in shards} == {epoch}
    assert sorted(i for _, shard in shards for i in shard) == sorted(batch)
    sizes = [len(shard) for _, shard in shards]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


def test_a_batch_smaller_than_the_workers_leaves_the_last_ones_without():
    order = Order(10, 4, seed=0)
    assert [len(order.shard(2, number, 5)[1]) for number in range(5)] == [1, 1, 0, 0, 0]
    for number, of in ((-1, 2), (2, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"Received: {number} of {of}"):
            order.shard(0, number, of)


names = st.lists(st.text(max_size=6), min_size=1, max_size=60, unique=True)


def in_turn(texts: list[str], seed: int, epoch: int) -> list[str]:
    """Return texts in the order of an epoch that goes by their content."""
    order = Order(len(texts), 4, seed=seed, keys=keys(fingerprint(t, "text") for t in texts))
    return [texts[i] for i in np.concatenate(order.epoch(epoch))]


@given(names, st.data(), seeds, epochs)
def test_rows_added_taken_out_or_listed_elsewhere_leave_the_others_in_order(
    texts, data, seed, epoch
):
    fewer = [text for text in texts if data.draw(st.booleans())]
    if not fewer:
        return
    wanted = [text for text in in_turn(texts, seed, epoch) if text in fewer]
    assert in_turn(data.draw(st.permutations(fewer)), seed, epoch) == wanted


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.data(), seeds)
def test_copies_too_keep_their_places_among_the_others(texts, data, seed):
    added = [*texts, "d", *data.draw(st.lists(st.sampled_from("abc")))]
    both = keys(added)
    assert len(set(both)) == len(both)
    assert (both[: len(texts)] == keys(texts)).all()
    before, after = shuffle(keys(texts), seed, 0), shuffle(both, seed, 0)
    assert [i for i in after if i < len(texts)] == list(before)


def test_without_keys_examples_added_at_the_end_leave_the_others_in_order():
    before, after = (np.concatenate(Order(n, 8, seed=0).epoch(5)) for n in (900, 1000))
    assert [i for i in after if i < 900] == list(before)


def test_an_added_row_moves_what_stands_behind_it_by_one_place():
    texts = [f"text {i}" for i in range(1000)]
    before, after = in_turn(texts, 0, 0), in_turn(["one more", *texts], 0, 0)
    place = after.index("one more")
    assert after[:place] == before[:place] and after[place + 1 :] == before[place:]


@pytest.mark.parametrize("kind", ["plain", "lengths", "positions"])
def test_seeds_and_epochs_have_orders_of_their_own(kind):
    lengths = None if kind == "plain" else np.random.default_rng(0).integers(3, 60, 230)
    positions = 400 if kind == "positions" else None
    seen = set()
    for seed in (0, 1, 2**32, 2**64):
        order = Order(230, 8, seed=seed, lengths=lengths, positions=positions)
        for epoch in (0, 1, 2, 2**32):
            batches = order.epoch(epoch)
            seen.add(str(listed(batches)))
            # Not the same batches in another order either.
            seen.add(str(sorted(map(sorted, listed(batches)))))
    assert len(seen) == 2 * 4 * 4


@pytest.mark.parametrize("kind", ["numbers", "keys"])
def test_each_example_stands_anywhere_as_often(kind):
    count, epochs = 20, 6000
    given = count if kind == "numbers" else keys(f"row {i}" for i in range(count))
    places = np.zeros((count, count), int)
    pairs = np.zeros((count, count), int)
    for epoch in range(epochs):
        order = shuffle(given, 7, epoch)
        places[order, np.arange(count)] += 1
        pairs[order[:-1], order[1:]] += 1
    # Each row and column of places sums up to the epochs: (count - 1) ** 2 of them are free.
    assert chisquare(places.ravel(), ddof=2 * count - 2).pvalue > 0.001
    assert chisquare(pairs[~np.eye(count, dtype=bool)]).pvalue > 0.001


def test_neighbouring_seeds_and_epochs_have_nothing_in_common():
    orders = [np.argsort(shuffle(2000, seed, epoch)) for seed in range(6) for epoch in range(6)]
    found = np.corrcoef(orders)[np.triu_indices(36, 1)]
    assert np.abs(found).max() < 4.5 / np.sqrt(2000)


def test_the_order_is_the_same_on_any_machine():
    assert listed(Order(10, 4, seed=3).epoch(2)) == [[3, 9, 2, 5], [8, 6, 0, 7], [1, 4]]
    assert keys(["a", "b", "a", "é\ud800"]).tolist() == [
        4681665781835383343, 9543904841865449333, 13903005650275010304, 5476222202089734271,
    ]  # fmt: skip


def test_examples_with_the_same_key_keep_their_order():
    assert shuffle(np.full(9, 5, "uint64"), 0, 0).tolist() == list(range(9))


def test_as_many_keys_and_lengths_are_asked_for_as_there_are_examples():
    for name in ("keys", "lengths"):
        with pytest.raises(ValueError, match=f"`{name}` must hold one value .* 3 for 4"):
            Order(4, 2, seed=0, **{name: np.arange(3, dtype="uint64")})


@pytest.mark.slow
def test_a_run_orders_its_examples_by_what_they_hold(tmp_path, texts_csv):
    """With rows at the front, whose line numbers are the ids of others, the rest stays in order."""
    from kerasft.config.composition import compose
    from kerasft.steps.preparing import prepare

    def epoch(path):
        cfg = compose([
            "data=table", f"data.path={path}", "data.text=text", "data.label=label",
            "data.split=hash", "backbone=tiny_bert", "backbone.sequence_length=24",
            "batch_size=8", "length_grouping=false", f"cache.directory={tmp_path}",
        ])
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        ready = prepare.make_ready(cfg, parts, splits, prepare.load_backbone(cfg, splits))
        order = np.concatenate(ready.batches.order.epoch(3))
        return [splits.train.inputs[i] for i in order]

    header, *lines = texts_csv.read_text("utf-8").splitlines()
    more = tmp_path / "more.csv"
    more.write_text("\n".join([header, "a new film,pos", "an odd one,neg", *lines[::-1]]), "utf-8")
    old, new = epoch(texts_csv), epoch(more)
    assert 30 < len(old) <= len(new)
    assert [text for text in new if text in set(old)] == old


def test_keys_of_fingerprints_are_those_of_their_names():
    texts = ["a", "b", "a", "c", "a", "b", *map(str, range(50))]
    digests = digests_of(texts, "text")
    np.testing.assert_array_equal(keys(digests), keys(hexed(digests)))
    assert len(set(keys(digests).tolist())) == len(texts)
    order, first = ranked(digests)
    assert [hexed(digests)[i] for i in order] == sorted(hexed(digests))
    names = hexed(digests)
    assert order[first].tolist() == [names.index(one) for one in sorted(set(names))]
    assert firsts(digests)[:6].tolist() == [0, 1, 0, 3, 0, 1]
    assert not len(keys(digests[:0])) and not len(firsts(digests[:0]))


def test_fingerprints_are_computed_once_and_anew_for_a_changed_file(tmp_path, monkeypatch):
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_text(file.name)
    part = Examples("images", list(map(str, files)), np.zeros(2, "int64"), ("a", "b"))
    first = fingerprints(part)
    files[1].write_text("other")
    assert hexed(fingerprints(part)) == [hexed(first)[0], fingerprint(b"other", "images")]
    texts = Examples("text", ["a", "b", "c"], np.zeros(3, "int64"), ("1", "2", "3"))
    found = fingerprints(texts)
    monkeypatch.setattr(fingerprinting, "digests_of", None)  # cannot be called
    assert hexed(fingerprints(texts.take([2, 0]))) == [hexed(found)[2], hexed(found)[0]]
    changed = replace(texts, inputs=["x", "y", "z"])
    assert changed.noted is None  # those of other inputs are never taken over
