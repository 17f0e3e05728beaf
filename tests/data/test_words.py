"""Words that are left out of texts, and words that change places."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.data import words
from kerasft.data.changed_texts import unchangeable
from kerasft.data.words import DeleteWords, SwapWords

texts = st.text(alphabet=st.sampled_from("ab é \t\n\u3000新字กข."), max_size=30)
rates = st.floats(0.01, 1)


@given(texts)
def test_words_and_gaps_together_are_the_text(text):
    found, gaps = words.split(text)
    assert "".join(gap + word for gap, word in zip(gaps, [*found, ""], strict=True)) == text
    assert all(word and not any(map(str.isspace, word)) for word in found)
    assert not "".join(gaps).strip()


@given(texts, rates, st.integers(0, 1000))
def test_deletion_leaves_words_in_their_order_and_at_least_one(text, rate, seed):
    made = DeleteWords(rate=rate, share=1.0)(text, Random(seed))
    before, after = words.split(text)[0], words.split(made)[0]
    left = iter(before)
    assert all(word in left for word in after)  # in order
    assert bool(after) == bool(before)
    if len(before) < 2:
        assert made == text
    ends = words.split(text)[1]
    assert made.startswith(ends[0]) and made.endswith(ends[-1])


@given(texts, rates, st.integers(0, 1000))
def test_a_swap_keeps_all_words_and_all_gaps(text, rate, seed):
    made = SwapWords(rate=rate, share=1.0)(text, Random(seed))
    (before, gaps), (after, others) = words.split(text), words.split(made)
    # Two characters that are words may come to stand beside letters, without a gap either way.
    assert Counter("".join(before)) == Counter("".join(after))
    if not any(sign > "\u3000" for sign in text):
        assert Counter(before) == Counter(after) and gaps == others
    if len(before) < 2:
        assert made == text


def test_a_word_is_left_out_as_often_as_it_should_be():
    text, step = "one two three four five six seven eight nine ten", DeleteWords(0.2, 0.5)
    made = [step(text, Random(seed)) for seed in range(2000)]
    changed = [one for one in made if one != text]
    # Half of the texts are changed, but for those in which chance left all ten words.
    assert len(changed) / 2000 == pytest.approx(0.5 * (1 - 0.8**10), abs=0.04)
    lost = sum(10 - len(one.split()) for one in made) / 2000
    assert lost == pytest.approx(0.5 * 0.2 * 10, abs=0.1)


def test_as_many_pairs_change_places_as_should():
    text = " ".join(map(str, range(20)))
    step = SwapWords(rate=0.1, share=1.0)
    moved = [
        sum(a != b for a, b in zip(text.split(), step(text, Random(s)).split(), strict=True))
        for s in range(200)
    ]  # fmt: skip
    # Two pairs: four words are elsewhere, three where the pairs share one, none where they are one.
    assert set(moved) <= {0, 3, 4} and sum(moved) / 200 > 3.5
    assert SwapWords(rate=0.01, share=1.0)("one two", Random(0)) == "two one"


def test_scripts_without_blanks():
    chinese = "这部电影很好看"
    assert len(DeleteWords(0.5, 1.0)(chinese, Random(1))) < len(chinese)
    assert sorted(SwapWords(0.1, 1.0)(chinese, Random(1))) == sorted(chinese)
    thai = "ภาพยนตร์เรื่องนี้ดี"
    assert DeleteWords(0.9, 1.0)(thai, Random(1)) == SwapWords(1.0, 1.0)(thai, Random(1)) == thai
    assert unchangeable([thai, thai, "two words"]).startswith("67% of the training texts have")
    assert unchangeable([chinese, "two words", thai]) == ""
    assert unchangeable([(thai, "two words"), (thai, thai), ("a b", "c")]) == ""


@pytest.mark.parametrize(("values", "said"), [
    ({"rate": 0}, "rate must be above 0"), ({"rate": 1.1}, "rate must be above 0"),
    ({"share": 0}, "share must be above 0"), ({"stop": 0}, "stop must be a share"),
    ({"stop": 3}, "stop must be a share"), ({"stop": -1.5}, "stop must be a share"),
    ({"stop": True}, "stop must be a share"),
])  # fmt: skip
@pytest.mark.parametrize("step", [DeleteWords, SwapWords])
def test_mistakes(step, values, said):
    with pytest.raises(ValueError, match=said):
        step(**values)
