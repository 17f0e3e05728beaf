"""Texts that are changed before they are tokenized, in the batches of training."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from kerasft.data import activations, changed_texts
from kerasft.data.changed_texts import TextAugmenter
from kerasft.data.order import Order
from kerasft.data.pipeline import Batches
from kerasft.data.preprocessing import prepare
from kerasft.data.words import DeleteWords, SwapWords
from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.raw_input import as_raw
from kerasft.rows import Rows, padded_width
from kerasft.spec import Examples

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "it", "is"]
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, i % 9)) for i in range(30)]
PAIRS = list(zip(TEXTS, reversed(TEXTS), strict=True))
STEPS = {"delete": DeleteWords(rate=0.3, share=0.8), "swap": SwapWords(rate=0.3, share=0.8)}


@functools.cache
def preprocess(family: str = "bert", pair: bool = False):
    return tiny.text(family, sequence_length=14, layers=1).preprocess.paired(pair)


def augmenter(*, family="bert", pair=False, seed=0, steps=STEPS, epochs=None):
    return TextAugmenter(steps, PAIRS if pair else TEXTS, preprocess(family, pair), seed, epochs)


def batches(made: TextAugmenter, order: Order | None = None) -> Batches:
    examples = Examples("text", made.texts, np.zeros(30, "int64"), tuple(map(str, range(30))))
    store = prepare(examples, made.preprocess)
    order = order or Order(30, 8, seed=1, lengths=store.lengths)
    targets = Rows.of({"labels": np.arange(30, dtype="float32")})
    return Batches(
        store, targets, order=order, batch=lambda inputs, found: (found["labels"], None),
        augment=made,
    )  # fmt: skip


@pytest.mark.every(9)
@pytest.mark.parametrize(("family", "pair"), [
    ("bert", False), ("bert", True),
    *(pytest.param(family, pair, marks=pytest.mark.slow)
      for family in ("gpt2", "llama", "roberta") for pair in (False, True)),
])  # fmt: skip
def test_batches_hold_what_the_changed_texts_are_tokenized_to(family, pair):
    made = augmenter(family=family, pair=pair)
    whole, changed = batches(made), 0
    for step, (x, y) in enumerate(whole.from_step().take(2 * whole.steps)):
        epoch, numbers = whole.order.draws(step)
        np.testing.assert_array_equal(y, numbers)
        texts = [made.text(epoch, int(number)) for number in numbers]
        changed += sum(text != made.texts[n] for text, n in zip(texts, numbers, strict=True))
        wanted = made.preprocess(as_raw(texts, "text"))
        width = wanted["token_ids"].shape[1]
        assert set(x) == set(wanted)
        for name, values in x.items():
            assert values.shape == (len(numbers), padded_width(np.array([width]), 14))
            np.testing.assert_array_equal(values[:, :width], wanted[name])
            fill = made.preprocess.pad if name == "token_ids" else 0
            assert (values[:, width:].numpy() == fill).all()
    assert changed > 30


def test_a_text_follows_from_seed_epoch_and_example_alone():
    made, again = augmenter(), augmenter()
    found = [[made.text(epoch, n) for n in range(30)] for epoch in range(3)]
    assert found == [[again.text(epoch, n) for n in range(30)] for epoch in range(3)]
    other = augmenter(seed=1)
    long = [n for n in range(30) if len(TEXTS[n].split()) > 4]
    for one, two in ((0, 1), (1, 2)):
        assert sum(found[one][n] != found[two][n] for n in long) > len(long) / 2
    assert sum(found[0][n] != other.text(0, n) for n in long) > len(long) / 2
    # What comes twice in an epoch is changed otherwise the second time.
    assert sum(found[0][n] != made.text(0, n + 30) for n in long) > len(long) / 2
    # A step draws the same, whatever other steps there are.
    alone = augmenter(steps={"swap": STEPS["swap"]}, seed=0)
    after = TextAugmenter({"none": lambda text, random: text, **alone.steps}, TEXTS, None, 0)
    assert [alone.text(0, n) for n in range(30)] == [after.text(0, n) for n in range(30)]


@pytest.mark.slow
def test_a_batch_is_the_same_wherever_one_begins():
    whole = list(batches(augmenter()).from_step().take(8))
    late = list(batches(augmenter()).from_step(5).take(2))
    for (x, y), (again, targets) in zip(whole[5:7], late, strict=True):
        np.testing.assert_array_equal(y, targets)
        for name in x:
            np.testing.assert_array_equal(x[name], again[name])


def test_no_text_is_left_empty():
    made = TextAugmenter({"all": lambda text, random: ""}, ["a film", ""], None, 0)
    assert (made.text(0, 0), made.text(0, 1)) == ("a film", "")


def test_steps_end_by_themselves():
    steps = {"delete": DeleteWords(0.9, 1.0, stop=-1), "swap": SwapWords(0.5, 1.0, stop=0.5)}
    made = augmenter(steps=steps).planned(4)
    assert made.ends == {"delete": 3, "swap": 2}
    long = next(text for text in TEXTS if len(text.split()) == 8)
    number = TEXTS.index(long)
    assert made.text(3, number) == long
    assert 1 <= len(made.text(2, number).split()) < 8
    assert augmenter(steps=steps).ends == {}


def test_each_view_of_kept_activations_is_of_the_texts_of_its_epoch():
    made = augmenter()
    source = activations.Source(batches(made).store, made, views=2)

    def prefix(inputs):
        return {"ids": inputs["token_ids"], "sum": inputs["token_ids"].numpy().sum(1)[:, None]}

    class Eager:
        def __call__(self, inputs):
            import tensorflow as tf

            return {name: tf.constant(value) for name, value in prefix(inputs).items()}

    from kerasft.data.store import Form

    forms = {"ids": Form("int32", (), ragged=True), "sum": Form("int32", (1,))}
    kept = activations.compute(Eager(), forms, source, batch_size=8)
    for epoch in range(4):  # two views, in turn
        for number in range(30):
            text = made.text(epoch % 2, number)
            wanted = made.preprocess(as_raw([text], "text"))["token_ids"][0]
            found = kept.gather(np.array([number]), view=epoch)
            np.testing.assert_array_equal(found["ids"][0][: len(wanted)], wanted)
            assert found["sum"][0, 0] == np.sum(wanted)


@pytest.mark.parametrize(("steps", "modality", "said"), [
    ({"delete": DeleteWords()}, "images", r"augment\.delete changes texts, but the data is images"),
    ({"flip": object()}, "text", r"augment\.flip changes images, but the data is text"),
])  # fmt: skip
def test_steps_for_other_inputs_are_refused(steps, modality, said):
    with pytest.raises(UserError, match=said):
        changed_texts.require_changers(steps, modality)
