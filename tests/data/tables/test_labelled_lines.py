"""Lines of a label and a text, and those of fastText."""

from __future__ import annotations

import re

import numpy as np
import pytest

from kerasft.data.sources.table import table
from kerasft.errors import UserError


def read(path, kind="single", **settings):
    return table(str(path), kind=kind, seed=0, label="label", text="text", **settings)


def whole(splits):
    """Return all texts by id, with their labels."""
    return {
        name: (text, label)
        for part in splits.parts.values()
        for name, text, label in zip(part.ids, part.inputs, part.labels, strict=True)
    }


def test_the_label_ends_at_the_first_blank(tmp_path):
    file = tmp_path / "train_5500.label"
    lines = [f"{kind}\tHow many  words {n} ? " for n in range(20) for kind in ("A:x", "B:y")]
    file.write_text("\r\n\r\n".join(lines), "utf-8")
    splits = read(file, format="lines")
    assert splits.labels.names == ("A:x", "B:y")
    found = whole(splits)
    assert len(found) == 40
    assert found["train_5500.label:3"][0] == "How many  words 0 ? "  # nothing is trimmed


def test_fasttext_is_known_by_its_first_line(tmp_path):
    file = tmp_path / "reviews.train"
    file.write_text("".join(
        f"__label__{'pos' if n % 2 else 'neg'} , text\t{n} of __label\n" for n in range(40)
    ), "utf-8")  # fmt: skip
    splits = read(file)
    assert splits.labels.names == ("neg", "pos")
    assert whole(splits)["reviews.train:2"] == (", text\t1 of __label", 1)


def test_several_labels_stand_before_the_text_or_after_it(tmp_path):
    file = tmp_path / "posts.txt"
    file.write_text("".join(
        f"__label__a,b{' __label__c' * (n % 3 > 0)} text {n}{' __label__d' * (n % 2)}\n"
        for n in range(60)
    ), "utf-8")  # fmt: skip
    splits = read(file, "multi")
    assert splits.labels.names == ("a,b", "c", "d")  # a comma parts no labels of fastText
    text, label = whole(splits)["posts.txt:2"]
    assert text == "text 1" and np.array_equal(label, [1, 1, 1])


def test_numbers_may_be_labels(tmp_path):
    file = tmp_path / "scores.txt"
    file.write_text("".join(f"{n / 4} text {n}\n" for n in range(40)), "utf-8")
    assert whole(read(file, "number", format="lines"))["scores.txt:4"] == ("text 3", 0.75)


def test_all_that_is_wrong_is_told_with_its_lines(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text(
        "__label__a x\nno label\n__label__a __label__b y\n__label__a z __label__c w\n", "utf-8"
    )
    with pytest.raises(UserError) as caught:
        read(file)
    first, second, third = caught.value.problems
    assert re.search(r"x\.txt has 1 line without a label.* line 2\.", first)
    assert re.search(r"1 line with a label inside the text: line 4\.", second)
    assert re.search(r"1 line with more than one label: line 3\. Set task=multi_label", third)


def test_a_text_file_of_unknown_form_says_that_there_are_lines(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("a some text\n", "utf-8")
    with pytest.raises(UserError, match="lines are those of a label and a text"):
        read(file)
