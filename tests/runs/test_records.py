"""Answers as records."""

from __future__ import annotations

import csv
import json

import numpy as np

from kerasft.artifact.comparison import Output, rules_of
from kerasft.runs.predictions import show
from kerasft.runs.records import MOST_LABELS, records, write

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
    outputs = {"label": np.array(["x,y", "z"]), "probabilities": np.zeros((2, len(names)))}
    write(tmp_path, "test", ("1", "2"), [["x", "y"], ["z"]], records(outputs, names, RULES))
    lines = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    # Hundreds of probabilities an example are no use in a file.
    assert lines[0] == {"id": "1", "true": ["x", "y"], "predicted": {"label": "x,y"}}
    with open(tmp_path / "test.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "true", "predicted_label"], ["1", "x,y", "x,y"], ["2", "z", "z"],
        ]  # fmt: skip
    structured = [{"dark": [1]}, {"dark": [2]}]
    write(tmp_path, "test", ("1", "2"), structured, records(outputs, names, RULES))
    assert not (tmp_path / "test.csv").exists()
    last = (tmp_path / "test.jsonl").read_text().splitlines()[1]
    assert json.loads(last)["true"] == {"dark": [2]}


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
