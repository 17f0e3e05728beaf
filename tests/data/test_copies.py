"""Copies are named, the first few in warnings and all in a file."""

from __future__ import annotations

import csv

from kerasft.data.copies import notices, write_copies
from kerasft.data.sources.table import table


def test_copies_are_named_with_both_rows_and_labels(tmp_path):
    rows = [f"text {n},{'ab'[n % 2]}" for n in range(20)]
    train = ["text,label", *rows, "text 0,b", "text 0,b"]
    test = ["text,label", *(f"text {n},{'ab'[n % 2]}" for n in range(7)), "text 7,a", "new,a"]
    for name, lines in (("train", train), ("test", test)):
        (tmp_path / f"{name}.csv").write_text("\n".join(lines), "utf-8")
    splits = table(
        str(tmp_path / "train.csv"), kind="single", seed=0, label="label", text="text",
        validation=0.2, test="test.csv",
    )  # fmt: skip
    leaks = [c for c in splits.copies if c.split == "test"]
    assert len(leaks) == 8
    assert {(c.example, c.label, c.of_label, c.differs) for c in leaks} >= {
        ("test/test.csv:9", "a", "b", True), ("test/test.csv:3", "b", "b", False),
    }  # fmt: skip
    said = notices(splits.copies, "text")
    assert set(said) <= set(splits.notices)
    assert any("test/test.csv:3 (= train/train.csv:3)" in one for one in said)
    (differing,) = [one for one in said if "under different labels" in one]
    assert differing.startswith("2 texts occur more than once")
    assert "train/train.csv:2 (a) and train/train.csv:22 (b)" in differing
    write_copies(splits.copies, tmp_path / "copies.csv")
    with open(tmp_path / "copies.csv", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(splits.copies) > len(leaks)
    (row,) = [one for one in found if one["example"] == "test/test.csv:9"]
    assert (row["copy_of"], row["copy_of_label"], row["labels"]) == (
        "train/train.csv:9", "b", "different",
    )  # fmt: skip
    write_copies((), tmp_path / "copies.csv")
    assert not (tmp_path / "copies.csv").exists()
