"""Figures by columns of the data, at the end of a run and later."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

import kerasft
from kerasft.errors import UserError
from kerasft.steps.measuring import slicing
from kerasft.tasks.classification import Classification


@pytest.fixture(scope="module")
def table(texts_csv, tmp_path_factory):
    """The sixty texts twice, once in a language in which all labels are wrong."""
    with open(texts_csv, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    made = [(row["text"], row["label"], "en", f"user {i}") for i, row in enumerate(rows)]
    other = {"pos": "neg", "neg": "pos"}
    made += [(f"{row['text']} {i}", other[row["label"]] if i % 2 else row["label"],
              "", f"user {i + 60}") for i, row in enumerate(rows[:24])]  # fmt: skip
    path = tmp_path_factory.mktemp("sliced") / "texts.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label", "language", "user"), *made])
    return path


@pytest.fixture(scope="module")
def run(table, tiny_texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sliced") / "run"
    words = [word for word in tiny_texts if not word.startswith("data.path=")]
    result = kerasft.train([
        *words, f"data.path={table}", "slices=[language,length]", "data.validation=0.3",
        "data.test=0.3", f"output_dir={folder}",
    ])  # fmt: skip
    return folder, result


def test_a_run_ends_with_the_figures_of_its_slices(run, capsys):
    folder, result = run
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert set(metrics["test"]["slices"]) == {"language", "length"}
    for split in ("validation", "test"):
        by_language = metrics[split]["slices"]["language"]
        assert set(by_language) == {"en", "(missing)"}
        right = sum(one["accuracy"] * one["examples"] for one in by_language.values())
        count = sum(one["examples"] for one in by_language.values())
        assert right / count == pytest.approx(metrics[split]["accuracy"])
    assert result.metrics["test"]["slices"] == metrics["test"]["slices"]
    with open(folder / "predictions" / "test.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [row for row in rows if row["slice_language"] == "(missing)"]
    assert len(missing) == metrics["test"]["slices"]["language"]["(missing)"]["examples"]
    assert all(name.endswith(" words") for name in metrics["test"]["slices"]["length"])


def test_evaluate_tells_the_same_and_others(run, kerasft_cli):
    folder, _ = run
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    again = kerasft.evaluate(str(folder), say=lambda line: None)
    assert again["test"]["slices"] == metrics["test"]["slices"]
    ended = kerasft_cli("evaluate", str(folder), "split=test", "slices=language")
    assert ended.code == 0
    assert "test by language, the worst accuracy first:\nlanguage " in ended.out
    assert "by length" not in ended.out and "95 % interval" in ended.out
    ended = kerasft_cli("evaluate", str(folder), "slices=[]", "--json")
    assert "slices" not in json.loads(ended.out)["test"]


def test_columns_that_cannot_be_used_are_told_before_anything_is_measured(run, kerasft_cli):
    folder, _ = run
    for column, said in (
        ("langage", "has no column 'langage'. Did you mean 'language'?"),
        ("label", "'label' is the column of labels"),
        ("user", "nearly each example has a value of its own in 'user'"),
    ):
        ended = kerasft_cli("evaluate", str(folder), f"slices=[{column}]")
        assert ended.code == 2 and said in " ".join(ended.err.split()), ended.err
    ended = kerasft_cli("train", "slices=[[a]]")
    assert ended.code == 2 and "slices must name columns of the data" in ended.err


def test_a_run_that_was_trained_without_is_measured_by_slices(tiny_text_run):
    found = kerasft.evaluate(str(tiny_text_run), split="test", slices="length")
    assert set(found["test"]["slices"]) == {"length"}


def test_a_source_without_columns_is_told_from_the_start(tiny_images):
    with pytest.raises(UserError, match=r"(?s)slices: kerasft.data.sources.digits.digits reads no"):
        kerasft.train([*tiny_images, "slices=[writer]"])


def test_check_looks_for_the_columns(table, tiny_texts, kerasft_cli):
    words = [word for word in tiny_texts if not word.startswith("data.path=")]
    words.append(f"data.path={table}")
    assert kerasft_cli("check", *words, "slices=[language,length]").code == 0
    ended = kerasft_cli("check", *words, "slices=[langage]")
    assert ended.code == 2 and "slices: " in ended.err and "'language'?" in ended.err
    ended = kerasft_cli("check", "slices=[writer,length]")
    assert ended.code == 2 and ended.err.rstrip().endswith("Received: writer, length.")


def test_a_table_that_has_lost_the_column_is_told(run, tmp_path, kerasft_cli, table):
    folder, _ = run
    shutil.copytree(folder, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text("utf-8").replace("- language", "- tongue"))
    ended = kerasft_cli("evaluate", "run")
    assert ended.code == 2 and "has no column 'tongue'" in ended.err


def test_a_diagnosis_names_slices_that_are_clearly_worse(run, tmp_path):
    folder, _ = run
    shutil.copytree(folder, tmp_path / "run")
    file = tmp_path / "run" / "metrics.json"
    metrics = json.loads(file.read_text("utf-8"))
    metrics["validation"]["slices"] = {
        "language": {"bn": {"examples": 40, "accuracy": 0.1, "verdict": "worse"},
                     "en": {"examples": 40, "accuracy": 0.9, "verdict": ""},
                     "de": {"examples": "x", "accuracy": 0.9, "verdict": "worse"}},
    }  # fmt: skip
    file.write_text(json.dumps(metrics), "utf-8")
    found = kerasft.diagnose("run", measure=False).remarks
    (note,) = [one for one in found if "clearly worse" in one]
    assert note.endswith("): language=bn (0.100 of 40 examples)")
    metrics["validation"]["slices"] = {"language": 3}
    file.write_text(json.dumps(metrics), "utf-8")
    assert "clearly worse" not in str(kerasft.diagnose("run", measure=False).remarks)


def slice_(examples, accuracy, verdict="", interval=None):
    return {"examples": examples, "accuracy": accuracy, "verdict": verdict,
            "interval": {"accuracy": interval} if interval else {}}  # fmt: skip


def told(slices, accuracy=0.8, where=""):
    lines = []
    metrics = {"validation": {"accuracy": 0.7, "slices": {"city": {}}},
               "test": {"accuracy": accuracy, "slices": slices}}  # fmt: skip
    slicing.tell(Classification(), metrics, lines.append, where)
    return "\n".join(lines)


def test_what_is_clearly_worse_is_said_and_what_nobody_can_tell():
    said = told({"language": {
        "bn": slice_(90, 0.5, "worse", [0.4, 0.6]), "en": slice_(300, 0.9, "", [0.87, 0.93]),
        "de": slice_(3, 0.0, "too few", [0.0, 0.56]), "fr": slice_(30, 0.1, "too few"),
    }}, where="run/metrics.json")  # fmt: skip
    assert said == """
test by language, the worst accuracy first:
language  examples  accuracy  95 % interval
bn              90    0.5000  0.4000 to 0.6000  clearly worse than the 0.8000 of all
en             300    0.9000  0.8700 to 0.9300
de               3    0.0000  0.0000 to 0.5600  fewer than 20: too few to tell
fr              30    0.1000                    cannot tell
all            423    0.8000
all figures of slices, and those of validation: run/metrics.json"""


def test_of_many_slices_some_are_worse_by_chance_and_the_first_are_shown():
    slices = {f"city {i}": slice_(40, 0.5, "worse" * (i == 0), [0.4, 0.6]) for i in range(45)}
    said = told({"city": slices})
    assert "city 9" in said and "city 10 " not in said and "and 35 slices more" in said
    assert "of 45 slices about 1 would be clearly worse by chance alone" in said
    assert not told({})
