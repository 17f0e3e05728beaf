"""Answers as records."""

from __future__ import annotations

import csv
import json

import numpy as np

from kerasft.artifact.comparison import Output, rules_of
from kerasft.runs.predictions import show
from kerasft.runs.records import (
    MOST_LABELS,
    about,
    at,
    each,
    hold_objects,
    read,
    records,
    write,
)

RULES = {
    "probabilities": Output(each=True), "labels": Output("decided", each=True),
    "top_labels": Output("ranked", by="probabilities"),
}  # fmt: skip


def test_what_tells_most_comes_first_and_arrays_have_names():
    outputs = {
        "probabilities": np.array([[0.25, 0.75], [1.0, 0.0]], "float32"),
        "top_labels": np.array([[b"b", b"a"]] * 2, object), "top_scores": np.zeros((2, 2)),
        "label": np.array([b"b", "ক".encode()], object),
        "boxes": [np.zeros((2, 4)), np.zeros((0, 4))],
        "score": np.array([0.75, 1.0], "float32"),
    }  # fmt: skip
    first, second = records(outputs, ("a", "b"), RULES)
    assert list(first) == ["label", "score", "probabilities", "boxes"]
    assert first["probabilities"] == {"a": 0.25, "b": 0.75}
    assert (first["label"], second["label"], second["boxes"]) == ("b", "ক", [])
    assert json.loads(json.dumps(first))["boxes"] == [[0.0] * 4] * 2


def test_labels_that_are_decided_on_are_listed():
    on = np.array([[True, False, True], [False, False, False]])
    found = list(records({"labels": on}, ("a", "b", "c"), RULES))
    assert found == [{"labels": ["a", "c"]}, {"labels": []}]
    assert list(records({}, (), {})) == []


def test_exports_without_rules_are_shown_as_before():
    outputs = {"top_labels": np.array([["b", "a"]]), "top_scores": np.zeros((1, 2)),
               "probabilities": np.array([[0.25, 0.75]])}  # fmt: skip
    (found,) = records(outputs, ("a", "b"), rules_of({"kind": "single"}))
    assert found == {"probabilities": {"a": 0.25, "b": 0.75}}


def test_files_hold_records_and_a_table_where_these_are_flat(tmp_path):
    names = [f"c{i}" for i in range(MOST_LABELS + 1)]
    outputs = {"label": np.array(["c3", "c1"]), "probabilities": np.eye(MOST_LABELS + 1)[[3, 1]]}
    write(tmp_path, "test", ("1", "2"), ["c3", "c0"], records(outputs, names, RULES), ["x,y", "z"])
    lines = (tmp_path / "test.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert list(first) == ["id", "input", "true", "true_probability", "predicted"]
    assert (first["input"], first["true_probability"]) == ("x,y", 1.0)
    # The likeliest alone: with thousands of labels they would be most of the file.
    held = first["predicted"]["probabilities"]
    assert len(held) == MOST_LABELS and next(iter(held)) == "c3" and f"c{MOST_LABELS}" not in held
    assert second["true_probability"] == 0.0
    with open(tmp_path / "test.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "input", "true", "true_probability", "predicted_label"],
            ["1", "x,y", "c3", "1.0", "c3"], ["2", "z", "c0", "0.0", "c1"],
        ]  # fmt: skip
    structured = [{"dark": [1]}, {"dark": [2]}]
    write(tmp_path, "test", ("1", "2"), structured, records(outputs, names, RULES))
    assert not (tmp_path / "test.csv").exists()
    last = (tmp_path / "test.jsonl").read_text().splitlines()[1]
    assert json.loads(last)["true"] == {"dark": [2]}


def test_several_labels_have_the_score_of_each(tmp_path):
    rules = {"labels": Output("decided", each=True), "probabilities": Output(each=True)}
    outputs = {
        "label": np.array(["a"]), "labels": np.array([[True, False, False]]),
        "probabilities": np.array([[0.75, 0.5, 0.0]]),
    }  # fmt: skip
    given = [("first", "second")]
    write(tmp_path, "test", ("1",), [["b", "a"]], records(outputs, "abc", rules), given)
    line = json.loads((tmp_path / "test.jsonl").read_text())
    assert line["input"] == ["first", "second"] and line["true_probability"] == [0.5, 0.75]
    with open(tmp_path / "test.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["input"], row["input_pair"], row["true"]) == ("first", "second", "b,a")
    assert (row["true_probability"], row["predicted_probabilities_b"]) == ("0.5,0.75", "0.5")
    assert row["predicted_probabilities_c"] == "0.0" and "predicted_labels" not in row


def test_numbers_stand_beside_the_true_ones(tmp_path):
    found = records({"values": np.array([[1.5, 2.0]])}, ("w", "h"), {"values": Output(each=True)})
    write(tmp_path, "test", ("1",), [{"w": 1.0, "h": 2.5}], found, ["a parcel"])
    with open(tmp_path / "test.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["true_w"], row["predicted_values_w"], row["input"]) == ("1.0", "1.5", "a parcel")


def test_encoded_images_and_arrays_are_not_written():
    for given in (b"\x89PNG", np.zeros((4, 4)), [1.0, 2.0], None):
        assert about(given, "a", {"probabilities": {"b": 1.0}}) == {"true": "a"}
    assert about("x", None, {}) == {"input": "x"}
    blank = about("x", None, {"probabilities": {"b": 1.0}}, known=True)
    assert blank == {"input": "x", "true": None, "true_probability": None}


def test_objects_are_records_of_their_own(tmp_path, capsys):
    rules = {
        "labels": Output("exact", among="scores", item="label"), "scores": Output(item="score"),
        "boxes": Output(among="scores", item="box"), "classes": Output("exact", among="scores"),
        "num_detections": Output("exact", among="scores"),
    }  # fmt: skip
    outputs = {
        "boxes": np.array([[[1.00000012, 2, 3, 4], [0, 0, 0, 0]], [[0.0] * 4] * 2], "float32"),
        "scores": np.array([[0.75, 0.0], [0.0, 0.0]], "float32"),
        "classes": np.array([[0, -1], [-1, -1]]), "num_detections": np.array([1, 0]),
        "labels": np.array([[b"cat", b""], [b"", b""]], object),
    }  # fmt: skip
    first, second = records(outputs, ("cat",), rules)
    assert first == {"objects": [{"label": "cat", "score": 0.75, "box": [1.0, 2.0, 3.0, 4.0]}]}
    assert second == {"objects": []}
    rows = [{"input": "a.png", **first}, {"input": "b.png", **second}]
    show(rows, output=None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["input", "label", "score", "left", "top", "right", "bottom"]
    assert lines[1].split() == ["a.png", "cat", "0.75", "1", "2", "3", "4"]
    assert lines[2].split() == ["b.png"]
    show(rows, output=str(tmp_path / "a.csv"), as_json=False)
    with open(tmp_path / "a.csv", newline="") as file:
        assert [row["left"] for row in csv.DictReader(file)] == ["1.0", ""]


def test_records_are_read_as_they_were_written(tmp_path):
    outputs = {"label": np.array(["a\u2028b", "c\x85"])}
    write(tmp_path, "test", ("1", "2\r"), ["c\x85", "a\u2028b"], records(outputs, ["a"], {}))
    first, second = read(tmp_path, "test")
    assert (first["predicted"]["label"], second["predicted"]["label"]) == ("a\u2028b", "c\x85")
    assert (second["id"], second["true"]) == ("2\r", "a\u2028b")


def test_records_are_read_one_by_one(tmp_path):
    lines = ({"id": str(i), "predicted": {"objects": [], "name": "a\u2028b"}} for i in range(5))
    (tmp_path / "test.jsonl").write_text(
        "\n".join(json.dumps(one, ensure_ascii=False) for one in lines) + "\n", "utf-8")
    assert [row["id"] for row in read(tmp_path, "test")] == list("01234")
    assert [row["id"] for row in at(tmp_path, "test", np.array([3, 0]))] == ["3", "0"]
    assert next(each(tmp_path, "test"))["predicted"]["name"] == "a\u2028b"
    assert hold_objects(tmp_path, "test")
    assert read(tmp_path, "validation") == []
